"""Packed requests to semscale's own server: one array of pictures there, one matrix of embeddings back.

See :func:`semscale.serving.request_decoding.unpack_images` for the other end. Only pictures that were decoded here
travel so; whatever a packed request did not bring home is left to the caller, who sends it again document by document
and learns which one is at fault.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from docarray import Document, DocumentArray

from semscale.encoding.preprocess import Picture

Float32 = npt.NDArray[np.float32]


async def post_packed(
    post: Callable[..., Any], pictures: Sequence[Picture], rows: int, prefetch: int, found: dict[int, Float32]
) -> None:
    """Send pictures of one shape and collect the embedding of each by its place; those that failed are missing.

    Args:
        post: :meth:`semscale.encoding.client.EncodeClient.post`.
        pictures: uint8 (height, width, 3) each.
        rows: pictures per request.
        prefetch: requests in flight.
        found: takes the embeddings as they come, so that they are not lost with the connection.

    Raises:
        ConnectionError: the server is not there.
        ValueError: a matrix has fewer or more rows than pictures were sent.
    """
    starts = range(0, len(pictures), rows)
    documents = DocumentArray(
        [Document(id=str(start), tensor=np.stack(pictures[start : start + rows])) for start in starts]
    )
    wrong: list[str] = []

    def on_done(response: Any) -> None:
        for document in response.docs:
            start, matrix = int(document.id), document.embedding
            expected = min(rows, len(pictures) - start)
            # a server that knows no packed requests may answer anything
            if not isinstance(matrix, np.ndarray) or matrix.ndim != 2:
                continue
            if len(matrix) != expected:
                wrong.append(f"it answers {len(matrix)} embeddings for {expected} pictures")
            else:
                found.update(zip(range(start, start + expected), matrix.astype(np.float32, copy=False), strict=True))

    def on_error(response: Any) -> None:
        del response

    stream = post("/encode_packed", documents, on_done=on_done, on_error=on_error, request_size=1, prefetch=prefetch)
    async for _ in stream:
        pass
    if wrong:
        raise ValueError(wrong[0])
