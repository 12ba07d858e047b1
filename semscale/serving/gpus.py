"""GPUs of a machine: each server sees one and no other (``CUDA_VISIBLE_DEVICES``)."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

from semscale.errors import SemscaleError

VISIBLE = "CUDA_VISIBLE_DEVICES"


def visible_gpus() -> list[str]:
    """Return the names of the GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` takes them."""
    names = os.environ.get(VISIBLE)
    if names is not None:
        return [name.strip() for name in names.split(",") if name.strip()]
    # torch counts them, in a process of its own: this one only starts others and stays small
    command = [sys.executable, "-c", "import torch; print(torch.cuda.device_count())"]
    count = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    return [str(number) for number in range(int(count) if count.isdigit() else 0)]


def choose_gpus(wanted: str, visible: Sequence[str]) -> list[str]:
    """Return the GPUs, of those visible, that ``all`` or a list of numbers and UUIDs stands for.

    >>> choose_gpus("all", ["0", "1"]), choose_gpus("1", ["2", "3"]), choose_gpus("GPU-5e", ["GPU-5e", "GPU-7a"])
    (['0', '1'], ['3'], ['GPU-5e'])
    """
    if not visible:
        hint = "leave it away for a server on the CPU, or mend the NVIDIA driver (check with `nvidia-smi`)"
        raise SemscaleError("this machine has no GPU that torch can use", where="--gpus", found=wanted, hint=hint)
    if wanted == "all":
        return list(visible)
    chosen: list[str] = []
    for name in (part.strip() for part in wanted.split(",")):
        if name.isdigit() and int(name) < len(visible):
            chosen.append(visible[int(name)])
        elif name in visible and not name.isdigit():
            chosen.append(name)
        else:
            expected = f"all, or some of {', '.join(map(str, range(len(visible))))}"
            raise SemscaleError(
                "there is no such GPU", where="--gpus", found=name or "an empty name", expected=expected
            )
    return chosen
