"""Who did the encoding: which actor, on which node, through which endpoint, and how fast."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("endpoint", "node", "actor", "calls", "images", "texts", "seconds")


@dataclass(frozen=True)
class Call:
    """Documents that an endpoint has encoded in one call.

    Attributes:
        endpoint: its address.
        documents: how many.
        seconds: how long it took.
    """

    endpoint: str
    documents: int
    seconds: float


@dataclass(frozen=True)
class Work:
    """What an actor had encoded through an endpoint for one chunk.

    Attributes:
        endpoint: its address.
        node: the actor's machine: IP address and the beginning of Ray's node id.
        actor: the actor's number.
        kind: ``image`` or ``text``.
        documents: how many rows came back.
        seconds: how long the calls took.
    """

    endpoint: str
    node: str
    actor: int
    kind: str
    documents: int
    seconds: float


class WorkLog:
    """Adds work up by endpoint, node and actor; its size does not grow with what is encoded.

    >>> log = WorkLog()
    >>> log.add([Work("grpc://a:1", "n", 0, "image", 60, 1.0), Work("grpc://a:1", "n", 0, "text", 5, 0.5)])
    >>> log.table().values.tolist()
    [['grpc://a:1', 'n', 0, 2, 60, 5, 1.5]]
    """

    def __init__(self) -> None:
        self._sums: dict[tuple[str, str, int], list[float]] = {}

    def add(self, work: Iterable[Work]) -> None:
        """Take note of finished work."""
        for one in work:
            sums = self._sums.setdefault((one.endpoint, one.node, one.actor), [0, 0, 0, 0.0])
            for place, more in enumerate(
                (1, *((one.documents, 0) if one.kind == "image" else (0, one.documents)), one.seconds)
            ):
                sums[place] += more

    def table(self) -> pd.DataFrame:
        """Return a row per endpoint, node and actor: calls, images, texts, and seconds spent in calls.

        Calls of one actor overlap, so their seconds may be more than have passed.
        """
        import pandas as pd  # takes a quarter of a second, and the actors never ask for the table

        rows = [(*place, *sums) for place, sums in sorted(self._sums.items())]
        return pd.DataFrame(rows, columns=list(COLUMNS))
