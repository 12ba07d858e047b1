"""Settings that jina, torch and the hub client read when they are imported; import this module before any of them."""

from __future__ import annotations

import os

_DEFAULTS = {
    # No look-ups of newer versions and no usage reports: servers run on machines without a network.
    "NO_VERSION_CHECK": "1",
    "JINA_OPTOUT_TELEMETRY": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    # One plain line per event, and only what matters.
    "JINA_LOG_CONFIG": "plain",
    "JINA_LOG_LEVEL": "WARNING",
    "GRPC_VERBOSITY": "ERROR",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    # OpenMP's threads wait asleep: where gateway and clients share the cores, threads that spin for each other make a
    # replica with two of them several times slower.
    "OMP_WAIT_POLICY": "PASSIVE",
    # Counting GPUs through NVML leaves CUDA untouched in the parent, so that forked replicas can use it.
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
}


def prepare_environment() -> None:
    """Set the defaults of every library that the server starts; what the user has set stays.

    >>> prepare_environment(); os.environ["NO_VERSION_CHECK"]
    '1'
    """
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)


def available_cores() -> int:
    """Count the CPU cores that this process may use (at least 1)."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1
