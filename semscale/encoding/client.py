"""A careful clip-client: every document comes back with its embedding or with the reason why not.

The bare ``Client.encode`` loses all results when one document is bad, waits for ever on a hung server, and with
``asyncio.CancelledError`` even escapes ``except Exception``. Here results and failures are collected by callbacks keyed
by document id, a deadline stands around every call, and what failed is sent again in smaller requests until the bad
document stands alone.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from docarray import Document, DocumentArray
from jina.excepts import BadServerFlow

from semscale.access import Access, tls_fault
from semscale.encoding.connection import connect, is_refusal
from semscale.encoding.pace import Pace
from semscale.encoding.packed import post_packed
from semscale.encoding.preprocess import Picture, to_ppm

T = TypeVar("T")
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
        batch_size: documents per request; None adapts it to the server.
        deadline: seconds that the server has for the requests of one call.
        quantum: rows that the server computes at once.
        access: the token to show and the authorities to trust.
    """

    def __init__(
        self,
        url: str,
        batch_size: int | None = None,
        deadline: float = 120.0,
        quantum: int = 32,
        access: Access | None = None,
    ) -> None:
        self.url = url
        self.deadline = deadline
        self._access = access or Access()
        # pictures, files and texts cost a server differently
        kinds: tuple[type, ...] = (np.ndarray, bytes, str)
        self._pace = {kind: Pace(batch_size, quantum, deadline) for kind in kinds}
        self._client = connect(url, self._access)

    def post(self, endpoint: str, documents: DocumentArray, **options: Any) -> Any:
        """Send documents to an endpoint that clip-client has no method for; jina's stream of responses."""
        metadata = self._access.metadata
        return self._client._async_client.post(on=endpoint, inputs=documents, metadata=metadata, **options)

    async def encode(self, contents: Sequence[bytes] | Sequence[str] | Sequence[Picture]) -> Encoded:
        """Encode images (bytes of a picture file), texts (str), or decoded pictures of the size that the model wants.

        Decoded pictures, uint8 (height, width, 3), travel packed: only for a server that says so at ``/info``.

        Raises:
            ServerUnavailableError: the server is not there or does not answer in time.
            SemscaleError: it refuses the token, or its certificate is not trusted.
        """
        pace = self._pace[type(contents[0])] if len(contents) else None
        vectors: dict[int, Float32] = {}
        reasons: dict[int, str] = {}
        sent = start = 0
        while pace is not None and start < len(contents):
            call = range(start, min(start + pace.call_rows(), len(contents)))
            begun = time.monotonic()
            sent += await self._encode_call(call, contents, pace, vectors, reasons)
            pace.note(len(call), time.monotonic() - begun)
            start = call.stop
        return _collect(len(contents), vectors, reasons, sent)

    async def _encode_call(
        self, call: range, contents: Sequence[Any], pace: Pace, vectors: dict[int, Float32], reasons: dict[int, str]
    ) -> int:
        documents: dict[int, Any] = {i: contents[i] for i in call}
        size = pace.request_rows(sum(_n_bytes(document) for document in documents.values()) // len(call))
        sent = 0
        if isinstance(documents[call.start], np.ndarray):
            found = await self._in_time(post_packed(self.post, list(documents.values()), size, _PREFETCH))
            vectors.update({call[place]: row for place, row in found.items()})
            sent = len(call)
            # what did not come home is sent once more, each picture in a document that can be named
            documents = {i: to_ppm(picture) for i, picture in documents.items() if i not in vectors}
        pending = list(documents)
        while pending:
            sent += len(pending)
            answer = await self._post([(i, documents[i]) for i in pending], size)
            vectors.update(answer.found)
            reasons.update(answer.failed)
            pending = [i for i in pending if i not in answer.found and i not in answer.culprits]
            if answer.culprits:
                continue  # whose neighbours go again as they are
            if size == 1:
                break
            # a server that does not say which document is at fault gets smaller requests, until it stands alone
            size = 1 if size <= _SMALL_REQUEST else _SMALL_REQUEST
        return sent

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
        await self._in_time(call)
        return answer

    async def _in_time(self, call: Coroutine[Any, Any, T]) -> T:
        try:
            return await asyncio.wait_for(call, timeout=self.deadline)
        except TimeoutError as error:
            self._client = connect(self.url, self._access)
            raise ServerUnavailableError(f"{self.url} gave no answer within {self.deadline:g} s") from error
        except BadServerFlow as error:
            if is_refusal(error):
                raise self._access.refusal(self.url) from error
            raise
        except ConnectionError as error:
            if self.url.startswith("grpcs:") and (fault := tls_fault(str(error))):
                raise self._access.distrust(self.url, fault) from error
            self._client = connect(self.url, self._access)
            raise ServerUnavailableError(f"{self.url} is not reachable") from error


def _n_bytes(content: bytes | str | Picture) -> int:
    return content.nbytes if isinstance(content, np.ndarray) else len(content)


def _collect(n: int, vectors: dict[int, Float32], reasons: dict[int, str], sent: int) -> Encoded:
    dimension = len(next(iter(vectors.values()))) if vectors else 0
    embeddings = np.zeros((n, dimension), dtype=np.float32)
    verdicts: list[str | None] = [None] * n
    for i in range(n):
        vector = vectors.get(i)
        if vector is None:
            verdicts[i] = reasons.get(i, "the server answered without an embedding")
        elif len(vector) != dimension:
            verdicts[i] = f"the server answered {len(vector)} numbers instead of {dimension}"
        else:
            embeddings[i] = vector
    lengths = np.linalg.norm(embeddings.astype(np.float64), axis=1)
    for i in np.flatnonzero(~np.isfinite(lengths) | (lengths == 0.0)).tolist():
        kind = "of zeros" if lengths[i] == 0.0 else "that is not finite"
        verdicts[i] = verdicts[i] or f"the server answered an embedding {kind}"
        embeddings[i], lengths[i] = 0.0, 1.0
    embeddings /= lengths.astype(np.float32)[:, None]
    return Encoded(embeddings, verdicts, sent)


def _first_line(description: str) -> str:
    lines = description.strip().splitlines()
    return lines[0] if lines else "the server answered with an error"
