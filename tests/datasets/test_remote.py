"""Datasets over HTTP and S3 from servers on this machine; listed here, read in another process."""

from __future__ import annotations

import io
import pickle
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made import put, served, tarred_up, zipped
from PIL import Image

from semscale.common.errors import SemscaleError
from semscale.common.filesystem import open_filesystem
from semscale.datasets.loader_registry import load_dataset

_READ_ALL = "import pickle, sys; pickled = pickle.load(sys.stdin.buffer); "
_READ_ALL += (
    "pickle.dump([[reader.read(each) for each in locations] for reader, locations in pickled], sys.stdout.buffer)"
)


def picture(number: int) -> bytes:
    noise = np.random.default_rng(number).integers(0, 256, (24, 20, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG")
    return buffer.getvalue()


PICTURES = {f"{name}/{i}.png": picture(10 * k + i) for k, name in enumerate(("garden rose", "tulip")) for i in range(4)}

FORMS = {
    "folder": "folder:{}/photos",
    "zip": "zip:{}/photos.zip",
    "tar": "tar:{}/photos.tar",
    "table": "table:{}/table.csv",
    "parquet": "parquet:{}/photos.parquet",
}


class Handler(SimpleHTTPRequestHandler):
    """Serves files and ranges; counts the bytes, and denies access below /private."""

    sent = 0

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        path, span = Path(self.translate_path(self.path)), self.headers.get("Range")
        if self.path.startswith("/private"):
            self.send_error(403)
        elif span and path.is_file():
            match = re.fullmatch(r"bytes=(\d+)-(\d*)", span)
            assert match
            size = path.stat().st_size
            start, end = int(match[1]), min(int(match[2] or size), size - 1)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{end}/{size}")
            self.send_header("Content-Length", str(end + 1 - start))
            self.end_headers()
            with path.open("rb") as file:
                file.seek(start)
                self.wfile.write(file.read(end + 1 - start))
            Handler.sent += end + 1 - start
        else:
            Handler.sent += path.stat().st_size if path.is_file() else 0
            super().do_GET()


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the same images in every format."""
    root = tmp_path_factory.mktemp("stored")
    put(root / "photos", PICTURES)
    zipped(root / "photos.zip", PICTURES)
    tarred_up(root / "photos.tar", *PICTURES.items())
    lines = [f"photos/{name},{name.partition('/')[0]}" for name in PICTURES]
    (root / "table.csv").write_text("\n".join(["image,class", *lines]) + "\n")
    rows = [{"image": {"bytes": one, "path": name}, "label": name.split("/")[0]} for name, one in PICTURES.items()]
    pq.write_table(pa.Table.from_pylist(rows), root / "photos.parquet")
    return root


@pytest.fixture(scope="module")
def web(stored: Path) -> Iterator[str]:
    with served(stored, Handler) as url:
        yield url


@pytest.fixture(scope="module")
def bucket(stored: Path, s3: Any) -> str:
    s3.mkdir("flowers")
    s3.put(f"{stored}/", "flowers/", recursive=True)
    return "s3://flowers"


@pytest.fixture
def base_url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(request.param))


@pytest.mark.parametrize("base_url", ["web", "bucket"], indirect=True)
def test_every_form_reads_the_same_from_a_server_in_another_process(base_url: str) -> None:
    datasets = [load_dataset(spec.format(base_url)) for spec in FORMS.values()]
    pickled = pickle.dumps([(dataset.reader, dataset.samples.locations()) for dataset in datasets])
    done = subprocess.run([sys.executable, "-c", _READ_ALL], input=pickled, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr.decode()
    expected = {content: name.partition("/")[0] for name, content in PICTURES.items()}
    for form, dataset, contents in zip(FORMS, datasets, pickle.loads(done.stdout), strict=True):
        classes = [sample.true_class for sample in dataset.samples]
        assert dict(zip(contents, classes, strict=True)) == expected, form


@pytest.mark.parametrize("ending", ["tar", "tar.gz"])
def test_shards_are_read_from_a_server_and_a_missing_one_is_named(ending: str, web: str, stored: Path) -> None:
    for number in range(2):
        members = []
        for key, (name, content) in enumerate(list(PICTURES.items())[number::2]):
            members += [(f"{key}.png", content), (f"{key}.cls", name.partition("/")[0].encode())]
        tarred_up(stored / f"{number:02d}.{ending}", *members)
    dataset = load_dataset(f"webdataset:{web}/{{00..01}}.{ending}")
    reader = pickle.loads(pickle.dumps(dataset.reader))
    read = {reader.read(sample.location): sample.true_class for sample in dataset.samples}
    assert read == {content: name.partition("/")[0] for name, content in PICTURES.items()}
    with pytest.raises(SemscaleError, match="does not exist") as caught:
        load_dataset(f"webdataset:{web}/{{00..02}}.{ending}")
    assert caught.value.where == f"{web}/02.{ending}"


def test_a_zip_is_never_downloaded_whole(web: str, stored: Path) -> None:
    zipped(stored / "large.zip", {"filler.bin": bytes(2**25), **PICTURES})
    Handler.sent = 0
    dataset = load_dataset(f"zip:{web}/large.zip")
    assert dataset.reader.read(dataset.samples[0].location) == PICTURES[dataset.samples[0].file]
    assert 0 < Handler.sent < (stored / "large.zip").stat().st_size / 4


def test_names_of_an_index_page_are_decoded(web: str) -> None:
    dataset = load_dataset(f"folder:{web}/photos/")
    assert dataset.classes == ("garden rose", "tulip")
    assert dataset.samples.files() == sorted(PICTURES)


@pytest.mark.parametrize("spec", ["folder:{}/private/x", "zip:{}/private/x.zip", "tar:{}/private/x.tar"])
def test_errors_name_the_server_without_its_key(spec: str, web: str) -> None:
    with pytest.raises(SemscaleError) as caught:
        load_dataset(f"{spec.format(web)}?key=hidden-key".replace("http://", "http://ann:hidden-key@"))
    assert "127.0.0.1" in str(caught.value)
    assert "403" in str(caught.value)
    assert "hidden-key" not in str(caught.value)


@pytest.mark.parametrize("base_url", ["web", "bucket"], indirect=True)
@pytest.mark.parametrize(
    "spec", ["folder:{}/nothing", "zip:{}/nothing.zip", "table:{}/nothing.csv", "parquet:{}/nothing.parquet"]
)
def test_missing_files_are_errors(spec: str, base_url: str) -> None:
    with pytest.raises(SemscaleError, match=r"does not exist|no Parquet file exists"):
        load_dataset(spec.format(base_url))


@pytest.fixture
def fresh_connections() -> Iterator[None]:
    """Clear the cached connections before and after a test."""

    def forget() -> None:
        open_filesystem.cache_clear()
        fsspec.get_filesystem_class("s3").clear_instance_cache()

    forget()
    yield
    forget()


@pytest.mark.timeout(90)
@pytest.mark.usefixtures("fresh_connections")
@pytest.mark.parametrize(("scheme", "form"), [*(("http", form) for form in FORMS), ("s3", "folder")])
def test_a_dead_host_is_a_clear_error(scheme: str, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(socket.socket()) as unheard:  # bound and not listening
        unheard.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{unheard.getsockname()[1]}"
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATESTKEY")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden-key")
        with pytest.raises(SemscaleError) as caught:
            load_dataset(
                FORMS[form].format(f"http://ann:hidden-key@{host}" if scheme == "http" else "s3://dead-bucket")
            )
    assert "does not exist" not in str(caught.value)
    assert "hidden-key" not in str(caught.value)
    assert caught.value.found
