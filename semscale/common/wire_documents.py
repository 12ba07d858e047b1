"""Documents on the wire: what is refused of a message before anything of it is unpacked.

Server and client look at every message alike: whoever may call a server must not run code in it or fill its memory,
and neither must a server in its clients.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

MESSAGE_BYTES = 256 << 20
"""What a message may have, of which documents in memory take many times as much."""

MOST_DOCUMENTS = 32_768
"""How many documents a message may have, chunks and matches included."""

CHANNEL_OPTIONS = [
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    # none but the first, which is no compression: a small message would inflate to any size, and images do not shrink
    ("grpc.compression_enabled_algorithms_bitset", 1),
]

_MOST_AXES = 8
_ITEM_BYTES = {name: kind.itemsize for kind in map(np.dtype, "?bhiqBHIQefd") for name in (kind.str, kind.name)}


def check_documents(content: Any) -> None:
    """Raise ValueError if the documents of a message (jina's `DataContentProto`) are not to be unpacked."""
    if content.WhichOneof("documents") == "docs_bytes":
        # a pickle, which runs code as soon as anything reads `.docs`
        raise ValueError("documents in pickled form are refused")
    groups, count = [content.docs.docs], 0
    while groups:
        group = groups.pop()
        count += len(group)
        if count > MOST_DOCUMENTS:
            raise ValueError(f"more than {MOST_DOCUMENTS:,} documents in one message")
        for doc in group:
            for name in ("tensor", "embedding"):
                if doc.HasField(name):
                    _check_array(name, getattr(doc, name))
            groups += [nested for nested in (doc.chunks, doc.matches) if nested]


def _check_array(name: str, array: Any) -> None:
    """Raise ValueError for an array that takes more memory than its bytes, which without any would be made of zeros."""
    dense = array.dense
    if array.WhichOneof("content") != "dense" or array.cls_name not in ("numpy", "torch"):
        raise ValueError(f"the {name} of a document is no dense array of numpy or torch")
    if (item := _ITEM_BYTES.get(dense.dtype)) is None:
        raise ValueError(f"the {name} of a document has values of an unknown kind")
    if len(dense.shape) > _MOST_AXES or math.prod(dense.shape) * item != len(dense.buffer):
        raise ValueError(f"the {name} of a document has {len(dense.buffer)} bytes, which do not fit its shape")
