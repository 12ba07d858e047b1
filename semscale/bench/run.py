"""One benchmark in a process of its own: threads, Ray and a crash of one touch no other.

``python -m semscale.bench.run NAME FILE [--quick]`` measures and writes to FILE the result or why there is none.
"""

from __future__ import annotations

import importlib
import json
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_TO_END = 60.0  # seconds for Ray and the server to stop
_KEPT_LINES = 40


@dataclass(frozen=True)
class Outcome:
    """What became of a benchmark.

    Attributes:
        seconds: how long it took.
        result: what its ``measure`` returned; None if it failed.
        error: why it failed, in one line.
        log: the last lines of its standard error if it failed.
    """

    seconds: float
    result: dict[str, Any] | None = None
    error: str | None = None
    log: str | None = None


def run_benchmark(name: str, quick: bool) -> Outcome:
    """Run a module of this package and wait for it; a failure is an outcome, not an exception."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        target, errors = Path(folder) / "result.json", Path(folder) / "errors.txt"
        command = [sys.executable, "-m", "semscale.bench.run", name, str(target), *(["--quick"] if quick else [])]
        with errors.open("wb") as log:
            # a session of its own: Ctrl-C comes once, from here, and not a second time from the terminal
            process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
            try:
                status = process.wait()
            except BaseException:
                process.send_signal(signal.SIGINT)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_TO_END)
                raise
            finally:
                process.kill()
        seconds = time.perf_counter() - start
        told: dict[str, Any] = {"error": f"its process ended with status {status}"}
        if target.exists():
            told = json.loads(target.read_text(encoding="utf-8"))
        if "result" in told:
            return Outcome(seconds, result=told["result"])
        lines = errors.read_text(encoding="utf-8", errors="replace").splitlines()
    return Outcome(seconds, error=told["error"], log="\n".join(lines[-_KEPT_LINES:]))


def one_line(error: Exception) -> str:
    """Return the error in one line; of a failed process the last line that it said.

    >>> one_line(ValueError("first\\n  second"))
    'ValueError: first second'
    """
    if isinstance(error, subprocess.CalledProcessError) and error.stderr:
        return " ".join(str(error.stderr).rstrip().splitlines()[-1].split())
    return " ".join(f"{type(error).__name__}: {error}".split())


def main(arguments: list[str]) -> int:
    """Measure, write the file, and return the exit status: 1 if there is no result."""
    name, file, *flags = arguments
    try:
        told = {"result": importlib.import_module(f"semscale.bench.{name}").measure("--quick" in flags)}
    except Exception as error:
        traceback.print_exc()
        told = {"error": one_line(error)}
    Path(file).write_text(json.dumps(told), encoding="utf-8")
    return int("error" in told)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
