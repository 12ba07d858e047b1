import gzip
import io
import pickle
import random
import re
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from semscale.datasets.archives.lookup import archive_members, archive_reader
from semscale.datasets.registry import load_dataset
from semscale.datasets.source import Entry
from semscale.errors import SemscaleError


def zipped(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def tarred_up(path: Path, *members: tuple[str, bytes] | tarfile.TarInfo, form: int = tarfile.PAX_FORMAT) -> Path:
    mode = {".gz": "w:gz", ".bz2": "w:bz2", ".xz": "w:xz"}.get(path.suffix, "w")
    with tarfile.open(path, mode, format=form) as archive:  # type: ignore[call-overload]
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                archive.addfile(info, io.BytesIO(member[1]))
    return path


def listed(path: Path) -> list[Entry]:
    return list(archive_members(str(path)))


def refusal(path: Path) -> str:
    with pytest.raises(SemscaleError) as caught:
        listed(path)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "label"),
    [("../1.jpg", "1.jpg"), ("a/../../b.jpg", "a/b.jpg"), ("/etc/1.jpg", "etc/1.jpg"), (r"..\c\1.jpg", "c/1.jpg")],
)
def test_names_that_lead_outside_are_labels_and_nothing_else(tmp_path: Path, name: str, label: str) -> None:
    for path in (zipped(tmp_path / "a.zip", {name: b"x"}), tarred_up(tmp_path / "a.tar", (name, b"x"))):
        (entry,) = listed(path)
        assert entry.file == label
        assert archive_reader(str(path)).read(entry.place) == b"x"


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
    entries = listed(path)
    link, special = "a link in the archive, not followed", "neither a file nor a folder in the archive"
    assert [entry.reason for entry in entries] == [link, link, special, special, None]
    assert archive_reader(str(path)).read(entries[-1].place) == b"in the archive"
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        linked = zipfile.ZipInfo("a/1.jpg")
        linked.create_system, linked.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        archive.writestr(linked, "../secret.jpg")
    assert [entry.reason for entry in listed(tmp_path / "a.zip")] == [link]


def test_refused_members_are_in_the_quarantine_of_the_dataset(tmp_path: Path) -> None:
    link = tarfile.TarInfo("b/3.jpg")
    link.type, link.linkname = tarfile.SYMTYPE, "2.jpg"
    path = tarred_up(tmp_path / "a.tar", ("a/1.jpg", b""), ("b/2.jpg", b""), link)
    dataset = load_dataset(f"tar:{path}")
    assert len(dataset.samples) == 2
    assert dict(dataset.rejected) == {"b/3.jpg": "a link in the archive, not followed"}


def test_a_zip_member_that_is_more_than_it_says_is_stopped(tmp_path: Path) -> None:
    for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2):
        path = zipped(tmp_path / "a.zip", {"a/1.jpg": bytes(50_000_000)}, method)
        data = bytearray(path.read_bytes())
        struct.pack_into("<I", data, data.index(b"PK\x01\x02") + 24, 1000)
        path.write_bytes(data)
        (entry,) = listed(path)
        with pytest.raises(OSError, match="damaged"):
            archive_reader(str(path)).read(entry.place)


def test_a_member_declared_too_large_is_a_reason(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"a/1.jpg": b"", "a/2.jpg": b"fine"})
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, data.index(b"PK\x01\x02") + 24, 2**31)
    path.write_bytes(data)
    assert [entry.reason for entry in listed(path)] == ["larger than 256 MiB", None]
    info = tarfile.TarInfo("a/1.jpg")
    info.size = 300 * 2**20
    with (tmp_path / "a.tar").open("wb") as file:  # with a hole, so that it takes no room
        file.write(info.tobuf())
        file.seek(info.size, 1)
        file.write(bytes(1024))
    assert [entry.reason for entry in listed(tmp_path / "a.tar")] == ["larger than 256 MiB"]


def test_zip_members_that_share_their_data_are_refused_by_name(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {f"a/{i}.jpg": bytes(1000) for i in range(3)})
    data = bytearray(path.read_bytes())
    lines = [match.start() for match in re.finditer(b"PK\x01\x02", data)]
    struct.pack_into("<I", data, lines[2] + 42, struct.unpack_from("<I", data, lines[1] + 42)[0])
    path.write_bytes(data)
    message = refusal(path)
    assert "share their data" in message
    assert "a/2.jpg" in message


def test_a_tar_that_explodes_is_refused_by_name(tmp_path: Path) -> None:
    small, large = tarfile.TarInfo("a/1.jpg"), tarfile.TarInfo("a/explodes.bin")
    large.size = 150 * 2**20
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(small.tobuf() + large.tobuf()))
    message = refusal(tmp_path / "a.tar.gz")
    assert "absurd size" in message
    assert "a/explodes.bin" in message


@pytest.mark.parametrize("kind", [b"x", b"g", b"L"])
def test_an_endless_extended_header_is_not_read(tmp_path: Path, kind: bytes) -> None:
    info = tarfile.TarInfo("long")
    info.type = kind
    info.size = 2**33
    path = tmp_path / "a.tar.gz"
    path.write_bytes(gzip.compress(tarfile.TarInfo("a/1.jpg").tobuf() + info.tobuf(tarfile.GNU_FORMAT) + bytes(2**20)))
    message = refusal(path)
    assert "damaged" in message
    assert "after member a/1.jpg" in message


def cut_tar(path: Path) -> Path:
    members = [(f"a/{i}.jpg", random.Random(i).randbytes(3000)) for i in range(5)]
    return tarred_up(path, *members, form=tarfile.USTAR_FORMAT)


@pytest.mark.parametrize("ending", ["tar", "tar.gz"])
def test_an_archive_that_is_cut_off_is_never_a_shorter_dataset(tmp_path: Path, ending: str) -> None:
    path = cut_tar(tmp_path / f"a.{ending}")
    whole = path.read_bytes()
    complete = 5 * (512 + 3072) if ending == "tar" else len(whole)
    for size in (100, complete // 2, complete - 700, complete - 1, 512 + 3072):
        path.write_bytes(whole[:size])
        message = refusal(path)
        assert "cut off" in message
        assert str(path) in message
    path.write_bytes(b"")
    assert "not a tar archive" in refusal(path)


def test_a_shard_that_is_cut_off_within_a_label_is_an_error(tmp_path: Path) -> None:
    members = []
    for i in range(4):
        members += [(f"{i}.jpg", b""), (f"{i}.txt", random.Random(i).randbytes(900_000).hex().encode()[:900_000])]
    path = tarred_up(tmp_path / "a.tar.gz", *members)
    whole = path.read_bytes()
    for share in range(1, 10):
        path.write_bytes(whole[: len(whole) * share // 10])
        with pytest.raises(SemscaleError, match="cut off"):
            load_dataset(f"webdataset:{path}")


def test_a_tar_cut_between_two_members_names_the_last(tmp_path: Path) -> None:
    path = cut_tar(tmp_path / "a.tar")
    path.write_bytes(path.read_bytes()[: 3 * (512 + 3072)])
    assert "after member a/2.jpg" in refusal(path)


@pytest.mark.parametrize("ending", ["tar", "tar.gz"])
def test_a_damaged_header_is_an_error_and_not_the_end(tmp_path: Path, ending: str) -> None:
    path = cut_tar(tmp_path / "a.tar")
    data = bytearray(path.read_bytes())
    data[3 * (512 + 3072) + 5] ^= 1
    path.write_bytes(data)
    with tarfile.open(path) as archive:
        assert len(archive.getnames()) == 3  # tarfile by itself ends there without a word
    damaged = tmp_path / f"b.{ending}"
    damaged.write_bytes(data if ending == "tar" else gzip.compress(data))
    message = refusal(damaged)
    assert "damaged" in message
    assert "after member a/2.jpg" in message


@pytest.mark.parametrize("ending", ["tar", "tar.gz"])
def test_zeros_where_a_header_should_be_are_no_end(tmp_path: Path, ending: str) -> None:
    path = tarred_up(tmp_path / "a.tar", ("a/1.jpg", b"1"), ("a/2.jpg", bytes(5000) + b"2"), ("a/3.jpg", b"3"))
    data = path.read_bytes()
    data = data[:1024] + data[1024 + 512 :]  # the second header is lost
    damaged = tmp_path / f"b.{ending}"
    damaged.write_bytes(data if ending == "tar" else gzip.compress(data))
    assert "after member a/1.jpg" in refusal(damaged)


def test_archives_put_after_one_another_are_refused(tmp_path: Path) -> None:
    first, second = tarred_up(tmp_path / "a.tar", ("a/1.jpg", b"1")), tarred_up(tmp_path / "b.tar", ("b/2.jpg", b"2"))
    first.write_bytes(first.read_bytes() + second.read_bytes())
    assert "another archive put behind this one" in refusal(first)


def test_a_zip_that_is_cut_off_or_has_lost_lines_of_its_directory_is_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {f"a/{i}.jpg": bytes(1000) for i in range(10)})
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "cut off" in refusal(path)
    path.write_bytes(whole[5000:])
    assert "damaged" in refusal(path)
    data = bytearray(whole)
    end = data.index(b"PK\x05\x06")
    struct.pack_into("<HH", data, end + 8, 12, 12)
    path.write_bytes(data)
    assert "10 of 12 members" in refusal(path)


@pytest.mark.parametrize(
    ("name", "spec", "words"),
    [
        ("a.zip", "tar", "zip:PATH reads zip archives"),
        ("a.tar.gz", "zip", "tar:PATH reads tars"),
        ("a.tar", "zip", "not a zip archive"),
        ("a.zip", "webdataset", "not a tar archive"),
        ("a.tar.bz2", "tar", "recompress it as .tar.gz"),
        ("a.tar.xz", "webdataset", "recompress it as .tar.gz"),
        ("missing.zip", "zip", "does not exist"),
        ("missing.tar", "tar", "does not exist"),
        ("", "zip", "folder:PATH reads folders"),
        ("", "tar", "folder:PATH reads folders"),
    ],
)
def test_another_kind_than_the_spec_says(tmp_path: Path, name: str, spec: str, words: str) -> None:
    zipped(tmp_path / "a.zip", {"a/1.jpg": b""})
    for ending in ("tar", "tar.gz", "tar.bz2", "tar.xz"):
        tarred_up(tmp_path / f"a.{ending}", ("a/1.jpg", b""))
    with pytest.raises(SemscaleError, match=words):
        load_dataset(f"{spec}:{tmp_path / name}")


@pytest.mark.parametrize(
    "make", [lambda p: zipped(p / "a.zip", {"a/1.jpg": b"x" * 900}), lambda p: cut_tar(p / "a.tar.gz")]
)
def test_a_worker_sees_a_reason_when_the_archive_is_gone_or_shorter(
    tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    path = make(tmp_path)
    reader = pickle.loads(pickle.dumps(archive_reader(str(path))))
    place = listed(path)[-1].place
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(OSError, match=r"ends|cut|no member|damaged"):
        reader.read(place)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        reader.read(place)


def test_nothing_is_written_beside_an_archive(tmp_path: Path) -> None:
    path = tarred_up(tmp_path / "a.tar.gz", ("a/1.jpg", b"1"), ("b/2.jpg", b"2"))
    dataset = load_dataset(f"tar:{path}")
    assert [dataset.reader.read(one.place) for one in dataset.samples] == [b"1", b"2"]
    assert list(tmp_path.iterdir()) == [path]
