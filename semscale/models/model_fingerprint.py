"""Fingerprint of a model's files, without loading them: neither torch nor open_clip is imported here."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from pathlib import Path

_HERE = Path(__file__).parent
_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
# what turns files into a model, and so into an identity
_PACKAGES = ("semscale", "open-clip-torch", "timm", "torch", "torchvision")


def model_origin(name: str, device: str, dtype: str | None) -> str | None:
    """Return a digest of everything that decides which encoder a server of this model would be.

    The content of the model's files is read and hashed, so that no time stamp can deceive, together with the versions
    of the libraries that load them. Whoever has seen a server's identity for a digest knows it for ever.

    Args:
        name: a model name as in :func:`semscale.models.model_name.parse_name`.
        device: ``cpu``, ``cuda`` or ``cuda:N``; the kind decides the precision unless it is given.
        dtype: ``fp32``, ``fp16``, ``bf16`` or None.

    Returns:
        64 hex digits; None for models whose files are not on this machine under a name of their own: those of
        open_clip's tags and of the hub may change there.
    """
    files = _files(name)
    if files is None:
        return None
    sha = hashlib.sha256()
    told = {
        "model": name,
        "device": device.partition(":")[0],
        "dtype": dtype,
        "versions": {package: package_version(package) for package in _PACKAGES},
        "files": [path.name for path in files],
    }
    sha.update(json.dumps(told, sort_keys=True).encode())
    try:
        for path in files:
            with path.open("rb") as file:
                sha.update(hashlib.file_digest(file, "sha256").digest())
    except OSError:
        return None
    return sha.hexdigest()


def _files(name: str) -> list[Path] | None:
    if name == "semscale-mini":
        return [_HERE / f"{name}.json", _HERE / "weights" / f"{name}.safetensors"]
    if name.startswith("hf-hub:"):
        return None
    if name.startswith("local-dir:") or Path(name).is_dir():
        folder = Path(name.removeprefix("local-dir:")).expanduser()
        is_model = (folder / "open_clip_config.json").is_file()
        return sorted(path for path in folder.iterdir() if path.is_file()) if is_model else None
    _, _, location = name.partition("::")
    path = Path(location).expanduser()
    return [path] if path.suffix in _SUFFIXES and path.is_file() else None


def package_version(package: str) -> str | None:
    """Return the version of an installed package; None if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
