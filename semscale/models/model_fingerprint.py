"""Digest of a model's files, computed without loading them: this module imports neither torch nor open_clip."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from semscale.common.text import package_version

_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
# the libraries that turn files into a model
_PACKAGES = ("semscale", "open-clip-torch", "timm", "torch", "torchvision")


def model_files_digest(name: str, device: str, dtype: str | None) -> str | None:
    """Return a digest of a model's files and of the libraries that load them; None if they are not local.

    It hashes contents, since time stamps can mislead. open_clip's tags and models of the hub have none: their files
    may change there.
    """
    files = _files(name)
    if files is None:
        return None
    settings = {
        "model": name,
        "device": device.partition(":")[0],
        "dtype": dtype,
        # incremented when the same files are loaded as another model: 2 since RN50::FILE has QuickGELU
        "reading": 2,
        "versions": {package: package_version(package) for package in _PACKAGES},
        "files": [path.name for path in files],
    }
    sha = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    try:
        for path in files:
            with path.open("rb") as file:
                sha.update(hashlib.file_digest(file, "sha256").digest())
    except OSError:
        return None
    return sha.hexdigest()


def _files(name: str) -> list[Path] | None:
    if name == "semscale-mini":
        folder = Path(__file__).parent
        return [folder / f"{name}.json", folder / "weights" / f"{name}.safetensors"]
    if name.startswith("hf-hub:"):
        return None
    if name.startswith("local-dir:") or Path(name).is_dir():
        folder = Path(name.removeprefix("local-dir:")).expanduser()
        is_model = (folder / "open_clip_config.json").is_file()
        return sorted(path for path in folder.iterdir() if path.is_file()) if is_model else None
    path = Path(name.partition("::")[2]).expanduser()
    return [path] if path.suffix in _SUFFIXES and path.is_file() else None
