"""A careful clip-client: every document comes back with its embedding or with the reason why not.

The bare ``Client.encode`` loses all results when one document is bad, waits for ever on a hung server, and with
``asyncio.CancelledError`` even escapes ``except Exception``. Here results and failures are collected by callbacks keyed
by document id, a deadline stands around every call, and what failed is sent again in smaller requests until the bad
document stands alone.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from clip_client import Client
from docarray import Document, DocumentArray

Float32 = npt.NDArray[np.float32]

# The gateway spins at full load when a small prefetch holds requests back; what is in flight is
# bounded by how much is handed over in one call instead.
_PREFETCH = 1000
_SMALL_REQUEST = 8
_REJECTED = "RejectedDocumentsError"


class ServerUnavailableError(ConnectionError):
    """The clip-server did not answer: refused, lost, or past its deadline."""


@dataclass
class Encoded:
    """What became of some documents.

    Attributes:
        embeddings: float32 [n, dimension], unit length; rows of failed documents are zero.
        reasons: per document None, or why the server could not encode it.
        sent: how many documents went over the wire, repeats included.
    """

    embeddings: Float32
    reasons: list[str | None]
    sent: int


@dataclass
class _Answer:
    found: dict[int, Float32] = field(default_factory=dict)
    failed: dict[int, str] = field(default_factory=dict)
    culprits: set[int] = field(default_factory=set)


class EncodeClient:
    """One connection to one clip-server; for use by one coroutine at a time.

    Args:
        url: ``grpc://host:port`` or ``grpcs://host:port``.
        batch_size: documents per request.
        deadline: seconds that the server has for the requests of one call.
    """

    def __init__(self, url: str, batch_size: int = 64, deadline: float = 120.0) -> None:
        self.url = url
        self.batch_size = batch_size
        self.deadline = deadline
        self._client = Client(url)

    @property
    def jina(self) -> Any:
        """The asyncio jina client beneath, for endpoints that clip-client has no method for."""
        return self._client._async_client

    async def encode(self, contents: Sequence[bytes] | Sequence[str]) -> Encoded:
        """Encode images (bytes of a picture file) or texts (str).

        Raises:
            ServerUnavailableError: the server is not there or does not answer in time.
        """
        vectors: dict[int, Float32] = {}
        reasons: dict[int, str] = {}
        pending = list(range(len(contents)))
        size, sent = self.batch_size, 0
        while pending:
            sent += len(pending)
            answer = await self._post([(i, contents[i]) for i in pending], size)
            vectors.update(answer.found)
            reasons.update(answer.failed)
            pending = [i for i in pending if i not in answer.found and i not in answer.culprits]
            if answer.culprits:
                continue  # whose neighbours go again as they are
            if size == 1:
                break
            # a server that does not say which document is at fault gets smaller requests, until it stands alone
            size = 1 if size <= _SMALL_REQUEST else _SMALL_REQUEST
        return _collect(len(contents), vectors, reasons, sent)

    async def _post(self, items: Sequence[tuple[int, bytes | str]], request_size: int) -> _Answer:
        answer = _Answer()
        documents = DocumentArray(
            [
                Document(id=str(i), text=item) if isinstance(item, str) else Document(id=str(i), blob=item)
                for i, item in items
            ]
        )

        # named functions: jina cannot handle a functools.partial here
        def on_done(response: Any) -> None:
            for document in response.docs:
                if document.embedding is not None:
                    answer.found[int(document.id)] = np.asarray(document.embedding, dtype=np.float32).reshape(-1)

        def on_error(response: Any) -> None:
            status = response.header.status
            for document in response.docs:
                answer.failed[int(document.id)] = _first_line(status.description)
            if status.exception.name == _REJECTED:
                # semscale's own server names the documents at fault, see semscale.serving.executor
                culprits = json.loads(status.exception.args[1])
                answer.culprits |= {int(identifier) for identifier in culprits}
                answer.failed |= {int(identifier): str(reason) for identifier, reason in culprits.items()}

        call = self._client.aencode(
            documents,
            batch_size=request_size,
            on_done=on_done,
            on_error=on_error,
            prefetch=_PREFETCH,
            parameters={"drop_image_content": True},  # the caller's dict is changed, so a new one every time
        )
        try:
            await asyncio.wait_for(call, timeout=self.deadline)
        except TimeoutError as error:
            self._client = Client(self.url)
            raise ServerUnavailableError(f"{self.url} gave no answer within {self.deadline:g} s") from error
        except ConnectionError as error:
            self._client = Client(self.url)
            raise ServerUnavailableError(f"{self.url} is not reachable") from error
        return answer


def _collect(n: int, vectors: dict[int, Float32], reasons: dict[int, str], sent: int) -> Encoded:
    dimension = len(next(iter(vectors.values()))) if vectors else 0
    embeddings = np.zeros((n, dimension), dtype=np.float32)
    verdicts: list[str | None] = [None] * n
    for i in range(n):
        vector = vectors.get(i)
        if vector is None:
            verdicts[i] = reasons.get(i, "the server answered without an embedding")
            continue
        length = float(np.linalg.norm(vector.astype(np.float64)))
        if len(vector) != dimension:
            verdicts[i] = f"the server answered {len(vector)} numbers instead of {dimension}"
        elif not np.isfinite(length):
            verdicts[i] = "the server answered an embedding that is not finite"
        elif length == 0.0:
            verdicts[i] = "the server answered an embedding of zeros"
        else:
            embeddings[i] = (vector / length).astype(np.float32)
    return Encoded(embeddings, verdicts, sent)


def _first_line(description: str) -> str:
    lines = description.strip().splitlines()
    return lines[0] if lines else "the server answered with an error"
