"""Main program of a clip-server: one process with one model on one port, `python -m semscale.serving.server JSON`.

:mod:`semscale.serving.replicas` starts it with its settings and number; it sends True when it is ready, or the error
of a start that fails.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import warnings
from multiprocessing.connection import Connection
from typing import Any

from semscale.common.environment import escape_unencodable_output
from semscale.common.errors import SemscaleError, ServerError
from semscale.serving.server_config import ServeConfig
from semscale.serving.server_process import GPU_VARIABLE, prepare_environment, print_line, read_settings

# seconds that running requests may take when the server stops
_GRACE_SECONDS = 3.0


async def run_server(config: ServeConfig, number: int, events: Connection, executor_class: Any) -> None:
    """Load the model, serve it, report that it is ready, and return after SIGTERM."""
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
        what = "the server cannot listen on this address"
        raise ServerError(what, where=config.address(), found=str(error)) from error
    info = executor.encoder.info
    gpu = f", GPU {os.environ[GPU_VARIABLE]}" if os.environ.get(GPU_VARIABLE) and info["device"] != "cpu" else ""
    print_line(
        f"replica {number}: {info['name']} runs on {info['device']} ({info['device_name']}{gpu}), {info['dtype']}, "
        f"weights {info['weights_sha256'][:12]}, {config.num_threads} threads"
    )
    if number == 0 and "note" in info:
        print_line(f"note: {info['name']}: {info['note']}")
    events.send(True)
    await stop.wait()
    await server.stop(_GRACE_SECONDS)
    executor.close()


def main(argument: str, executor_class: Any = None) -> int:
    """Run the server with the settings of a JSON text; return the exit status."""
    escape_unencodable_output()
    settings, events = read_settings(argument)
    # Ctrl-C reaches all processes of a terminal: the parent decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        prepare_environment()
        # of the libraries: deprecated imports, annotations as strings, pydantic keys of another version
        warnings.simplefilter("ignore")
        from semscale.serving.executor import SemscaleEncoder

        # importing jina restores Python's own handler
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
    # tearing down torch's modules takes seconds and frees nothing that the end of the process does not
    os._exit(status)
