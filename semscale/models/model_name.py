"""Model names: their grammar, checked as far as that is possible without a network."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from pathlib import Path

from semscale.errors import SemscaleError
from semscale.models.checkpoints import SUFFIXES, read_shapes
from semscale.models.hf_client import quiet_libraries

MINI = "mini"
TAG = "tag"
FILE = "file"
HUB = "hf-hub"
DIRECTORY = "local-dir"
MINI_NAME = "semscale-mini"
_GRAMMAR = (
    "semscale-mini, ARCH::TAG (such as ViT-B-32::laion2b_s34b_b79k), hf-hub:ORG/NAME, "
    "ARCH::/path/to/weights.safetensors, or a directory with open_clip_config.json"
)


@dataclass(frozen=True)
class ModelSource:
    """Where a model comes from: `kind`, the `name` the user gave, the `architecture`, and a tag, path or hub id."""

    kind: str
    name: str
    architecture: str
    location: str


def parse_name(name: str) -> ModelSource:
    """Read a model name and check it as far as that is possible without a network.

    Raises:
        SemscaleError: an unknown architecture or tag, a missing file, or a name of no known form.

    >>> parse_name("ViT-B/32::laion2b_s34b_b79k").architecture
    'ViT-B-32'
    """
    if name == MINI_NAME:
        return ModelSource(MINI, name, MINI_NAME, "")
    if name.startswith("hf-hub:"):
        return _parse_hub(name)
    if name.startswith("local-dir:") or Path(name).is_dir():
        return _parse_directory(name)
    if not name.strip():
        raise SemscaleError("no model name given", where="--model", expected=_GRAMMAR)
    architecture, separator, location = name.partition("::")
    architecture = _known_architecture(architecture, name)
    if not separator or not location:
        tags = list_tags(architecture)
        raise SemscaleError(
            "a model name needs its weights, not only the architecture",
            where="--model",
            found=name,
            expected=f"{architecture}::TAG with one of: {', '.join(tags)}" if tags else None,
            hint=f"or {architecture}::/path/to/weights.safetensors",
        )
    if location in list_tags(architecture):
        return ModelSource(TAG, name, architecture, location)
    if "/" in location or Path(location).suffix in SUFFIXES or Path(location).exists():
        return _parse_file(name, architecture, location)
    raise SemscaleError(
        f"unknown pretrained tag for {architecture}",
        where="--model",
        found=location,
        expected=_nearest_first(location, list_tags(architecture)) or "a path to a weights file",
    )


def _parse_hub(name: str) -> ModelSource:
    location = name.removeprefix("hf-hub:")
    if location.count("/") != 1 or not all(location.split("/")):
        raise SemscaleError("not a hub name", where="--model", found=name, expected="hf-hub:ORG/NAME")
    return ModelSource(HUB, name, name, location)


def _parse_directory(name: str) -> ModelSource:
    path = Path(name.removeprefix("local-dir:")).expanduser()
    config = path / "open_clip_config.json"
    if not config.is_file():
        raise SemscaleError(
            "this is not the directory of an open_clip model",
            where=str(path),
            found="no open_clip_config.json" if path.is_dir() else "no such directory",
            expected="open_clip_config.json beside open_clip_model.safetensors",
        )
    try:
        settings = json.loads(config.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SemscaleError("not a JSON file", where=str(config), found=str(error)) from error
    if not isinstance(settings, dict) or not isinstance(settings.get("model_cfg"), dict):
        raise SemscaleError("the model configuration lacks a key", where=str(config), expected="model_cfg")
    weights = weights_in(path)
    if weights is None:
        raise SemscaleError(
            "no weights in the model directory",
            where=str(path),
            expected="open_clip_model.safetensors (or another .safetensors, .bin or .pth file)",
        )
    read_shapes(weights)
    resolved = path.resolve()
    return ModelSource(DIRECTORY, name, resolved.name, str(resolved))


def _parse_file(name: str, architecture: str, location: str) -> ModelSource:
    path = Path(location).expanduser()
    if not path.is_file():
        raise SemscaleError("no such weights file", where="--model", found=location, expected="an existing file")
    read_shapes(path)
    return ModelSource(FILE, name, architecture, str(path.resolve()))


def weights_in(directory: Path) -> Path | None:
    """The weights file that open_clip picks in a model directory; None if there is none."""
    from open_clip.factory import _find_checkpoint_in_dir

    with quiet_libraries():
        found = _find_checkpoint_in_dir(directory)
    return Path(found) if found else None


def _known_architecture(architecture: str, name: str) -> str:
    from open_clip import list_models

    known = list_models()
    cleaned = architecture.replace("/", "-")
    if cleaned in known:
        return cleaned
    if "::" not in name and ("/" in name or Path(name).suffix in SUFFIXES):
        raise SemscaleError(
            "a weights file needs its architecture, and a model directory must exist",
            where="--model",
            found=name,
            expected=_GRAMMAR,
        )
    lowered = {known_name.lower(): known_name for known_name in known}
    near = difflib.get_close_matches(cleaned.lower(), list(lowered), n=5, cutoff=0.5)
    raise SemscaleError(
        "unknown model architecture",
        where="--model",
        found=architecture,
        expected=", ".join(lowered[item] for item in near) if near else _GRAMMAR,
        hint="`python -c 'import open_clip; print(open_clip.list_models())'` lists all of them",
    )


def list_tags(architecture: str) -> list[str]:
    """The names of the published weights of an architecture."""
    from open_clip import list_pretrained_tags_by_model

    return list(list_pretrained_tags_by_model(architecture))


def _nearest_first(word: str, choices: list[str]) -> str:
    near = difflib.get_close_matches(word, choices, n=3, cutoff=0.4)
    return ", ".join([*near, *(choice for choice in choices if choice not in near)])
