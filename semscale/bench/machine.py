"""What the figures of a benchmark depend on: processor, memory, versions, and how busy the machine was."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

FLAGS = ("amx_bf16", "avx512_bf16")
PACKAGES = ("numpy", "torch", "ray", "mlflow", "open-clip-torch")
_CPU = Path("/proc/cpuinfo")


def describe() -> dict[str, Any]:
    """Return the processor and its bfloat16 flags, cores, memory in GiB, and the versions of Python and packages."""
    return {
        "cpu": cpu_model(),
        "flags": cpu_flags(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def load() -> float:
    """Return how many processes ran or waited to run, the mean of the last minute."""
    return os.getloadavg()[0]


def cpu_model() -> str:
    """Return the name of the processor."""
    return next(iter(_cpu_lines("model name")), platform.processor() or platform.machine())


def cpu_flags() -> list[str]:
    """Return which of the flags that make bfloat16 fast the processor has."""
    found = {flag for line in _cpu_lines("flags") for flag in line.split()}
    return [flag for flag in FLAGS if flag in found]


def _cpu_lines(key: str) -> list[str]:
    if not _CPU.exists():
        return []
    lines = (line.partition(":") for line in _CPU.read_text(encoding="utf-8").splitlines())
    return [value.strip() for name, _, value in lines if name.strip() == key]


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
