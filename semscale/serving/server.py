"""A clip-server: one process with one model on one port, `python -m semscale.serving.server JSON`.

:mod:`semscale.serving.replicas` starts it with its settings and its number; it sends True as soon as it is ready, or
what keeps it from starting.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import warnings
from multiprocessing.connection import Connection
from typing import Any

from semscale.common.environment import print_every_character
from semscale.common.errors import SemscaleError, ServerError
from semscale.serving.server_config import ServeConfig
from semscale.serving.server_process import VISIBLE, prepare_environment, read_settings, say

# seconds that requests have to come to an end when the server stops
_GRACE = 3.0


async def run_server(config: ServeConfig, number: int, events: Connection, executor_class: Any) -> None:
    """Load the model, serve it, say so, and return after SIGTERM."""
    from semscale.serving.grpc_server import RequestHandler, RequestMetrics, serve_metrics, start_server

    runtime: dict[str, Any] = {"name": f"clip/rep-{number}"}
    metrics = None
    if config.metrics_port is not None:
        from prometheus_client import CollectorRegistry

        runtime["metrics_registry"] = registry = CollectorRegistry()
        metrics = RequestMetrics(registry, runtime["name"])
        serve_metrics(config, registry)
    executor = executor_class(config, runtime_args=runtime)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    try:
        server = await start_server(RequestHandler(executor, metrics), config)
    except RuntimeError as error:
        raise ServerError("the server cannot listen there", where=config.address(), found=str(error)) from error
    info = executor.encoder.info
    gpu = f", GPU {os.environ[VISIBLE]}" if os.environ.get(VISIBLE) and info["device"] != "cpu" else ""
    say(
        f"replica {number}: {info['name']} runs on {info['device']} ({info['device_name']}{gpu}), {info['dtype']}, "
        f"weights {info['weights_sha256'][:12]}, {config.num_threads} threads"
    )
    if number == 0 and "note" in info:
        say(f"note: {info['name']}: {info['note']}")
    events.send(True)
    await stop.wait()
    await server.stop(_GRACE)
    executor.close()


def main(argument: str, executor_class: Any = None) -> int:
    """Run the server of these settings and return the exit status."""
    print_every_character()
    settings, events = read_settings(argument)
    # Ctrl-C reaches all processes of a terminal at once: the one that started this one decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        prepare_environment()
        # The libraries' own: deprecated imports, annotations written as strings, pydantic keys of another version.
        warnings.simplefilter("ignore")
        from semscale.serving.executor import SemscaleEncoder

        # Importing jina has put Python's own handler back.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        config = ServeConfig(**settings["config"])
        asyncio.run(run_server(config, settings["number"], events, executor_class or SemscaleEncoder))
    except SemscaleError as error:
        events.send(error)
        return 1
    return 0


if __name__ == "__main__":
    status = main(sys.argv[1])
    sys.stdout.flush()
    # Taking down torch's modules one by one takes seconds and frees nothing that the end of the process does not.
    os._exit(status)
