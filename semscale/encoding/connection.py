"""A clip-client with a token and a private certificate authority, of which clip-client and jina know half.

clip-client sends a token; jina opens its TLS channels with the process's own certificate authorities and takes no
others. gRPC would read those from ``GRPC_DEFAULT_SSL_ROOTS_FILE_PATH``, but once per process and for all connections of
it, so the authorities are handed to jina's channels here, by address.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import grpc  # type: ignore[import-untyped]
import jina.clients.base.grpc as jina_grpc
from clip_client import Client
from jina.serve.networking.utils import get_grpc_channel

from semscale.access import Access
from semscale.encoding.addresses import certificate_name

# by address: the authorities, and the name in the certificate where that is another one
_trust: dict[str, tuple[bytes | None, str | None]] = {}


def connect(url: str, access: Access) -> Any:
    """Return a clip-client for `grpc://host:port` or `grpcs://host:port`; nothing is sent yet."""
    parts = urlsplit(url)
    url, name = parts._replace(fragment="").geturl(), certificate_name(url)
    _trust[f"{parts.hostname}:{parts.port}"] = access.authority, name
    jina_grpc.get_grpc_channel = _channel
    return Client(url, credential={"Authorization": access.metadata[0][1]} if access.metadata else {})


def is_refusal(error: BaseException) -> bool:
    """Whether jina's error stands for gRPC's UNAUTHENTICATED."""
    cause = error.__cause__
    return isinstance(cause, grpc.RpcError) and cause.code() == grpc.StatusCode.UNAUTHENTICATED


def _channel(address: str, options: Any = None, **others: Any) -> Any:
    authority, name = _trust.get(address, (None, None))
    if name is not None:
        options = [*(options or []), ("grpc.ssl_target_name_override", name), ("grpc.default_authority", name)]
    return get_grpc_channel(address, options=options, root_certificates=authority, **others)
