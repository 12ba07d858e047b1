"""The clip-server executor: clip-server's endpoints and arguments, with any model that open_clip can build.

Endpoints (gRPC, docarray documents, as in clip-server):

- `/encode`: documents with `text` or `blob` (an image file) come back with `embedding`, float32, not normalised.
- `/encode_packed`: documents with many pictures each come back with one matrix of embeddings, see
  :mod:`semscale.serving.packed`.
- `/rank`: documents with `matches` come back with the matches sorted by `clip_score`.
- `/info`: one document comes back whose tag `semscale_info` is a JSON text::

      {"name", "architecture", "weights_sha256", "embedding_dim", "image_size": [h, w], "context_length",
       "logit_scale", "preprocess": {"size": [h, w], "mode", "interpolation", "resize_mode", "mean": [], "std": []},
       "dtype", "device", "device_name", "minibatch_size", "fixed_shapes": true, "packed": true,
       ("compiled": true,)
       "versions": {"semscale", "torch", "open_clip"}}

A document that cannot be processed (a damaged image, an empty text) fails its request, and only that: the status of
the answer is ERROR, its exception is `RejectedDocumentsError`, and the second argument of the exception is a JSON text
`{document id: reason}` that names every such document of the request.
"""

# No postponed annotations here: jina reads the types of the endpoints' arguments from the functions.
import asyncio
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from clip_server.executors.clip_torch import CLIPEncoder
from clip_server.executors.helper import set_rank
from docarray import Document, DocumentArray
from jina import requests
from numpy.typing import NDArray
from opentelemetry.trace import NoOpTracer

from semscale.errors import SemscaleError
from semscale.models.encoder import BatchEncoder
from semscale.models.loading import LoadedModel, read_model
from semscale.models.model_info import describe
from semscale.serving.announce import announcer, say
from semscale.serving.environment import available_cores
from semscale.serving.gpus import claim_gpu
from semscale.serving.intake import Intake, Work
from semscale.serving.merge import Merger
from semscale.serving.packed import unpack

INFO_TAG = "semscale_info"

# minibatches that small requests are merged into: enough to fill them, and the first in the row is not kept long
_MERGED = 4

_preloaded: dict[str, LoadedModel] = {}


def preload(loaded: LoadedModel, name: str) -> None:
    """Keep a model for the replicas that are forked from this process: they share its memory and start at once."""
    _preloaded[name] = loaded


class SemscaleEncoder(CLIPEncoder):  # type: ignore[misc]
    """clip-server's CLIPEncoder with a model from :func:`semscale.models.loading.load_model`.

    Args:
        name: a model name as in :func:`semscale.models.loading.load_model`.
        device: `cpu`, `cuda` (replica r takes GPU r modulo their count) or `cuda:N`.
        minibatch_size: rows that the model computes at once; smaller batches are filled up to it.
        num_worker_preprocess: threads that decode images.
        access_paths: where in the documents images and texts are looked for.
        dtype: `fp32`, `fp16` or `bf16`; by default fp32 on CPU and fp16 on CUDA.
        num_threads: CPU threads of the model; by default the cores divided by the replicas.
        compiled: compile the model, see :class:`semscale.models.encoder.BatchEncoder`.
        gpus: the server's GPUs, of which this replica takes its own.
        per_gpu: replicas that share one.
        kwargs: what jina hands to every executor.

    Raises:
        SemscaleError: a model, device or dtype that cannot be had.
    """

    def __init__(
        self,
        name: str,
        device: str = "cpu",
        minibatch_size: int = 16,
        num_worker_preprocess: int = 2,
        access_paths: str = "@r",
        dtype: str | None = None,
        num_threads: int | None = None,
        compiled: bool = False,
        gpus: list[str] | None = None,
        per_gpu: int = 1,
        **kwargs: Any,
    ) -> None:
        # Past CLIPEncoder's own constructor: its model loader does not work with open_clip 3.
        super(CLIPEncoder, self).__init__(**kwargs)
        replicas = int(getattr(self.runtime_args, "replicas", 1) or 1)
        torch.set_num_threads(num_threads or max(1, available_cores() // replicas))
        self._replica = replica = _replica_number(getattr(self.runtime_args, "name", None))
        try:
            gpu = f", GPU {claim_gpu(gpus, replica, per_gpu)}" if gpus else ""
            loaded = (_preloaded.get(name) or read_model(name)).placed(device, dtype, replica)
        except SemscaleError as error:
            # jina only logs what a constructor raises; whoever started the server has to hear it.
            announcer().error(error)
            raise
        self._access_paths = access_paths
        self._encoder = BatchEncoder(loaded, minibatch_size, compiled)
        self._compiled = compiled
        self._identity = loaded.identity
        self._intake = Intake(self._encoder, max(1, num_worker_preprocess))
        self._prepare_pool = ThreadPoolExecutor(2, thread_name_prefix="prepare")
        # One thread computes: two would share the same cores, and torch keeps a pool per calling thread.
        self._model_thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        most = _MERGED * minibatch_size
        self._images = Merger[NDArray[np.uint8]](self._encode_images, np.concatenate, self._model_thread, most)
        self._texts = Merger[torch.Tensor](self._encode_texts, _joined, self._model_thread, most)
        self.tracer: Any = self.tracer or NoOpTracer()
        say(
            f"replica {replica}: {loaded.identity.name} runs on {loaded.identity.device} "
            f"({loaded.identity.device_name}{gpu}), {loaded.identity.dtype}, {torch.get_num_threads()} threads"
        )

    @requests(on="/encode")  # type: ignore[untyped-decorator]
    async def encode(
        self,
        docs: DocumentArray,
        tracing_context: Any = None,
        parameters: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> DocumentArray:
        """Fill in the embedding of every document (float32, not normalised)."""
        parameters = parameters or {}
        with self.tracer.start_as_current_span("encode", context=tracing_context) as span:
            span.set_attribute("device", self._identity.device)
            span.set_attribute("runtime", "torch")
            span.set_attribute("minibatch_size", self._encoder.minibatch_size)
            selected = list(docs[parameters.get("access_paths", self._access_paths)])
            await self._embed(selected)
            if parameters.get("drop_image_content", False):
                for doc in selected:
                    doc.pop("blob", "tensor")
        return docs

    @requests(on="/encode_packed")  # type: ignore[untyped-decorator]
    async def encode_packed(self, docs: DocumentArray, **kwargs: Any) -> DocumentArray:
        """Replace the tensor of every document, many pictures in one array, by the matrix of their embeddings."""
        with self._reported():
            for doc, pixels in zip(docs, unpack(docs, self._encoder.reader.size), strict=True):
                doc.embedding = await self._images.run(pixels, len(pixels))
                doc.tensor = None
        return docs

    @requests  # type: ignore[untyped-decorator]
    async def encode_or_echo(self, docs: DocumentArray, **kwargs: Any) -> DocumentArray:
        """Encode at any other endpoint, as clip-server does; a single empty document (a ping) comes back as it is."""
        if len(docs) == 1 and docs[0].content is None and not docs[0].uri:
            return docs
        return await self.encode(docs, **kwargs)

    @requests(on="/rank")  # type: ignore[untyped-decorator]
    async def rank(self, docs: DocumentArray, parameters: dict[str, Any], **kwargs: Any) -> DocumentArray:
        """Sort the matches of every document by their `clip_score`; a text that occurs often is encoded once."""
        await self._embed(list(docs["@r,m"]))
        set_rank(docs)
        return docs

    @requests(on="/info")  # type: ignore[untyped-decorator]
    def info(self, docs: DocumentArray, **kwargs: Any) -> DocumentArray:
        """Answer one document whose tag `semscale_info` tells model, weights, preprocessing, device and versions."""
        described = describe(self._identity, self._encoder.minibatch_size, self._compiled)
        answer = Document(tags={INFO_TAG: json.dumps(described)})
        if len(docs):
            answer.id = docs[0].id
        return DocumentArray([answer])

    def close(self) -> None:
        """End the threads."""
        self._intake.close()
        for pool in (self._prepare_pool, self._model_thread):
            pool.shutdown(wait=False, cancel_futures=True)

    async def _embed(self, docs: Sequence[Document]) -> None:
        """Set the embedding of each document, or raise for the whole request before the model has run."""
        loop = asyncio.get_running_loop()
        with self._reported():
            # Decoding the next request overlaps with computing this one.
            work = await loop.run_in_executor(self._prepare_pool, self._prepare, docs)
            if work.pixels is not None:
                rows = await self._images.run(work.pixels, len(work.pixels))
                for doc, row in zip(work.images, rows, strict=True):
                    doc.embedding = row
            if work.tokens is not None:
                rows = await self._texts.run(work.tokens, len(work.tokens))
                for doc, place in zip(work.texts, work.token_rows, strict=True):
                    doc.embedding = rows[place]

    @contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            # the first argument alone: the second of a rejection is long; a MemoryError has none
            reason = error.args[0] if error.args else "without a reason"
            say(f"replica {self._replica}: a request failed: {type(error).__name__}: {reason}")
            raise

    def _prepare(self, docs: Sequence[Document]) -> Work:
        with (
            self.monitor(name="preprocess_seconds", documentation="images and texts preprocess time in seconds"),
            self.tracer.start_as_current_span("preprocess"),
        ):
            return self._intake.prepare(docs)

    def _encode_images(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        with (
            self.monitor(name="encode_images_seconds", documentation="images encode time in seconds"),
            self.tracer.start_as_current_span("img_minibatch_encoding"),
        ):
            return _finite(self._encoder.encode_pixels(pixels))

    def _encode_texts(self, tokens: torch.Tensor) -> NDArray[np.float32]:
        with (
            self.monitor(name="encode_texts_seconds", documentation="texts encode time in seconds"),
            self.tracer.start_as_current_span("txt_minibatch_encoding"),
        ):
            return _finite(self._encoder.encode_tokens(tokens))


def _joined(tokens: Sequence[torch.Tensor]) -> torch.Tensor:
    return torch.cat(list(tokens))


def _finite(embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    if not np.isfinite(embeddings).all():
        raise ArithmeticError("the model gave embeddings that are not finite; a wider dtype may mend it")
    return embeddings


def _replica_number(name: str | None) -> int:
    """Read the number of a replica from its jina name, `clip/rep-1`.

    >>> _replica_number("clip/rep-1"), _replica_number(None)
    (1, 0)
    """
    tail = (name or "").rpartition("rep-")[2]
    return int(tail) if tail.isdigit() else 0
