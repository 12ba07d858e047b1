"""From a model name to an open_clip model: the grammar of names, and one builder for each kind of source."""

from __future__ import annotations

import contextlib
import difflib
import json
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semscale.errors import SemscaleError
from semscale.serving.checkpoints import SUFFIXES, check_same_shapes, describe_mismatch, read_shapes
from semscale.serving.hub import hub_offline_unless_reachable

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
        tags = _tags(architecture)
        raise SemscaleError(
            "a model name needs its weights, not only the architecture",
            where="--model",
            found=name,
            expected=f"{architecture}::TAG with one of: {', '.join(tags)}" if tags else None,
            hint=f"or {architecture}::/path/to/weights.safetensors",
        )
    if location in _tags(architecture):
        return ModelSource(TAG, name, architecture, location)
    if "/" in location or Path(location).suffix in SUFFIXES or Path(location).exists():
        return _parse_file(name, architecture, location)
    raise SemscaleError(
        f"unknown pretrained tag for {architecture}",
        where="--model",
        found=location,
        expected=_nearest_first(location, _tags(architecture)) or "a path to a weights file",
    )


def build_source(source: ModelSource) -> tuple[Any, Any, Any]:
    """Build (model, preprocess, tokenizer) of a source as float32 on the CPU.

    Raises:
        SemscaleError: weights that cannot be fetched, that do not fit the architecture, or that hold code.
    """
    import open_clip

    name, options = _open_clip_arguments(source)
    online = source.kind in (TAG, HUB)
    with _quiet_libraries(), hub_offline_unless_reachable() if online else contextlib.nullcontext():
        try:
            # Unlike create_model, this refuses to go on with random weights when there are none.
            model, preprocess = open_clip.create_model_from_pretrained(
                name, precision="fp32", device="cpu", weights_only=True, **options
            )
            tokenizer = open_clip.get_tokenizer(name)
        except SemscaleError:
            raise
        except ImportError as error:
            raise SemscaleError(
                f"the model {source.name} needs a package that is not installed",
                where="--model",
                found=str(error).splitlines()[0],
                hint="pip install transformers sentencepiece",
            ) from error
        except Exception as error:
            raise _failure(source, error) from error
    weights = _local_weights(source)
    if weights is not None:
        check_same_shapes(weights, model)
    return model, preprocess, tokenizer


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
    weights = _weights_in(path)
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


def _weights_in(directory: Path) -> Path | None:
    from open_clip.factory import _find_checkpoint_in_dir

    with _quiet_libraries():
        found = _find_checkpoint_in_dir(directory)
    return Path(found) if found else None


def _local_weights(source: ModelSource) -> Path | None:
    if source.kind == FILE:
        return Path(source.location)
    return _weights_in(Path(source.location)) if source.kind == DIRECTORY else None


def _open_clip_arguments(source: ModelSource) -> tuple[str, dict[str, Any]]:
    if source.kind == HUB:
        return f"hf-hub:{source.location}", {}
    if source.kind == DIRECTORY:
        return f"local-dir:{source.location}", {}
    options: dict[str, Any] = {"pretrained": source.location}
    if source.kind == TAG:
        options["force_quick_gelu"] = needs_quick_gelu(source.architecture, source.location)
    else:
        options |= agreed_preprocess(source.architecture)
    return source.architecture, options


def needs_quick_gelu(architecture: str, tag: str) -> bool:
    """Whether a tag was trained with QuickGELU: open_clip only warns and computes something else."""
    from open_clip.pretrained import get_pretrained_cfg

    return bool(get_pretrained_cfg(architecture, tag).get("quick_gelu", False))


def agreed_preprocess(architecture: str) -> dict[str, Any]:
    """Preprocessing on which all published weights of an architecture agree.

    open_clip gives a weights file the mean and std of OpenAI's models, which is wrong for SigLIP and MobileCLIP.
    """
    from open_clip.pretrained import get_pretrained_cfg

    options: dict[str, Any] = {}
    for key in ("mean", "std", "interpolation", "resize_mode"):
        values = {get_pretrained_cfg(architecture, tag).get(key) for tag in _tags(architecture)}
        if len(values) == 1 and None not in values:
            options[f"image_{key}"] = values.pop()
    return options


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


def _tags(architecture: str) -> list[str]:
    from open_clip import list_pretrained_tags_by_model

    return list(list_pretrained_tags_by_model(architecture))


def _nearest_first(word: str, choices: list[str]) -> str:
    near = difflib.get_close_matches(word, choices, n=3, cutoff=0.4)
    return ", ".join([*near, *(choice for choice in choices if choice not in near)])


def _failure(source: ModelSource, error: Exception) -> SemscaleError:
    """Say in one sentence what open_clip could not do."""
    if source.kind in (TAG, HUB):
        return SemscaleError(
            "the weights cannot be fetched from the model hub",
            where=source.name,
            found=_root_reason(error),
            hint="check the name and the network; on a machine without one, copy the weights and use "
            "ARCH::/path/to/weights.safetensors",
        )
    weights = _local_weights(source)
    mismatch = describe_mismatch(weights, error) if weights is not None else None
    return mismatch or SemscaleError(
        "the model cannot be built with these weights",
        where=source.name,
        found=_root_reason(error),
        hint="name the architecture that the weights were trained with",
    )


def _root_reason(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}"


@contextlib.contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Keep open_clip's and the hub client's chatter away: what matters is raised."""
    previous = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)
