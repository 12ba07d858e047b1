"""Health check of a clip-server: what it serves, and whether it encodes."""

from __future__ import annotations

import json
import re
from typing import Any

from semscale.access import Access, read_access, tls_fault, wants_tls
from semscale.errors import SemscaleError
from semscale.serving.process import prepare_environment


def check_server(url: str, timeout: float = 10.0, access: Access | None = None) -> dict[str, Any] | None:
    """Return what a clip-server says at `/info` (see :mod:`semscale.serving.executor`); None for a stock clip-server.

    The URL is `grpc://host:port`, or `grpcs://host:port` for TLS; without `access` the environment's is taken.
    """
    answer = _post(url, "/info", "info", timeout, access)
    text = answer.docs[0].tags.get("semscale_info") if len(answer.docs) else None
    info: dict[str, Any] | None = json.loads(text) if isinstance(text, str) else None
    return info


def probe_server(url: str, timeout: float = 10.0, access: Access | None = None) -> int:
    """Let a clip-server encode one short text, and return the length of the embedding.

    gRPC's own health service says SERVING also while the model hangs.
    """
    import numpy as np
    from jina.proto import jina_pb2

    answer = _post(url, "/encode", "a photo of a cat", timeout, access)
    status = answer.header.status
    embedding = answer.docs[0].embedding if len(answer.docs) == 1 else None
    if status.code == jina_pb2.StatusProto.ERROR or embedding is None or not np.isfinite(embedding).all():
        found = " ".join(str(status.description or "no finite embedding").split())[:200]
        raise SemscaleError("the clip-server does not encode", where=url, found=found)
    return int(np.asarray(embedding).size)


def _post(url: str, endpoint: str, text: str, timeout: float, access: Access | None) -> Any:
    """Send one document to an endpoint and return the answer."""
    if not (address := re.fullmatch(r"(grpcs?)://((?:\[[\da-fA-F:.]+\]|[^/:@\s]+):\d{1,5})/?", url)):
        raise SemscaleError("not the address of a clip-server", found=url, expected="grpc://host:port")
    scheme, target = address.groups()
    access = read_access() if access is None else access
    prepare_environment()
    import grpc  # type: ignore[import-untyped]
    from docarray import Document, DocumentArray
    from jina.proto import jina_pb2_grpc
    from jina.types.request.data import DataRequest

    request = DataRequest()
    request.header.exec_endpoint = endpoint
    request.data.docs = DocumentArray([Document(text=text)])
    options = [("grpc.enable_http_proxy", 0), ("grpc.max_receive_message_length", 1 << 24)]
    credentials = grpc.ssl_channel_credentials(access.authority)
    secure = scheme == "grpcs"
    with (
        grpc.secure_channel(target, credentials, options) if secure else grpc.insecure_channel(target, options)
    ) as channel:
        try:
            stub = jina_pb2_grpc.JinaSingleDataRequestRPCStub(channel)
            return stub.process_single_data(request, timeout=timeout, metadata=access.metadata)
        except grpc.RpcError as error:
            details = " ".join((error.details() or "").split())
            if error.code() == grpc.StatusCode.UNAUTHENTICATED:
                raise access.refusal(url) from error
            if secure and (distrust := tls_fault(details)):
                raise access.distrust(url, distrust) from error
            if wants_tls(url, details):
                raise access.plain(url) from error
            found = f"{error.code().name}: {details[:200]}"
            hint = "is it running there? `semscale serve --port PORT` starts one"
            raise SemscaleError("the clip-server does not answer", where=url, found=found, hint=hint) from error
