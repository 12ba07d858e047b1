"""Where ladders are scored: on the CPUs of the cluster, or on its GPUs with the same results."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import ray

from semscale.errors import SemscaleError
from semscale.study.cluster import cluster_cpus


@dataclass(frozen=True)
class Place:
    """Where and in how many tasks a ladder is scored.

    Attributes:
        device: a torch device; None for the numpy kernel, `auto` for a GPU where a worker's torch sees one.
        tasks: into how many parts a ladder is cut.
        options: what a task asks of Ray.
        here: whether this process does it itself.
    """

    device: str | None
    tasks: int
    options: Mapping[str, Any] = field(default_factory=dict)
    here: bool = False


def check_device(name: str, address: str | None) -> None:
    """Refuse a GPU that is asked for by name and is not there, before anything starts.

    Args:
        name: the study's `scoring.device`.
        address: of the Ray cluster; other machines show what they have only when they are connected.

    Raises:
        SemscaleError: torch is not installed, or sees no such GPU.
    """
    elsewhere = address or os.environ.get("RAY_ADDRESS") or ray.is_initialized()
    if name.startswith("cuda:") or (name == "cuda" and not elsewhere):
        from semscale.scoring.torch_backend import find_device

        find_device(name)


def scoring_place(name: str) -> Place:
    """Return where the connected cluster scores.

    Raises:
        SemscaleError: GPUs are asked for by name, and the cluster has none, or none that is free.
    """
    on_cpus = 2 * int(cluster_cpus())  # twice as many tasks as CPUs evens out slow ones
    if name == "torch:cpu":
        return Place("cpu", on_cpus)
    if name.startswith("cuda:"):
        # Ray would hide all GPUs but the one that it chooses
        return Place(name, 1, here=True)
    free = int(ray.available_resources().get("GPU", 0))
    if name in ("cuda", "auto") and free:
        return Place(name, free, {"num_gpus": 1, "num_cpus": _cpus_beside_a_gpu()})
    if name == "cuda":
        total = int(ray.cluster_resources().get("GPU", 0))
        raise SemscaleError(
            "the Ray cluster has no free GPU for scoring" if total else "the Ray cluster has no GPU for scoring",
            where="scoring: {device: cuda}",
            found=f"{total} GPUs, all in use" if total else "0 GPUs among its resources",
            hint="device: auto takes the CPUs where there is none; the results are the same",
        )
    return Place(None, on_cpus)


def _cpus_beside_a_gpu() -> int:
    """Return how many CPUs each GPU of the poorest node can have: near ties are scored again on the CPU."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    shares = [int(node.get("CPU", 0) // node["GPU"]) for node in nodes if node.get("GPU", 0) >= 1]
    return max(1, min(shares, default=1))
