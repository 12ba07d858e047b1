"""Careful clip-client: every document comes back with its embedding or with the reason why not.

The bare ``Client.encode`` loses all results when one document is bad, waits for ever on a hung server, and with
``asyncio.CancelledError`` even escapes ``except Exception``. Here results and failures are collected by callbacks keyed
by document id, a deadline stands around every call, and what failed is sent again in smaller requests until the bad
document stands alone. Decoded pictures travel packed to semscale's own server, one array per request.
clip-client sends a token; jina opens TLS channels with the process's own certificate authorities only, so a private one
is handed to its channels here, by address.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit

import grpc  # type: ignore[import-untyped]
import jina.clients.base.grpc as jina_grpc
import numpy as np
from clip_client import Client
from docarray import Document, DocumentArray
from jina.excepts import BadServer, BadServerFlow
from jina.serve.networking.utils import get_grpc_channel

from semscale.access import Access, tls_fault, wants_tls
from semscale.encoding.addresses import certificate_name
from semscale.encoding.image_pipeline import Picture, to_ppm
from semscale.encoding.segment import Float32, to_unit
from semscale.encoding.throughput import Call, Pace

T = TypeVar("T")

# The gateway spins at full load when a small prefetch holds requests back; what is in flight is
# bounded by how much is handed over in one call instead.
_PREFETCH = 1000
_SMALL_REQUEST = 8
_REJECTED = "RejectedDocumentsError"
_NETWORK = ("InternalNetworkError", "EstablishGrpcConnectionError", "AioRpcError", "ConnectionError")
_NOBODY = "failed to connect"

# by address: the authorities, and the name in the certificate where that is another one
_trust: dict[str, tuple[bytes | None, str | None]] = {}


def connect(url: str, access: Access) -> Any:
    """Return a clip-client for `grpc://host:port` or `grpcs://host:port`; nothing is sent yet."""
    parts = urlsplit(url)
    url, name = parts._replace(fragment="").geturl(), certificate_name(url)
    _trust[f"{parts.hostname}:{parts.port}"] = access.authority, name
    jina_grpc.get_grpc_channel = _channel
    return Client(url, credential={"Authorization": access.metadata[0][1]} if access.metadata else {})


def is_refusal(error: BaseException) -> bool:
    """Whether jina's error stands for gRPC's UNAUTHENTICATED."""
    cause = error.__cause__
    return isinstance(cause, grpc.RpcError) and cause.code() == grpc.StatusCode.UNAUTHENTICATED


def _channel(address: str, options: Any = None, **others: Any) -> Any:
    authority, name = _trust.get(address, (None, None))
    if name is not None:
        options = [*(options or []), ("grpc.ssl_target_name_override", name), ("grpc.default_authority", name)]
    return get_grpc_channel(address, options=options, root_certificates=authority, **others)


async def post_packed(
    post: Callable[..., Any], pictures: Sequence[Picture], rows: int, prefetch: int, found: dict[int, Float32]
) -> None:
    """Send pictures of one shape and collect the embedding of each by its place; those that failed are missing.

    Raises:
        ConnectionError: the server is not there.
        ValueError: a matrix has fewer or more rows than pictures were sent.
    """
    starts = range(0, len(pictures), rows)
    stacks = [Document(id=str(start), tensor=np.stack(pictures[start : start + rows])) for start in starts]
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

    stream = post(
        "/encode_packed", DocumentArray(stacks), on_done=on_done, on_error=on_error, request_size=1, prefetch=prefetch
    )
    async for _ in stream:
        pass
    if wrong:
        raise ValueError(wrong[0])


class ServerUnavailableError(ConnectionError):
    """The clip-server did not answer: refused, lost, or past its deadline.

    Attributes:
        reached: the request may have arrived; False if nobody took the connection.
        late: the deadline passed.
        unacknowledged: documents that were on the wire and not answered.
        sent: how many documents went over the wire.
    """

    def __init__(self, message: str, *, reached: bool = True, late: bool = False) -> None:
        super().__init__(message)
        self.reached = reached
        self.late = late
        self.unacknowledged: list[int] = []
        self.sent = 0


class WrongServerError(ConnectionError):
    """What answers is no server for these documents; the message says why."""


@dataclass
class Encoded:
    """What became of some documents.

    Attributes:
        embeddings: float32 [n, dimension], unit length; rows of failed documents are zero.
        reasons: per document None, or why the server could not encode it.
        sent: how many documents went over the wire, repeats included.
        calls: which endpoints encoded them.
    """

    embeddings: Float32
    reasons: list[str | None]
    sent: int
    calls: list[Call] = field(default_factory=list)


@dataclass
class _Answer:
    found: dict[int, Float32] = field(default_factory=dict)
    failed: dict[int, str] = field(default_factory=dict)
    culprits: set[int] = field(default_factory=set)
    lost: str = ""


class EncodeClient:
    """One connection to one clip-server; several coroutines of one event loop may use it.

    Args:
        url: ``grpc://host:port`` or ``grpcs://host:port``.
        batch_size: documents per request; None adapts it to the server.
        deadline: seconds that the server has for the requests of one call.
        quantum: rows that the server computes at once.
        dimension: length of an embedding; other lengths are refused.
        access: the token to show and the authorities to trust.
    """

    def __init__(
        self,
        url: str,
        batch_size: int | None = None,
        deadline: float = 120.0,
        quantum: int = 32,
        dimension: int | None = None,
        access: Access | None = None,
    ) -> None:
        self.url = url
        self.dimension = dimension
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
            ServerUnavailableError: the server is not there or does not answer in time; it carries what did come.
            WrongServerError: embeddings of another length than asked for, or fewer than documents.
            SemscaleError: it refuses the token, its certificate is not trusted, or it wants TLS.
        """
        pace = self._pace[type(contents[0])] if len(contents) else None
        vectors: dict[int, Float32] = {}
        reasons: dict[int, str] = {}
        sent = start = 0
        while pace is not None and start < len(contents):
            call = range(start, min(start + pace.call_rows(), len(contents)))
            begun = time.monotonic()
            try:
                sent += await self._encode_call(call, contents, pace, vectors, reasons)
            except ServerUnavailableError as error:
                error.sent = sent + len(call)
                error.unacknowledged = [i for i in call if i not in vectors and i not in reasons]
                raise
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
            found: dict[int, Float32] = {}
            try:
                await self.in_time(post_packed(self.post, list(documents.values()), size, _PREFETCH, found))
            except ValueError as error:
                raise WrongServerError(str(error)) from error
            finally:
                self._take(found, call, vectors)
            sent = len(call)
            # what did not come home is sent once more, each picture in a document that can be named
            documents = {i: to_ppm(picture) for i, picture in documents.items() if i not in vectors}
        pending = list(documents)
        while pending:
            sent += len(pending)
            answer = _Answer()
            try:
                await self._post([(i, documents[i]) for i in pending], size, answer)
            finally:
                self._take(answer.found, range(len(contents)), vectors)
                # in a larger request only those are at fault that the server names
                final = answer.failed if size == 1 else answer.culprits
                reasons.update({i: answer.failed[i] for i in final})
            pending = [i for i in pending if i not in answer.found and i not in answer.culprits]
            if answer.culprits:
                continue  # whose neighbours go again as they are
            if answer.lost:
                raise ServerUnavailableError(f"{self.url}: {answer.lost}")
            if size == 1:
                silent = [i for i in pending if i not in reasons]
                if silent:
                    raise WrongServerError(f"it answers {len(silent)} of {len(call)} documents without an embedding")
                break
            # a server that does not say which document is at fault gets smaller requests, until it stands alone
            size = 1 if size <= _SMALL_REQUEST else _SMALL_REQUEST
        return sent

    def _take(self, found: dict[int, Float32], places: range, vectors: dict[int, Float32]) -> None:
        """Take over what came, numbered within `places`."""
        for place, row in found.items():
            if self.dimension is not None and len(row) != self.dimension:
                raise WrongServerError(f"it answers embeddings of {len(row)} numbers instead of {self.dimension}")
            vectors[places[place]] = row

    async def _post(self, items: Sequence[tuple[int, bytes | str]], request_size: int, answer: _Answer) -> None:
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
            if status.exception.name in _NETWORK:
                # the gateway lives, what stands behind it does not
                answer.lost = _first_line(status.description)
                return
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
        await self.in_time(call)

    async def in_time(self, call: Coroutine[Any, Any, T]) -> T:
        """Await something of this connection.

        Raises:
            ServerUnavailableError: it failed, or took longer than the deadline.
        """
        try:
            return await asyncio.wait_for(call, timeout=self.deadline)
        except TimeoutError as error:
            self._client = connect(self.url, self._access)
            raise ServerUnavailableError(f"{self.url} gave no answer within {self.deadline:g} s", late=True) from error
        except (ConnectionError, grpc.RpcError, BadServerFlow, BadServer) as error:
            if isinstance(error, BadServerFlow) and is_refusal(error):
                raise self._access.refusal(self.url) from error
            if self.url.startswith("grpcs:") and (fault := tls_fault(str(error))):
                raise self._access.distrust(self.url, fault) from error
            if await asyncio.to_thread(wants_tls, self.url, str(error)):
                raise self._access.plain(self.url) from error
            self._client = connect(self.url, self._access)
            reached = _NOBODY not in str(error)
            state = "was lost amid a request" if reached else "is not reachable"
            told = _first_line(str(error)).removeprefix("gRPC error: StatusCode.")
            raise ServerUnavailableError(f"{self.url} {state}: {told}", reached=reached) from error


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
    to_unit(embeddings, verdicts, "the server answered")
    return Encoded(embeddings, verdicts, sent)


def _first_line(description: str) -> str:
    return next(iter(description.strip().splitlines()), "the server answered with an error")
