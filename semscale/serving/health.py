"""Whether a clip-server really answers: a dry run through its executors, what it serves, and whether it encodes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

from semscale.access import Access, read_access, tls_fault, wants_tls
from semscale.errors import SemscaleError
from semscale.serving.environment import prepare_environment

_PROBE_TEXT = "a photo of a cat"

_T = TypeVar("_T")


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
    access = read_access() if access is None else access
    return _with_channel(url, access, lambda channel: _ask(channel, url, timeout, access))


def probe_server(url: str, timeout: float = 10.0, access: Access | None = None) -> int:
    """Let the server encode one short text, and return the length of the embedding.

    Args:
        url: as for :func:`check_server`.
        timeout: seconds for all of it.
        access: as for :func:`check_server`.

    Raises:
        SemscaleError: as for :func:`check_server`, or what came back is no embedding.
    """
    access = read_access() if access is None else access
    return _with_channel(url, access, lambda channel: _encode(channel, url, timeout, access))


def _with_channel(url: str, access: Access, question: Callable[[Any], _T]) -> _T:
    prepare_environment()
    import grpc  # type: ignore[import-untyped]

    target, secure = _address(url)
    options = [("grpc.enable_http_proxy", 0), ("grpc.max_receive_message_length", -1)]
    if secure:
        channel = grpc.secure_channel(target, grpc.ssl_channel_credentials(access.authority), options=options)
    else:
        channel = grpc.insecure_channel(target, options=options)
    with channel:
        try:
            return question(channel)
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
    from jina.proto import jina_pb2

    _dry_run(channel, url, timeout, access)
    answer = _post(channel, "/info", DocumentArray([Document()]), timeout, access)
    if answer.header.status.code == jina_pb2.StatusProto.ERROR or not len(answer.docs):
        return None
    text = answer.docs[0].tags.get("semscale_info")
    info: dict[str, Any] | None = json.loads(text) if isinstance(text, str) else None
    return info


def _encode(channel: Any, url: str, timeout: float, access: Access) -> int:
    import numpy as np
    from docarray import Document, DocumentArray
    from jina.proto import jina_pb2

    until = time.monotonic() + timeout
    _dry_run(channel, url, timeout, access)
    documents = DocumentArray([Document(text=_PROBE_TEXT)])
    answer = _post(channel, "/encode", documents, max(0.1, until - time.monotonic()), access)
    status = answer.header.status
    embedding = answer.docs[0].embedding if len(answer.docs) == 1 else None
    if status.code == jina_pb2.StatusProto.ERROR or embedding is None or not np.isfinite(embedding).all():
        found = " ".join(str(status.description or "no finite embedding").split())[:200]
        raise SemscaleError("the clip-server does not encode", where=url, found=found)
    return int(np.asarray(embedding).size)


def _dry_run(channel: Any, url: str, timeout: float, access: Access) -> None:
    from google.protobuf.empty_pb2 import Empty  # type: ignore[import-untyped]
    from jina.proto import jina_pb2, jina_pb2_grpc

    status = jina_pb2_grpc.JinaGatewayDryRunRPCStub(channel).dry_run(Empty(), timeout=timeout, metadata=access.metadata)
    if status.code != jina_pb2.StatusProto.SUCCESS:
        raise SemscaleError("the clip-server has no working executor", where=url, found=status.description)


def _post(channel: Any, endpoint: str, documents: Any, timeout: float, access: Access) -> Any:
    from jina.proto import jina_pb2_grpc
    from jina.types.request.data import DataRequest

    request = DataRequest()
    request.header.exec_endpoint = endpoint
    request.data.docs = documents
    stub = jina_pb2_grpc.JinaSingleDataRequestRPCStub(channel)
    return stub.process_single_data(request, timeout=timeout, metadata=access.metadata)


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
