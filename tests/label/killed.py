"""A labelling in a separate process that reports every step and waits to continue, so that it can be killed.

Arguments: the input, the folder of the results, the store, items per window.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from semscale.label.labelling import label
from semscale.label.listing import LabelRequest
from semscale.store.mirrored_directory import MirroredDirectory

CATEGORIES = ("circle", "star", "heart", "cross", "a ring", "nothing at all")


class Waiting:
    """Print a line for every step, and continue after reading one."""

    @contextmanager
    def stage(
        self, title: str, total: int | None = None, unit: str = ""
    ) -> Iterator[Callable[[int, int | None], None]]:
        del total, unit

        def advance(done: int, total: int | None) -> None:
            print(f"{title}: {done}", flush=True)
            sys.stdin.readline()

        yield advance

    def note(self, text: str) -> None:
        print(f"note: {text}", flush=True)


if __name__ == "__main__":
    given, out, store, window = sys.argv[1:]
    request = LabelRequest(given, CATEGORIES, "semscale-mini", encoder="local")
    label(request, Path(out), Waiting(), MirroredDirectory.of(store), stats=True, window=int(window))
