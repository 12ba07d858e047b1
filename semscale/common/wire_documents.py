"""Checks of the documents in a gRPC message before any of it is unpacked, the same in server and client.

A caller must not be able to run code in a server or to fill its memory, nor a server in its clients.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

MAX_MESSAGE_BYTES = 256 << 20
"""Size limit of a message; its documents take many times as much memory."""

MAX_DOCUMENTS = 32_768
"""Limit of the documents in a message, chunks and matches included."""

CHANNEL_OPTIONS = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    # bit 0 alone, no compression: a small message could inflate to any size, and images do not shrink
    ("grpc.compression_enabled_algorithms_bitset", 1),
]

_MAX_AXES = 8
_ITEM_BYTES = {name: kind.itemsize for kind in map(np.dtype, "?bhiqBHIQefd") for name in (kind.str, kind.name)}


def check_documents(content: Any) -> None:
    """Raise ValueError if the documents of a message (jina's `DataContentProto`) are not safe to unpack."""
    if content.WhichOneof("documents") == "docs_bytes":
        # a pickle, which runs code when `.docs` is read
        raise ValueError("documents in pickled form are refused")
    groups, count = [content.docs.docs], 0
    while groups:
        group = groups.pop()
        count += len(group)
        if count > MAX_DOCUMENTS:
            raise ValueError(f"more than {MAX_DOCUMENTS:,} documents in one message")
        for doc in group:
            for name in ("tensor", "embedding"):
                if doc.HasField(name):
                    _check_array(name, getattr(doc, name))
            groups += [nested for nested in (doc.chunks, doc.matches) if nested]


def _check_array(name: str, array: Any) -> None:
    """Raise ValueError for an array whose shape does not match its bytes; without bytes it would be made of zeros."""
    dense = array.dense
    if array.WhichOneof("content") != "dense" or array.cls_name not in ("numpy", "torch"):
        raise ValueError(f"the {name} of a document is no dense array of numpy or torch")
    if (item := _ITEM_BYTES.get(dense.dtype)) is None:
        raise ValueError(f"the {name} of a document has values of an unknown kind")
    if len(dense.shape) > _MAX_AXES or math.prod(dense.shape) * item != len(dense.buffer):
        raise ValueError(f"the {name} of a document has {len(dense.buffer)} bytes, which do not fit its shape")
