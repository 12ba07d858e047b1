"""From a model source to an open_clip model on the CPU, and a plain sentence when that fails."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from semscale.errors import SemscaleError, summarize
from semscale.models.checkpoints import check_same_shapes, quiet_libraries, weights_in
from semscale.models.model_name import DIRECTORY, FILE, HUB, TAG, ModelSource, list_tags


def build_source(source: ModelSource) -> tuple[Any, Any, Any]:
    """Build (model, preprocess, tokenizer) of a source as float32 on the CPU."""
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
            what = f"the model {source.name} needs a package that is not installed"
            hint = "pip install transformers sentencepiece"
            raise SemscaleError(what, where="--model", found=summarize(error), hint=hint) from error
        except Exception as error:
            raise _failure(source, error) from error
    if not online:
        path = Path(source.location)
        check_same_shapes(path if source.kind == FILE else weights_in(path), model)
    return model, preprocess, tokenizer


def _open_clip_arguments(source: ModelSource) -> tuple[str, dict[str, Any]]:
    architecture, location = source.architecture, source.location
    if source.kind in (HUB, DIRECTORY):
        return f"{source.kind}:{location}", {}
    if source.kind == TAG:
        return architecture, {"pretrained": location, "force_quick_gelu": needs_quick_gelu(architecture, location)}
    return architecture, {"pretrained": location, **agreed_preprocess(architecture)}


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


@contextlib.contextmanager
def hub_offline_unless_reachable() -> Iterator[None]:
    """Within the block, the hub client uses only its cache if the hub cannot be connected to.

    Weights that were fetched before still load; others fail at once, where the client would retry for half a minute.
    """
    from huggingface_hub import constants

    before, hub = constants.HF_HUB_OFFLINE, urlsplit(constants.ENDPOINT)
    if hub.scheme not in getproxies():  # behind a proxy only the proxy can tell
        try:
            port = hub.port or (443 if hub.scheme == "https" else 80)
            socket.create_connection((hub.hostname or "", port), timeout=5.0).close()
        except OSError:
            constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _failure(source: ModelSource, error: Exception) -> SemscaleError:
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    found = f"{type(cause).__name__}: {' '.join(str(cause).split())[:300]}"
    if source.kind in (TAG, HUB):
        what = "the weights cannot be fetched from the model hub"
        hint = "check name and network; without one, copy the weights and use ARCH::/path/to/weights.safetensors"
        return SemscaleError(what, where=source.name, found=found, hint=hint)
    misfit = "state_dict" in str(error)
    what = (
        "the weights do not belong to this architecture" if misfit else "the model cannot be built with these weights"
    )
    hint = "name the architecture that they were trained with"
    return SemscaleError(what, where=source.location, found=found, hint=hint)
