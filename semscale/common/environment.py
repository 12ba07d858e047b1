"""Process environment, inherited by child processes: proxies, output encoding, module paths."""

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


def bypass_proxies_for_loopback() -> None:
    """Exempt the loopback addresses from the proxies, for this process and its children."""
    if not any(os.environ.get(name) or os.environ.get(name.upper()) for name in _PROXIES):
        return
    for name in ("no_proxy", "no_grpc_proxy"):
        hosts = os.environ.get(name) or os.environ.get(name.upper()) or ""
        # where gRPC's own variable is set, it replaces the other
        if hosts.strip() != "*" and (hosts or name == "no_proxy"):
            os.environ[name] = ",".join(dict.fromkeys([*filter(None, hosts.split(",")), *LOOPBACK]))


def escape_unencodable_output() -> None:
    """Make standard output and error print characters that their encoding lacks as escapes instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def python_command(*arguments: str) -> list[str]:
    """Return a command line of this Python that imports no modules from the working folder.

    A clone that is not installed is the exception: semscale itself is imported from there.
    """
    return [sys.executable, *([] if Path.cwd() == ROOT else ["-P"]), *arguments]


def files_shadowing_modules(files: Iterable[Path]) -> list[Path]:
    """Return the files, such as `random.py`, that have the name of a module in another folder."""
    shadowing = []
    for file in files:
        others = [entry for entry in sys.path if Path(entry).resolve() != file.parent.resolve()]
        if file.suffix == ".py" and PathFinder.find_spec(file.stem, others):
            shadowing.append(file)
    return shadowing
