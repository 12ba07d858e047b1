"""Loading of CLIP models by name: bundled, open_clip, hub or a local checkpoint."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from semscale.errors import SemscaleError, summarize
from semscale.models.build import build_source
from semscale.models.model_name import MINI, parse_name

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}

Preprocess = Callable[[Image.Image], torch.Tensor]
Tokenizer = Callable[[list[str]], torch.Tensor]


@dataclass(frozen=True)
class ModelIdentity:
    """What an embedding depends on: the weights, how pixels are made, and the precision; and where it runs.

    `weights_sha256` is taken over the float32 tensors of the loaded model (:func:`hash_weights`), so it does not
    depend on the file format; `logit_scale` is the multiplier itself (100 for OpenAI's models), not its logarithm.
    `preprocess` is plain JSON: resize (`resize_mode`, `interpolation`), centre-crop to `size` (height, width in
    pixels), `mode`, and `mean` and `std` per channel on the 0..1 scale.
    """

    name: str
    architecture: str
    weights_sha256: str
    embedding_dim: int
    image_size: tuple[int, int]
    context_length: int
    logit_scale: float
    preprocess: dict[str, Any]
    dtype: str
    device: str
    device_name: str


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to encode: `model` (eval, no gradients), `preprocess`, `tokenizer` and its identity."""

    model: torch.nn.Module
    preprocess: Preprocess
    tokenizer: Tokenizer
    identity: ModelIdentity

    @property
    def torch_dtype(self) -> torch.dtype:
        """The dtype in which images are fed and the towers compute."""
        return DTYPES[self.identity.dtype]


def load_model(name: str, device: str = "cpu", dtype: str | None = None) -> LoadedModel:
    """Load a model by name onto a device, without executing pickles.

    Args:
        name: `semscale-mini`; `ARCH::TAG` of open_clip; `hf-hub:ORG/NAME`; `ARCH::/path/to/weights.safetensors`
            (or .pt, .pth, .bin); a directory with open_clip_config.json and weights (also `local-dir:/path`).
        device: `cpu`, `cuda` or `cuda:N`; never silently another one.
        dtype: `fp32`, `fp16`, `bf16` or None (fp32 on CPU, fp16 on CUDA).

    Raises:
        SemscaleError: unknown architecture, tag, file, device or dtype; weights that do not fit or hold code;
            a hub that cannot be reached; too little memory on the GPU.
    """
    target = pick_device(device)
    dtype = dtype or ("fp16" if target.type == "cuda" else "fp32")
    if dtype not in DTYPES:
        raise SemscaleError("unknown dtype", where="--dtype", found=dtype, expected=", ".join(DTYPES))
    source = parse_name(name)
    if source.kind == MINI:
        from semscale.models.mini import load_mini

        model, preprocess, tokenizer = load_mini()
    else:
        model, preprocess, tokenizer = build_source(source)
    model.eval().requires_grad_(False)
    preprocess_spec = _preprocess_spec(model.visual.preprocess_cfg)
    height, width = preprocess_spec["size"]
    context_length = int(getattr(tokenizer, "context_length", None) or model.context_length)
    with torch.inference_mode():
        embedding_dim = int(model.encode_text(torch.zeros(1, context_length, dtype=torch.long)).shape[-1])
    identity = ModelIdentity(
        name=source.name,
        architecture=source.architecture,
        weights_sha256=hash_weights(model.state_dict()),
        embedding_dim=embedding_dim,
        image_size=(height, width),
        context_length=context_length,
        logit_scale=float(model.logit_scale.detach().float().exp()) if hasattr(model, "logit_scale") else 1.0,
        preprocess=preprocess_spec,
        dtype=dtype,
        device=str(target),
        device_name=_device_name(target),
    )
    try:
        model.to(device=target, dtype=DTYPES[dtype])
    except torch.OutOfMemoryError as error:
        what, where = "the model does not fit into the memory of the GPU", f"{target} ({identity.device_name})"
        hint = "fewer replicas, --dtype fp16, or a smaller model"
        raise SemscaleError(what, where=where, found=summarize(error), hint=hint) from error
    return LoadedModel(model, preprocess, tokenizer, identity)


def hash_weights(state: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over the tensors of a state dict in the order of their names: name, dtype, shape, bytes.

    >>> a, b = torch.zeros(2), torch.ones(1)
    >>> hash_weights({"a": a, "b": b}) == hash_weights({"b": b, "a": a})
    True
    """
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        # As bytes, without a copy: numpy knows no bfloat16.
        raw: Any = tensor.reshape(-1).view(torch.uint8).numpy()
        digest.update(raw)
    return digest.hexdigest()


def pick_device(device: str) -> torch.device:
    """Return the torch device of `cpu`, `cuda` (the first GPU) or `cuda:N`, never silently another one.

    >>> pick_device("cpu")
    device(type='cpu')
    """
    kind, _, number = device.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdigit()):
        raise SemscaleError("unknown device", where="--device", found=device, expected="cpu, cuda or cuda:N")
    if kind == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        what, found = "this machine has no CUDA device that torch can use", f"torch {torch.__version__}"
        found += f" (CUDA {torch.version.cuda}), no GPU or driver" if torch.version.cuda else ", a build without CUDA"
        hint = "use --device cpu, or mend the NVIDIA driver (check with `nvidia-smi`)"
        raise SemscaleError(what, where="--device", found=found, hint=hint)
    last, index = torch.cuda.device_count() - 1, int(number or 0)
    if index > last:
        raise SemscaleError("no such CUDA device", where="--device", found=device, expected=f"cuda:0 to cuda:{last}")
    return torch.device("cuda", index)


def _device_name(device: torch.device) -> str:
    """Return the GPU's product name, or the CPU's model name."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(errors="replace").splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _preprocess_spec(cfg: dict[str, Any]) -> dict[str, Any]:
    size = cfg["size"]
    return {
        "size": [int(v) for v in size[-2:]] if isinstance(size, (tuple, list)) else [int(size)] * 2,
        "mode": cfg.get("mode", "RGB"),
        "interpolation": cfg.get("interpolation", "bicubic"),
        "resize_mode": cfg.get("resize_mode", "shortest"),
        "mean": [float(v) for v in cfg["mean"]],
        "std": [float(v) for v in cfg["std"]],
    }
