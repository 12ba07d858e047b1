"""gRPC server of an executor: the services of jina that clip-client calls, without a gateway.

A stock clip-client calls two: the stream of requests (`JinaRPC/Call`) and the dry run of `is_flow_ready`. Single
requests and gRPC's health service are served as well.
"""

from __future__ import annotations

import asyncio
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from grpc_health.v1 import health, health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from jina.proto import jina_pb2, jina_pb2_grpc
from jina.types.request.data import DataRequest
from prometheus_client import CollectorRegistry, Counter, Summary, start_http_server

from semscale.common.access import read_token, token_matches
from semscale.common.errors import ServerError
from semscale.common.wire_documents import CHANNEL_OPTIONS, check_documents
from semscale.serving.server_config import ServeConfig
from semscale.serving.server_process import print_line

# requests of a stream that are read ahead: the next one is decoded while one is computed
_READ_AHEAD = 4
# a client that is rejected before it has sent its first request reports an internal error instead
_REJECTION_SECONDS = 0.25
_OPTIONS = [
    *CHANNEL_OPTIONS,
    ("grpc.max_send_message_length", -1),
    # clip-client pings every 10 s; gRPC's servers take pings without data for an attack and close the connection after
    # a few, also during a long request; 0 switches that off
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.keepalive_time_ms", 9999),
    ("grpc.keepalive_timeout_ms", 4999),
    ("grpc.keepalive_permit_without_calls", 1),
]


class TokenInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Rejects every call without the token, bare or after `Bearer`, before any of it is read."""

    def __init__(self, token: str) -> None:
        self._token = token

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], call: Any) -> Any:
        """Return the handler of the call, or one that ends it with UNAUTHENTICATED."""
        values = [value for key, value in call.invocation_metadata or () if key == "authorization"]
        if len(values) == 1 and isinstance(values[0], str) and token_matches(values[0], self._token):
            return await continuation(call)
        if call.method == "/jina.JinaRPC/Call":
            await asyncio.sleep(_REJECTION_SECONDS)
        return grpc.stream_stream_rpc_method_handler(_reject)


async def _reject(requests: Any, context: Any) -> None:
    details = "this server requires its token, which clip-client's profile() never sends"
    await context.abort(grpc.StatusCode.UNAUTHENTICATED, details)


def serve_metrics(config: ServeConfig, registry: CollectorRegistry) -> None:
    """Serve the metrics page to requests with the server's token; without a token, on the loopback address only."""
    token = read_token(config.token_file)
    host = config.metrics_host(token is not None)
    assert config.metrics_port is not None
    try:
        server, _ = start_http_server(
            config.metrics_port, host, registry, certfile=config.tls_cert, keyfile=config.tls_key
        )
    except (OSError, OverflowError) as error:
        where, found = f"{host}:{config.metrics_port}", getattr(error, "strerror", None) or str(error)
        what, hint = "the metrics page cannot be served on this address", "choose another --metrics-port"
        raise ServerError(what, where=where, found=found, hint=hint) from error
    page: Any = server.get_app()

    def guarded(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        if token is None or token_matches(environ.get("HTTP_AUTHORIZATION", ""), token):
            return page(environ, start_response)
        start_response("401 Unauthorized", [("WWW-Authenticate", "Bearer")])
        return []

    server.set_app(guarded)


class RequestMetrics:
    """Prometheus metrics under jina's names."""

    def __init__(self, registry: CollectorRegistry, name: str) -> None:
        options: dict[str, Any] = {"registry": registry, "namespace": "jina"}
        label = ("runtime_name",)
        self._seconds = Summary("receiving_request_seconds", "Time per request", label, **options).labels(name)
        self._succeeded = Counter("successful_requests", "Successful requests", label, **options).labels(name)
        self._failed = Counter("failed_requests", "Failed requests", label, **options).labels(name)
        self._documents = Counter("document_processed", "Documents", ("executor_endpoint", *label), **options)
        self._name = name

    @contextmanager
    def count(self, endpoint: str, documents: int) -> Iterator[None]:
        """Measure the time of a request; count it and its documents."""
        # requests may use any name; a label for each would fill the memory
        known = endpoint if endpoint in ("/encode", "/encode_packed", "/rank", "/info") else "other"
        with self._seconds.time():
            try:
                yield
            except Exception:
                self._failed.inc()
                raise
        self._succeeded.inc()
        self._documents.labels(known, self._name).inc(documents)


class RequestHandler:
    """Handler of jina's requests, which an executor in this process answers."""

    def __init__(self, executor: Any, metrics: RequestMetrics | None = None) -> None:
        self._executor = executor
        self._metrics = metrics

    async def Call(self, requests: AsyncIterator[DataRequest], context: Any) -> AsyncIterator[DataRequest]:  # noqa: N802
        """Answer a stream of requests in order."""
        answers: asyncio.Queue[asyncio.Task[DataRequest] | None] = asyncio.Queue(_READ_AHEAD)

        async def read() -> None:
            async for request in requests:
                await answers.put(asyncio.create_task(self.process_single_data(request, context)))
            await answers.put(None)

        reader = asyncio.create_task(read())
        try:
            while (answer := await answers.get()) is not None:
                yield await answer
        finally:
            reader.cancel()

    async def dry_run(self, empty: Any, context: Any) -> Any:
        """Report that the executor is ready."""
        return jina_pb2.StatusProto(code=jina_pb2.StatusProto.SUCCESS)

    async def process_single_data(self, request: DataRequest, context: Any) -> DataRequest:
        """Answer one request."""
        try:
            check_documents(request.proto_with_data.data)
        except (ValueError, DecodeError) as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        # clip-client's profile() reads two routes
        for name in ("gateway", "clip"):
            request.add_executor(name)
            request.routes[-1].start_time.GetCurrentTime()
        try:
            docs, endpoint = request.docs, request.header.exec_endpoint
            with self._metrics.count(endpoint, len(docs)) if self._metrics else nullcontext():
                result = await self._executor.__acall__(
                    req_endpoint=endpoint, docs=docs, parameters=request.parameters, tracing_context=None
                )
                request.data.docs = docs if result is None else result
        except Exception as error:
            # only the first argument: the second of a rejection is long; a MemoryError has none
            reason = str(error.args[0] if error.args else "without a reason")
            # it may quote the request
            print_line(f"a request failed: {type(error).__name__}: {textwrap.shorten(reason[:1000], 300)}")
            request.add_exception(error, self._executor)
        for route in request.routes[::-1]:  # the outer one ends last
            # clip-client's profile() divides by the difference in whole milliseconds
            route.end_time.GetCurrentTime()
            end = max(route.end_time.ToMilliseconds(), route.start_time.ToMilliseconds() + 1)
            route.end_time.FromMilliseconds(end)
        return request


async def start_server(handler: RequestHandler, config: ServeConfig) -> Any:
    """Start a gRPC server in the running event loop with the address, token and certificate of the settings."""
    token = read_token(config.token_file)
    server = grpc.aio.server(options=_OPTIONS, interceptors=[TokenInterceptor(token)] if token else None)
    jina_pb2_grpc.add_JinaRPCServicer_to_server(handler, server)
    jina_pb2_grpc.add_JinaSingleDataRequestRPCServicer_to_server(handler, server)
    jina_pb2_grpc.add_JinaGatewayDryRunRPCServicer_to_server(handler, server)
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    if config.tls_cert and config.tls_key:
        pair = (Path(config.tls_key).read_bytes(), Path(config.tls_cert).read_bytes())
        server.add_secure_port(config.address(), grpc.ssl_server_credentials([pair]))
    else:
        server.add_insecure_port(config.address())
    await server.start()
    await servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    return server
