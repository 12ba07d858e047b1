"""Grammar of model names, and the checks of a name that need no network."""

from __future__ import annotations

import difflib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from open_clip import list_models, list_pretrained_tags_by_model
from open_clip.pretrained import get_pretrained_cfg
from open_clip.transform import PreprocessCfg

from semscale.common.errors import ModelError
from semscale.common.files import read_regular_file
from semscale.common.parsing import parse_json
from semscale.models.checkpoints import WEIGHTS_SUFFIXES, find_weights, read_tensor_shapes

_GRAMMAR = (
    "semscale-mini, ARCH::TAG (such as ViT-B-32::laion2b_s34b_b79k), hf-hub:ORG/NAME, "
    "ARCH::/path/to/weights.safetensors, or a directory with open_clip_config.json"
)
PREPROCESS = ("mean", "std", "interpolation", "resize_mode")
"""open_clip's preprocessing settings that depend on the weights, not on the architecture."""


@dataclass(frozen=True)
class ModelSource:
    """Parsed model name: `kind`, the `name` itself, the `architecture`, and a tag, path or hub id as `location`.

    `note` describes the settings assumed for an ambiguous weights file, which contains none itself.
    """

    kind: Literal["mini", "tag", "file", "hf-hub", "local-dir"]
    name: str
    architecture: str
    location: str
    note: str = ""


def parse_model_name(name: str) -> ModelSource:
    """Parse a model name and check it as far as possible without a network; raise ModelError if it is not valid.

    >>> parse_model_name("ViT-B/32::laion2b_s34b_b79k").architecture
    'ViT-B-32'
    """
    if name == "semscale-mini":
        return ModelSource("mini", name, name, "")
    if name.startswith("hf-hub:"):
        location = name.removeprefix("hf-hub:")
        if location.count("/") != 1 or not all(location.split("/")):
            raise ModelError("not a hub name", where="--model", found=name, expected="hf-hub:ORG/NAME")
        return ModelSource("hf-hub", name, name, location)
    if name.startswith("local-dir:") or Path(name).is_dir():
        return _parse_directory(name)
    if not name.strip():
        raise ModelError("the model name is empty", where="--model", expected=_GRAMMAR)
    architecture, _, location = name.partition("::")
    architecture = _known_architecture(architecture, name)
    tags = list_pretrained_tags_by_model(architecture)
    if not location:
        what, hint = "the model name lacks the weights", f"or {architecture}::/path/to/weights.safetensors"
        expected = f"{architecture}::TAG with one of: {', '.join(tags)}"
        raise ModelError(what, where="--model", found=name, expected=expected, hint=hint)
    if location in tags:
        return ModelSource("tag", name, architecture, location)
    if "/" in location or Path(location).suffix in WEIGHTS_SUFFIXES or Path(location).exists():
        path = Path(location).expanduser()
        if not path.is_file():
            raise ModelError("no such weights file", where="--model", found=location, expected="an existing file")
        read_tensor_shapes(path)
        architecture, note = _resolve_activation(architecture, location)
        return ModelSource("file", name, architecture, str(path.resolve()), note)
    nearest_first = ", ".join(difflib.get_close_matches(location, tags, n=len(tags) or 1, cutoff=0.0))
    what, expected = f"unknown pretrained tag for {architecture}", nearest_first or "a path to a weights file"
    raise ModelError(what, where="--model", found=location, expected=expected)


def published_settings(architecture: str, key: str) -> dict[Any, list[str]]:
    """Return the tags of an architecture's published weights, grouped by open_clip's value of a setting."""
    tags: dict[Any, list[str]] = {}
    for tag in list_pretrained_tags_by_model(architecture):
        tags.setdefault(get_pretrained_cfg(architecture, tag).get(key), []).append(tag)
    return tags


def _resolve_activation(architecture: str, file: str) -> tuple[str, str]:
    """Return the architecture of a weights file, including its activation, and a note on the settings assumed.

    >>> [_resolve_activation(name, "w.pt")[0] for name in ("RN50", "ViT-B-32", "ViT-B-16-SigLIP")]
    ['RN50-quickgelu', 'ViT-B-32', 'ViT-B-16-SigLIP']
    """
    quick, twin, notes = published_settings(architecture, "quick_gelu"), f"{architecture}-quickgelu", []
    remedy = "use a model directory with open_clip_config.json"
    if list(quick) == [True] and twin in list_models():
        notes.append(f"read with QuickGELU, like all published weights of {architecture}; if that is wrong, {remedy}")
        architecture = twin
    elif True in quick and twin in list_models():
        notes.append(f"read with GELU; if trained with QuickGELU, like {', '.join(quick[True])}, name {twin}::{file}")
    usual = asdict(PreprocessCfg())
    varying = {key: groups for key in PREPROCESS if len(groups := published_settings(architecture, key)) > 1}
    unusual = [tag for key in varying for value, tags in varying[key].items() if value != usual[key] for tag in tags]
    if unusual:
        keys, tags = ", ".join(varying), ", ".join(dict.fromkeys(unusual))
        notes.append(f"prepared with open_clip's usual {keys}; if others are right, as for {tags}, {remedy}")
    return architecture, "; ".join(notes)


def _parse_directory(name: str) -> ModelSource:
    path = Path(name.removeprefix("local-dir:")).expanduser()
    config = path / "open_clip_config.json"
    if not config.is_file():
        expected = "open_clip_config.json beside open_clip_model.safetensors"
        raise ModelError("not the directory of an open_clip model", where=str(path), expected=expected)
    try:
        dict(parse_json(read_regular_file(config))["model_cfg"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        what, found = "not the configuration of an open_clip model", f"{type(error).__name__}: {error}"
        raise ModelError(what, where=str(config), found=found, expected="JSON with model_cfg") from error
    read_tensor_shapes(find_weights(path))
    resolved = path.resolve()
    return ModelSource("local-dir", name, resolved.name, str(resolved))


def _known_architecture(architecture: str, name: str) -> str:
    cleaned = architecture.replace("/", "-")
    if cleaned in list_models():
        return cleaned
    if "::" not in name and ("/" in name or Path(name).suffix in WEIGHTS_SUFFIXES):
        what = "a weights file needs its architecture, and a model directory must exist"
        raise ModelError(what, where="--model", found=name, expected=_GRAMMAR)
    expected = ", ".join(difflib.get_close_matches(cleaned, list_models(), n=5, cutoff=0.5)) or _GRAMMAR
    hint = "`python -c 'import open_clip; print(open_clip.list_models())'` lists all of them"
    raise ModelError("unknown model architecture", where="--model", found=architecture, expected=expected, hint=hint)
