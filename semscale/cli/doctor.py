"""Diagnosis of an installation: one finding per check, each with its fix."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from semscale.common.errors import SemscaleError
from semscale.common.text import package_version

_PACKAGES = ("ray", "mlflow", "clip-client", "jina", "docarray", "nltk", "pandas", "numpy", "pyarrow")
_SERVER_PACKAGES = ("clip-server", "open-clip-torch", "torch", "torchvision")
_INSTALL = "pip install -c constraints.txt -e "
_WEIGHTS = Path(__file__).parent.parent / "models" / "weights" / "semscale-mini.safetensors"


@dataclass(frozen=True)
class Finding:
    """Result of a check: whether it passed, details, how to fix it, and whether a plain sweep requires it."""

    title: str
    ok: bool
    detail: str
    fix: str = ""
    required: bool = True


def diagnose(servers: Sequence[str], store: str | None) -> list[Finding]:
    """Check versions, WordNet, device, bundled model, store and servers."""
    python = f"{platform.python_version()} on {platform.system()}"
    return [
        Finding("python", (3, 11) <= sys.version_info[:2] < (3, 13), python, "use Python 3.11 or 3.12"),
        _packages("packages", _PACKAGES, _INSTALL + ".", required=True),
        _packages("server packages", _SERVER_PACKAGES, _INSTALL + '".[server]"', required=not servers),
        _wordnet(),
        _device(),
        Finding("semscale-mini", _WEIGHTS.exists(), _WEIGHTS.name, "reinstall semscale"),
        _store(store),
        *(_server(url) for url in servers),
    ]


def _packages(title: str, names: Sequence[str], fix: str, *, required: bool) -> Finding:
    versions = {name: package_version(name) for name in names}
    detail = ", ".join(f"{name} {version or 'is missing'}" for name, version in versions.items())
    return Finding(title, None not in versions.values(), detail, fix, required)


def _wordnet() -> Finding:
    from semscale.categories.wordnet_data import INSTALL_HINT, find_wordnet

    folder = find_wordnet()
    detail = str(folder or "not found (required by the WordNet strategies only)")
    return Finding("wordnet", folder is not None, detail, INSTALL_HINT, required=False)


def _device() -> Finding:
    try:
        import torch
    except ImportError:
        return Finding("device", False, "torch is not installed", _INSTALL + '".[server]"', required=False)
    gpus = torch.cuda.device_count()
    detail = f"{gpus} x {torch.cuda.get_device_name(0)}" if gpus else f"cpu: {os.cpu_count()} cores, no CUDA device"
    return Finding("device", True, detail)


def _store(store: str | None) -> Finding:
    from semscale.store.mirrored_directory import store_directory

    folder = store_directory(store)
    try:
        folder.local.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder.local, suffix=".partial") as file:
            name = os.path.basename(file.name)
            folder.push(name)
        if folder.is_remote:
            folder.remove(name)
    except OSError as error:
        return Finding("store", False, f"{folder}: {error.strerror}", "choose a writable folder with --store")
    except SemscaleError as error:
        return Finding("store", False, f"{folder}: {error.found}", error.hint or "")
    return Finding("store", True, f"{folder} is writable")


def _server(url: str) -> Finding:
    from semscale.encoding.verification import check_server

    try:
        info, dimension = check_server(url)
    except SemscaleError as error:
        detail = f"{error.what}: {error.found}" if error.found else error.what
        return Finding(url, False, detail, error.hint or "start it with `semscale serve`, and check the address")
    name = f"{info['name']} on {info['device']}, {info['dtype']}" if info else "a clip-server without model information"
    return Finding(url, True, f"{name}, embedding dimension {dimension}")
