"""Is everything in place? One finding per line, each with the way to mend it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from semscale.errors import SemscaleError

_PACKAGES = ("ray", "mlflow", "clip-client", "jina", "docarray", "nltk", "pandas", "numpy", "pyarrow")
_SERVER_PACKAGES = ("clip-server", "open-clip-torch", "torch", "torchvision")


@dataclass(frozen=True)
class Finding:
    """One line of the examination.

    Attributes:
        title: what was looked at.
        ok: whether it is as it should be.
        detail: what was found.
        mend: what to do when it is not ok.
        required: whether a plain sweep needs it.
    """

    title: str
    ok: bool
    detail: str
    mend: str = ""
    required: bool = True


def examine(servers: Sequence[str], store: str | None) -> list[Finding]:
    """Look at versions, WordNet, device, servers and store."""
    return [
        _python(),
        _packages("packages", _PACKAGES, "pip install -c constraints.txt -e .", required=True),
        _packages(
            "server packages", _SERVER_PACKAGES, 'pip install -c constraints.txt -e ".[server]"', required=not servers
        ),
        _wordnet(),
        _device(),
        _model(),
        _store(store),
        *(_server(url) for url in servers),
    ]


def show_findings(findings: Sequence[Finding]) -> None:
    """Print the findings as a table of ok / not ok lines."""
    from semscale.study.progress import open_console

    console = open_console()
    width = max(len(finding.title) for finding in findings)
    for finding in findings:
        mark = "[green]ok    [/green]" if finding.ok else "[red]not ok[/red]"
        console.print(f"{mark} {finding.title:<{width}}  ", end="")
        console.print(finding.detail, highlight=False, markup=False, soft_wrap=True)
        if not finding.ok:
            line = f"       {'':<{width}}  to mend: {finding.mend}"
            console.print(line, highlight=False, markup=False, soft_wrap=True)


def _python() -> Finding:
    ok = (3, 11) <= sys.version_info[:2] < (3, 13)
    return Finding("python", ok, f"{platform.python_version()} on {platform.system()}", "use Python 3.11 or 3.12")


def _packages(title: str, names: Sequence[str], mend: str, *, required: bool) -> Finding:
    found, missing = [], []
    for name in names:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    detail = ", ".join(found) if not missing else f"missing: {', '.join(missing)}"
    return Finding(title, not missing, detail, mend, required)


def _wordnet() -> Finding:
    from semscale.categories.wordnet import HOW_TO_GET, find_wordnet

    place = find_wordnet()
    detail = str(place) if place else "not found (only strategies from WordNet need it)"
    return Finding("wordnet", place is not None, detail, HOW_TO_GET, required=False)


def _device() -> Finding:
    try:
        import torch
    except ImportError:
        return Finding("device", False, "torch is not installed", 'pip install -e ".[server]"', required=False)
    if torch.cuda.is_available():
        return Finding("device", True, f"cuda: {torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}")
    return Finding("device", True, f"cpu: {os.cpu_count()} cores, no CUDA device")


def _model() -> Finding:
    import semscale.models

    weights = Path(semscale.models.__path__[0]) / "weights" / "semscale-mini.safetensors"
    detail = f"{weights.stat().st_size / 1e6:.1f} MB" if weights.exists() else "weights file missing"
    return Finding("semscale-mini", weights.exists(), detail, "reinstall semscale")


def _store(store: str | None) -> Finding:
    from semscale.encoding.folder import embedding_store

    place = embedding_store(store)
    try:
        place.local.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=place.local, suffix=".partial") as file:
            name = os.path.basename(file.name)
            place.push(name)
        if place.is_remote:
            place.remove(name)
    except OSError as error:
        return Finding("store", False, f"{place}: {error.strerror}", "choose a writable folder with --store")
    except SemscaleError as error:
        return Finding("store", False, f"{place}: {error.found}", error.hint or "")
    return Finding("store", True, f"{place} is writable")


def _server(url: str) -> Finding:
    from semscale.encoding.handshake import ask

    try:
        answer = ask(url)
    except SemscaleError as error:
        mend = "start it with `semscale serve`, and check the address"
        if "no clip-server" not in error.what:
            mend = error.hint or mend
        detail = f"{error.what}: {error.found}" if error.found else error.what
        return Finding(url, False, detail, mend)
    return Finding(url, True, answer)
