import pickle
import re
import struct
import zipfile
from pathlib import Path

import pytest

from semscale.datasets.archives.zipped import list_members, open_reader
from semscale.datasets.bundled import load_bundled
from semscale.datasets.registry import load_dataset
from semscale.datasets.source import Notes

METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)


def make(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize("method", METHODS)
def test_images_come_back_after_pickling_whatever_the_method(tmp_path: Path, method: int) -> None:
    shapes = load_bundled("shapes").samples[:20]
    pictures = {
        f"top/{one.true_class}/{i}.png": load_bundled("shapes").reader.read(one.place) for i, one in enumerate(shapes)
    }
    dataset = load_dataset(f"zip:{make(tmp_path / 'my shapes.zip', pictures, method)}")
    reader = pickle.loads(pickle.dumps(dataset.reader))
    assert dataset.name == "my-shapes"
    assert {sample.file: reader.read(sample.place) for sample in dataset.samples} == pictures
    assert {sample.true_class for sample in dataset.samples} == {one.true_class for one in shapes}


def test_a_rule_finds_the_class_in_the_file_name(tmp_path: Path) -> None:
    names = ("flowers/garden_roses_001.jpg", "flowers/garden_roses_002.jpg", "flowers/tulip_001.jpg")
    path = make(tmp_path / "a.zip", dict.fromkeys(names, b"x"))
    dataset = load_dataset(f"zip:{path}", class_from="{class}_{number}.jpg")
    assert [sample.true_class for sample in dataset.samples] == ["garden roses", "garden roses", "tulip"]


def test_the_listing_is_that_of_zipfile(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(b"#!/bin/sh\nexit\n")  # as a self-extracting archive begins
    with zipfile.ZipFile(path, "a") as archive:
        for i in range(300):
            with archive.open(f"c{i % 7}/käfer {i}.jpg", "w", force_zip64=i % 2 == 0) as member:
                member.write(bytes(i))
        archive.comment = b"a comment with PK\x05 in it"
    entries = list(list_members(str(path), Notes()))
    with zipfile.ZipFile(path) as archive:
        assert [entry.file for entry in entries] == archive.namelist()
        reader = open_reader(str(path))
        assert [reader.read(entry.place) for entry in entries] == [archive.read(name) for name in archive.namelist()]


def test_more_members_than_sixteen_bits_count(tmp_path: Path) -> None:
    path = make(tmp_path / "a.zip", {"c/00000.jpg": b""}, zipfile.ZIP_STORED)
    data = path.read_bytes()
    at, end = data.index(b"PK\x01\x02"), data.index(b"PK\x05\x06")
    lines = bytearray()
    for i in range(65_600):
        line = bytearray(data[at:end].replace(b"00000", f"{i:05d}".encode()))
        struct.pack_into("<I", line, 42, i * at)
        lines += line
    tail = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 64, 64, len(lines), 65_600 * at, 0)
    path.write_bytes(data[:at] * 65_600 + lines + tail)
    assert sum(1 for _ in list_members(str(path), Notes())) == 65_600


def test_the_place_of_the_directory_may_take_64_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 1)
    path = make(tmp_path / "a.zip", {"c/1.jpg": b"1", "c/2.jpg": b"2"})
    data = bytearray(path.read_bytes())
    end = data.index(b"PK\x05\x06")
    assert b"PK\x06\x06" in data
    data[end + 8 : end + 20] = b"\xff" * 12
    path.write_bytes(data)
    reader = open_reader(str(path))
    assert [reader.read(entry.place) for entry in list_members(str(path), Notes())] == [b"1", b"2"]


def test_utf8_names_without_the_flag_are_read_as_utf8_and_others_as_the_old_code_page(tmp_path: Path) -> None:
    path = make(tmp_path / "a.zip", {"AAAA/1.jpg": b"", "BBB/2.jpg": b"", "cafe/3.jpg": b""})
    data = path.read_bytes().replace(b"AAAA/", "Löß"[:2].encode() + b"w/").replace(b"BBB/", b"\x94l/".rjust(4, b"x"))
    path.write_bytes(data)
    assert [entry.file for entry in list_members(str(path), Notes())] == ["Löw/1.jpg", "xöl/2.jpg", "cafe/3.jpg"]


def test_what_is_no_image_is_left_out_and_archives_inside_are_named(tmp_path: Path) -> None:
    names = ("a/1.jpg", "b/2.JPEG", "a/.3.jpg", "__MACOSX/a/._1.jpg", "a/notes.txt", "more.zip", "b/")
    notes = Notes()
    path = make(tmp_path / "a.zip", dict.fromkeys(names, b""))
    assert [entry.file for entry in list_members(str(path), notes)] == ["a/1.jpg", "b/2.JPEG"]
    assert notes.lines() == [
        "1 files are no images by their names: a/notes.txt",
        "1 archives inside are not opened: more.zip",
    ]


def test_a_damaged_member_is_a_reason_and_the_others_are_read(tmp_path: Path) -> None:
    path = make(tmp_path / "a.zip", {"a/1.jpg": b"first" * 100, "a/2.jpg": b"second" * 100}, zipfile.ZIP_STORED)
    first, second = list_members(str(path), Notes())
    data = bytearray(path.read_bytes())
    data[data.index(b"first")] ^= 1
    path.write_bytes(data)
    reader = open_reader(str(path))
    with pytest.raises(OSError, match="CRC-32"):
        reader.read(first.place)
    assert reader.read(second.place) == b"second" * 100


def test_a_password_and_an_unknown_method_are_reasons(tmp_path: Path) -> None:
    path = make(tmp_path / "a.zip", {"a/1.jpg": b"x", "a/2.jpg": b"y", "a/3.jpg": b"z"}, zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    first, second, _ = (match.start() for match in re.finditer(b"PK\x01\x02", data))
    data[first + 8] |= 1
    data[second + 10] = 93
    path.write_bytes(data)
    reasons = [entry.reason for entry in list_members(str(path), Notes())]
    assert reasons == [
        "encrypted with a password",
        "compressed by method 93, which is not read; stored, deflate and bzip2 are",
        None,
    ]
