"""Archives: images are read unchanged; damage, truncation, bombs and hostile names are handled."""

import gzip
import random
import re
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from made import tarred_up, zipped

from semscale.common.errors import SemscaleError
from semscale.datasets.archives import is_archive, open_listing
from semscale.datasets.dataset import DatasetOptions, ListedImage, Reader
from semscale.datasets.loader_registry import load_dataset


def entries_of(path: Path | str) -> list[ListedImage]:
    return list(open_listing(str(path), DatasetOptions()).entries)


def reader_of(path: Path | str) -> Reader:
    return open_listing(str(path), DatasetOptions()).reader


def error_of(path: Path) -> str:
    with pytest.raises(SemscaleError) as caught:
        entries_of(path)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "label"),
    [("../1.jpg", "1.jpg"), ("a/../../b.jpg", "a/b.jpg"), ("/etc/1.jpg", "etc/1.jpg"), (r"..\c\1.jpg", "c/1.jpg")],
)
def test_names_that_lead_outside_the_archive_are_only_labels(tmp_path: Path, name: str, label: str) -> None:
    for path in (zipped(tmp_path / "a.zip", {name: b"x"}), tarred_up(tmp_path / "a.tar", (name, b"x"))):
        (entry,) = entries_of(path)
        assert entry.file == label
        assert reader_of(path).read(entry.location) == b"x"


def test_links_and_devices_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    members = []
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
        info = tarfile.TarInfo(f"a/{kind.decode()}.jpg")
        info.type, info.linkname = kind, "../secret.jpg"
        members.append(info)
    folder = tarfile.TarInfo("b")
    folder.type, folder.linkname = tarfile.SYMTYPE, str(tmp_path)
    path = tarred_up(tmp_path / "a.tar", *members, folder, ("b/secret.jpg", b"in the archive"))
    entries = entries_of(path)
    link, special = "a link in the archive, not followed", "neither a file nor a folder in the archive"
    assert [entry.reason for entry in entries] == [link, link, special, special, None]
    assert reader_of(path).read(entries[-1].location) == b"in the archive"
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        linked = zipfile.ZipInfo("a/1.jpg")
        linked.create_system, linked.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        archive.writestr(linked, "../secret.jpg")
    assert [entry.reason for entry in entries_of(tmp_path / "a.zip")] == [link]


def test_a_zip_member_larger_than_declared_is_an_error(tmp_path: Path) -> None:
    for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2):
        path = zipped(tmp_path / "a.zip", {"a/1.jpg": bytes(5_000_000)}, method)
        data = bytearray(path.read_bytes())
        struct.pack_into("<I", data, data.index(b"PK\x01\x02") + 24, 1000)
        path.write_bytes(data)
        (entry,) = entries_of(path)
        with pytest.raises(OSError, match="damaged"):
            reader_of(path).read(entry.location)


def test_a_member_declared_too_large_is_rejected(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"a/1.jpg": b"", "a/2.jpg": b"fine"})
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, data.index(b"PK\x01\x02") + 24, 2**31)
    path.write_bytes(data)
    assert [entry.reason for entry in entries_of(path)] == ["larger than 256 MiB", None]
    info = tarfile.TarInfo("a/1.jpg")
    info.size = 300 * 2**20
    with (tmp_path / "a.tar").open("wb") as file:  # sparse
        file.write(info.tobuf())
        file.seek(info.size, 1)
        file.write(bytes(1024))
    assert [entry.reason for entry in entries_of(tmp_path / "a.tar")] == ["larger than 256 MiB"]


def test_zip_members_that_overlap_are_rejected_by_name(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {f"a/{i}.jpg": bytes(1000) for i in range(3)})
    data = bytearray(path.read_bytes())
    lines = [match.start() for match in re.finditer(b"PK\x01\x02", data)]
    struct.pack_into("<I", data, lines[2] + 42, struct.unpack_from("<I", data, lines[1] + 42)[0])
    path.write_bytes(data)
    message = error_of(path)
    assert "decompression bomb" in message
    assert "a/2.jpg" in message


def test_a_tar_bomb_is_rejected_by_name(tmp_path: Path) -> None:
    small, large = tarfile.TarInfo("a/1.jpg"), tarfile.TarInfo("a/explodes.bin")
    large.size = 150 * 2**20
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(small.tobuf() + large.tobuf()))
    message = error_of(tmp_path / "a.tar.gz")
    assert "absurd size" in message
    assert "a/explodes.bin" in message


@pytest.mark.parametrize("kind", [b"x", b"g", b"L"])
def test_an_endless_extended_header_is_not_read(tmp_path: Path, kind: bytes) -> None:
    info = tarfile.TarInfo("long")
    info.type = kind
    info.size = 2**33
    path = tmp_path / "a.tar.gz"
    path.write_bytes(gzip.compress(tarfile.TarInfo("a/1.jpg").tobuf() + info.tobuf(tarfile.GNU_FORMAT) + bytes(2**20)))
    message = error_of(path)
    assert "damaged" in message
    assert "after member a/1.jpg" in message


STEP = 512 + 3072  # a member of this tar with its header


def cut_tar(path: Path) -> Path:
    members = [(f"a/{i}.jpg", random.Random(i).randbytes(3000)) for i in range(5)]
    return tarred_up(path, *members, form=tarfile.USTAR_FORMAT)


@pytest.mark.parametrize("ending", ["tar", "tar.gz"])
def test_a_truncated_archive_is_never_a_smaller_dataset(tmp_path: Path, ending: str) -> None:
    path = cut_tar(tmp_path / f"a.{ending}")
    whole = path.read_bytes()
    complete = 5 * STEP if ending == "tar" else len(whole)
    for size in (100, complete // 2, complete - 700, complete - 1, STEP):
        path.write_bytes(whole[:size])
        message = error_of(path)
        assert "cut off" in message
        assert str(path) in message
    path.write_bytes(b"")
    assert "not a tar archive" in error_of(path)


def test_a_shard_truncated_within_a_label_is_an_error(tmp_path: Path) -> None:
    members = []
    for i in range(4):
        members += [(f"{i}.jpg", b""), (f"{i}.txt", random.Random(i).randbytes(900_000).hex().encode()[:900_000])]
    path = tarred_up(tmp_path / "a.tar.gz", *members)
    whole = path.read_bytes()
    for share in range(1, 10):
        path.write_bytes(whole[: len(whole) * share // 10])
        with pytest.raises(SemscaleError, match="cut off"):
            load_dataset(f"webdataset:{path}")


@pytest.mark.parametrize("ending", ["tar", "tar.gz"])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data[: 3 * STEP], "cut off after member a/2.jpg"),
        (lambda data: data[: 3 * STEP + 5] + b"!" + data[3 * STEP + 6 :], "after member a/2.jpg"),
        (lambda data: data[:STEP] + bytes(512) + data[STEP + 512 :], "after member a/0.jpg"),
        (lambda data: data + data, "another archive appended to this one"),
    ],
)
def test_a_tar_that_tarfile_would_list_incompletely_is_rejected(
    tmp_path: Path, change: Callable[[bytes], bytes], words: str, ending: str
) -> None:
    data = change(cut_tar(tmp_path / "a.tar").read_bytes())
    path = tmp_path / f"b.{ending}"
    path.write_bytes(data if ending == "tar" else gzip.compress(data))
    assert words in error_of(path)


def test_a_zip_truncated_or_with_an_incomplete_directory_is_rejected(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {f"a/{i}.jpg": bytes(1000) for i in range(10)})
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "cut off" in error_of(path)
    path.write_bytes(whole[5000:])
    assert "damaged" in error_of(path)
    data = bytearray(whole)
    end = data.index(b"PK\x05\x06")
    struct.pack_into("<HH", data, end + 8, 12, 12)
    path.write_bytes(data)
    assert "10 of 12 members" in error_of(path)


@pytest.mark.parametrize(
    ("name", "spec", "words"),
    [
        ("text.zip", "zip", "not a zip archive"),
        ("a.zip", "webdataset", "not a tar archive"),
        ("a.tar.bz2", "tar", "recompress it as .tar.gz"),
        ("a.tar.xz", "webdataset", "recompress it as .tar.gz"),
        ("missing.zip", "zip", "does not exist"),
        ("missing.tar", "tar", "does not exist"),
        ("", "zip", "folder:PATH reads folders"),
        ("", "tar", "folder:PATH reads folders"),
    ],
)
def test_unreadable_archives(tmp_path: Path, name: str, spec: str, words: str) -> None:
    zipped(tmp_path / "a.zip", {"a/1.jpg": b""})
    for ending in ("tar", "tar.gz", "tar.bz2", "tar.xz"):
        tarred_up(tmp_path / f"a.{ending}", ("a/1.jpg", b""))
    (tmp_path / "text.zip").write_text("no archive")
    with pytest.raises(SemscaleError, match=words):
        load_dataset(f"{spec}:{tmp_path / name}")


def test_the_kind_of_an_archive_is_detected_by_content(tmp_path: Path) -> None:
    zipped(tmp_path / "a", {"a/1.jpg": b"", "b/2.jpg": b""})
    tarred_up(tmp_path / "b", ("a/1.jpg", b""), ("b/2.jpg", b""))
    for spec in (f"tar:{tmp_path / 'a'}", f"zip:{tmp_path / 'b'}"):
        assert load_dataset(spec).samples.files() == ["a/1.jpg", "b/2.jpg"]


def test_a_name_that_is_not_utf8_stays_readable(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT, encoding="latin-1") as archive:
        for name in ("café/1.jpg", "bar/2.jpg"):
            archive.addfile(tarfile.TarInfo(name))
    dataset = load_dataset(f"tar:{path}")
    assert dataset.samples.files() == [r"caf\xe9/1.jpg", "bar/2.jpg"]


def test_concatenated_gzip_streams_are_one(tmp_path: Path) -> None:
    plain = tarred_up(tmp_path / "a.tar", ("a/1.jpg", bytes(5000)), ("b/2.jpg", b"x" * 5000)).read_bytes()
    path = tmp_path / "parts.tar.gz"
    path.write_bytes(gzip.compress(plain[:3000]) + gzip.compress(plain[3000:]))
    _, second = entries_of(path)
    assert reader_of(path).read(second.location) == b"x" * 5000


def test_threads_share_the_streams_of_a_compressed_tar(tmp_path: Path) -> None:
    members = {f"{i % 2}/{i}.jpg": random.Random(i).randbytes(100_000) for i in range(40)}
    path = str(tarred_up(tmp_path / "a.tar.gz", *members.items()))
    entries = entries_of(path)
    random.Random(1).shuffle(entries)
    reader = reader_of(path)
    with ThreadPoolExecutor(4) as threads:
        contents = list(threads.map(reader.read, [entry.location for entry in entries]))
    assert contents == [members[entry.file] for entry in entries]


def test_a_replaced_archive_is_read_again(tmp_path: Path) -> None:
    path = tarred_up(tmp_path / "a.tar.gz", ("a/1.jpg", b"old"))
    reader = reader_of(path)
    (entry,) = entries_of(path)
    assert reader.read(entry.location) == b"old"
    tarred_up(path, ("a/1.jpg", b"the new one"))
    (entry,) = entries_of(path)
    assert reader.read(entry.location) == b"the new one"


def test_endings_of_archives() -> None:
    assert all(is_archive(f"x{ending}") for ending in (".tar", ".tar.gz", ".zip", ".TGZ", ".tar.xz"))
    assert not any(is_archive(name) for name in ("x.gz", "x.csv.gz", "x", "x.tar.zst"))


def test_the_listing_is_that_of_zipfile(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(b"#!/bin/sh\nexit\n")  # the start of a self-extracting archive
    with zipfile.ZipFile(path, "a") as archive:
        for i in range(300):
            with archive.open(f"c{i % 7}/käfer {i}.jpg", "w", force_zip64=i % 2 == 0) as member:
                member.write(bytes(i))
        archive.comment = b"a comment with PK\x05 in it"
    entries = entries_of(path)
    with zipfile.ZipFile(path) as archive:
        assert [entry.file for entry in entries] == archive.namelist()
        reader = reader_of(path)
        assert [reader.read(entry.location) for entry in entries] == [archive.read(name) for name in archive.namelist()]


def test_more_members_than_16_bits_can_count(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"c/00000.jpg": b""})
    data = path.read_bytes()
    at, end = data.index(b"PK\x01\x02"), data.index(b"PK\x05\x06")
    lines = bytearray()
    for i in range(65_600):
        line = bytearray(data[at:end].replace(b"00000", f"{i:05d}".encode()))
        struct.pack_into("<I", line, 42, i * at)
        lines += line
    tail = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 64, 64, len(lines), 65_600 * at, 0)
    path.write_bytes(data[:at] * 65_600 + lines + tail)
    assert sum(1 for _ in entries_of(path)) == 65_600


def test_the_offset_of_the_directory_may_need_64_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 1)
    path = zipped(tmp_path / "a.zip", {"c/1.jpg": b"1", "c/2.jpg": b"2"})
    data = bytearray(path.read_bytes())
    end = data.index(b"PK\x05\x06")
    assert b"PK\x06\x06" in data
    data[end + 8 : end + 20] = b"\xff" * 12
    path.write_bytes(data)
    reader = reader_of(path)
    assert [reader.read(entry.location) for entry in entries_of(path)] == [b"1", b"2"]


def test_utf8_names_without_the_flag_are_read_as_utf8_and_others_as_the_old_code_page(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"AAAA/1.jpg": b"", "BBB/2.jpg": b"", "cafe/3.jpg": b""})
    data = path.read_bytes().replace(b"AAAA/", "Löß"[:2].encode() + b"w/").replace(b"BBB/", b"\x94l/".rjust(4, b"x"))
    path.write_bytes(data)
    source = open_listing(str(path), DatasetOptions())
    assert [entry.file for entry in source.entries] == ["Löw/1.jpg", "xöl/2.jpg", "cafe/3.jpg"]
    assert source.warnings.lines() == ["1 name is in an unknown code page, and is read as cp437: xöl/2.jpg"]


def test_other_files_are_ignored_and_nested_archives_are_named(tmp_path: Path) -> None:
    names = ("a/1.jpg", "b/2.JPEG", "a/.3.jpg", "__MACOSX/a/._1.jpg", "a/notes.txt", "more.zip", "b/")
    source = open_listing(str(zipped(tmp_path / "a.zip", dict.fromkeys(names, b""))), DatasetOptions())
    assert [entry.file for entry in source.entries] == ["a/1.jpg", "b/2.JPEG"]
    assert source.warnings.lines() == [
        "1 file has no image's ending: a/notes.txt",
        "1 archive inside is not opened: more.zip",
    ]


def test_a_damaged_member_is_rejected_and_the_others_are_read(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"a/1.jpg": b"first" * 100, "a/2.jpg": b"second" * 100})
    first, second = entries_of(path)
    data = bytearray(path.read_bytes())
    data[data.index(b"first")] ^= 1
    path.write_bytes(data)
    reader = reader_of(path)
    with pytest.raises(OSError, match="CRC-32"):
        reader.read(first.location)
    assert reader.read(second.location) == b"second" * 100


def test_encrypted_members_and_unknown_methods_are_rejected(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"a/1.jpg": b"x", "a/2.jpg": b"y", "a/3.jpg": b"z"})
    data = bytearray(path.read_bytes())
    first, second, _ = (match.start() for match in re.finditer(b"PK\x01\x02", data))
    data[first + 8] |= 1
    data[second + 10] = 93
    path.write_bytes(data)
    reasons = [entry.reason for entry in entries_of(path)]
    assert reasons == [
        "encrypted with a password",
        "compressed by method 93, which is not read; stored, deflate and bzip2 are",
        None,
    ]
