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
from jina.excepts import BadServerFlow
from jina.serve.networking.utils import get_grpc_channel

from semscale.access import Access
from semscale.encoding.image_pipeline import Picture, to_ppm
from semscale.encoding.segment import Float32, l2_normalize
from semscale.encoding.throughput import BatchSizer
from semscale.errors import SemscaleError

# A gateway spins at full load when a small prefetch holds requests back; `BatchSizer` bounds what is in flight.
_PREFETCH = 1000
_SMALL_REQUEST = 8
_NETWORK_ERRORS = ("InternalNetworkError", "EstablishGrpcConnectionError", "AioRpcError", "ConnectionError")
_NOT_CONNECTED = "failed to connect"
_NO_EMBEDDING = "the server answered without an embedding"

# by address: the authorities, and the name in the certificate where that is another one
_trust: dict[str, tuple[bytes | None, str | None]] = {}


def _connect(url: str, access: Access) -> Any:
    """Return a clip-client for the address, whose TLS channels trust what `access` trusts; nothing is sent yet."""
    parts = urlsplit(url)
    _trust[f"{parts.hostname}:{parts.port}"] = access.authority, parts.fragment or None  # see Addresses
    jina_grpc.get_grpc_channel = _open_channel
    return Client(parts._replace(fragment="").geturl())


def _open_channel(address: str, options: Any = None, **others: Any) -> Any:
    # jina itself only takes the process's own certificate authorities
    authority, name = _trust.get(address, (None, None))
    if name is not None:
        options = [*(options or []), ("grpc.ssl_target_name_override", name), ("grpc.default_authority", name)]
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
    """

    embeddings: Float32
    reasons: list[str | None]
    sent: int
    calls: list[tuple[str, int, float]] = field(default_factory=list)


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
        vectors: dict[int, Float32] = {}
        reasons: dict[int, str] = {}
        sent = start = 0
        while start < len(contents):
            call = range(start, min(start + sizer.call_rows(), len(contents)))
            begun = time.monotonic()
            n_bytes = sum(
                one.nbytes if isinstance(one, np.ndarray) else len(one) for one in contents[start : call.stop]
            )
            size = sizer.request_rows(n_bytes // len(call))
            try:
                sent += await self._encode_call({i: contents[i] for i in call}, size, vectors, reasons)
            except ServerUnavailableError as error:
                error.sent = sent + len(call)
                error.unacknowledged = [i for i in call if i not in vectors and i not in reasons]
                raise
            sizer.record(len(call), time.monotonic() - begun)
            start = call.stop
        embeddings = np.zeros((len(contents), self.dimension or 0), dtype=np.float32)
        verdicts = [None if i in vectors else reasons.get(i, _NO_EMBEDDING) for i in range(len(contents))]
        for i, row in vectors.items():
            embeddings[i] = row
        l2_normalize(embeddings, verdicts, "the server answered")
        return Encoded(embeddings, verdicts, sent)

    async def _encode_call(
        self, documents: dict[int, Any], size: int, vectors: dict[int, Float32], reasons: dict[int, str]
    ) -> int:
        """Encode the documents of one call, `size` per request, and return how many went over the wire."""
        sent = 0
        if any(isinstance(document, np.ndarray) for document in documents.values()):
            await self._post_packed(documents, size, vectors)
            sent = len(documents)
            # what did not come back is sent once more, each picture in a document that can be named
            documents = {i: to_ppm(picture) for i, picture in documents.items() if i not in vectors}
        while documents:
            sent += len(documents)
            culprits, lost = await self._post_single(documents, size, vectors, reasons)
            documents = {i: document for i, document in documents.items() if i not in vectors and i not in culprits}
            if culprits:
                continue  # their neighbours go again as they are
            if lost:
                raise ServerUnavailableError(f"{self.url}: {lost}")
            if size == 1:
                if silent := sum(i not in reasons for i in documents):
                    raise self._misfit(f"{silent} documents without an embedding")
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
                    raise self._misfit(f"{len(rows)} embeddings for {len(part)} pictures")
                for i, row in zip(part, rows.astype(np.float32, copy=False), strict=True):
                    vectors[i] = self._checked(row)

        stacks = [Document(id=str(n), tensor=np.stack([pictures[i] for i in part])) for n, part in enumerate(parts)]
        await self.post("/encode_packed", stacks, take)

    async def _post_single(
        self, documents: dict[int, bytes | str], size: int, vectors: dict[int, Float32], reasons: dict[int, str]
    ) -> tuple[set[int], str]:
        """Send each document as one; return those that the server names as faulty, and why the model is lost, or ""."""
        culprits: set[int] = set()
        lost: list[str] = []

        def take(response: Any) -> None:
            if not _failed(response):
                for document in response.docs:
                    if document.embedding is not None:
                        row = np.asarray(document.embedding, dtype=np.float32).reshape(-1)
                        vectors[int(document.id)] = self._checked(row)
                return
            status = response.header.status
            if status.exception.name in _NETWORK_ERRORS:  # of a gateway, whose model does not answer
                lost.append(_first_line(status.description))
            elif status.exception.name == "RejectedDocumentsError":  # of semscale.serving.executor
                named = {int(i): str(reason) for i, reason in json.loads(status.exception.args[1]).items()}
                culprits.update(named)
                reasons.update(named)
            elif size == 1:
                reasons.update({int(document.id): _first_line(status.description) for document in response.docs})

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
                    take(response)

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
        return SemscaleError(f"the server answers {what}", where=self.url)


def _failed(response: Any) -> bool:
    return bool(response.header.status.code == response.header.status.ERROR)


def _first_line(description: str) -> str:
    return next(iter(description.strip().splitlines()), "the server answered with an error")
