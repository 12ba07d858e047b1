"""Whether a clip-server really answers: a dry run through its executors, and what it serves."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

from semscale.access import Access, read_access, tls_fault, wants_tls
from semscale.errors import SemscaleError
from semscale.serving.environment import prepare_environment


def check_server(url: str, timeout: float = 10.0, access: Access | None = None) -> dict[str, Any] | None:
    """Send an empty request through gateway and executor, then ask the server what it serves.

    gRPC's own health service says SERVING with every replica dead; the dry run tells the truth.

    Args:
        url: `grpc://host:port`, or `grpcs://host:port` for TLS.
        timeout: seconds for each of the two requests.
        access: the token to show and the authorities to trust; None takes them from the environment.

    Returns:
        The identity of the model: the dict that :mod:`semscale.serving.executor` describes at `/info`; None from a
        stock clip-server, which has no such endpoint.

    Raises:
        SemscaleError: not such a URL, nobody there, no living executor, no answer in time, the token refused, a
            certificate that is not trusted, or TLS where none was asked for.
    """
    prepare_environment()
    import grpc  # type: ignore[import-untyped]

    access = read_access() if access is None else access
    target, secure = _address(url)
    options = [("grpc.enable_http_proxy", 0), ("grpc.max_receive_message_length", -1)]
    if secure:
        channel = grpc.secure_channel(target, grpc.ssl_channel_credentials(access.authority), options=options)
    else:
        channel = grpc.insecure_channel(target, options=options)
    with channel:
        try:
            return _ask(channel, url, timeout, access)
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.UNAUTHENTICATED:
                raise access.refusal(url) from error
            if secure and (distrust := tls_fault(error.details())):
                raise access.distrust(url, distrust) from error
            if wants_tls(url, error.details()):
                raise access.plain(url) from error
            raise SemscaleError(
                "the clip-server does not answer",
                where=url,
                found=_reason(error),
                hint="is it running there? `semscale serve --port PORT` starts one",
            ) from error


def _ask(channel: Any, url: str, timeout: float, access: Access) -> dict[str, Any] | None:
    from docarray import Document, DocumentArray
    from google.protobuf.empty_pb2 import Empty  # type: ignore[import-untyped]
    from jina.proto import jina_pb2, jina_pb2_grpc
    from jina.types.request.data import DataRequest

    status = jina_pb2_grpc.JinaGatewayDryRunRPCStub(channel).dry_run(Empty(), timeout=timeout, metadata=access.metadata)
    if status.code != jina_pb2.StatusProto.SUCCESS:
        raise SemscaleError("the clip-server has no working executor", where=url, found=status.description)
    request = DataRequest()
    request.header.exec_endpoint = "/info"
    request.data.docs = DocumentArray([Document()])
    stub = jina_pb2_grpc.JinaSingleDataRequestRPCStub(channel)
    answer = stub.process_single_data(request, timeout=timeout, metadata=access.metadata)
    if answer.header.status.code == jina_pb2.StatusProto.ERROR or not len(answer.docs):
        return None
    text = answer.docs[0].tags.get("semscale_info")
    info: dict[str, Any] | None = json.loads(text) if isinstance(text, str) else None
    return info


def _address(url: str) -> tuple[str, bool]:
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = None
    if parts.scheme not in ("grpc", "grpcs") or not parts.hostname or port is None:
        raise SemscaleError("not the address of a clip-server", found=url, expected="grpc://host:port")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{host}:{port}", parts.scheme == "grpcs"


def _reason(error: Any) -> str:
    code = error.code().name if callable(getattr(error, "code", None)) else type(error).__name__
    details = error.details() if callable(getattr(error, "details", None)) else ""
    return f"{code}: {' '.join((details or '').split())[:200]}"
