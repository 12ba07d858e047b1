"""A clip-server: one process with one model on one port.

:mod:`semscale.serving.replicas` starts `python -m semscale.serving.server JSON`, where the JSON object has the settings
and the file descriptor for events of a :class:`ReplicaSettings`. The process ends with the one that started it.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import warnings
from dataclasses import asdict, dataclass
from typing import Any

from semscale.access import read_token
from semscale.errors import SemscaleError
from semscale.serving.config import ServeConfig
from semscale.serving.environment import prepare_environment
from semscale.serving.gpus import VISIBLE
from semscale.serving.status_events import EventSender, say, watch_parent

# seconds that requests have to come to an end when the server stops
_GRACE = 3.0


@dataclass(frozen=True)
class ReplicaSettings:
    """What one server process is started with.

    Args:
        config: its own settings: one replica, its port, its threads.
        number: which replica it is.
        parent: process id of the process that starts it.
        status_fd: file descriptor for events.
    """

    config: ServeConfig
    number: int
    parent: int
    status_fd: int

    def to_json(self) -> str:
        """Return the argument of the process."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> ReplicaSettings:
        """Read the argument of the process."""
        fields = json.loads(text)
        return cls(**(fields | {"config": ServeConfig(**fields["config"])}))


async def run_server(settings: ReplicaSettings, events: EventSender, executor_class: Any) -> None:
    """Load the model, serve it, say so, and return after SIGTERM.

    Raises:
        SemscaleError: a model or device that cannot be had, or a port that cannot be listened on.
    """
    from semscale.serving.grpc_server import RequestHandler, RequestMetrics, start_server

    config, name = settings.config, f"clip/rep-{settings.number}"
    runtime: dict[str, Any] = {"name": name}
    metrics = None
    if config.metrics_port is not None:
        from prometheus_client import CollectorRegistry, start_http_server

        runtime["metrics_registry"] = registry = CollectorRegistry()
        metrics = RequestMetrics(registry, name)
        start_http_server(config.metrics_port, addr=config.host, registry=registry)
    executor = executor_class(
        name=config.model,
        device=config.device,
        dtype=config.dtype,
        minibatch_size=config.minibatch_size,
        num_threads=config.num_threads,
        compiled=config.compiled,
        runtime_args=runtime,
    )
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    host = f"[{config.host}]" if ":" in config.host else config.host
    address = f"{host}:{config.port}"
    try:
        server, _ = await start_server(
            RequestHandler(executor, metrics), address, read_token(config.token_file), config.tls_cert, config.tls_key
        )
    except RuntimeError as error:
        raise SemscaleError("the server cannot listen there", where=address, found=str(error)) from error
    identity = executor.identity
    gpu = f", GPU {os.environ[VISIBLE]}" if os.environ.get(VISIBLE) and identity.device != "cpu" else ""
    say(
        f"replica {settings.number}: {identity.name} runs on {identity.device} ({identity.device_name}{gpu}), "
        f"{identity.dtype}, weights {identity.weights_sha256[:12]}, {config.num_threads} threads"
    )
    events.send("ready", info=executor.info_values)
    await stop.wait()
    await server.stop(_GRACE)
    executor.close()


def main(argument: str, executor_class: Any = None) -> int:
    """Run the server of these settings and return the exit status."""
    settings = ReplicaSettings.from_json(argument)
    watch_parent(settings.parent, on_gone=lambda: os._exit(1))
    # Ctrl-C reaches all processes of a terminal at once: the one that started this one decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    events = EventSender(settings.status_fd)
    try:
        prepare_environment()
        # The libraries' own: deprecated imports, annotations written as strings, pydantic keys of another version.
        warnings.simplefilter("ignore")
        from semscale.serving.executor import SemscaleEncoder

        # Importing jina has put Python's own handler back.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        asyncio.run(run_server(settings, events, executor_class or SemscaleEncoder))
    except SemscaleError as error:
        events.error(error)
        return 1
    return 0


if __name__ == "__main__":
    status = main(sys.argv[1])
    sys.stdout.flush()
    # Taking down torch's modules one by one takes seconds and frees nothing that the end of the process does not.
    os._exit(status)
