"""Loader of CLIP models by name: bundled, open_clip, hub or a local checkpoint."""

from __future__ import annotations

import contextlib
import hashlib
import json
import platform
import re
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import open_clip
import torch
from huggingface_hub import constants
from open_clip.pretrained import download_pretrained_from_hf, get_pretrained_cfg
from open_clip.transform import PreprocessCfg

from semscale.common.errors import ModelError, SemscaleError, summarize
from semscale.models.bundled_model import Preprocess, load_mini
from semscale.models.checkpoints import check_shapes, find_weights, readable_weights, silence_libraries
from semscale.models.model_name import PREPROCESS, ModelSource, parse_model_name, published_settings

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}

_CODE_KEYS = ("trust_remote_code", "auto_map")  # settings that make transformers run Python code of a model

Tokenizer = Callable[[list[str]], torch.Tensor]


@dataclass(frozen=True)
class LoadedModel:
    """Model ready to encode: `model` (eval, no gradients), `preprocess`, `tokenizer`, and `info` as plain JSON.

    `info` contains all that an embedding depends on, and the device; :mod:`semscale.serving.executor` lists the keys.
    `weights_sha256` is the hash of the loaded float32 tensors (:func:`hash_weights`), independent of the file format;
    `logit_scale` is the multiplier itself (100 for OpenAI's models), not its logarithm.
    """

    model: torch.nn.Module
    preprocess: Preprocess
    tokenizer: Tokenizer
    info: dict[str, Any]


def load_model(
    name: str, device: str = "cpu", dtype: str | None = None, trust_remote_code: bool = False
) -> LoadedModel:
    """Load a model by name onto a device, without executing pickles.

    Args:
        name: `semscale-mini`; `ARCH::TAG` of open_clip; `hf-hub:ORG/NAME`; `ARCH::/path/to/weights.safetensors`
            (or .pt, .pth, .bin); a directory with open_clip_config.json and weights (also `local-dir:/path`).
        device: `cpu`, `cuda` or `cuda:N`; there is no silent fallback.
        dtype: `fp32`, `fp16`, `bf16` or None (fp32 on CPU, fp16 on CUDA).
        trust_remote_code: run Python code of the tokenizer that comes with a directory or download.

    Raises:
        ModelError: an unknown name, device or dtype, or a model that does not fit, contains code or cannot be fetched.
    """
    target = resolve_device(device)
    dtype = dtype or ("fp16" if target.type == "cuda" else "fp32")
    if dtype not in DTYPES:
        raise ModelError("unknown dtype", where="--dtype", found=dtype, expected=", ".join(DTYPES))
    source = parse_model_name(name)
    model, preprocess, tokenizer = load_mini() if source.kind == "mini" else build_model(source, trust_remote_code)
    model.eval().requires_grad_(False)
    pixels = _preprocess_spec(asdict(PreprocessCfg()) | model.visual.preprocess_cfg)
    context_length = int(getattr(tokenizer, "context_length", None) or model.context_length)
    with torch.inference_mode():
        embedding_dim = int(model.encode_text(torch.zeros(1, context_length, dtype=torch.long)).shape[-1])
    info = {
        "name": source.name,
        "architecture": source.architecture,
        "weights_sha256": hash_weights(model.state_dict()),
        "embedding_dim": embedding_dim,
        "image_size": pixels["size"],
        "context_length": context_length,
        "logit_scale": float(model.logit_scale.detach().float().exp()) if hasattr(model, "logit_scale") else 1.0,
        "preprocess": pixels,
        "dtype": dtype,
        "device": str(target),
        "device_name": _device_name(target),
        **({"note": source.note} if source.note else {}),
    }
    try:
        model.to(device=target, dtype=DTYPES[dtype])
    except torch.OutOfMemoryError as error:
        what, where = "the model does not fit into the memory of the GPU", f"{target} ({info['device_name']})"
        hint = "fewer replicas, --dtype fp16, or a smaller model"
        raise ModelError(what, where=where, found=summarize(error), hint=hint) from error
    return LoadedModel(model, preprocess, tokenizer, info)


def hash_weights(state: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256 of a state dict: name, dtype, shape and bytes of the tensors, in the order of their names.

    >>> a, b = torch.zeros(2), torch.ones(1)
    >>> hash_weights({"a": a, "b": b}) == hash_weights({"b": b, "a": a})
    True
    """
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        # as bytes, without a copy: numpy has no bfloat16
        raw: Any = tensor.reshape(-1).view(torch.uint8).numpy()
        digest.update(raw)
    return digest.hexdigest()


def resolve_device(device: str) -> torch.device:
    """Return the torch device of `cpu`, `cuda` (the first GPU) or `cuda:N`; raise ModelError if it does not exist.

    >>> resolve_device("cpu")
    device(type='cpu')
    """
    kind, _, number = device.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdigit()):
        raise ModelError("unknown device", where="--device", found=device, expected="cpu, cuda or cuda:N")
    if kind == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        what, found = "this machine has no CUDA device that torch can use", f"torch {torch.__version__}"
        found += f" (CUDA {torch.version.cuda}), no GPU or driver" if torch.version.cuda else ", a build without CUDA"
        hint = "use --device cpu, or fix the NVIDIA driver (check with `nvidia-smi`)"
        raise ModelError(what, where="--device", found=found, hint=hint)
    last, index = torch.cuda.device_count() - 1, int(number or 0)
    if index > last:
        raise ModelError("no such CUDA device", where="--device", found=device, expected=f"cuda:0 to cuda:{last}")
    return torch.device("cuda", index)


def _device_name(device: torch.device) -> str:
    """Return the GPU's product name, or the CPU's model name."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text(errors="replace") if cpuinfo.exists() else ""
    name = re.search(r"^model name\s*: *(.+?) *$", text, re.MULTILINE)
    return name[1] if name else platform.processor() or platform.machine()


def _preprocess_spec(cfg: dict[str, Any]) -> dict[str, Any]:
    size = cfg["size"] if isinstance(cfg["size"], (tuple, list)) else [cfg["size"]] * 2
    return {
        "size": [int(pixels) for pixels in size[-2:]],
        **{key: cfg[key] for key in ("mode", "interpolation", "resize_mode")},
        **{key: [float(value) for value in cfg[key]] for key in ("mean", "std")},
    }


def build_model(source: ModelSource, trust_remote_code: bool = False) -> tuple[Any, Any, Any]:
    """Return model (float32, on the CPU), preprocessing and tokenizer of a source."""
    name, options = _open_clip_arguments(source)
    online, path = source.kind in ("tag", "hf-hub"), Path(source.location)
    with contextlib.ExitStack() as stack:
        stack.enter_context(silence_libraries())
        if online:
            stack.enter_context(hub_offline_unless_reachable())
        try:
            if source.kind in ("hf-hub", "local-dir") and not trust_remote_code:
                _reject_bundled_code(source, name)
            tokenizer = _tokenizer(name, trust_remote_code)
            if not online:
                path = path if source.kind == "file" else find_weights(path)
                plain = stack.enter_context(readable_weights(path))
                if source.kind == "file":
                    options["pretrained"] = str(plain)
                elif plain != path:
                    shutil.copy(path.with_name("open_clip_config.json"), plain.parent)
                    name = f"local-dir:{plain.parent}"
            # unlike create_model, this raises an error if there are no weights
            model, preprocess = open_clip.create_model_from_pretrained(
                name, precision="fp32", device="cpu", weights_only=True, **options
            )
        except SemscaleError:
            raise
        except Exception as error:
            raise _loading_error(source, error) from error
    if not online:
        check_shapes(path, model)
    return model, preprocess, tokenizer


def _tokenizer(name: str, trust_remote_code: bool) -> Any:
    text = open_clip.get_model_config(name)["text_cfg"]
    # an argument overrides the model's own settings, and keeps transformers from asking in the terminal
    trust = {"trust_remote_code": trust_remote_code} if text.get("hf_tokenizer_name") else {}
    return open_clip.get_tokenizer(name, **trust)


def _reject_bundled_code(source: ModelSource, name: str) -> None:
    """Raise ModelError for a model whose settings make transformers run Python code of the model."""
    settings = open_clip.get_model_config(name)
    text = settings["text_cfg"]
    locations = {"tokenizer_config.json": text.get("hf_tokenizer_name"), "config.json": text.get("hf_model_name")}
    if locations["tokenizer_config.json"] and source.kind == "local-dir":
        locations["tokenizer_config.json"] = source.location  # open_clip ignores the name
    contents = {"open_clip_config.json": json.dumps(settings)}
    contents |= {file: _read_settings(location, file) for file, location in locations.items() if location}
    for file, content in contents.items():

        def check(pairs: list[tuple[str, Any]], file: str = file) -> dict[str, Any]:
            if keys := [key for key, value in pairs if key in _CODE_KEYS and value]:
                raise _untrusted_code(source, f"{keys[0]} in {file}")
            return dict(pairs)

        json.loads(content, object_pairs_hook=check)


def _read_settings(location: str, file: str) -> str:
    """Return a settings file of a directory or a repository of the hub, as transformers finds it, or {}."""
    folder = Path(location)
    try:
        path = folder / file if folder.is_dir() else Path(download_pretrained_from_hf(location, filename=file))
    except FileNotFoundError:
        return "{}"
    return path.read_text(encoding="utf-8") if path.is_file() else "{}"


def _untrusted_code(source: ModelSource, found: str) -> SemscaleError:
    what = "refused: the model contains Python code, which would run with your permissions"
    hint = "if you trust that code: --trust-remote-code of sweep and serve, or trust_remote_code: true under server:"
    return ModelError(what, where=source.name, found=found, hint=hint)


def _open_clip_arguments(source: ModelSource) -> tuple[str, dict[str, Any]]:
    architecture, location = source.architecture, source.location
    if source.kind in ("hf-hub", "local-dir"):
        return f"{source.kind}:{location}", {}
    if source.kind == "tag":
        return architecture, {"pretrained": location, "force_quick_gelu": needs_quick_gelu(architecture, location)}
    return architecture, {"pretrained": location, **common_preprocess(architecture)}


def needs_quick_gelu(architecture: str, tag: str) -> bool:
    """Return whether a tag was trained with QuickGELU; open_clip warns only, and computes GELU."""
    return bool(get_pretrained_cfg(architecture, tag).get("quick_gelu", False))


def common_preprocess(architecture: str) -> dict[str, Any]:
    """Return the preprocessing settings that all published weights of an architecture have in common.

    For a weights file open_clip uses the mean and std of OpenAI's models, which is wrong for SigLIP and MobileCLIP.
    """
    options: dict[str, Any] = {}
    for key in PREPROCESS:
        values = list(published_settings(architecture, key))
        if len(values) == 1 and None not in values:
            options[f"image_{key}"] = values[0]
    return options


@contextlib.contextmanager
def hub_offline_unless_reachable() -> Iterator[None]:
    """Within the block, make the hub client use only its cache if it cannot connect to the hub.

    Cached weights still load; others fail immediately instead of after half a minute of retries.
    """
    before, hub = constants.HF_HUB_OFFLINE, urlsplit(constants.ENDPOINT)
    if hub.scheme not in getproxies():  # behind a proxy, only the proxy knows
        try:
            port = hub.port or (443 if hub.scheme == "https" else 80)
            socket.create_connection((hub.hostname or "", port), timeout=5.0).close()
        except OSError:
            constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _loading_error(source: ModelSource, error: Exception) -> SemscaleError:
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    found = f"{type(cause).__name__}: {' '.join(str(cause).split())[:300]}"
    if "trust_remote_code" in str(cause):
        return _untrusted_code(source, found)
    if isinstance(cause, ImportError):
        hint = "pip install transformers sentencepiece"
        return ModelError("the model needs another package", where=source.name, found=found, hint=hint)
    if source.kind in ("tag", "hf-hub"):
        what = "the weights cannot be fetched from the model hub"
        hint = "check name and network; without one, copy the weights and use ARCH::/path/to/weights.safetensors"
        return ModelError(what, where=source.name, found=found, hint=hint)
    what, hint = "the model cannot be built with these weights", "use the architecture that they were trained with"
    if "state_dict" in str(error):
        what = "the weights do not belong to this architecture"
    return ModelError(what, where=source.location, found=found, hint=hint)
