"""From the documents of a request to pixels and tokens, or to the reasons why some of them cannot be used."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from docarray import Document
from numpy.typing import NDArray
from PIL import Image

from semscale.models.encoder import BatchEncoder, text_fault


class RejectedDocumentsError(ValueError):
    """Some documents of a request cannot be processed.

    Args:
        reasons: document id to reason.
        total: documents in the request.

    >>> RejectedDocumentsError({"7": "the text is empty"}, total=8).args
    ('1 of 8 documents cannot be processed: the text is empty', '{"7": "the text is empty"}')
    """

    def __init__(self, reasons: dict[str, str], total: int) -> None:
        first = next(iter(reasons.values()))
        message = f"{len(reasons)} of {total} documents cannot be processed: {first}"
        super().__init__(message, json.dumps(reasons))


@dataclass
class Work:
    """One request, decoded and tokenised; `token_rows` gives for each text its row in `tokens`."""

    images: list[Document]
    pixels: NDArray[np.uint8] | None
    texts: list[Document]
    tokens: torch.Tensor | None
    token_rows: list[int]


class Intake:
    """Decode images and tokenise texts before the model runs.

    Args:
        encoder: knows the pixels and tokens that its model wants.
        workers: threads that decode images.
    """

    def __init__(self, encoder: BatchEncoder, workers: int) -> None:
        self._encoder = encoder
        self._workers = workers
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")

    def prepare(self, docs: Sequence[Document]) -> Work:
        """Decode and tokenise the documents of one request; a text that occurs often is tokenised once.

        Raises:
            RejectedDocumentsError: some documents cannot be processed; it names all of them.
        """
        reasons: dict[str, str] = {}
        images: list[Document] = []
        texts: list[Document] = []
        for doc in docs:
            fault = find_fault(doc)
            if fault:
                reasons[doc.id] = fault
            elif doc.text:
                texts.append(doc)
            else:
                images.append(doc)
        pixels = self._decode(images, reasons) if images else None
        if reasons:
            raise RejectedDocumentsError(reasons, len(docs))
        unique = {text: row for row, text in enumerate(dict.fromkeys(doc.text for doc in texts))}
        tokens = self._encoder.tokenize(list(unique)) if unique else None
        return Work(images, pixels, texts, tokens, [unique[doc.text] for doc in texts])

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _decode(self, docs: list[Document], reasons: dict[str, str]) -> NDArray[np.uint8]:
        pixels = np.zeros((len(docs), *self._encoder.reader.size, 3), dtype=np.uint8)

        def decode_some(start: int) -> None:
            for row in range(start, len(docs), self._workers):
                try:
                    pixels[row] = self._read(docs[row])
                except (ValueError, MemoryError) as error:
                    reasons[docs[row].id] = str(error) or type(error).__name__

        # One task per thread, not per image: handing over a small image costs as much as decoding it.
        list(self._pool.map(decode_some, range(min(self._workers, len(docs)))))
        return pixels

    def _read(self, doc: Document) -> NDArray[np.uint8]:
        if doc.blob:
            return self._encoder.reader.decode(doc.blob)
        try:
            image = Image.fromarray(np.asarray(doc.tensor).astype(np.uint8)).convert("RGB")
        except TypeError as error:
            raise ValueError(f"a tensor of shape {np.shape(doc.tensor)} is not an image") from error
        return self._encoder.reader.resize(image)


def find_fault(doc: Document) -> str | None:
    """Say why a document can be neither a text nor an image; None if it may be one.

    >>> find_fault(Document(text="  "))
    'the text is empty'
    """
    if doc.text:
        return text_fault(doc.text)
    if doc.blob or doc.tensor is not None:
        return None
    if doc.uri:
        # Opening an address on behalf of a client would let it read the server's files and network.
        return "the document has an address instead of the image: send the bytes as blob"
    return "the document has neither a text nor an image"
