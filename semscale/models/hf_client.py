"""Hub client without a network: the local cache at once, and no minutes of noisy retries."""

from __future__ import annotations

import contextlib
import logging
import socket
import warnings
from collections.abc import Iterator
from urllib.parse import urlsplit
from urllib.request import getproxies


@contextlib.contextmanager
def hub_offline_unless_reachable(timeout: float = 5.0) -> Iterator[None]:
    """Within the block, the hub client uses only its cache if the hub cannot be connected to in `timeout` seconds.

    Weights that were fetched before still load; others fail at once, where the client would retry for half a minute.
    """
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not _reachable(constants.ENDPOINT, timeout)
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keep open_clip's and the hub client's chatter away: what matters is raised."""
    previous = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)


def _reachable(endpoint: str, timeout: float) -> bool:
    address = urlsplit(endpoint)
    if address.hostname is None or address.scheme in getproxies():
        # Behind a proxy only the proxy can tell.
        return True
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        with socket.create_connection((address.hostname, port), timeout=timeout):
            return True
    except OSError:
        return False
