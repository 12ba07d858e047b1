"""The gateway: jina's own, which lets only those in who know the token, and spares the other replicas a deadly request.

A request that was with a replica when the replica ended fails. jina would pass it on to the next replica, and a single
picture that brings the model's process down would bring all of them down, one after the other, and several times over.
A request that never reached its replica, because that is just being started again, still goes to another.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import grpc  # type: ignore[import-untyped]
from jina.excepts import InternalNetworkError
from jina.serve.runtimes.gateway.grpc import GRPCGateway

from semscale.access import same_token

_token: str | None = None


def require_token(token: str | None) -> None:
    """Let the gateways that are forked from this process from now on in only who shows this token; None: everybody."""
    global _token
    _token = token


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


class SemscaleGateway(GRPCGateway):  # type: ignore[misc]
    """The gateway of :class:`semscale.serving.plain_flow.PlainFlow`; takes its token from :func:`require_token`."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        pool = self.streamer._connection_pool
        handle = pool._handle_aiorpcerror

        async def handle_once(error: Any, **about: Any) -> Any:
            outcome = await handle(error=error, **about)
            if outcome is None and about.get("task_type") != "EndpointDiscovery" and reached_its_replica(error):
                return InternalNetworkError(
                    og_exception=error,
                    request_id=about.get("request_id", ""),
                    dest_addr=about.get("tried_addresses", {""}),
                    details=f"a replica ended amid this request: {error.details()}",
                )
            return outcome

        pool._handle_aiorpcerror = handle_once

    def aio_tracing_server_interceptors(self) -> Any:
        """Return jina's interceptors behind the one that asks for the token."""
        others = list(super().aio_tracing_server_interceptors() or ())
        return [TokenInterceptor(_token), *others] if _token else others


def reached_its_replica(error: Any) -> bool:
    """Whether a call that failed may have been read by the replica, as far as gRPC says."""
    details = (error.details() or "").lower()
    return error.code() == grpc.StatusCode.UNAVAILABLE and "failed to connect" not in details
