"""Helpers of the tests of datasets: files, a web server, and the results of loading."""

from __future__ import annotations

import io
import tarfile
import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from semscale.common.errors import SemscaleError
from semscale.datasets.dataset import Dataset
from semscale.datasets.loader_registry import load_dataset


def put(root: Path, files: Mapping[str, bytes]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def zipped(path: Path, members: Mapping[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def tarred_up(path: Path, *members: tuple[str, bytes] | tarfile.TarInfo, form: int = tarfile.PAX_FORMAT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
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


@dataclass(frozen=True)
class InMemoryReader:
    """Reader of images in memory by name, or of one image at every location."""

    contents: Mapping[str, bytes] | bytes

    def read(self, location: str) -> bytes:
        if isinstance(self.contents, bytes):
            return self.contents
        if location not in self.contents:
            raise FileNotFoundError(location)
        return self.contents[location]


class _Silent(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def served(folder: Path, handler: type[SimpleHTTPRequestHandler] = _Silent) -> Iterator[str]:
    """Serve a folder on a free port, and yield its URL."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def listed(dataset: Dataset) -> dict[str, str]:
    return {sample.file: sample.true_class for sample in dataset.samples}


def error_of(spec: str, **options: str) -> str:
    with pytest.raises(SemscaleError) as caught:
        load_dataset(spec, **options)  # type: ignore[arg-type]
    return str(caught.value)
