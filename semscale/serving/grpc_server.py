"""gRPC server of one executor: jina's services without a gateway, as clip-client calls them.

A stock clip-client needs two of them: the stream of requests (`JinaRPC/Call`) and the dry run that `is_flow_ready`
asks for. Single requests and gRPC's health service are served as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]
from grpc_health.v1 import health, health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from jina.proto import jina_pb2, jina_pb2_grpc
from jina.types.request.data import DataRequest

from semscale.access import same_token

# requests of one stream that are read ahead: while one is computed, the next is decoded
_READ_AHEAD = 4
_OPTIONS = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", 1 << 30),
    # clip-client pings every 10 s; gRPC's servers take pings that carry no data for an attack and close the connection
    # after a few, amid a long request or after minutes of rest, unless they are told not to count
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.keepalive_time_ms", 9999),
    ("grpc.keepalive_timeout_ms", 4999),
    ("grpc.keepalive_permit_without_calls", 1),
]


class TokenInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Refuses every call, known or not, that does not carry the token, before anything of it is read.

    Args:
        token: what the metadata `authorization` has to be, bare or behind `Bearer`.
    """

    def __init__(self, token: str) -> None:
        self._token = token

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], call: Any) -> Any:
        """Return the handler of the call, or one that ends it with UNAUTHENTICATED."""
        shown = [value for key, value in call.invocation_metadata or () if key == "authorization"]
        if len(shown) == 1 and isinstance(shown[0], str) and same_token(shown[0], self._token):
            return await continuation(call)
        return grpc.stream_stream_rpc_method_handler(_refuse)


async def _refuse(requests: Any, context: Any) -> None:
    await context.abort(grpc.StatusCode.UNAUTHENTICATED, "this server wants its token")


class RequestHandler:
    """Answers jina's requests with an executor of this process.

    Args:
        executor: a jina executor.
        metrics: takes what is to be counted.
    """

    def __init__(self, executor: Any, metrics: RequestMetrics | None = None) -> None:
        self._executor = executor
        self._metrics = metrics

    async def Call(self, requests: AsyncIterator[DataRequest], context: Any) -> AsyncIterator[DataRequest]:  # noqa: N802
        """Answer a stream of requests in their order."""
        answers: asyncio.Queue[asyncio.Task[DataRequest] | None] = asyncio.Queue(_READ_AHEAD)

        async def read() -> None:
            async for request in requests:
                await answers.put(asyncio.create_task(self._answer(request, context)))
            await answers.put(None)

        reader = asyncio.create_task(read())
        try:
            while (answer := await answers.get()) is not None:
                yield await answer
        finally:
            reader.cancel()

    async def process_single_data(self, request: DataRequest, context: Any) -> DataRequest:
        """Answer one request."""
        return await self._answer(request, context)

    async def dry_run(self, empty: Any, context: Any) -> Any:
        """Say that the executor is there."""
        return jina_pb2.StatusProto(code=jina_pb2.StatusProto.SUCCESS)

    async def _answer(self, request: DataRequest, context: Any) -> DataRequest:
        if request.proto_with_data.data.WhichOneof("documents") == "docs_bytes":
            # a pickle, which runs code as soon as anything reads `request.docs`
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "documents in pickled form are refused")
        # clip-client's profile() reads two routes
        for name in ("gateway", "clip"):
            request.add_executor(name)
            request.routes[-1].start_time.GetCurrentTime()
        with self._metrics.timed() if self._metrics else nullcontext():
            try:
                docs = request.docs
                result = await self._executor.__acall__(
                    req_endpoint=request.header.exec_endpoint,
                    docs=docs,
                    parameters=request.parameters,
                    tracing_context=None,
                )
                request.data.docs = docs if result is None else result
                if self._metrics:
                    self._metrics.succeeded(request.header.exec_endpoint, len(docs))
            except Exception as error:
                request.add_exception(error, self._executor)
                if self._metrics:
                    self._metrics.failed()
        for route in request.routes:
            route.end_time.GetCurrentTime()
            if route.end_time.ToMilliseconds() <= route.start_time.ToMilliseconds():
                # clip-client's profile() divides by the difference in whole milliseconds
                route.end_time.FromMilliseconds(route.start_time.ToMilliseconds() + 1)
        return request


class RequestMetrics:
    """Prometheus metrics under jina's names.

    Args:
        registry: takes them.
        name: value of the label `runtime_name`.
    """

    def __init__(self, registry: Any, name: str) -> None:
        from prometheus_client import Counter, Summary

        options: dict[str, Any] = {"registry": registry, "namespace": "jina"}
        label = ("runtime_name",)
        self._seconds = Summary("receiving_request_seconds", "Time per request", label, **options).labels(name)
        self._succeeded = Counter("successful_requests", "Successful requests", label, **options).labels(name)
        self._failed = Counter("failed_requests", "Failed requests", label, **options).labels(name)
        self._documents = Counter("document_processed", "Documents", ("executor_endpoint", *label), **options)
        self._name = name

    def timed(self) -> AbstractContextManager[Any]:
        """Measure one request."""
        context: AbstractContextManager[Any] = self._seconds.time()
        return context

    def succeeded(self, endpoint: str, documents: int) -> None:
        """Count a request and its documents."""
        self._succeeded.inc()
        # any name may be asked for; a label for each would fill the memory
        known = endpoint if endpoint in ("/encode", "/encode_packed", "/rank", "/info") else "other"
        self._documents.labels(known, self._name).inc(documents)

    def failed(self) -> None:
        """Count a request that failed."""
        self._failed.inc()


async def start_server(
    handler: RequestHandler,
    address: str,
    token: str | None = None,
    certificate: str | None = None,
    key: str | None = None,
) -> tuple[Any, int]:
    """Start a gRPC server in the running event loop and return it with its port.

    Args:
        handler: answers the requests.
        address: `host:port` to listen on; port 0 takes a free one.
        token: what clients must show; None: nothing.
        certificate, key: PEM files for TLS; None: no TLS.

    Raises:
        RuntimeError: the address cannot be listened on.
    """
    server = grpc.aio.server(options=_OPTIONS, interceptors=[TokenInterceptor(token)] if token else None)
    jina_pb2_grpc.add_JinaRPCServicer_to_server(handler, server)
    jina_pb2_grpc.add_JinaSingleDataRequestRPCServicer_to_server(handler, server)
    jina_pb2_grpc.add_JinaGatewayDryRunRPCServicer_to_server(handler, server)
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    if certificate and key:
        pair = (Path(key).read_bytes(), Path(certificate).read_bytes())
        port = server.add_secure_port(address, grpc.ssl_server_credentials([pair]))
    else:
        port = server.add_insecure_port(address)
    await server.start()
    await servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    return server, port
