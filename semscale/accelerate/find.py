"""Which torch device a name means, and whether it is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from semscale.errors import SemscaleError

if TYPE_CHECKING:
    import torch


def find_device(name: str) -> torch.device:
    """Return a torch device: `cpu`, `cuda`, `cuda:1`, ...

    Raises:
        SemscaleError: torch is not installed, or the device is not there.
    """
    try:
        import torch
    except ImportError as error:
        raise SemscaleError(
            f"scoring on the device {name} needs torch",
            found=str(error),
            hint="pip install 'semscale[server]', or score without it",
        ) from error
    device = torch.device(name)
    if device.type == "cuda":
        there = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if not there:
            raise SemscaleError(
                "there is no GPU that torch can use", found=f"device {name}", hint="score on the device cpu"
            )
        if (device.index or 0) >= there:
            raise SemscaleError("there is no such GPU", found=f"device {name}", expected=f"cuda:0 to cuda:{there - 1}")
    return device
