"""Blocks of images shared among threads, each with a product of its own."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from threadpoolctl import threadpool_limits

S = TypeVar("S")


def thread_count() -> int:
    """Return how many threads work on blocks: as many as the matrix product may use.

    `OPENBLAS_NUM_THREADS`, `MKL_NUM_THREADS` and `OMP_NUM_THREADS` bound the product, so they bound the blocks too (Ray
    sets the last to the CPUs of a task); without them it is the CPUs that this process may run on.
    """
    for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
        if (value := os.environ.get(name, "")).isdecimal() and int(value):
            return int(value)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def share_blocks(firsts: range, make: Callable[[], S], work: Callable[[S, int], None], most: int) -> None:
    """Do the work of every block, in as many threads as there are (:func:`thread_count`), blocks and room for.

    Within a block the threads of the matrix library wait for each other after every product, and keep the cores from
    the others while they do; with a block per thread nobody waits.

    Args:
        firsts: the first image of every block.
        make: makes the working memory of a thread.
        work: is called with that memory and the first image of a block.
        most: the largest number of threads that there is room for.
    """
    threads = min(thread_count(), len(firsts), most)
    if threads <= 1:
        memory = make()
        for first in firsts:
            work(memory, first)
        return
    own = threading.local()

    def one(first: int) -> None:
        if not hasattr(own, "memory"):
            own.memory = make()
        work(own.memory, first)

    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(one, firsts):
            pass
