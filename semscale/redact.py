"""Taking secrets out of what is printed, logged or stored."""

from __future__ import annotations

import re
from urllib.parse import urlsplit, urlunsplit

_URL = re.compile(r"([A-Za-z][\w+.-]*://)([^/@\s]*@)?([^?\s]*)(\?\S*)?")


def shown(text: str) -> str:
    """Return a path, or a dataset's spec, as it may stand in messages: no password, no query (often a signature).

    >>> shown("zip:https://ann:pw@host/a.zip?sig=1")
    'zip:https://***@host/a.zip?***'
    >>> shown("folder:what?")
    'folder:what?'
    """
    return _URL.sub(
        lambda found: found[1] + ("***@" if found[2] else "") + found[3] + ("?***" if found[4] else ""), text
    )


def redact(uri: str) -> str:
    """Return a URI without its user name and password.

    >>> redact("postgresql://ann:secret@db:5432/mlflow")
    'postgresql://***@db:5432/mlflow'
    """
    parts = urlsplit(uri)
    if "@" not in parts.netloc:
        return uri
    return urlunsplit(parts._replace(netloc="***@" + parts.netloc.rpartition("@")[2]))
