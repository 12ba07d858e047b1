"""Request decoding: documents to pixels and tokens, or to the reasons why some of them cannot be used."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from docarray import Document
from numpy.typing import NDArray
from PIL import Image

from semscale.models.encoder import BatchEncoder, text_fault
from semscale.models.transforms import PixelReader


class RejectedDocumentsError(ValueError):
    """Some documents of a request cannot be processed, for these reasons by document id.

    >>> RejectedDocumentsError({"7": "the text is empty"}, total=8).args
    ('1 of 8 documents cannot be processed: the text is empty', '{"7": "the text is empty"}')
    """

    def __init__(self, reasons: dict[str, str], total: int) -> None:
        first = next(iter(reasons.values()))
        message = f"{len(reasons)} of {total} documents cannot be processed: {first}"
        super().__init__(message, json.dumps(reasons))


@dataclass
class DecodedRequest:
    """One request, decoded and tokenised; `token_rows` gives for each text its row in `tokens`."""

    images: list[Document]
    pixels: NDArray[np.uint8] | None
    texts: list[Document]
    tokens: torch.Tensor | None
    token_rows: list[int]


def decode_request(docs: Sequence[Document], encoder: BatchEncoder) -> DecodedRequest:
    """Decode the images and tokenise the texts of one request, a text that occurs often once.

    Raises:
        RejectedDocumentsError: some documents cannot be processed; it names all of them.
    """
    reasons = {doc.id: fault for doc in docs if (fault := find_fault(doc))}
    texts = [doc for doc in docs if doc.text]
    images = [doc for doc in docs if not doc.text and doc.id not in reasons]
    pixels = []
    for doc in images:
        try:
            pixels.append(_decode_image(doc, encoder.reader))
        except (ValueError, MemoryError) as error:
            reasons[doc.id] = str(error) or type(error).__name__
    if reasons:
        raise RejectedDocumentsError(reasons, len(docs))
    unique = {text: row for row, text in enumerate(dict.fromkeys(doc.text for doc in texts))}
    tokens = encoder.tokenize(list(unique)) if unique else None
    rows = [unique[doc.text] for doc in texts]
    return DecodedRequest(images, np.stack(pixels) if pixels else None, texts, tokens, rows)


def _decode_image(doc: Document, reader: PixelReader) -> NDArray[np.uint8]:
    if doc.blob:
        return reader.decode(doc.blob)
    try:
        image = Image.fromarray(np.asarray(doc.tensor).astype(np.uint8)).convert("RGB")
    except TypeError as error:
        raise ValueError(f"a tensor of shape {np.shape(doc.tensor)} is not an image") from error
    return reader.resize(image)


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


def unpack_images(docs: Sequence[Document], size: tuple[int, int]) -> list[NDArray[np.uint8]]:
    """Return the images of packed documents, for each uint8 (n, height, width, 3).

    A document for every image costs more than the image where the model is small. A packed document has all images of
    a request, resized and cropped to the (height, width) that the model wants, as its `tensor`.

    Raises:
        RejectedDocumentsError: a document that holds no such array.
    """
    reasons = {doc.id: fault for doc in docs if (fault := _packing_fault(doc, size))}
    if reasons:
        raise RejectedDocumentsError(reasons, len(docs))
    # what protobuf hands out is read-only, which torch does not like
    return [np.require(doc.tensor, requirements=["C", "W"]) for doc in docs]


def _packing_fault(doc: Document, size: tuple[int, int]) -> str | None:
    expected = f"uint8 (n, {size[0]}, {size[1]}, 3)"
    tensor = doc.tensor
    if not isinstance(tensor, np.ndarray):
        return f"a packed document has a tensor of {expected}"
    if tensor.dtype != np.uint8 or tensor.ndim != 4 or tensor.shape[1:] != (*size, 3) or not len(tensor):
        return f"a tensor of {tensor.dtype} {tensor.shape} instead of {expected}"
    return None
