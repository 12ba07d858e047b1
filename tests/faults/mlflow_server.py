"""A real MLflow server that is killed and started again, and a relay before it that loses answers."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class MlflowServer:
    """A tracking server with its database in a folder; killed and started on the same port as often as wanted."""

    def __init__(self, port: int, folder: Path, *options: str, environment: Mapping[str, str] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.url = f"http://127.0.0.1:{port}"
        self._command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
        self._command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{folder / 'server.db'}"]
        self._command += ["--artifacts-destination", str(folder / "artifacts"), *options]
        self._environment = {**os.environ, **(environment or {})}
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()  # timers start it too
        self._over = False

    def start(self) -> None:
        """Start it, without waiting until it answers; nothing if it runs, or was closed."""
        with self._lock:
            if self._over or (self._process is not None and self._process.poll() is None):
                return
            with (self._folder / "server.log").open("a") as log:
                self._process = subprocess.Popen(
                    self._command, stdout=log, stderr=log, env=self._environment, start_new_session=True
                )

    def wait(self) -> None:
        """Wait until it answers, as long as its process lives: a busy machine takes a minute to import MLflow."""
        while self._process is not None and self._process.poll() is None:
            try:
                urllib.request.urlopen(f"{self.url}/health", timeout=1)
                return
            except (urllib.error.URLError, OSError):
                time.sleep(0.25)
        raise AssertionError((self._folder / "server.log").read_text())

    def kill(self) -> None:
        """End it and its workers at once; nothing if it does not run."""
        with self._lock:
            if self._process is not None:
                if self._process.poll() is None:
                    os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait(20)

    def close(self) -> None:
        """End it for good."""
        self._over = True
        self.kill()


class Relay:
    """Hands requests on to a server.

    Attributes:
        lose: ends of paths; the next request to each is carried out and its answer is lost.
        late: likewise, but the request is carried out only just before the next one of its kind is answered.
        faults: what happened.
    """

    def __init__(self, target: str) -> None:
        self.lose: set[str] = set()
        self.late: set[str] = set()
        self.faults: list[str] = []
        self._target = target.removeprefix("http://")
        self._held: list[tuple[str, tuple[str, str, bytes, dict[str, str]]]] = []
        self._lock = threading.Lock()
        relay = self

        class Handler(BaseHTTPRequestHandler):
            def _any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                answer = relay.answer((self.command, self.path, body, dict(self.headers)))
                self.close_connection = True
                if answer is None:
                    return
                status, content, kind = answer
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _any  # noqa: N815

            def log_message(self, *args: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, request: tuple[str, str, bytes, dict[str, str]]) -> tuple[int, bytes, str] | None:
        """Return what the server says, or None where the answer is to be lost."""
        path = request[1].partition("?")[0]
        with self._lock:
            held = [one for end, one in self._held if path.endswith(end)]
            self._held = [(end, one) for end, one in self._held if not path.endswith(end)]
            late = [end for end in self.late if path.endswith(end)]
            lost = [end for end in self.lose if path.endswith(end)]
            self.late -= set(late)
            self.lose -= set(lost)
            self.faults += [*late, *lost]
            self._held += [(end, request) for end in late]
        if late:
            return None
        answer = self._hand_on(request)
        for one in held:
            self._hand_on(one)
        return None if lost else answer

    def _hand_on(self, request: tuple[str, str, bytes, dict[str, str]]) -> tuple[int, bytes, str]:
        method, path, body, headers = request
        connection = http.client.HTTPConnection(self._target, timeout=60)
        try:
            connection.request(method, path, body, {**headers, "Host": self._target, "Connection": "close"})
            answer = connection.getresponse()
            return answer.status, answer.read(), answer.headers.get("Content-Type", "application/json")
        finally:
            connection.close()
