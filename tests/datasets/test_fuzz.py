"""Mutated archives, tables and images: no crash, no hang, no file outside; every rejected file has a reason.

A smoke runs with the plain tests; ``pytest -m fuzz tests/datasets`` tries 2,000 mutations of each kind of file.
"""

from __future__ import annotations

import io
import json
import resource
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made import put, tarred_up, zipped
from PIL import Image

from semscale.common.errors import SemscaleError
from semscale.datasets.image_decoding import BadImageError, decode
from semscale.datasets.loader_registry import load_dataset

Mutation = tuple[str, float, int, bytes]

MUTATIONS = st.lists(
    st.tuples(
        st.sampled_from(["set", "insert", "cut", "repeat", "end", "zero"]),
        st.floats(0, 1, exclude_max=True),
        st.integers(1, 64),
        st.one_of(
            st.binary(min_size=1, max_size=8), st.sampled_from([b"\xff" * 4, b"\0" * 8, b"../", b'"', b",", b"\n"])
        ),
    ),
    min_size=1,
    max_size=6,
)


def mutate(content: bytes, mutations: list[Mutation]) -> bytes:
    """Apply mutations: overwrite, insert, cut out, repeat, cut off, or zero some bytes at a relative position."""
    for kind, where, length, new in mutations:
        at = int(where * len(content))
        part = content[at : at + length]
        if kind == "set":
            content = content[:at] + new + content[at + len(new) :]
        elif kind == "insert":
            content = content[:at] + new + content[at:]
        elif kind == "cut":
            content = content[:at] + content[at + length :]
        elif kind == "repeat":
            content = content[:at] + part * 3 + content[at:]
        elif kind == "end":
            content = content[:at]
        else:
            content = content[:at] + bytes(len(part)) + content[at + length :]
    return content


def picture(form: str, mode: str = "RGB", **options: object) -> bytes:
    buffer = io.BytesIO()
    image = Image.linear_gradient("L").resize((24, 20)).convert(mode)
    frames = {"save_all": True, "append_images": [image.rotate(90)]} if form in ("GIF", "WEBP") else {}
    image.save(buffer, form, **frames, **options)
    return buffer.getvalue()


PNG = picture("PNG")
IMAGES = {f"{name}/{i}.png": PNG for i in range(3) for name in ("cat", "dog")}


def labelled() -> list[tuple[str, bytes]]:
    named = enumerate(IMAGES.items())
    return [member for i, (name, image) in named for member in ((f"{i}.png", image), (f"{i}.cls", name[:3].encode()))]


def columns(path: Path) -> None:
    image = [{"bytes": content, "path": name} for name, content in IMAGES.items()]
    pq.write_table(pa.table({"image": image, "label": [name[:3] for name in IMAGES]}), path)


ROWS = "".join(f"{name},{name[:3]}\n" for name in IMAGES)
LINES = "".join(json.dumps({"file": name, "class": name[:3]}) + "\n" for name in IMAGES)
FILES: dict[str, tuple[str, str, Callable[[Path], object]]] = {
    "zip": ("zip", "x.zip", lambda path: zipped(path, IMAGES, zipfile.ZIP_DEFLATED)),
    "tar": ("tar", "x.tar", lambda path: tarred_up(path, *IMAGES.items())),
    "tar.gz": ("tar", "x.tar.gz", lambda path: tarred_up(path, *IMAGES.items())),
    "webdataset": ("webdataset", "x.tar", lambda path: tarred_up(path, *labelled())),
    "csv": ("table", "table.csv", lambda path: path.write_text(f"file,class\n{ROWS}")),
    "jsonl": ("table", "table.jsonl", lambda path: path.write_text(LINES)),
    "parquet": ("parquet", "x.parquet", columns),
}
PICTURES = {
    "png": PNG,
    "png palette": picture("PNG", "P"),
    "jpeg": picture("JPEG"),
    "cmyk jpeg": picture("JPEG", "CMYK"),
    "gif": picture("GIF", "P"),
    "webp": picture("WEBP"),
    "tiff": picture("TIFF", compression="tiff_lzw"),
    "bmp": picture("BMP"),
    "ppm": picture("PPM"),
}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the images of the tables; any other file that appears beside the file under test is a fault."""
    for name in ("data", "temporary", "here"):
        (tmp_path / name).mkdir()
    put(tmp_path / "data", IMAGES)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.chdir(tmp_path / "here")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield tmp_path
    beyond = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert beyond < 1500, f"{beyond} MiB for a file of some kB"


def try_file(root: Path, kind: str, content: bytes) -> None:
    """Load, read and decode a mutated file; only the project's exceptions are allowed."""
    scheme, name, _ = FILES[kind]
    path = root / "data" / name
    path.write_bytes(content)
    files = sorted(root.rglob("*"))
    complaints = []
    try:
        dataset = load_dataset(f"{scheme}:{path}")
    except SemscaleError as error:
        complaints.append(str(error))
        named = name
    else:
        named = ""
        assert all(dataset.rejected.values())
        for sample in dataset.samples:
            try:
                decode(dataset.reader.read(sample.location))
            except (OSError, BadImageError) as error:
                complaints.append(str(error))
    assert all(said and named in said for said in complaints), complaints
    assert sorted(root.rglob("*")) == files


AMOUNTS = [40, pytest.param(2000, marks=[pytest.mark.fuzz, pytest.mark.timeout(1800)])]


def mutated(examples: int) -> Callable[[Callable[[list[Mutation]], None]], Callable[[], None]]:
    """Return the decorator of a function that tries one list of mutations."""
    how = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}
    decorate = settings(max_examples=examples, derandomize=examples < 100, **how)  # type: ignore[arg-type]
    return lambda function: decorate(given(MUTATIONS)(function))


@pytest.mark.parametrize("examples", AMOUNTS)
@pytest.mark.parametrize("kind", FILES)
def test_mutated_files(root: Path, kind: str, examples: int) -> None:
    _, name, make = FILES[kind]
    make(root / "data" / name)
    content = (root / "data" / name).read_bytes()

    @mutated(examples)
    def check(mutations: list[Mutation]) -> None:
        try_file(root, kind, mutate(content, mutations))

    try_file(root, kind, content)
    check()


@pytest.mark.parametrize("examples", AMOUNTS)
@pytest.mark.parametrize("kind", PICTURES)
def test_mutated_pictures(kind: str, examples: int) -> None:
    @mutated(examples)
    def check(mutations: list[Mutation]) -> None:
        reason = None
        try:
            image = decode(mutate(PICTURES[kind], mutations))
        except BadImageError as error:
            reason = str(error)
        assert reason or (reason is None and image.convert("RGB").size == image.size)

    check()
