"""The environment of this process and of those that it starts: proxies, encodings of the terminal, paths of modules."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable
from importlib.machinery import PathFinder
from pathlib import Path

LOOPBACK = ("127.0.0.1", "localhost", "::1")
ROOT = Path(__file__).parent.parent.parent
"""The folder that semscale is imported from."""

RAY_JOB_VARIABLE = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Variable that Ray sets in the environment of a job's driver."""

_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy")


def reach_loopback() -> None:
    """Let every client of this process, and of those that it starts, reach the loopback addresses without a proxy."""
    if not any(os.environ.get(name) or os.environ.get(name.upper()) for name in _PROXIES):
        return
    for name in ("no_proxy", "no_grpc_proxy"):
        known = os.environ.get(name) or os.environ.get(name.upper()) or ""
        # gRPC's own takes the place of the other where it is set
        if known.strip() != "*" and (known or name == "no_proxy"):
            os.environ[name] = ",".join(dict.fromkeys([*filter(None, known.split(",")), *LOOPBACK]))


def print_every_character() -> None:
    """Let standard output and error print as escapes what their encoding does not have, where they would fail."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def python(*words: str) -> list[str]:
    """Return a command line of this Python for which files of the working folder are no modules.

    In a clone that is not installed semscale itself is there.
    """
    return [sys.executable, *([] if Path.cwd() == ROOT else ["-P"]), *words]


def shadowing(files: Iterable[Path]) -> list[Path]:
    """Return the files, such as `random.py`, that have the name of a module which is found in another folder."""
    found = []
    for file in files:
        others = [entry for entry in sys.path if Path(entry).resolve() != file.parent.resolve()]
        if file.suffix == ".py" and PathFinder.find_spec(file.stem, others):
            found.append(file)
    return found
