"""Taking secrets out of what is printed, logged or stored."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit


def redact(uri: str) -> str:
    """Return a URI without its user name and password.

    >>> redact("postgresql://ann:secret@db:5432/mlflow")
    'postgresql://***@db:5432/mlflow'
    """
    parts = urlsplit(uri)
    if "@" not in parts.netloc:
        return uri
    return urlunsplit(parts._replace(netloc="***@" + parts.netloc.rpartition("@")[2]))
