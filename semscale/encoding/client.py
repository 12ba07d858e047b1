"""Connection to a clip-server: every document comes back with its embedding or with the reason why it has none.

clip-client's own ``Client.encode`` loses all results when one document is bad, and waits for ever on a hung server.
Here every call has a deadline, and what failed is sent again in smaller requests until the bad document stands alone.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import grpc  # type: ignore[import-untyped]
import jina.clients.base.grpc as jina_grpc
import numpy as np
from clip_client import Client
from docarray import Document, DocumentArray
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from jina.excepts import BadServerFlow
from jina.serve.networking.utils import get_grpc_channel

from semscale.common.access import Access
from semscale.common.environment import reach_loopback
from semscale.common.errors import SemscaleError, ServerError, summarize
from semscale.common.text import check_text, counted
from semscale.common.wire_documents import CHANNEL_OPTIONS, check_documents
from semscale.encoding.image_pipeline import Picture, to_ppm
from semscale.encoding.throughput import BatchSizer
from semscale.store.segment import Float32, l2_normalize

# A gateway spins at full load when a small prefetch holds requests back; `BatchSizer` bounds what is in flight.
_PREFETCH = 1000
_SMALL_REQUEST = 8
_NETWORK_ERRORS = ("InternalNetworkError", "EstablishGrpcConnectionError", "AioRpcError", "ConnectionError")
# of a stock server: another try would not end otherwise
_NOT_DECODABLE = ("UnidentifiedImageError", "DecompressionBombError")
_NOT_CONNECTED = "failed to connect"
# what an answer raises that is not as it should be
_UNREADABLE = (ValueError, TypeError, LookupError, AttributeError, RecursionError, DecodeError)
_NO_EMBEDDING = "the server answered without an embedding"

# by address: the authorities, and the name in the certificate where that is another one
_trust: dict[str, tuple[bytes | None, str | None]] = {}


def _connect(url: str, access: Access) -> Any:
    """Return a clip-client for the address, whose TLS channels trust what `access` trusts; nothing is sent yet."""
    reach_loopback()
    parts = urlsplit(url)
    _trust[f"{parts.hostname}:{parts.port}"] = access.authority, parts.fragment or None  # see Addresses
    jina_grpc.get_grpc_channel = _open_channel
    return Client(parts._replace(fragment="").geturl())


def _open_channel(address: str, options: Any = None, **others: Any) -> Any:
    # jina itself only takes the process's own certificate authorities
    authority, name = _trust.get(address, (None, None))
    limits = dict(CHANNEL_OPTIONS)
    options = [*((key, value) for key, value in options or [] if key not in limits), *limits.items()]
    if name is not None:
        options = [*options, ("grpc.ssl_target_name_override", name), ("grpc.default_authority", name)]
    return get_grpc_channel(address, options=options, root_certificates=authority, **others)


class ServerUnavailableError(ConnectionError):
    """The clip-server did not answer: not `reached` if nothing took the connection, `late` if the deadline passed.

    Of the `sent` documents, `unacknowledged` were on the wire and not answered.
    """

    def __init__(self, message: str, *, reached: bool = True, late: bool = False) -> None:
        super().__init__(message)
        self.reached = reached
        self.late = late
        self.unacknowledged: list[int] = []
        self.sent = 0


@dataclass
class Encoded:
    """Result per document: its unit-length float32 row, or zeros and the reason why the server could not encode it.

    `sent` documents went over the wire, repeats included; `calls` has endpoint, documents and seconds of each call.
    Of the documents with a reason those in `unsure` may come back with an embedding when they are sent again.
    """

    embeddings: Float32
    reasons: list[str | None]
    sent: int
    calls: list[tuple[str, int, float]] = field(default_factory=list)
    unsure: set[int] = field(default_factory=set)


@dataclass
class _Answers:
    """What has come back by number of the document: rows, reasons, and whose reason may not hold the next time."""

    vectors: dict[int, Float32] = field(default_factory=dict)
    reasons: dict[int, str] = field(default_factory=dict)
    unsure: set[int] = field(default_factory=set)


class EncodeClient:
    """One connection to one clip-server; several coroutines of one event loop may use it.

    Requests have `batch_size` documents, or a number that follows the server's speed and the `quantum` of rows that it
    computes at once; a call may take `deadline` seconds. Rows of another length than `dimension` (else the first
    one's) are refused.
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
        self._sizers = {kind: BatchSizer(batch_size, quantum, deadline) for kind in kinds}
        self._client = _connect(url, self._access)

    async def encode(self, contents: Sequence[bytes] | Sequence[str] | Sequence[Picture]) -> Encoded:
        """Encode images (bytes of a picture file), texts (str), or decoded pictures of the size that the model wants.

        Decoded pictures, uint8 (height, width, 3), travel as one array per request, which semscale's own server takes.
        """
        sizer = self._sizers[type(contents[0]) if len(contents) else str]
        found = _Answers()
        for i, content in enumerate(contents):
            if isinstance(content, str):
                try:
                    check_text(content)
                except ValueError as error:  # clip-servers encode such a text, too
                    found.reasons[i] = str(error)
        todo = [i for i in range(len(contents)) if i not in found.reasons]
        sent = start = 0
        while start < len(todo):
            call = todo[start : start + sizer.call_rows()]
            begun = time.monotonic()
            documents = {i: contents[i] for i in call}
            n_bytes = sum(one.nbytes if isinstance(one, np.ndarray) else len(one) for one in documents.values())
            size = sizer.request_rows(n_bytes // len(call))
            try:
                sent += await self._encode_call(documents, size, found)
            except ServerUnavailableError as error:
                error.sent = sent + len(call)
                error.unacknowledged = [i for i in call if i not in found.vectors and i not in found.reasons]
                raise
            sizer.record(len(call), time.monotonic() - begun)
            start += len(call)
        embeddings = np.zeros((len(contents), self.dimension or 0), dtype=np.float32)
        verdicts = [None if i in found.vectors else found.reasons.get(i, _NO_EMBEDDING) for i in range(len(contents))]
        for i, row in found.vectors.items():
            embeddings[i] = row
        l2_normalize(embeddings, verdicts, "the server answered")
        unsure = found.unsure | {i for i in found.vectors if verdicts[i] is not None}
        return Encoded(embeddings, verdicts, sent, unsure=unsure)

    async def _encode_call(self, documents: dict[int, Any], size: int, found: _Answers) -> int:
        """Encode the documents of one call, `size` per request, and return how many went over the wire."""
        sent = 0
        if any(isinstance(document, np.ndarray) for document in documents.values()):
            await self._post_packed(documents, size, found.vectors)
            sent = len(documents)
            # what did not come back is sent once more, each picture in a document that can be named
            documents = {i: to_ppm(picture) for i, picture in documents.items() if i not in found.vectors}
        while documents:
            sent += len(documents)
            culprits, lost = await self._post_single(documents, size, found)
            done = culprits | found.vectors.keys()
            documents = {i: document for i, document in documents.items() if i not in done}
            if culprits:
                continue  # their neighbours go again as they are
            if lost:
                raise ServerUnavailableError(f"{self.url}: {lost}")
            if size == 1:
                if silent := sum(i not in found.reasons for i in documents):
                    raise self._misfit(f"{counted(silent, 'documents')} without an embedding")
                break
            # a server that does not say which document is at fault gets smaller requests, until it stands alone
            size = 1 if size <= _SMALL_REQUEST else _SMALL_REQUEST
        return sent

    async def _post_packed(self, pictures: dict[int, Picture], size: int, vectors: dict[int, Float32]) -> None:
        """Send pictures of one shape in arrays of `size`; rows that come back go into `vectors`."""
        numbers = list(pictures)
        parts = [numbers[start : start + size] for start in range(0, len(numbers), size)]

        def take(response: Any) -> None:
            for document in response.docs if not _failed(response) else ():
                part, rows = parts[int(document.id)], document.embedding
                if not isinstance(rows, np.ndarray) or rows.ndim != 2:
                    continue  # a server that knows no packed requests may answer anything
                if len(rows) != len(part):
                    raise self._misfit(f"{counted(len(rows), 'embeddings')} for {counted(len(part), 'pictures')}")
                for i, row in zip(part, rows.astype(np.float32, copy=False), strict=True):
                    vectors[i] = self._checked(row)

        stacks = [Document(id=str(n), tensor=np.stack([pictures[i] for i in part])) for n, part in enumerate(parts)]
        await self.post("/encode_packed", stacks, take)

    async def _post_single(self, documents: dict[int, bytes | str], size: int, found: _Answers) -> tuple[set[int], str]:
        """Send each document as one; return those that the server names as faulty, and why the model is lost, or ""."""
        culprits: set[int] = set()
        lost: list[str] = []

        def take(response: Any) -> None:
            if not _failed(response):
                for document in response.docs:
                    if document.embedding is not None:
                        row = np.asarray(document.embedding, dtype=np.float32).reshape(-1)
                        found.vectors[int(document.id)] = self._checked(row)
                return
            status = response.header.status
            if status.exception.name in _NETWORK_ERRORS:  # of a gateway, whose model does not answer
                lost.append(_first_line(status.description))
            elif status.exception.name == "RejectedDocumentsError":  # of semscale.serving.executor
                named = {int(i): str(reason) for i, reason in json.loads(status.exception.args[1]).items()}
                culprits.update(named)
                found.reasons.update(named)
            elif size == 1:
                failed = {int(document.id): _first_line(status.description) for document in response.docs}
                found.reasons.update(failed)
                if status.exception.name not in _NOT_DECODABLE:
                    found.unsure.update(failed)

        sent = [
            Document(id=str(i), text=content) if isinstance(content, str) else Document(id=str(i), blob=content)
            for i, content in documents.items()
        ]
        await self.post("/encode", sent, take, size)
        return culprits, next(iter(lost), "")

    async def post(
        self, endpoint: str, documents: Iterable[Document], take: Callable[[Any], None], size: int = 1
    ) -> None:
        """Send documents to an endpoint in requests of `size`; `take` is called with each response, errors included."""
        stream = self._client._async_client.post(
            on=endpoint,
            inputs=DocumentArray(documents),
            request_size=size,
            prefetch=_PREFETCH,
            parameters={"drop_image_content": True},
            metadata=self._access.metadata,
            return_responses=True,
            on_error=lambda response: None,  # else it raises
        )

        async def receive() -> None:
            async with aclosing(stream) as responses:
                async for response in responses:
                    try:
                        check_documents(response.proto_with_data.data)
                        take(response)
                    except _UNREADABLE as error:
                        raise self._misfit(f"what cannot be read: {summarize(error)}") from error

        try:
            await asyncio.wait_for(receive(), timeout=self.deadline)
        except TimeoutError as error:
            raise ServerUnavailableError(f"{self.url} gave no answer within {self.deadline:g} s", late=True) from error
        except (ConnectionError, grpc.RpcError, BadServerFlow) as error:
            cause = error.__cause__
            if isinstance(cause, grpc.RpcError) and cause.code() == grpc.StatusCode.UNAUTHENTICATED:
                raise self._access.refusal(self.url) from error
            if fault := await asyncio.to_thread(self._access.tls_error, self.url, str(error)):
                raise fault from error
            reached = _NOT_CONNECTED not in str(error)
            state = "was lost during a request" if reached else "is not reachable"
            message = _first_line(str(error)).removeprefix("gRPC error: StatusCode.")
            raise ServerUnavailableError(f"{self.url} {state}: {message}", reached=reached) from error

    def _checked(self, row: Float32) -> Float32:
        self.dimension = self.dimension or len(row)
        if len(row) != self.dimension:
            raise self._misfit(f"embeddings of {len(row)} numbers instead of {self.dimension}")
        return row

    def _misfit(self, what: str) -> SemscaleError:
        return ServerError(f"the server answers {what}", where=self.url)


def _failed(response: Any) -> bool:
    return bool(response.header.status.code == response.header.status.ERROR)


def _first_line(description: str) -> str:
    return next(iter(description.strip().splitlines()), "the server answered with an error")
