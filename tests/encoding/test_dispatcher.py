"""Request dispatcher against a server that crashes at a poisoned text."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from semscale.common.access import Access
from semscale.common.errors import SemscaleError
from semscale.encoding import dispatcher
from semscale.encoding.client import Encoded, ServerUnavailableError
from semscale.encoding.encoder_actor import ActorSettings
from semscale.store.encoder_fingerprint import EncoderIdentity
from semscale.store.mirrored_directory import MirroredDirectory


class Server:
    """Client of a server that crashes at a poisoned text; `requests` has what was sent."""

    requests: list[list[str]]

    def __init__(self, url: str, *options: Any) -> None:
        self.url = url

    async def encode(self, contents: list[str]) -> Encoded:
        self.requests.append(contents)
        if any(text.startswith("poison") for text in contents):
            error = ServerUnavailableError("connection lost")
            error.sent, error.unacknowledged = len(contents), list(range(len(contents)))
            raise error
        rows = np.array([[float(text) if text.isdigit() else 0.5, 1.0] for text in contents], dtype=np.float32)
        odd = {i for i, text in enumerate(contents) if text == "always" or (text == "at a" and "//a" in self.url)}
        return Encoded(rows, ["odd" if i in odd else None for i in range(len(rows))], len(rows), retryable=odd)


@pytest.fixture
def leases(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each lease was exclusive."""
    Server.requests = []
    monkeypatch.setattr(dispatcher, "EncodeClient", Server)

    async def verify(*arguments: Any, **options: Any) -> None:
        pass

    monkeypatch.setattr(dispatcher, "verify_endpoint", verify)
    monkeypatch.setattr(dispatcher, "RETRY_PAUSES", (0.0, 0.0))
    return []


def send(contents: list[str], leases: list[bool]) -> Encoded:
    async def acquire(slot: int, incarnation: str, exclusive: bool, avoid: str | None) -> str:
        leases.append(exclusive)
        return "grpc://b:1" if avoid == "grpc://a:1" else "grpc://a:1"

    async def nothing(*arguments: Any, **options: Any) -> None:
        pass

    done = SimpleNamespace(remote=nothing)
    coordinator = SimpleNamespace(
        acquire_lease=SimpleNamespace(remote=acquire), release_lease=done, report_healthy=done
    )
    settings = ActorSettings(
        MirroredDirectory("/nowhere"), EncoderIdentity("m", "m-0", 2, None), None, 16, 60.0, Access()
    )
    return asyncio.run(dispatcher.RequestDispatcher(0, "first", settings).send(coordinator, contents))


def test_a_poison_document_is_isolated_with_few_losses(leases: list[bool]) -> None:
    contents = [str(i) for i in range(16)]
    contents[5] = "poison"
    encoded = send(contents, leases)
    lost = [len(request) for request in Server.requests if "poison" in request]
    assert lost == [16, 4, 1, 1]
    assert encoded.reasons == [None] * 5 + ["the model process ended while it encoded this text"] + [None] * 10
    assert encoded.embeddings[:, 0].tolist() == [*range(5), 0, *range(6, 16)]
    assert encoded.sent == sum(map(len, Server.requests))
    assert leases == [False] + [True] * (len(leases) - 1)  # suspects have exclusive leases


def test_many_poison_documents_are_a_broken_model(leases: list[bool]) -> None:
    with pytest.raises(SemscaleError, match="the model process keeps crashing"):
        send([f"poison {i}" for i in range(16)], leases)


def test_transient_failures_are_retried_at_another_endpoint(leases: list[bool]) -> None:
    encoded = send(["1", "at a", "always"], leases)
    assert Server.requests == [["1", "at a", "always"], ["at a", "always"], ["always"]]
    assert (encoded.reasons, encoded.retryable) == ([None, None, "odd"], {2})
    assert encoded.embeddings[:, 0].tolist() == [1.0, 0.5, 0.0]
