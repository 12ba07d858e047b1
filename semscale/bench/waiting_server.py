"""Clip-servers that only wait: real jina Flows whose executor takes as long as a GPU would and computes little.

    python -m semscale.bench.waiting_server '{"rates": [60, 60, null], "latency": 0.02, "side": 16}'

starts an endpoint for each rate (pictures or texts per second; null: it does not wait at all), prints their addresses
as one line of JSON, and ends when its standard input is closed. An endpoint computes one request at a time, for as long
as its rows take at its rate; the way there and back is `latency` seconds per request, during which the next one is
computed. Embeddings are a fixed projection of the pixels (side x side) or drawn from the digest of the text.
"""

# No postponed annotations here: jina reads the types of the endpoints' arguments from the functions.
import asyncio
import hashlib
import json
import os
import sys
import time
from typing import Any

import numpy as np
from docarray import Document, DocumentArray
from jina import Executor, requests
from numpy.typing import NDArray

from semscale.datasets.picture import decode
from semscale.encoding.preprocess import prepare
from semscale.serving.gateway import SemscaleGateway
from semscale.serving.lifeline import end_children_with_me
from semscale.serving.plain_flow import PlainFlow

MODEL = "waiting"
DIMENSION = 512
SIDE = 16
MINIBATCH = 32


def embed(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return unit-length rows [n, 512] of pictures, uint8 [n, side, side, 3]; equal pixels give equal rows.

    >>> rows = embed(np.arange(1536, dtype=np.uint64).astype(np.uint8).reshape(2, 16, 16, 3))
    >>> rows.shape, np.linalg.norm(rows, axis=1).round(5).tolist()
    ((2, 512), [1.0, 1.0])
    """
    # a few hundred values per picture are enough to tell pictures apart, whatever their size
    step = max(1, pixels[0].size // 768)
    values = pixels.reshape(len(pixels), -1)[:, ::step][:, :768].astype(np.float32) - 127.5
    return _unit(values @ _projection(values.shape[1]))


def embed_texts(texts: list[str]) -> NDArray[np.float32]:
    """Return unit-length rows [n, 512] drawn from the digests of the texts.

    >>> bool((embed_texts(["a", "b"])[1] == embed_texts(["b"])[0]).all())
    True
    """
    seeds = [int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") for text in texts]
    return _unit(np.stack([np.random.default_rng(seed).normal(size=DIMENSION) for seed in seeds]).astype(np.float32))


def _unit(rows: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


_projections: dict[int, NDArray[np.float32]] = {}


def _projection(width: int) -> NDArray[np.float32]:
    if width not in _projections:
        _projections[width] = np.random.default_rng(width).normal(size=(width, DIMENSION)).astype(np.float32)
    return _projections[width]


class WaitingEncoder(Executor):  # type: ignore[misc]
    """Answers what :class:`semscale.serving.executor.SemscaleEncoder` answers, after the time that a GPU would take.

    Args:
        rate: pictures or texts per second; None does not wait.
        latency: seconds of a request beside its rows.
        side: height and width of the pictures that it wants, in pixels.
        kwargs: what jina hands to every executor.
    """

    def __init__(self, rate: float | None = None, latency: float = 0.0, side: int = SIDE, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._rate = rate
        self._latency = latency
        self._side = side
        self._free = 0.0

    @requests(on="/encode_packed")  # type: ignore[untyped-decorator]
    async def encode_packed(self, docs: DocumentArray, **kwargs: Any) -> DocumentArray:
        """Replace the tensor of every document, many pictures in one array, by the matrix of their embeddings."""
        rows = 0
        for doc in docs:
            rows += len(doc.tensor)
            doc.embedding, doc.tensor = embed(doc.tensor), None
        await self._wait(rows)
        return docs

    @requests  # type: ignore[untyped-decorator]
    async def encode(self, docs: DocumentArray, **kwargs: Any) -> DocumentArray:
        """Fill in the embedding of every document that has a text or an image file."""
        spec = self._preprocess()
        content = [doc for doc in docs if doc.text or doc.blob]
        for doc in content:
            if doc.text:
                doc.embedding = embed_texts([doc.text])[0]
            else:
                doc.embedding = embed(prepare(decode(doc.blob), spec)[None])[0]
                doc.pop("blob")
        await self._wait(len(content))
        return docs

    @requests(on="/info")  # type: ignore[untyped-decorator]
    def info(self, docs: DocumentArray, **kwargs: Any) -> DocumentArray:
        """Answer as semscale's own server does."""
        told = {
            "name": MODEL,
            "architecture": f"waiting-{self._side}",
            "weights_sha256": "0" * 64,
            "embedding_dim": DIMENSION,
            "image_size": [self._side, self._side],
            "context_length": 77,
            "logit_scale": 100.0,
            "preprocess": self._preprocess(),
            "dtype": "fp32",
            "device": "none",
            "device_name": "waits",
            "minibatch_size": MINIBATCH,
            "fixed_shapes": True,
            "packed": True,
            "versions": {},
        }
        return DocumentArray([Document(id=docs[0].id if len(docs) else None, tags={"semscale_info": json.dumps(told)})])

    def _preprocess(self) -> dict[str, Any]:
        return {
            "size": [self._side, self._side],
            "mode": "RGB",
            "interpolation": "bicubic",
            "resize_mode": "shortest",
        }

    async def _wait(self, rows: int) -> None:
        """Wait until the rows would be there; a late wake-up of this process makes the GPU no slower."""
        if self._rate is None:
            return
        now = time.monotonic()
        self._free = max(now, self._free) + rows / self._rate
        await asyncio.sleep(self._free + self._latency - now)


def main(arguments: list[str]) -> None:
    """Start the endpoints, print their addresses, and wait until standard input is closed."""
    (told,) = arguments
    options = json.loads(told)
    rates = options.pop("rates")
    end_children_with_me()
    urls = []
    for rate in rates:
        flow = PlainFlow(protocol="grpc", host="127.0.0.1", grpc_server_options={"grpc.http2.max_ping_strikes": 0})
        flow = flow.config_gateway(uses=SemscaleGateway).add(
            name="clip", uses=WaitingEncoder, uses_with={"rate": rate, **options}, host="127.0.0.1", quiet_error=True
        )
        flow.start()
        urls.append(f"grpc://127.0.0.1:{flow.port}")
    print(json.dumps(urls), flush=True)
    sys.stdin.read()
    # the kernel ends gateways and executors with this process; they have nothing to lose
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
