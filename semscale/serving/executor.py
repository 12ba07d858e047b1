"""The clip-server executor: clip-server's endpoints and arguments, with any model that open_clip can build.

Endpoints (gRPC, docarray documents, as in clip-server):

- `/encode`, and any other name: documents with `text`, `blob` (an image file) or `tensor` (pixels) come back with
  `embedding`, float32, not normalised, and empty ones as they are; `access_paths` may name nested documents.
- `/encode_packed`: documents with many pictures each come back with one matrix of embeddings, see
  :func:`unpack_images`.
- `/rank`: documents with `matches` come back with the matches sorted by `clip_score`.
- `/info`: one document comes back whose tag `semscale_info` is a JSON text::

      {"name", "architecture", "weights_sha256", "embedding_dim", "image_size": [h, w], "context_length",
       "logit_scale", "preprocess": {"size": [h, w], "mode", "interpolation", "resize_mode", "mean": [], "std": []},
       "dtype", "device", "device_name", "minibatch_size", "fixed_shapes": true, "packed": true,
       ("compiled": true,) ("note": how a weights file is read that could be meant otherwise,)
       "versions": {"semscale", "torch", "open_clip"}}

A document that cannot be processed (a damaged image) fails its request, and only that: the status of
the answer is ERROR, its exception is `RejectedDocumentsError`, and the second argument of the exception is a JSON text
`{document id: reason}` that names every such document of the request.
"""

# No postponed annotations here: jina reads the types of the endpoints' arguments from the functions.
import asyncio
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from clip_server.executors.clip_torch import CLIPEncoder
from clip_server.executors.helper import set_rank
from docarray import Document, DocumentArray
from jina import monitor, requests
from numpy.typing import NDArray
from PIL import Image

from semscale.common.text import MAX_TEXT_CHARACTERS, counted
from semscale.models.loading import load_model
from semscale.models.model_encoder import BatchEncoder, PixelReader
from semscale.serving.server_config import ServeConfig

INFO_TAG = "semscale_info"
# docarray matches a path with a regular expression, which a long one keeps busy for ever
_ACCESS_PATHS = ("r", "c", "m", "cc", "cm", "mc", "mm")
# documents that are decoded before some are computed: an image of some bytes has many as pixels
_DECODED_AT_ONCE = 512


class RejectedDocumentsError(ValueError):
    """Some documents of a request cannot be processed, for these reasons by document id.

    >>> RejectedDocumentsError({"7": "the text is empty"}, total=8).args
    ('1 of 8 documents cannot be processed: the text is empty', '{"7": "the text is empty"}')
    """

    def __init__(self, reasons: dict[str, str], total: int) -> None:
        first = next(iter(reasons.values()))
        message = f"{len(reasons)} of {counted(total, 'documents')} cannot be processed: {first}"
        super().__init__(message, json.dumps(reasons))


class SemscaleEncoder(CLIPEncoder):  # type: ignore[misc]
    """clip-server's CLIPEncoder with a model from :func:`semscale.models.loading.load_model`.

    Of the settings those of the model count; `num_threads` are the CPU threads of the model and, up to 8, of decoding.
    `kwargs` is what jina hands to every executor.
    """

    def __init__(self, config: ServeConfig, **kwargs: Any) -> None:
        # Past CLIPEncoder's own constructor: its model loader does not work with open_clip 3.
        super(CLIPEncoder, self).__init__(**kwargs)
        if config.num_threads is not None:
            torch.set_num_threads(config.num_threads)
        loaded = load_model(config.model, config.device, config.dtype, config.trust_remote_code)
        self.encoder = BatchEncoder(loaded, config.minibatch_size, config.compiled)
        # Requests are decoded beside each other, and while another one is computed.
        self._decoding = ThreadPoolExecutor(min(8, torch.get_num_threads()) + 1, thread_name_prefix="decode")
        # One thread computes: two would share the same cores, and torch keeps a pool per calling thread.
        self._computing = ThreadPoolExecutor(1, thread_name_prefix="model")

    @requests  # type: ignore[untyped-decorator]
    async def encode(
        self, docs: DocumentArray, parameters: dict[str, Any] | None = None, **kwargs: Any
    ) -> DocumentArray:
        """Fill in the embedding (float32, not normalised) of every document that is not empty, at any endpoint."""
        parameters = parameters or {}
        selected = select_documents(docs, parameters)
        await self._embed(selected)
        if parameters.get("drop_image_content", False):
            for doc in selected:
                doc.pop("blob", "tensor")
        return docs

    @requests(on="/encode_packed")  # type: ignore[untyped-decorator]
    async def encode_packed(self, docs: DocumentArray, **kwargs: Any) -> DocumentArray:
        """Replace the tensor of every document, many images in one array, by the matrix of their embeddings."""
        unpacked = [unpack_images(doc, self.encoder.reader.size) for doc in docs]
        for doc, pixels in zip(docs, unpacked, strict=True):
            doc.embedding = await self._compute(self._encode_images, pixels)
            doc.tensor = None
        return docs

    @requests(on="/rank")  # type: ignore[untyped-decorator]
    async def rank(self, docs: DocumentArray, parameters: dict[str, Any], **kwargs: Any) -> DocumentArray:
        """Sort the matches of every document by their `clip_score`; a text that occurs often is encoded once."""
        await self._embed(list(docs["@r,m"]))
        set_rank(docs)
        return docs

    @requests(on="/info")  # type: ignore[untyped-decorator]
    def info(self, docs: DocumentArray, **kwargs: Any) -> DocumentArray:
        """Answer one document whose tag `semscale_info` tells model, weights, preprocessing, device and versions."""
        answer = Document(tags={INFO_TAG: json.dumps(self.encoder.info)})
        if len(docs):
            answer.id = docs[0].id
        return DocumentArray([answer])

    def close(self) -> None:
        """End the threads."""
        for pool in (self._decoding, self._computing):
            pool.shutdown(wait=False, cancel_futures=True)

    async def _embed(self, docs: Sequence[Document]) -> None:
        """Set the embedding of each document that is not empty, or raise for the whole request."""
        for start in range(0, len(docs), _DECODED_AT_ONCE):
            part = docs[start : start + _DECODED_AT_ONCE]
            images, pixels = await asyncio.get_running_loop().run_in_executor(self._decoding, self._decode, part)
            if images:
                for doc, row in zip(images, await self._compute(self._encode_images, pixels), strict=True):
                    doc.embedding = row
        # what a model reads of a text is at its beginning
        texts = [(doc, doc.text[:MAX_TEXT_CHARACTERS]) for doc in docs if doc.text]
        if unique := list(dict.fromkeys(text for _, text in texts)):
            rows = dict(zip(unique, await self._compute(self._encode_texts, unique), strict=True))
            for doc, text in texts:
                doc.embedding = rows[text]

    async def _compute(self, encode: Callable[[Any], NDArray[np.float32]], rows: Any) -> NDArray[np.float32]:
        return await asyncio.get_running_loop().run_in_executor(self._computing, encode, rows)

    @monitor(name="preprocess_seconds", documentation="images and texts preprocess time in seconds")  # type: ignore[untyped-decorator]
    def _decode(self, docs: Sequence[Document]) -> tuple[list[Document], NDArray[np.uint8]]:
        return decode_images(docs, self.encoder.reader)

    @monitor(name="encode_images_seconds", documentation="images encode time in seconds")  # type: ignore[untyped-decorator]
    def _encode_images(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        return _finite(self.encoder.encode_pixels(pixels))

    @monitor(name="encode_texts_seconds", documentation="texts encode time in seconds")  # type: ignore[untyped-decorator]
    def _encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return _finite(self.encoder.encode_texts(texts))


def _finite(embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    if not np.isfinite(embeddings).all():
        raise ArithmeticError("the model gave embeddings that are not finite; a wider dtype may mend it")
    return embeddings


def select_documents(docs: DocumentArray, parameters: dict[str, Any]) -> list[Document]:
    """Return the documents at the access paths of a request, the outermost ones without any; ValueError for others."""
    paths = parameters.get("traversal_paths", parameters.get("access_paths", "@r"))
    known = isinstance(paths, str) and paths.startswith("@")
    parts = dict.fromkeys(part.strip() for part in paths[1:].split(",")) if known else {}
    if not parts or not set(parts) <= set(_ACCESS_PATHS):
        raise ValueError(f"access_paths is not @{', @'.join(_ACCESS_PATHS)}, or some of these as in @r,c")
    return list(docs["@" + ",".join(parts)])


def decode_images(docs: Sequence[Document], reader: PixelReader) -> tuple[list[Document], NDArray[np.uint8]]:
    """Return a request's images and their pixels, uint8 (n, height, width, 3), unless one is to be rejected."""
    images, pixels, reasons = [], [], {}
    for doc in docs:
        if doc.text or not (doc.blob or doc.uri or doc.tensor is not None):
            continue  # no image
        try:
            pixels.append(_decode_image(doc, reader))
            images.append(doc)
        except ValueError as error:
            reasons[doc.id] = str(error)
    if reasons:
        raise RejectedDocumentsError(reasons, len(docs))
    return images, np.stack(pixels) if pixels else np.empty((0, *reader.size, 3), dtype=np.uint8)


def _decode_image(doc: Document, reader: PixelReader) -> NDArray[np.uint8]:
    if doc.blob:
        return reader.decode(doc.blob)
    if doc.tensor is None:
        # Opening an address on behalf of a client would let it read the server's files and network.
        raise ValueError("the document has an address instead of the image: send the bytes as blob")
    pixels = np.asarray(doc.tensor).astype(np.uint8).squeeze()
    try:
        if pixels.ndim not in (2, 3) or not pixels.size:
            raise TypeError("neither grey nor in colours")
        image = Image.fromarray(pixels).convert("L" if pixels.ndim == 2 else "RGB")
    except TypeError as error:
        raise ValueError(f"a tensor of shape {np.shape(doc.tensor)} is not an image") from error
    return reader.resize(image)


def unpack_images(doc: Document, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the images of a packed document, uint8 (n, height, width, 3), its `tensor`.

    A document for every image costs more than the image where the model is small.
    """
    tensor = doc.tensor
    shape = tensor.shape if isinstance(tensor, np.ndarray) else ()
    if len(shape) != 4 or tensor.dtype != np.uint8 or shape[1:] != (*size, 3) or not len(tensor):
        found = f"{tensor.dtype} {shape}" if isinstance(tensor, np.ndarray) else "nothing"
        reason = f"a tensor of {found} instead of uint8 (n, {size[0]}, {size[1]}, 3)"
        raise RejectedDocumentsError({doc.id: reason}, 1)
    # what protobuf hands out is read-only, which torch does not like
    return np.require(tensor, requirements=["C", "W"])
