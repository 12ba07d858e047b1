"""Small requests that wait for the model at the same time are computed together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

Rows = TypeVar("Rows")


class Merger(Generic[Rows]):
    """Joins the rows of requests, computes them in one go, and gives every request its own results.

    A model computes minibatches of one fixed shape, so a request of four rows costs as much as one of sixteen. While
    the model is busy, requests wait; those that have come by then go together. Nobody waits for requests to come, and
    a result is the same alone and among others, since the minibatches have the same shape.

    Args:
        compute: rows to float32 embeddings, in the same order.
        join: several requests' rows to one.
        pool: where it computes.
        most: rows that are computed together; a larger request goes alone.
    """

    def __init__(
        self,
        compute: Callable[[Rows], NDArray[np.float32]],
        join: Callable[[Sequence[Rows]], Rows],
        pool: Executor,
        most: int,
    ) -> None:
        self._compute, self._join, self._pool, self._most = compute, join, pool, most
        self._waiting: deque[tuple[Rows, int, asyncio.Future[NDArray[np.float32]]]] = deque()
        self._task: asyncio.Task[None] | None = None
        self.computed = 0

    async def run(self, rows: Rows, count: int) -> NDArray[np.float32]:
        """Return the embeddings of these rows, float32 [count, dimension].

        Raises:
            Exception: what `compute` raises for these rows alone.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[NDArray[np.float32]] = loop.create_future()
        self._waiting.append((rows, count, future))
        if self._task is None or self._task.done():
            self._task = loop.create_task(self._drain())
        return await future

    async def _drain(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            taken = [self._waiting.popleft()]
            total = taken[0][1]
            while self._waiting and total + self._waiting[0][1] <= self._most:
                taken.append(self._waiting.popleft())
                total += taken[-1][1]
            # whoever has gone away meanwhile is not computed for
            taken = [one for one in taken if not one[2].done()]
            if not taken:
                continue
            self.computed += 1
            try:
                joined = taken[0][0] if len(taken) == 1 else self._join([rows for rows, _, _ in taken])
                found = await loop.run_in_executor(self._pool, self._compute, joined)
            except Exception as error:
                if len(taken) == 1:
                    _settle(taken[0][2], error)
                else:  # one of them may be the reason: each is tried alone
                    await self._alone(taken)
                continue
            start = 0
            for _, count, future in taken:
                _settle(future, found[start : start + count])
                start += count

    async def _alone(self, taken: Sequence[tuple[Rows, int, asyncio.Future[NDArray[np.float32]]]]) -> None:
        loop = asyncio.get_running_loop()
        for rows, _, future in taken:
            try:
                _settle(future, await loop.run_in_executor(self._pool, self._compute, rows))
            except Exception as error:
                _settle(future, error)


def _settle(future: asyncio.Future[NDArray[np.float32]], outcome: NDArray[np.float32] | Exception) -> None:
    if future.done():
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
