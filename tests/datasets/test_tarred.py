import gzip
import io
import pickle
import random
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from semscale.datasets.archives.lookup import archive_members, archive_reader, is_archive
from semscale.datasets.archives.tarred import list_members
from semscale.datasets.bundled import load_bundled
from semscale.datasets.registry import load_dataset
from semscale.datasets.source import Notes

MODES = {".tar": "w", ".tar.gz": "w:gz"}
FORMATS = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)


def make(path: Path, members: dict[str, bytes], form: int = tarfile.GNU_FORMAT) -> Path:
    mode = next(mode for ending, mode in reversed(MODES.items()) if path.name.endswith(ending))
    with tarfile.open(path, mode, format=form) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize("ending", MODES)
def test_images_come_back_in_any_order_after_pickling(tmp_path: Path, ending: str) -> None:
    shapes = load_bundled("shapes")
    pictures = {
        f"./{one.true_class}/{i}.png": shapes.reader.read(one.place) for i, one in enumerate(shapes.samples[:30])
    }
    dataset = load_dataset(f"tar:{make(tmp_path / f'my shapes{ending}', pictures)}")
    assert dataset.name == "my-shapes"
    reader = pickle.loads(pickle.dumps(dataset.reader))
    samples = list(dataset.samples)
    random.Random(0).shuffle(samples)
    assert {f"./{sample.file}": reader.read(sample.place) for sample in samples} == pictures


@pytest.mark.parametrize("form", FORMATS)
def test_long_and_foreign_names_in_every_format(tmp_path: Path, form: int) -> None:
    deep = "/".join(["a folder with a long name"] * (5 if form == tarfile.USTAR_FORMAT else 20))
    members = {f"{deep}/käfer.jpg": b"one", "b/2.jpg": b"two", f"{deep}/日本.jpg": b"three"}
    path = str(make(tmp_path / "a.tar", members, form))
    entries = list(archive_members(path))
    reader = archive_reader(path)
    assert {entry.file: reader.read(entry.place) for entry in entries} == members


def test_the_listing_is_that_of_tarfile(tmp_path: Path) -> None:
    sizes = [random.Random(i).randrange(3000) for i in range(300)]
    path = make(tmp_path / "a.tar", {f"c{i % 7}/{i}.jpg": bytes(size) for i, size in enumerate(sizes)})
    with tarfile.open(path) as archive:
        expected = [(info.name, f"{info.offset_data}:{info.size}::") for info in archive]
    assert [(entry.file, entry.place) for entry in list_members(str(path), Notes())] == expected


def test_a_name_that_is_not_utf8_stays_readable(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT, encoding="latin-1") as archive:
        for name in ("café/1.jpg", "bar/2.jpg"):
            archive.addfile(tarfile.TarInfo(name))
    dataset = load_dataset(f"tar:{path}")
    assert dataset.samples.files() == [r"caf\xe9/1.jpg", "bar/2.jpg"]


def test_a_stream_of_several_compressed_parts_is_one(tmp_path: Path) -> None:
    plain = make(tmp_path / "a.tar", {"a/1.jpg": bytes(5000), "b/2.jpg": b"x" * 5000}).read_bytes()
    path = tmp_path / "parts.tar.gz"
    path.write_bytes(gzip.compress(plain[:3000]) + gzip.compress(plain[3000:]))
    _, second = archive_members(str(path))
    assert archive_reader(str(path)).read(second.place) == b"x" * 5000


def test_threads_share_the_streams_of_a_compressed_tar(tmp_path: Path) -> None:
    members = {f"{i % 2}/{i}.jpg": random.Random(i).randbytes(200_000) for i in range(100)}  # more than a look back
    path = str(make(tmp_path / "a.tar.gz", members))
    entries = list(archive_members(path))
    random.Random(1).shuffle(entries)
    reader = archive_reader(path)
    with ThreadPoolExecutor(4) as threads:
        contents = list(threads.map(reader.read, [entry.place for entry in entries]))
    assert contents == [members[entry.file] for entry in entries]


def test_a_replaced_archive_is_read_anew(tmp_path: Path) -> None:
    path = make(tmp_path / "a.tar.gz", {"a/1.jpg": b"old"})
    reader = archive_reader(str(path))
    (entry,) = archive_members(str(path))
    assert reader.read(entry.place) == b"old"
    make(path, {"a/1.jpg": b"the new one"})
    (entry,) = archive_members(str(path))
    assert reader.read(entry.place) == b"the new one"


def test_endings_of_archives() -> None:
    assert all(is_archive(f"x{ending}") for ending in (*MODES, ".zip", ".TGZ", ".tar.xz"))
    assert not any(is_archive(name) for name in ("x.gz", "x.csv.gz", "x", "x.tar.zst"))
