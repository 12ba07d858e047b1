"""From a model source to an open_clip model on the CPU, and a plain sentence when that fails."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from semscale.errors import SemscaleError, summarize
from semscale.models.checkpoints import check_same_shapes, describe_mismatch
from semscale.models.hf_client import hub_offline_unless_reachable, quiet_libraries
from semscale.models.model_name import DIRECTORY, FILE, HUB, TAG, ModelSource, list_tags, weights_in


def build_source(source: ModelSource) -> tuple[Any, Any, Any]:
    """Build (model, preprocess, tokenizer) of a source as float32 on the CPU.

    Raises:
        SemscaleError: weights that cannot be fetched, that do not fit the architecture, or that hold code.
    """
    import open_clip

    name, options = _open_clip_arguments(source)
    online = source.kind in (TAG, HUB)
    with quiet_libraries(), hub_offline_unless_reachable() if online else contextlib.nullcontext():
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
                found=summarize(error),
                hint="pip install transformers sentencepiece",
            ) from error
        except Exception as error:
            raise _failure(source, error) from error
    weights = _local_weights(source)
    if weights is not None:
        check_same_shapes(weights, model)
    return model, preprocess, tokenizer


def _local_weights(source: ModelSource) -> Path | None:
    if source.kind == FILE:
        return Path(source.location)
    return weights_in(Path(source.location)) if source.kind == DIRECTORY else None


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
        values = {get_pretrained_cfg(architecture, tag).get(key) for tag in list_tags(architecture)}
        if len(values) == 1 and None not in values:
            options[f"image_{key}"] = values.pop()
    return options


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
