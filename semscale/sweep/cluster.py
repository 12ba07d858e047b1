"""The Ray cluster of a sweep: the one that is there, or a local one that ends with the sweep."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from semscale.errors import SemscaleError
from semscale.redact import redact
from semscale.sweep.guard import Guard

_WORKER_ENVIRONMENT = {
    "NO_VERSION_CHECK": "1",
    "JINA_OPTOUT_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
}


@contextmanager
def ray_cluster(address: str | None) -> Iterator[None]:
    """Connect to a Ray cluster for the time of the context.

    Args:
        address: of a running cluster; None for the cluster of the surrounding Ray job (``RAY_ADDRESS``), or else a
            local one on the loopback interface. A session that is already initialised is used and left alone.

    Raises:
        SemscaleError: no cluster answers at the address.
    """
    if ray.is_initialized():
        yield
        return
    address = address or os.environ.get("RAY_ADDRESS")
    guard = None if address else Guard()
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR, "namespace": "semscale"}
    try:
        if guard is None:
            ray.init(address=address, runtime_env={"env_vars": _WORKER_ENVIRONMENT}, **quiet)
        else:
            # workers of a local cluster inherit them; with a runtime environment each would start half a second later
            for name, value in _WORKER_ENVIRONMENT.items():
                os.environ.setdefault(name, value)
            # at least two, so that encoding and its ledger never wait for each other
            cores = max(2, os.cpu_count() or 2)
            with guard.marking():
                ray.init(
                    address="local",
                    num_cpus=cores,
                    include_dashboard=False,
                    _node_ip_address="127.0.0.1",
                    **quiet,
                )
    except BaseException as error:  # Ray raises a bare Exception when it does not start in time
        ray.shutdown()
        if guard is not None:
            guard.close()
        if not isinstance(error, Exception):
            raise
        raise SemscaleError(
            "no Ray cluster answers" if address else "Ray does not start on this machine",
            where=redact(address) if address else None,
            found=(str(error).strip() or type(error).__name__).splitlines()[0],
            hint="check --ray-address; without it the sweep starts Ray on this machine" if address else None,
        ) from error
    try:
        yield
    finally:
        ray.shutdown()
        if guard is not None:
            guard.close()


def cluster_cpus() -> float:
    """Return the number of CPUs of the connected cluster, at least one."""
    return max(1.0, float(ray.cluster_resources().get("CPU", 1.0)))
