"""Servers that an encoder sends to; here and not with the actors, since Ray is imported there."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from semscale.access import Access


class Servers:
    """Clip-servers at fixed addresses; subclasses discover them, or start them on demand and restart them.

    Without ``urls`` :meth:`start` is called once there is something to send. All servers may be unavailable for
    ``patience`` seconds before the encoding stops, and ``note`` is called with a message when some are.
    """

    can_change = False
    """Whether :meth:`discover` is to be asked now and then."""

    def __init__(
        self,
        urls: Sequence[str] = (),
        access: Access | None = None,
        patience: float = 120.0,
        note: Callable[[str], None] | None = None,
    ) -> None:
        self.urls = urls
        self.access = access or Access()
        self.patience = patience
        self.note = note or (lambda line: None)

    def discover(self) -> Sequence[str]:
        """Return the addresses of the moment."""
        return self.urls

    def start(self) -> Sequence[str]:
        """Start the servers and return their addresses."""
        return self.urls

    def restart(self) -> Sequence[str] | None:
        """Restart servers that have ended, and return the addresses; None if there were none."""
        return None
