"""Connection to Ray: to a running cluster, that of the surrounding Ray job, or a local one for the sweep."""

from __future__ import annotations

import json
import logging
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import ray
from ray._private import worker as ray_worker
from ray.job_config import JobConfig
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from semscale.cluster.local_ray import keep_sigterm_handler, loopback_only, private_folder
from semscale.common.environment import RAY_JOB_VARIABLE, ROOT
from semscale.common.errors import ClusterError, StoreError, write_error
from semscale.common.progress import ProgressReporter
from semscale.common.redact import mask_url, scrub

_WORKER_ENVIRONMENT = {
    "NO_VERSION_CHECK": "1",
    "JINA_OPTOUT_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
}
_SHARED_SECONDS, _PAUSE = 5.0, 0.1


@contextmanager
def ray_cluster(address: str | None) -> Iterator[None]:
    """Connect to a cluster, that of the surrounding Ray job, or a local one; an existing connection is kept."""
    if ray.is_initialized():
        yield
        return
    source = "--ray-address, or ray: address in the study file" if address else "RAY_ADDRESS in the environment"
    address = address or os.environ.get("RAY_ADDRESS") or None
    options: dict[str, Any]
    if address:
        options = {"address": address, "runtime_env": _worker_environment()}
    else:
        # workers inherit them; a runtime environment would delay the start of each by half a second
        for name, value in _WORKER_ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        # at least two, so that encoding and its coordinator never wait for each other
        cores = max(2, os.cpu_count() or 2)
        options = {"address": "local", "num_cpus": cores, "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    if not str(address).startswith("ray://"):
        options["job_config"] = _job_config()
    print_to_stdstream = ray_worker.print_to_stdstream
    if not address:  # it prints messages about lost processes to stdout, which is for results
        ray_worker.print_to_stdstream = lambda *data, **options: None
    try:
        try:
            if not address:
                options["_temp_dir"] = str(private_folder() / "ray")
            with nullcontext() if address else loopback_only(), keep_sigterm_handler():
                ray.init(**options, log_to_driver=False, logging_level=logging.ERROR, namespace="semscale")
        except Exception as error:  # Ray raises a plain Exception if it does not start in time
            found = scrub(str(error) or type(error).__name__, address or "")
            if not address:
                raise ClusterError("Ray does not start on this machine", found=found) from error
            hint = f"check {source}; without it the sweep starts Ray on this machine"
            if address.startswith(("http://", "https://")):
                hint = f"that is a dashboard, whose cluster runs jobs: semscale submit; or {hint}"
            raise ClusterError(
                "no Ray cluster answers", where=mask_url(address), found=found, expected="HOST:6379", hint=hint
            ) from error
        yield
    finally:
        ray.shutdown()
        ray_worker.print_to_stdstream = print_to_stdstream


def _job_config() -> JobConfig:
    """Return a configuration that keeps the working directory off the workers' path, unless semscale is in it.

    A user's file there, such as random.py, would shadow the module of that name.
    """
    config = JobConfig()
    # the driver of a job is started in a separate directory
    config._client_job = RAY_JOB_VARIABLE not in os.environ and Path.cwd() != ROOT
    return config


def _worker_environment() -> dict[str, dict[str, str]] | None:
    """Return the runtime environment of the workers, without the variables that the surrounding job sets."""
    job = json.loads(os.environ.get(RAY_JOB_VARIABLE, "{}"))
    job_variables = (job.get("runtime_env") or {}).get("env_vars") or {}
    variables = {name: value for name, value in _WORKER_ENVIRONMENT.items() if name not in job_variables}
    return {"env_vars": variables} if variables else None  # Ray rejects a second value, even an equal one


def connect(address: str | None, shared: Path | None, report: ProgressReporter, stack: ExitStack) -> None:
    """Connect to Ray until the stack closes; ClusterError if the nodes do not share the folder."""
    with report.stage("connecting to Ray" if address or os.environ.get("RAY_ADDRESS") else "starting Ray"):
        stack.enter_context(ray_cluster(address))
        if shared is not None:
            check_shared_folder(shared)


def check_shared_folder(store: Path) -> None:
    """Raise ClusterError unless the workers of all nodes see the driver's embedding store."""
    own_node = ray.get_runtime_context().get_node_id()
    others = {
        node["NodeID"]: node["NodeManagerAddress"]
        for node in ray.nodes()
        if node["Alive"] and node["Resources"].get("CPU") and node["NodeID"] != own_node
    }
    if not others:
        return
    marker = store / f".shared-{uuid.uuid4().hex}"
    try:
        store.mkdir(parents=True, exist_ok=True)
        marker.touch()
        pending = {
            address: _exists.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=True)).remote(marker)
            for node, address in others.items()
        }
        unshared = [address for address, answer in pending.items() if not ray.get(answer)]
    except OSError as error:
        hint = "choose another --store"
        raise write_error("the embedding store", store, error, hint=hint, kind=StoreError) from error
    finally:
        marker.unlink(missing_ok=True)
    if unshared:
        what, expected = "the nodes of the cluster do not share the embedding store", "the same path on all nodes"
        found = f"not seen from {', '.join(unshared)}"
        hint = "set a shared one with --store, store: in the study file, or SEMSCALE_STORE"
        raise ClusterError(what, where=str(store), found=found, expected=expected, hint=hint)


@ray.remote(num_cpus=0, max_retries=3)
def _exists(path: Path) -> bool:
    deadline = time.monotonic() + _SHARED_SECONDS  # a network file system may be slow
    while not path.exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(_PAUSE)
    return True


def cluster_cpus() -> float:
    """Return the number of CPUs of the connected cluster, at least one."""
    return max(1.0, float(ray.cluster_resources().get("CPU", 1.0)))
