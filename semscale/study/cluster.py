"""Connection to a Ray cluster: a running one, or a local one that ends with the sweep."""

from __future__ import annotations

import json
import logging
import os
import secrets
import signal
import socket
import stat
import sys
import tempfile
import threading
import time
import uuid
from _thread import interrupt_main
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, TypeVar

import ray
import ray._private.utils as ray_utils
from ray._common.utils import get_default_system_temp_dir
from ray._private import ray_constants
from ray._private import worker as ray_worker
from ray.job_config import JobConfig
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from semscale.config import StudyConfig
from semscale.encoding.folder import Folder
from semscale.environment import ROOT
from semscale.errors import SemscaleError, cannot_write, summarize
from semscale.redact import printable, redact, without
from semscale.study.progress import Reporter
from semscale.study.rundir import RAY_JOB_VARIABLE

_WORKER_ENVIRONMENT = {
    "NO_VERSION_CHECK": "1",
    "JINA_OPTOUT_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
}
_MOST_WAIT, _PAUSE = 5.0, 0.1
_WATCH_SECONDS = 0.5
# Without Ray's processes most calls fail by themselves, and the others never. The head of a cluster may be started
# again meanwhile; Ray itself ends this process a minute after it was lost.
_LOST_SECONDS, _LOST_SECONDS_OF_CLUSTER, _HOPELESS_SECONDS = 2.0, 30.0, 50.0

T = TypeVar("T")


class LostRayError(SemscaleError):
    """Ray has ended amid the work."""


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
                where["_temp_dir"] = str(_private_folder() / "ray")
            with nullcontext() if address else _loopback_alone(), _own_sigterm():
                ray.init(**where, log_to_driver=False, logging_level=logging.ERROR, namespace="semscale")
        except Exception as error:  # Ray raises a bare one when it does not start in time
            found = without(str(error) or type(error).__name__, address or "")
            if not address:
                raise SemscaleError("Ray does not start on this machine", found=found) from error
            hint = f"check {named}; without it the sweep starts Ray on this machine"
            if address.startswith(("http://", "https://")):
                hint = f"that is a dashboard, whose cluster runs jobs: semscale submit; or else {hint}"
            raise SemscaleError(
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


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Let Ray leave the handler of SIGTERM alone where there is one already, as in commands."""
    own, taken = signal.getsignal(signal.SIGTERM), ray_utils.set_sigterm_handler
    if not callable(own) or threading.current_thread() is not threading.main_thread():
        yield
        return
    ray_utils.set_sigterm_handler = lambda handler: None
    try:
        yield
    finally:
        ray_utils.set_sigterm_handler = taken
        # below Python's Ray's core has put one of its own, which ends the process after three seconds
        signal.signal(signal.SIGTERM, own)


@contextmanager
def _loopback_alone() -> Iterator[None]:
    """Let Ray listen on the loopback only, and find a token that no other user can read."""
    if not (os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH")):
        token = Path.home() / ".ray" / "auth_token"  # where Ray looks for it, and would write it for all to read
        token.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError), open(os.open(token, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
        if token.stat().st_mode & 0o077:
            token.chmod(0o600)
    # as it is on macOS: elsewhere Ray takes 127.0.0.1 for the machine's own address, and listens on all interfaces
    clusters, ray_constants.ENABLE_RAY_CLUSTER = ray_constants.ENABLE_RAY_CLUSTER, False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = clusters


def _private_folder() -> Path:
    """Return a folder of this user alone: what is in it Ray opens to all, again with every worker that it starts."""
    parent = Path(get_default_system_temp_dir())  # Ray's own choice: its sockets allow no long path
    folder = parent / f"ray-{os.getuid()}"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700, parents=True)
    found = folder.lstat()
    if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077:
        return folder
    return Path(tempfile.mkdtemp(prefix="ray-", dir=parent))


def _worker_environment() -> dict[str, dict[str, str]] | None:
    """Return the runtime environment of the workers, without what the surrounding job sets already."""
    job = json.loads(os.environ.get(RAY_JOB_VARIABLE, "{}"))
    known = (job.get("runtime_env") or {}).get("env_vars") or {}
    rest = {name: value for name, value in _WORKER_ENVIRONMENT.items() if name not in known}
    return {"env_vars": rest} if rest else None  # Ray refuses a second value, also an equal one


def connect(study: StudyConfig, store: Folder, report: Reporter, stack: ExitStack) -> None:
    """Connect to Ray for as long as the stack is open; SemscaleError if nodes do not share the store."""
    address = study.ray.address or os.environ.get("RAY_ADDRESS")
    with report.stage("connecting to Ray" if address else "starting Ray"):
        stack.enter_context(ray_cluster(study.ray.address))
        if not store.is_remote:
            _check_shared(store.local)


def on_ray(study: StudyConfig, store: Folder, report: Reporter, work: Callable[[], T]) -> T:
    """Return what `work` gives while Ray is connected; where Ray of its own ends, both begin once more."""
    cluster = study.ray.address or os.environ.get("RAY_ADDRESS") or ray.is_initialized()

    def attempt() -> T:
        with ExitStack() as stack:
            connect(study, store, report, stack)
            stack.enter_context(_watched(_LOST_SECONDS_OF_CLUSTER if cluster else _LOST_SECONDS))
            return work()

    with nullcontext() if cluster else suppress(LostRayError):
        return attempt()
    report.note("Ray on this machine has ended and is started again; what is done is kept")
    return attempt()


@contextmanager
def _watched(patience: float) -> Iterator[None]:
    """Raise LostRayError when this node's raylet or the cluster's GCS has ended, at the latest after `patience`."""
    hint = "too little memory is the usual reason; give the same command again: what is done is kept"
    places, over = dict[str, str](), threading.Event()
    if not ray.util.client.ray.is_connected():  # a client of a cluster has none of its addresses
        context = ray.get_runtime_context()
        (here,) = [node for node in ray.nodes() if node["NodeID"] == context.get_node_id()]
        places = {"GCS": context.gcs_address, "raylet": f"{here['NodeManagerAddress']}:{here['NodeManagerPort']}"}
        places = {name: place for name, place in places.items() if _listens(place)}
    # SIGINT itself is ignored in a shell's background jobs
    in_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGUSR2, signal.default_int_handler) if in_main else None

    def lost() -> LostRayError | None:
        found = [f"no answer from its {name} at {place}" for name, place in places.items() if not _listens(place)]
        return LostRayError("Ray has ended amid the work", found="; ".join(found), hint=hint) if found else None

    def watch() -> None:
        well = next_one = time.monotonic()
        while not over.wait(_WATCH_SECONDS):
            now = time.monotonic()
            if (error := lost()) is None:
                well = next_one = now
            elif now > well + _HOPELESS_SECONDS:  # a call that no interrupt reaches
                print(f"Error: {printable(str(error))}", file=sys.stderr, flush=True)
                os._exit(1)
            elif now > next_one + patience:
                interrupt_main(signal.SIGUSR2)
                next_one = now  # what goes on in spite of it is interrupted again

    if in_main:
        threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        over.set()
        if gone := lost():
            raise gone from error
        if isinstance(error, ray.exceptions.RayError) and not isinstance(error, ray.exceptions.RayTaskError):
            raise SemscaleError("Ray has lost a part of the work", found=summarize(error), hint=hint) from error
        raise
    finally:
        over.set()
        if in_main:
            signal.signal(signal.SIGUSR2, before or signal.SIG_DFL)


def _listens(place: str) -> bool:
    host, _, port = place.rpartition(":")
    with suppress(OSError), socket.create_connection((host.strip("[]"), int(port)), timeout=_MOST_WAIT):
        return True
    return False


def _check_shared(store: Path) -> None:
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
        raise SemscaleError(what, where=str(store), found=found, expected=expected, hint=hint)


@ray.remote(num_cpus=0, max_retries=3)
def _sees(path: Path) -> bool:
    give_up = time.monotonic() + _MOST_WAIT  # a network file system takes a moment
    while not path.exists():
        if time.monotonic() > give_up:
            return False
        time.sleep(_PAUSE)
    return True


def cluster_cpus() -> float:
    """Return the number of CPUs of the connected cluster, at least one."""
    return max(1.0, float(ray.cluster_resources().get("CPU", 1.0)))
