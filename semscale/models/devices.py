"""Devices of models: never silently another one than was asked for."""

from __future__ import annotations

import platform
from pathlib import Path

import torch

from semscale.errors import SemscaleError


def pick_device(device: str) -> torch.device:
    """Return the torch device of a name: `cpu`, `cuda` (the first GPU) or `cuda:N`.

    Raises:
        SemscaleError: an unknown name, or CUDA where there is none.

    >>> pick_device("cpu")
    device(type='cpu')
    """
    kind, _, number = device.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdigit()):
        raise SemscaleError("unknown device", where="--device", found=device, expected="cpu, cuda or cuda:N")
    if kind == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        cuda = torch.version.cuda
        why = f"(CUDA {cuda}), but no GPU or no driver" if cuda else "is a build without CUDA"
        raise SemscaleError(
            "this machine has no CUDA device that torch can use",
            where="--device",
            found=f"torch {torch.__version__} {why}",
            hint="use --device cpu, or mend the NVIDIA driver (check with `nvidia-smi`)",
        )
    count, index = torch.cuda.device_count(), int(number or 0)
    if index >= count:
        raise SemscaleError(
            "no such CUDA device", where="--device", found=device, expected=f"cuda:0 to cuda:{count - 1}"
        )
    return torch.device("cuda", index)


def device_name(device: torch.device) -> str:
    """Return the GPU's product name, or the CPU's model name."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(errors="replace").splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
