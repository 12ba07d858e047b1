"""Masking of secrets and control characters in what is printed, logged or stored."""

from __future__ import annotations

import re

# a password may hold an @, and then the last one before the path ends it
_URL = re.compile(r"([A-Za-z][\w+.-]*://)([^/?#\s]*@)?([^?\s]*)(\?\S*)?")


def mask_url(text: str) -> str:
    """Return a path, a URI or a dataset's spec without passwords and queries, which are often signatures.

    >>> mask_url("zip:https://ann:pw@host/a.zip?sig=1"), mask_url("folder:what?")
    ('zip:https://***@host/a.zip?***', 'folder:what?')
    """
    return _URL.sub(
        lambda match: match[1] + ("***@" if match[2] else "") + match[3] + ("?***" if match[4] else ""), text
    )


def scrub(text: str, uri: str) -> str:
    """Return a library's message about a URI on one line, without the URI's secrets however they are quoted.

    >>> scrub("cannot parse 'http://ann:pw@host'\\nin ann:pw@host", "http://ann:pw@host")
    "cannot parse 'http://***@host' in ***@host"
    """
    line = " ".join(mask_url(text).split())
    match = _URL.search(uri)
    if match is None:
        return line
    user, query = match[2] or "", match[4] or ""
    password = user.removesuffix("@").partition(":")[2]
    for secret, mask in ((user, "***@"), (query, "?***"), (password, "***")):
        line = line.replace(secret, mask) if secret else line
    return line


def printable(text: str) -> str:
    """Replace control characters, which must not reach the terminal, by U+FFFD; newlines stay.

    >>> printable("a\\x1b[31mb\\nc")
    'a\ufffd[31mb\\nc'
    """
    return "".join(letter if letter.isprintable() or letter == "\n" else "\ufffd" for letter in text)
