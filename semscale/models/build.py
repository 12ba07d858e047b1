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
    if source.kind in (FILE, DIRECTORY):
        path = Path(source.location)
        weights = path if source.kind == FILE else weights_in(path)
        if weights is not None:
            check_same_shapes(weights, model)
    return model, preprocess, tokenizer


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


@contextlib.contextmanager
def hub_offline_unless_reachable() -> Iterator[None]:
    """Within the block, the hub client uses only its cache if the hub cannot be connected to.

    Weights that were fetched before still load; others fail at once, where the client would retry for half a minute.
    """
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not _reachable(constants.ENDPOINT)
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _reachable(endpoint: str) -> bool:
    address = urlsplit(endpoint)
    if address.scheme in getproxies():
        return True  # behind a proxy only the proxy can tell
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        with socket.create_connection((address.hostname or "", port), timeout=5.0):
            return True
    except OSError:
        return False


def _failure(source: ModelSource, error: Exception) -> SemscaleError:
    """Say in one sentence what open_clip could not do."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    found = f"{type(cause).__name__}: {' '.join(str(cause).split())[:300]}"
    what, hint = "the model cannot be built with these weights", "name the architecture that they were trained with"
    if source.kind in (TAG, HUB):
        what = "the weights cannot be fetched from the model hub"
        hint = "check the name and the network; on a machine without one, copy the weights and use "
        hint += "ARCH::/path/to/weights.safetensors"
    elif "state_dict" in str(error):
        what = "the weights do not belong to this architecture"
    where = source.name if source.kind in (TAG, HUB) else source.location
    return SemscaleError(what, where=where, found=found, hint=hint)
