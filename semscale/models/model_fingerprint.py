"""Fingerprint of a model's files, without loading them: neither torch nor open_clip is imported here."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from semscale.common.text import package_version

_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
# what turns files into a model, and so into an identity
_PACKAGES = ("semscale", "open-clip-torch", "timm", "torch", "torchvision")


def model_files_digest(name: str, device: str, dtype: str | None) -> str | None:
    """Return a digest of a model's files and of the libraries that load them; None where they are not here.

    Contents are hashed, so that no time stamp can deceive. Of open_clip's tags and of the hub nothing is known: their
    files may change there.
    """
    files = _files(name)
    if files is None:
        return None
    told = {
        "model": name,
        "device": device.partition(":")[0],
        "dtype": dtype,
        # raised when the same files are read as another model: 2 since RN50::FILE has QuickGELU
        "reading": 2,
        "versions": {package: package_version(package) for package in _PACKAGES},
        "files": [path.name for path in files],
    }
    sha = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
    try:
        for path in files:
            with path.open("rb") as file:
                sha.update(hashlib.file_digest(file, "sha256").digest())
    except OSError:
        return None
    return sha.hexdigest()


def _files(name: str) -> list[Path] | None:
    if name == "semscale-mini":
        here = Path(__file__).parent
        return [here / f"{name}.json", here / "weights" / f"{name}.safetensors"]
    if name.startswith("hf-hub:"):
        return None
    if name.startswith("local-dir:") or Path(name).is_dir():
        folder = Path(name.removeprefix("local-dir:")).expanduser()
        is_model = (folder / "open_clip_config.json").is_file()
        return sorted(path for path in folder.iterdir() if path.is_file()) if is_model else None
    path = Path(name.partition("::")[2]).expanduser()
    return [path] if path.suffix in _SUFFIXES and path.is_file() else None
