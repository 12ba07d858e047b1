"""Encoder actor: chunks that Ray repeats are encoded once per process, and stored rows are not sent again."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from semscale.common.access import Access
from semscale.common.errors import SemscaleError
from semscale.encoding.coordinator import Coordinator
from semscale.encoding.encoder_actor import ActorSettings, EncoderActor
from semscale.encoding.server_discovery import Servers
from semscale.encoding.verification import identify_encoder
from semscale.store.segment import read_keys

TEXTS = ["a cat", "a dog", "a bird"]


@pytest.fixture
def settings(mini_server: str, tmp_path: Path) -> ActorSettings:
    identity = identify_encoder(Servers([mini_server]), "semscale-mini", tmp_path)
    return ActorSettings(tmp_path / "rows", identity, None, 16, 60.0, Access())


@pytest.fixture
def coordinator(mini_server: str, ray_session: None) -> Iterator[Any]:
    actor = ray.remote(num_cpus=0, max_concurrency=100)(Coordinator).remote([])
    ray.get(actor.open.remote([mini_server]))
    yield actor
    ray.kill(actor)


def stored(settings: ActorSettings) -> int:
    return sum(len(read_keys(path)) for path in (settings.folder / "text").glob("*.parquet"))


def test_a_repeated_call_is_carried_out_once(settings: ActorSettings, coordinator: Any) -> None:
    async def twice() -> list[Any]:
        actor = EncoderActor(0, settings)
        both = await asyncio.gather(*(actor.encode(7, coordinator, TEXTS) for _ in range(2)))
        return [*both, await actor.encode(7, coordinator, TEXTS)]

    reports = asyncio.run(twice())
    assert [report.sent for report in reports] == [3, 3, 3]
    assert all(report is reports[0] for report in reports)
    assert stored(settings) == 3


def test_the_next_process_sends_only_what_was_not_stored(settings: ActorSettings, coordinator: Any) -> None:
    async def sent(texts: list[str]) -> int:
        return (await EncoderActor(0, settings).encode(7, coordinator, texts)).sent

    assert asyncio.run(sent(TEXTS[:2])) == 2
    assert asyncio.run(sent(TEXTS)) == 1
    assert stored(settings) == 3


def test_a_chunk_that_keeps_crashing_processes_is_given_up(settings: ActorSettings, coordinator: Any) -> None:
    for number in range(6):
        assert ray.get(coordinator.record_attempt.remote(7, [0, 1], f"process {number}")) == number + 1
    with pytest.raises(SemscaleError, match="keep crashing"):
        asyncio.run(EncoderActor(0, settings).encode(7, coordinator, TEXTS))
    assert not stored(settings)
