"""Client of a clip-server: returns, for every document, its embedding or the reason why there is none.

clip-client's own ``Client.encode`` loses all results when one document is bad, and waits for ever on a hung server.
Here every call has a deadline, and failed documents are sent again in smaller requests until the bad one is alone.
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
from semscale.common.environment import bypass_proxies_for_loopback
from semscale.common.errors import SemscaleError, ServerError, summarize
from semscale.common.text import check_text, counted
from semscale.common.wire_documents import CHANNEL_OPTIONS, check_documents
from semscale.encoding.image_pipeline import Picture, to_ppm
from semscale.encoding.throughput import BatchSizer
from semscale.store.segment import Float32, l2_normalize

RETRY_PAUSES = (0.5, 2.0)
"""Seconds before documents with a transient failure are sent again; after the last retry the failure is final."""

# A gateway busy-waits when a small prefetch holds requests back; `BatchSizer` bounds what is in flight.
_PREFETCH = 1000
_SMALL_REQUEST = 8
_NETWORK_ERRORS = ("InternalNetworkError", "EstablishGrpcConnectionError", "AioRpcError", "ConnectionError")
# of a stock server: a retry would give the same
_NOT_DECODABLE = ("UnidentifiedImageError", "DecompressionBombError")
_NOT_CONNECTED = "failed to connect"
# what a malformed response raises
_MALFORMED = (ValueError, TypeError, LookupError, AttributeError, RecursionError, DecodeError)
_NO_EMBEDDING = "the server answered without an embedding"

# by address: the certificate authorities, and the host name in the certificate where it differs
_tls_settings: dict[str, tuple[bytes | None, str | None]] = {}


def _connect(url: str, access: Access) -> Any:
    """Return a clip-client for the address that trusts the authority of `access`; nothing is sent yet."""
    bypass_proxies_for_loopback()
    parts = urlsplit(url)
    _tls_settings[f"{parts.hostname}:{parts.port}"] = access.authority, parts.fragment or None  # see Addresses
    jina_grpc.get_grpc_channel = _open_channel
    return Client(parts._replace(fragment="").geturl())


def _open_channel(address: str, options: Any = None, **others: Any) -> Any:
    # jina itself only uses the process's own certificate authorities
    authority, name = _tls_settings.get(address, (None, None))
    limits = dict(CHANNEL_OPTIONS)
    options = [*((key, value) for key, value in options or [] if key not in limits), *limits.items()]
    if name is not None:
        options = [*options, ("grpc.ssl_target_name_override", name), ("grpc.default_authority", name)]
    return get_grpc_channel(address, options=options, root_certificates=authority, **others)


class ServerUnavailableError(ConnectionError):
    """The clip-server did not answer: not `reached` if the connection failed, `timed_out` if the deadline passed.

    Of the `sent` documents, those at the indices `unacknowledged` were on the wire and not answered.
    """

    def __init__(self, message: str, *, reached: bool = True, timed_out: bool = False) -> None:
        super().__init__(message)
        self.reached = reached
        self.timed_out = timed_out
        self.unacknowledged: list[int] = []
        self.sent = 0


@dataclass
class Encoded:
    """Result per document: its unit-length row, or zeros and the reason why the server could not encode it.

    `sent` counts the documents sent, repeats included; `calls` has endpoint, documents and seconds of each call.
    The failures of the documents in `retryable` are transient: they may be encoded when they are sent again.
    """

    embeddings: Float32  # [n, dimension]
    reasons: list[str | None]
    sent: int
    calls: list[tuple[str, int, float]] = field(default_factory=list)
    retryable: set[int] = field(default_factory=set)


@dataclass
class _Answers:
    """Answers by index of the document: rows, reasons, and the documents whose failure is transient."""

    rows: dict[int, Float32] = field(default_factory=dict)
    reasons: dict[int, str] = field(default_factory=dict)
    retryable: set[int] = field(default_factory=set)


class EncodeClient:
    """One connection to one clip-server; several coroutines of one event loop may use it.

    Requests have `batch_size` documents, by default a number that follows the server's speed, in multiples of its
    `minibatch`; a call may take `deadline` seconds. Rows of another length than `dimension` (else the first one's) are
    rejected.
    """

    def __init__(
        self,
        url: str,
        batch_size: int | None = None,
        deadline: float = 120.0,
        minibatch: int = 32,
        dimension: int | None = None,
        access: Access | None = None,
    ) -> None:
        self.url = url
        self.dimension = dimension
        self.deadline = deadline
        self._access = access or Access()
        # arrays, files and texts take a server different times
        kinds: tuple[type, ...] = (np.ndarray, bytes, str)
        self._sizers = {kind: BatchSizer(batch_size, minibatch, deadline) for kind in kinds}
        self._client = _connect(url, self._access)

    async def encode(self, contents: Sequence[bytes] | Sequence[str] | Sequence[Picture]) -> Encoded:
        """Encode image files (bytes), texts (str), or decoded images of the model's input size.

        Decoded images, uint8 [height, width, 3], are sent as one array per request, which semscale's server accepts.
        """
        sizer = self._sizers[type(contents[0]) if len(contents) else str]
        answers = _Answers()
        for i, content in enumerate(contents):
            if isinstance(content, str):
                try:
                    check_text(content)
                except ValueError as error:  # a clip-server would encode such a text
                    answers.reasons[i] = str(error)
        pending = [i for i in range(len(contents)) if i not in answers.reasons]
        sent = start = 0
        while start < len(pending):
            call = pending[start : start + sizer.call_rows()]
            start_time = time.monotonic()
            documents = {i: contents[i] for i in call}
            n_bytes = sum(item.nbytes if isinstance(item, np.ndarray) else len(item) for item in documents.values())
            size = sizer.request_rows(n_bytes // len(call))
            try:
                sent += await self._encode_call(documents, size, answers)
            except ServerUnavailableError as error:
                error.sent = sent + len(call)
                error.unacknowledged = [i for i in call if i not in answers.rows and i not in answers.reasons]
                raise
            sizer.record(len(call), time.monotonic() - start_time)
            start += len(call)
        embeddings = np.zeros((len(contents), self.dimension or 0), dtype=np.float32)
        reasons = [None if i in answers.rows else answers.reasons.get(i, _NO_EMBEDDING) for i in range(len(contents))]
        for i, row in answers.rows.items():
            embeddings[i] = row
        l2_normalize(embeddings, reasons, "the server answered")
        retryable = answers.retryable | {i for i in answers.rows if reasons[i] is not None}
        return Encoded(embeddings, reasons, sent, retryable=retryable)

    async def _encode_call(self, documents: dict[int, Any], size: int, answers: _Answers) -> int:
        """Encode the documents of one call, `size` per request, and return how many were sent, repeats included."""
        sent = 0
        if any(isinstance(document, np.ndarray) for document in documents.values()):
            await self._post_packed(documents, size, answers.rows)
            sent = len(documents)
            # images without an answer are sent again, each in its own document, which the server can name
            documents = {i: to_ppm(picture) for i, picture in documents.items() if i not in answers.rows}
        while documents:
            sent += len(documents)
            rejected, lost = await self._post_single(documents, size, answers)
            done = rejected | answers.rows.keys()
            documents = {i: document for i, document in documents.items() if i not in done}
            if rejected:
                continue  # the other documents of their requests are sent again
            if lost:
                raise ServerUnavailableError(f"{self.url}: {lost}")
            if size == 1:
                if unanswered := sum(i not in answers.reasons for i in documents):
                    raise self._bad_answer(f"lacks the embeddings of {counted(unanswered, 'documents')}")
                break
            # a server that does not name the bad document gets smaller requests, until it is alone
            size = 1 if size <= _SMALL_REQUEST else _SMALL_REQUEST
        return sent

    async def _post_packed(self, pictures: dict[int, Picture], size: int, rows: dict[int, Float32]) -> None:
        """Send images of one shape in arrays of `size`; returned embeddings are added to `rows`."""
        indices = list(pictures)
        parts = [indices[start : start + size] for start in range(0, len(indices), size)]

        def receive(response: Any) -> None:
            for document in response.docs if not _failed(response) else ():
                part, matrix = parts[int(document.id)], document.embedding
                if not isinstance(matrix, np.ndarray) or matrix.ndim != 2:
                    continue  # a server without packed requests may answer anything
                if len(matrix) != len(part):
                    raise self._bad_answer(f"has {len(matrix)} embeddings for {counted(len(part), 'images')}")
                for i, row in zip(part, matrix.astype(np.float32, copy=False), strict=True):
                    rows[i] = self._checked(row)

        stacks = [Document(id=str(n), tensor=np.stack([pictures[i] for i in part])) for n, part in enumerate(parts)]
        await self.post("/encode_packed", stacks, receive)

    async def _post_single(self, documents: dict[int, Any], size: int, answers: _Answers) -> tuple[set[int], str]:
        """Send documents; return those that the server has rejected by name, and why the model was lost, or ""."""
        rejected: set[int] = set()
        lost: list[str] = []

        def receive(response: Any) -> None:
            if not _failed(response):
                for document in response.docs:
                    if document.embedding is not None:
                        row = np.asarray(document.embedding, dtype=np.float32).reshape(-1)
                        answers.rows[int(document.id)] = self._checked(row)
                return
            status = response.header.status
            if status.exception.name in _NETWORK_ERRORS:  # of a gateway whose model does not answer
                lost.append(_first_line(status.description))
            elif status.exception.name == "RejectedDocumentsError":  # of semscale.serving.executor
                reasons = {int(i): str(reason) for i, reason in json.loads(status.exception.args[1]).items()}
                rejected.update(reasons)
                answers.reasons.update(reasons)
            elif size == 1:
                failed = {int(document.id): _first_line(status.description) for document in response.docs}
                answers.reasons.update(failed)
                if status.exception.name not in _NOT_DECODABLE:
                    answers.retryable.update(failed)

        batch = [
            Document(id=str(i), text=content) if isinstance(content, str) else Document(id=str(i), blob=content)
            for i, content in documents.items()
        ]
        await self.post("/encode", batch, receive, size)
        return rejected, next(iter(lost), "")

    async def post(
        self, endpoint: str, documents: Iterable[Document], on_response: Callable[[Any], None], size: int = 1
    ) -> None:
        """Send documents to a path of the server in requests of `size`; `on_response` also gets error responses."""
        stream = self._client._async_client.post(
            on=endpoint,
            inputs=DocumentArray(documents),
            request_size=size,
            prefetch=_PREFETCH,
            parameters={"drop_image_content": True},
            metadata=self._access.metadata,
            return_responses=True,
            on_error=lambda response: None,  # the default raises
        )

        async def receive() -> None:
            async with aclosing(stream) as responses:
                async for response in responses:
                    try:
                        check_documents(response.proto_with_data.data)
                        on_response(response)
                    except _MALFORMED as error:
                        raise self._bad_answer(f"cannot be read: {summarize(error)}") from error

        try:
            await asyncio.wait_for(receive(), timeout=self.deadline)
        except TimeoutError as error:
            message = f"{self.url} gave no answer within {self.deadline:g} s"
            raise ServerUnavailableError(message, timed_out=True) from error
        except (ConnectionError, grpc.RpcError, BadServerFlow) as error:
            cause = error.__cause__
            if isinstance(cause, grpc.RpcError) and cause.code() == grpc.StatusCode.UNAUTHENTICATED:
                raise self._access.token_error(self.url) from error
            if fault := await asyncio.to_thread(self._access.tls_error, self.url, str(error)):
                raise fault from error
            reached = _NOT_CONNECTED not in str(error)
            state = "was lost during a request" if reached else "is not reachable"
            message = _first_line(str(error)).removeprefix("gRPC error: StatusCode.")
            raise ServerUnavailableError(f"{self.url} {state}: {message}", reached=reached) from error

    def _checked(self, row: Float32) -> Float32:
        self.dimension = self.dimension or len(row)
        if len(row) != self.dimension:
            raise self._bad_answer(f"has embeddings of {len(row)} numbers instead of {self.dimension}")
        return row

    def _bad_answer(self, problem: str) -> SemscaleError:
        return ServerError(f"the server's answer {problem}", where=self.url)


def _failed(response: Any) -> bool:
    return bool(response.header.status.code == response.header.status.ERROR)


def _first_line(description: str) -> str:
    return next(iter(description.strip().splitlines()), "the server answered with an error")
