"""Which GPU a replica has: each sees one and no other."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch

from semscale.errors import SemscaleError

VISIBLE = "CUDA_VISIBLE_DEVICES"


def visible_gpus() -> list[str]:
    """Return the names of the GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` takes them."""
    told = os.environ.get(VISIBLE)
    if told is not None:
        return [name.strip() for name in told.split(",") if name.strip()]
    # NVML counts them (PYTORCH_NVML_BASED_CUDA_CHECK), which leaves CUDA untouched for the processes to come
    return [str(number) for number in range(torch.cuda.device_count())]


def choose_gpus(wanted: str, visible: Sequence[str]) -> list[str]:
    """Return the GPUs that a server is to use.

    Args:
        wanted: ``all``, or numbers among the visible ones and UUIDs, with commas between.
        visible: of :func:`visible_gpus`.

    Raises:
        SemscaleError: there is none, or no such one.

    >>> choose_gpus("all", ["0", "1"]), choose_gpus("1", ["2", "3"]), choose_gpus("GPU-5e", ["GPU-5e", "GPU-7a"])
    (['0', '1'], ['3'], ['GPU-5e'])
    """
    if not visible:
        raise SemscaleError(
            "this machine has no GPU that torch can use",
            where="--gpus",
            found=wanted,
            hint="leave it away for a server on the CPU, or mend the NVIDIA driver (check with `nvidia-smi`)",
        )
    if wanted == "all":
        return list(visible)
    chosen: list[str] = []
    for name in (part.strip() for part in wanted.split(",")):
        if name.isdigit() and int(name) < len(visible):
            chosen.append(visible[int(name)])
        elif name in visible and not name.isdigit():
            chosen.append(name)
        else:
            raise SemscaleError(
                "there is no such GPU",
                where="--gpus",
                found=name or "an empty name",
                expected=f"all, or some of {', '.join(map(str, range(len(visible))))}",
            )
    return chosen


def claim_gpu(gpus: Sequence[str], replica: int, per_gpu: int) -> str:
    """Let this process see one GPU only, and return its name; before anything has touched CUDA.

    Args:
        gpus: the GPUs of the server.
        replica: number of the replica.
        per_gpu: replicas that share a GPU: the first so many have the first one.

    Raises:
        SemscaleError: CUDA was in use in this process already, so that it sees others too.
    """
    name = gpus[replica // per_gpu % len(gpus)]
    os.environ[VISIBLE] = name
    if torch.cuda.is_initialized() or torch.cuda.device_count() != 1:  # type: ignore[no-untyped-call]
        raise SemscaleError(
            "the replica cannot have a GPU of its own",
            where=f"replica {replica}",
            found=f"it sees {torch.cuda.device_count()} GPUs",
            expected=f"only {name}",
            hint=f"start it with {VISIBLE} set to one GPU, without --gpus",
        )
    return name
