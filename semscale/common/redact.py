"""Masking of secrets and control characters in what is printed, logged or stored."""

from __future__ import annotations

import re

# a password may hold an @, and then the last one before the path ends it
_URL = re.compile(r"([A-Za-z][\w+.-]*://)([^/?#\s]*@)?([^?\s]*)(\?\S*)?")


def shown(text: str) -> str:
    """Return a path, or a dataset's spec, as it may stand in messages: no password, no query (often a signature).

    >>> shown("zip:https://ann:pw@host/a.zip?sig=1"), shown("folder:what?")
    ('zip:https://***@host/a.zip?***', 'folder:what?')
    """
    return _URL.sub(
        lambda found: found[1] + ("***@" if found[2] else "") + found[3] + ("?***" if found[4] else ""), text
    )


redact = shown
"""The same for a URI, whose query may hold a database's password."""


def without(text: str, uri: str) -> str:
    """Return a library's message about a URI, in whatever form it quotes it, on one line and without its secrets.

    >>> without("cannot parse 'http://ann:pw@host'\\nin ann:pw@host", "http://ann:pw@host")
    "cannot parse 'http://***@host' in ***@host"
    """
    line = " ".join(shown(text).split())
    found = _URL.search(uri)
    if found is None:
        return line
    user, query = found[2] or "", found[4] or ""
    secret = user.removesuffix("@").partition(":")[2]
    for part, instead in ((user, "***@"), (query, "?***"), (secret, "***")):
        line = line.replace(part, instead) if part else line
    return line


def printable(text: str) -> str:
    """Return a text from data as it may be printed: a control character in a name must not reach the terminal.

    >>> printable("a\\x1b[31mb\\nc")
    'a\ufffd[31mb\\nc'
    """
    return "".join(letter if letter.isprintable() or letter == "\n" else "\ufffd" for letter in text)
