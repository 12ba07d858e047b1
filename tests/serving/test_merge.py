"""Requests that wait together are computed together, and none of them notices."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray

from semscale.serving.merge import Merger


class Model:
    """Adds one to every number; 13 is its poison. It waits until it is let go."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.go = threading.Event()

    def compute(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        assert self.go.wait(20)
        self.sizes.append(len(rows))
        if (rows == 13).any():
            raise ArithmeticError("thirteen")
        return rows + 1


def run(model: Model, requests: list[NDArray[np.float32]], most: int) -> list[NDArray[np.float32] | BaseException]:
    async def all_at_once() -> list[NDArray[np.float32] | BaseException]:
        with ThreadPoolExecutor(1) as pool:
            merger = Merger(model.compute, np.concatenate, pool, most)
            tasks = [asyncio.ensure_future(merger.run(rows, len(rows))) for rows in requests]
            while not merger.computed:  # the first is on its way to the model, the others wait
                await asyncio.sleep(0)
            model.go.set()
            return await asyncio.gather(*tasks, return_exceptions=True)

    return asyncio.run(all_at_once())


def rows(*numbers: float) -> NDArray[np.float32]:
    return np.array(numbers, dtype=np.float32)[:, None]


def test_those_that_wait_go_together_up_to_a_limit() -> None:
    model = Model()
    requests = [rows(1, 2), rows(3), rows(4, 5, 6), rows(7), rows(*range(20, 30)), rows(8)]
    found = run(model, requests, most=6)
    for asked, answer in zip(requests, found, strict=True):
        assert np.array_equal(answer, asked + 1)  # type: ignore[arg-type]
    assert model.sizes == [6, 1, 10, 1]


def test_a_request_that_fails_takes_no_other_with_it() -> None:
    model = Model()
    found = run(model, [rows(1), rows(13), rows(2)], most=6)
    assert np.array_equal(found[0], rows(2))  # type: ignore[arg-type]
    assert isinstance(found[1], ArithmeticError)
    assert np.array_equal(found[2], rows(3))  # type: ignore[arg-type]


def test_a_request_that_was_given_up_is_not_computed() -> None:
    model = Model()

    async def one_gives_up() -> NDArray[np.float32]:
        with ThreadPoolExecutor(1) as pool:
            merger = Merger(model.compute, np.concatenate, pool, 1)
            first, second, third = (asyncio.ensure_future(merger.run(rows(n), 1)) for n in (1, 2, 3))
            while not merger.computed:
                await asyncio.sleep(0)
            second.cancel()
            model.go.set()
            await first
            with pytest.raises(asyncio.CancelledError):
                await second
            return await third

    assert np.array_equal(asyncio.run(one_gives_up()), rows(4))
    assert model.sizes == [1, 1]
