"""Connection to Ray: a running cluster, that of the surrounding Ray job, or a local one that ends with the sweep."""

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

from semscale.cluster.local_ray import loopback_alone, own_sigterm, private_folder
from semscale.common.environment import RAY_JOB_VARIABLE, ROOT
from semscale.common.errors import ClusterError, cannot_write
from semscale.common.progress import Reporter
from semscale.common.redact import redact, without

_WORKER_ENVIRONMENT = {
    "NO_VERSION_CHECK": "1",
    "JINA_OPTOUT_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
}
_SHARED_SECONDS, _PAUSE = 5.0, 0.1


@contextmanager
def ray_cluster(address: str | None) -> Iterator[None]:
    """Connect to a cluster, that of the Ray job around us, or a local one; a session that is there is left alone."""
    if ray.is_initialized():
        yield
        return
    named = "--ray-address, or ray: address in the study file" if address else "RAY_ADDRESS in the environment"
    address = address or os.environ.get("RAY_ADDRESS") or None
    where: dict[str, Any]
    if address:
        where = {"address": address, "runtime_env": _worker_environment()}
    else:
        # workers of a local cluster inherit them; with a runtime environment each would start half a second later
        for name, value in _WORKER_ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        # at least two, so that encoding and its ledger never wait for each other
        cores = max(2, os.cpu_count() or 2)
        where = {"address": "local", "num_cpus": cores, "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    if not str(address).startswith("ray://"):
        where["job_config"] = _job_config()
    printed = ray_worker.print_to_stdstream
    if not address:  # what it has to say of lost processes goes to stdout, the place of results
        ray_worker.print_to_stdstream = lambda *data, **how: None
    try:
        try:
            if not address:
                where["_temp_dir"] = str(private_folder() / "ray")
            with nullcontext() if address else loopback_alone(), own_sigterm():
                ray.init(**where, log_to_driver=False, logging_level=logging.ERROR, namespace="semscale")
        except Exception as error:  # Ray raises a bare one when it does not start in time
            found = without(str(error) or type(error).__name__, address or "")
            if not address:
                raise ClusterError("Ray does not start on this machine", found=found) from error
            hint = f"check {named}; without it the sweep starts Ray on this machine"
            if address.startswith(("http://", "https://")):
                hint = f"that is a dashboard, whose cluster runs jobs: semscale submit; or else {hint}"
            raise ClusterError(
                "no Ray cluster answers", where=redact(address), found=found, expected="HOST:6379", hint=hint
            ) from error
        yield
    finally:
        ray.shutdown()
        ray_worker.print_to_stdstream = printed


def _job_config() -> JobConfig:
    """Return a configuration that keeps the working folder off the workers' path, unless semscale itself is there.

    A file of the user's there, such as random.py, would be imported in place of the module that is meant.
    """
    config = JobConfig()
    # a job's driver is started elsewhere, in a folder of its own
    config._client_job = RAY_JOB_VARIABLE not in os.environ and Path.cwd() != ROOT
    return config


def _worker_environment() -> dict[str, dict[str, str]] | None:
    """Return the runtime environment of the workers, without what the surrounding job sets already."""
    job = json.loads(os.environ.get(RAY_JOB_VARIABLE, "{}"))
    known = (job.get("runtime_env") or {}).get("env_vars") or {}
    rest = {name: value for name, value in _WORKER_ENVIRONMENT.items() if name not in known}
    return {"env_vars": rest} if rest else None  # Ray refuses a second value, also an equal one


def connect(address: str | None, shared: Path | None, report: Reporter, stack: ExitStack) -> None:
    """Connect to Ray for as long as the stack is open; a :class:`ClusterError` if nodes do not share that folder."""
    with report.stage("connecting to Ray" if address or os.environ.get("RAY_ADDRESS") else "starting Ray"):
        stack.enter_context(ray_cluster(address))
        if shared is not None:
            check_shared(shared)


def check_shared(store: Path) -> None:
    """Make sure that the workers of all nodes see the embedding store that the driver sees."""
    here = ray.get_runtime_context().get_node_id()
    others = {
        node["NodeID"]: node["NodeManagerAddress"]
        for node in ray.nodes()
        if node["Alive"] and node["Resources"].get("CPU") and node["NodeID"] != here
    }
    if not others:
        return
    mark = store / f".shared-{uuid.uuid4().hex}"
    try:
        store.mkdir(parents=True, exist_ok=True)
        mark.touch()
        pending = {
            address: _sees.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=True)).remote(mark)
            for node, address in others.items()
        }
        blind = [address for address, answer in pending.items() if not ray.get(answer)]
    except OSError as error:
        raise cannot_write("the embedding store", store, error, hint="choose another --store") from error
    finally:
        mark.unlink(missing_ok=True)
    if blind:
        what, found = "the nodes of the cluster do not share the embedding store", f"not seen from {', '.join(blind)}"
        expected = "a folder that all nodes see under the same path"
        hint = "name a shared one with --store, store: in the study file, or SEMSCALE_STORE"
        raise ClusterError(what, where=str(store), found=found, expected=expected, hint=hint)


@ray.remote(num_cpus=0, max_retries=3)
def _sees(path: Path) -> bool:
    give_up = time.monotonic() + _SHARED_SECONDS  # a network file system takes a moment
    while not path.exists():
        if time.monotonic() > give_up:
            return False
        time.sleep(_PAUSE)
    return True


def cluster_cpus() -> float:
    """Return the number of CPUs of the connected cluster, at least one."""
    return max(1.0, float(ray.cluster_resources().get("CPU", 1.0)))
