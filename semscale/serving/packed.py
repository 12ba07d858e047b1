"""Packed requests: all pictures of a request in one array, and all embeddings of the answer in another.

A document for every picture costs more than the picture where the model is small: it is built, written, parsed and
given an embedding one by one. Here a request has one document whose `tensor` is uint8 (n, height, width, 3), resized
and cropped as the model wants it, and whose `embedding` in the answer is float32 (n, embedding_dim).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from docarray import Document
from numpy.typing import NDArray

from semscale.serving.intake import RejectedDocumentsError


def unpack(docs: Sequence[Document], size: tuple[int, int]) -> list[NDArray[np.uint8]]:
    """Return the pictures of each document, uint8 (n, height, width, 3).

    Args:
        docs: the documents of a request.
        size: (height, width) that the model wants, in pixels.

    Raises:
        RejectedDocumentsError: a document that holds no such array.
    """
    reasons = {doc.id: fault for doc in docs if (fault := _fault(doc, size))}
    if reasons:
        raise RejectedDocumentsError(reasons, len(docs))
    # what protobuf hands out is read-only, which torch does not like
    return [np.require(doc.tensor, requirements=["C", "W"]) for doc in docs]


def _fault(doc: Document, size: tuple[int, int]) -> str | None:
    expected = f"uint8 (n, {size[0]}, {size[1]}, 3)"
    tensor = doc.tensor
    if not isinstance(tensor, np.ndarray):
        return f"a packed document has a tensor of {expected}"
    if tensor.dtype != np.uint8 or tensor.ndim != 4 or tensor.shape[1:] != (*size, 3) or not len(tensor):
        return f"a tensor of {tensor.dtype} {tensor.shape} instead of {expected}"
    return None
