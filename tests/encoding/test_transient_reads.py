"""Transient failures of reads are retried, and stop the work if they persist."""

from __future__ import annotations

import errno
import threading
from collections import Counter
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from semscale.common import filesystem
from semscale.common.errors import SemscaleError
from semscale.datasets.folder import FolderReader
from semscale.encoding.image_pipeline import read_all


class Failing(SimpleHTTPRequestHandler):
    """Serves files, at first with errors: `faults` has count and status by path."""

    faults: dict[str, tuple[int, int]]
    asked: Counter[str]

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self.asked[self.path] += 1
        times, status = self.faults.get(self.path, (0, 0))
        if self.asked[self.path] <= times:
            self.send_error(status)
        else:
            super().do_GET()


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filesystem, "PAUSES_S", (0.0, 0.0))


def read(folder: Path, faults: dict[str, tuple[int, int]]) -> tuple[list[bytes | None], dict[int, str]]:
    Failing.faults, Failing.asked = faults, Counter()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Failing, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            reader = FolderReader(f"http://127.0.0.1:{server.server_port}", 4)
            return read_all(reader, [f"{i}.png" for i in range(4)])
        finally:
            server.shutdown()


def test_a_busy_web_server_is_retried_and_missing_files_are_bad(tmp_path: Path) -> None:
    for i in range(3):
        (tmp_path / f"{i}.png").write_bytes(b"%d" % i)
    contents, reasons = read(tmp_path, {"/0.png": (1, 503), "/1.png": (2, 429), "/2.png": (9, 403)})
    assert contents == [b"0", b"1", None, None]
    assert reasons == {2: "cannot be read: HTTP 403", 3: "cannot be read: no such file"}
    with pytest.raises(SemscaleError, match="at the moment") as caught:
        read(tmp_path, {"/1.png": (9, 503)})
    assert (caught.value.where, caught.value.found) == ("1.png", "HTTP 503")


class Disk:
    """Reader that fails with an error a number of times."""

    def __init__(self, error: OSError, times: int) -> None:
        self.error, self.times, self.reads = error, times, 0

    def read(self, location: str) -> bytes:
        self.reads += 1
        if self.reads <= self.times:
            raise self.error
        return b"x"


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EMFILE])
def test_transient_errors_of_a_disk_are_retried(number: int) -> None:
    assert read_all(Disk(OSError(number, "why"), 2), [""]) == ([b"x"], {})
    with pytest.raises(SemscaleError, match="at the moment"):
        read_all(Disk(OSError(number, "why"), 9), [""])


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EACCES, errno.EISDIR])
def test_permanent_errors_are_not_retried(number: int) -> None:
    disk = Disk(OSError(number, "why"), 1)
    assert read_all(disk, [""]) == ([None], {0: "cannot be read: why"})
    assert disk.reads == 1
