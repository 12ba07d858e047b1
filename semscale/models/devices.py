"""The device a model really runs on: never silently another one than was asked for."""

from __future__ import annotations

import platform
from pathlib import Path

import torch

from semscale.errors import SemscaleError


def pick_device(device: str, replica: int = 0) -> torch.device:
    """Check a device name and return the torch device.

    Args:
        device: `cpu`, `cuda` (replica r takes GPU r modulo their count) or `cuda:N`.
        replica: number of the replica that asks.

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
        raise SemscaleError(
            "this machine has no CUDA device that torch can use",
            where="--device",
            found=_why_no_cuda(),
            hint="use --device cpu, or mend the NVIDIA driver (check with `nvidia-smi`)",
        )
    count = torch.cuda.device_count()
    index = int(number) if number else replica % count
    if index >= count:
        raise SemscaleError(
            "no such CUDA device", where="--device", found=device, expected=f"cuda:0 to cuda:{count - 1}"
        )
    return torch.device("cuda", index)


def device_name(device: torch.device) -> str:
    """Name the hardware: the GPU's product name, or the CPU's model name."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return _cpu_name()


def _why_no_cuda() -> str:
    if torch.version.cuda is None:
        return f"torch {torch.__version__}, a build without CUDA"
    return f"torch {torch.__version__} (CUDA {torch.version.cuda}), but no GPU or no driver"


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
