"""Processes of a launched server, for the tests that look at them and kill them, and servers of a few lines."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]
from jina.proto import jina_pb2

from semscale.serving.launcher import ServerHandle


def replica_pids(server: ServerHandle) -> list[int]:
    """List the living replicas in the order of their addresses; one that is being started again may be missing."""
    started = [replica.process for replica in server.supervisor.replicas if replica.process is not None]
    return [process.pid for process in started if process.poll() is None]


@contextmanager
def answering(make: Callable[[Any], None]) -> Iterator[str]:
    """Yield the address of a server that answers every request (a `DataRequestProto`) with what `make` makes of it."""

    class Handler(grpc.GenericRpcHandler):  # type: ignore[misc]
        def service(self, details: Any) -> Any:
            return grpc.stream_stream_rpc_method_handler(self.answer)

        def answer(self, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
            for message in requests:
                request = jina_pb2.DataRequestProto.FromString(message)
                make(request)
                yield request.SerializeToString()

    with ThreadPoolExecutor(4) as threads:
        server = grpc.server(threads)
        server.add_generic_rpc_handlers((Handler(),))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield f"grpc://127.0.0.1:{port}"
        finally:
            server.stop(None).wait()


class _Touch:
    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._path,)


def pickle_that_makes(path: Path) -> bytes:
    """Return a pickle that makes this file when it is read."""
    return pickle.dumps(_Touch(path))
