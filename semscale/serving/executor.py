"""Executor of a clip-server: clip-server's endpoints and arguments for any model that open_clip can build.

Endpoints (gRPC, docarray documents, as in clip-server):

- `/encode`, and any other name: sets the `embedding`, float32, not normalised, of documents with `text`, `blob` (an
  image file) or `tensor` (pixels); empty ones are unchanged; `access_paths` may select nested documents.
- `/encode_packed`: sets a matrix of embeddings on documents with many images each, see :func:`unpack_images`.
- `/rank`: sorts the `matches` of documents by `clip_score`.
- `/info`: returns a document whose tag `semscale_info` is a JSON text::

      {"name", "architecture", "weights_sha256", "embedding_dim", "image_size": [h, w], "context_length",
       "logit_scale", "preprocess": {"size": [h, w], "mode", "interpolation", "resize_mode", "mean": [], "std": []},
       "dtype", "device", "device_name", "minibatch_size", "fixed_shapes": true, "packed": true,
       ("compiled": true,) ("note": how an ambiguous weights file is read,)
       "versions": {"semscale", "torch", "open_clip"}}

A document that cannot be processed (a damaged image) fails its whole request: the status of the answer is ERROR, its
exception `RejectedDocumentsError`, whose second argument is a JSON text `{document id: reason}` of all such documents.
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
from semscale.models.model_encoder import BatchEncoder, PixelTransform
from semscale.serving.server_config import ServeConfig

INFO_TAG = "semscale_info"
# docarray matches paths with a regular expression that a long path keeps busy without end
_ACCESS_PATHS = ("r", "c", "m", "cc", "cm", "mc", "mm")
# documents that are decoded at a time: a small image file may have many pixels
_DECODE_BATCH = 512


class RejectedDocumentsError(ValueError):
    """Error for a request with documents that cannot be processed; contains the reasons by document id.

    >>> RejectedDocumentsError({"7": "the text is empty"}, total=8).args
    ('1 of 8 documents cannot be processed: the text is empty', '{"7": "the text is empty"}')
    """

    def __init__(self, reasons: dict[str, str], total: int) -> None:
        first = next(iter(reasons.values()))
        message = f"{len(reasons)} of {counted(total, 'documents')} cannot be processed: {first}"
        super().__init__(message, json.dumps(reasons))


class SemscaleEncoder(CLIPEncoder):  # type: ignore[misc]
    """clip-server's CLIPEncoder with a model from :func:`semscale.models.loading.load_model`.

    It uses the settings of the model; `num_threads` limits the CPU threads of the model and, up to 8, of decoding.
    `kwargs` are jina's arguments of every executor.
    """

    def __init__(self, config: ServeConfig, **kwargs: Any) -> None:
        # Skips the constructor of CLIPEncoder, whose model loader does not work with open_clip 3.
        super(CLIPEncoder, self).__init__(**kwargs)
        if config.num_threads is not None:
            torch.set_num_threads(config.num_threads)
        loaded = load_model(config.model, config.device, config.dtype, config.trust_remote_code)
        self.encoder = BatchEncoder(loaded, config.minibatch_size, config.compiled)
        # Requests are decoded in parallel, and while another one is computed.
        self._decoding = ThreadPoolExecutor(min(8, torch.get_num_threads()) + 1, thread_name_prefix="decode")
        # One thread computes: two would compete for the cores, and torch keeps a pool per calling thread.
        self._computing = ThreadPoolExecutor(1, thread_name_prefix="model")

    @requests  # type: ignore[untyped-decorator]
    async def encode(
        self, docs: DocumentArray, parameters: dict[str, Any] | None = None, **kwargs: Any
    ) -> DocumentArray:
        """Set the embedding (float32, not normalised) of every document that is not empty; serves any endpoint name."""
        parameters = parameters or {}
        selected = select_documents(docs, parameters)
        await self._embed(selected)
        if parameters.get("drop_image_content", False):
            for doc in selected:
                doc.pop("blob", "tensor")
        return docs

    @requests(on="/encode_packed")  # type: ignore[untyped-decorator]
    async def encode_packed(self, docs: DocumentArray, **kwargs: Any) -> DocumentArray:
        """Replace the tensor of every document, an array of images, by the matrix of their embeddings."""
        unpacked = [unpack_images(doc, self.encoder.transform.size) for doc in docs]
        for doc, pixels in zip(docs, unpacked, strict=True):
            doc.embedding = await self._compute(self._encode_images, pixels)
            doc.tensor = None
        return docs

    @requests(on="/rank")  # type: ignore[untyped-decorator]
    async def rank(self, docs: DocumentArray, parameters: dict[str, Any], **kwargs: Any) -> DocumentArray:
        """Sort the matches of every document by their `clip_score`; equal texts are encoded once."""
        await self._embed(list(docs["@r,m"]))
        set_rank(docs)
        return docs

    @requests(on="/info")  # type: ignore[untyped-decorator]
    def info(self, docs: DocumentArray, **kwargs: Any) -> DocumentArray:
        """Return a document whose tag `semscale_info` describes model, weights, preprocessing, device and versions."""
        answer = Document(tags={INFO_TAG: json.dumps(self.encoder.info)})
        if len(docs):
            answer.id = docs[0].id
        return DocumentArray([answer])

    def close(self) -> None:
        """Stop the threads."""
        for pool in (self._decoding, self._computing):
            pool.shutdown(wait=False, cancel_futures=True)

    async def _embed(self, docs: Sequence[Document]) -> None:
        """Set the embedding of each document that is not empty; an error fails the whole request."""
        for start in range(0, len(docs), _DECODE_BATCH):
            part = docs[start : start + _DECODE_BATCH]
            images, pixels = await asyncio.get_running_loop().run_in_executor(self._decoding, self._decode, part)
            if images:
                for doc, row in zip(images, await self._compute(self._encode_images, pixels), strict=True):
                    doc.embedding = row
        # models read only the beginning of a text
        texts = [(doc, doc.text[:MAX_TEXT_CHARACTERS]) for doc in docs if doc.text]
        if unique := list(dict.fromkeys(text for _, text in texts)):
            rows = dict(zip(unique, await self._compute(self._encode_texts, unique), strict=True))
            for doc, text in texts:
                doc.embedding = rows[text]

    async def _compute(self, encode: Callable[[Any], NDArray[np.float32]], rows: Any) -> NDArray[np.float32]:
        return await asyncio.get_running_loop().run_in_executor(self._computing, encode, rows)

    @monitor(name="preprocess_seconds", documentation="images and texts preprocess time in seconds")  # type: ignore[untyped-decorator]
    def _decode(self, docs: Sequence[Document]) -> tuple[list[Document], NDArray[np.uint8]]:
        return decode_images(docs, self.encoder.transform)

    @monitor(name="encode_images_seconds", documentation="images encode time in seconds")  # type: ignore[untyped-decorator]
    def _encode_images(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        return _require_finite(self.encoder.encode_pixels(pixels))

    @monitor(name="encode_texts_seconds", documentation="texts encode time in seconds")  # type: ignore[untyped-decorator]
    def _encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return _require_finite(self.encoder.encode_texts(texts))


def _require_finite(embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    if not np.isfinite(embeddings).all():
        raise ArithmeticError("the model gave embeddings that are not finite; a wider dtype may fix it")
    return embeddings


def select_documents(docs: DocumentArray, parameters: dict[str, Any]) -> list[Document]:
    """Return the documents at the access paths of a request, by default the outermost; raise ValueError for others."""
    paths = parameters.get("traversal_paths", parameters.get("access_paths", "@r"))
    known = isinstance(paths, str) and paths.startswith("@")
    parts = dict.fromkeys(part.strip() for part in paths[1:].split(",")) if known else {}
    if not parts or not set(parts) <= set(_ACCESS_PATHS):
        raise ValueError(f"access_paths is not @{', @'.join(_ACCESS_PATHS)}, or some of these as in @r,c")
    return list(docs["@" + ",".join(parts)])


def decode_images(docs: Sequence[Document], transform: PixelTransform) -> tuple[list[Document], NDArray[np.uint8]]:
    """Return the documents with images and their pixels, uint8 (n, height, width, 3); raise if any are unusable."""
    images, pixels, reasons = [], [], {}
    for doc in docs:
        if doc.text or not (doc.blob or doc.uri or doc.tensor is not None):
            continue  # not an image
        try:
            pixels.append(_decode_image(doc, transform))
            images.append(doc)
        except ValueError as error:
            reasons[doc.id] = str(error)
    if reasons:
        raise RejectedDocumentsError(reasons, len(docs))
    return images, np.stack(pixels) if pixels else np.empty((0, *transform.size, 3), dtype=np.uint8)


def _decode_image(doc: Document, transform: PixelTransform) -> NDArray[np.uint8]:
    if doc.blob:
        return transform.decode(doc.blob)
    if doc.tensor is None:
        # Opening an address would let clients read the server's files and network.
        raise ValueError("the document has an address instead of the image: send the bytes as blob")
    pixels = np.asarray(doc.tensor).astype(np.uint8).squeeze()
    try:
        if pixels.ndim not in (2, 3) or not pixels.size:
            raise TypeError("neither greyscale nor colour")
        image = Image.fromarray(pixels).convert("L" if pixels.ndim == 2 else "RGB")
    except TypeError as error:
        raise ValueError(f"a tensor of shape {np.shape(doc.tensor)} is not an image") from error
    return transform.resize(image)


def unpack_images(doc: Document, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the `tensor` of a packed document: images, uint8 (n, height, width, 3).

    With a small model a document per image would cost more than the image.
    """
    tensor = doc.tensor
    shape = tensor.shape if isinstance(tensor, np.ndarray) else ()
    if len(shape) != 4 or tensor.dtype != np.uint8 or shape[1:] != (*size, 3) or not len(tensor):
        found = f"{tensor.dtype} {shape}" if isinstance(tensor, np.ndarray) else "nothing"
        reason = f"a tensor of {found} instead of uint8 (n, {size[0]}, {size[1]}, 3)"
        raise RejectedDocumentsError({doc.id: reason}, 1)
    # protobuf's arrays are read-only, which torch warns about
    return np.require(tensor, requirements=["C", "W"])
