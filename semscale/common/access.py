"""Access to clip-servers: addresses, and the credentials: a token and the authority of their TLS certificates.

Tokens come from the environment or from a file, never from a command line, which every user of the machine can read.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import socket
import ssl
import stat
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from semscale.common.errors import ConfigError, SemscaleError
from semscale.common.files import open_regular_file, read_regular_file

TOKEN_VARIABLE = "SEMSCALE_SERVER_TOKEN"
CA_VARIABLE = "SEMSCALE_SERVER_CA"
_OPEN_TO_OTHERS = {"read": stat.S_IROTH, "write to": stat.S_IWGRP | stat.S_IWOTH}
# where containers mount secrets, readable for all of their users
_MOUNTED_SECRETS = Path("/run/secrets")
# part of gRPC's message -> reason
_TLS_REASONS = {
    "hostname verification": "its certificate is for another host name",
    "is not in peer certificate": "its certificate is for another host name",
    "certificate_verify_failed": "its certificate is not signed by a trusted authority",
    "bad_signature": "its certificate is not signed by a trusted authority",
    "wrong_version_number": "it does not speak TLS: grpc://, not grpcs://",
}
_AUTHORITY = f"name its authority's PEM file in {CA_VARIABLE}, or as server.ca_file in the study file"


@dataclass(frozen=True)
class Access:
    """Credentials for clip-servers: the token to send, and the authority to trust.

    Attributes:
        token: the server's token, or None; no representation of this object contains it.
        authority: PEM certificates of the authorities that may sign servers' certificates; None: the public ones.

    >>> Access("s3cret", None)
    Access()
    """

    token: str | None = field(default=None, repr=False)
    authority: bytes | None = field(default=None, repr=False)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Return the token as gRPC metadata."""
        return (("authorization", f"Bearer {self.token}"),) if self.token else ()

    def token_error(self, url: str) -> SemscaleError:
        """Return the error for a server that rejects this token."""
        found = "another token than the server's" if self.token else "no token"
        hint = f"set {TOKEN_VARIABLE}, or name the token's file as server.token_file in the study file"
        return ConfigError("the clip-server refuses the token", where=url, found=found, hint=hint)

    def tls_error(self, url: str, details: str) -> SemscaleError | None:
        """Return the error for a call that failed with gRPC's `details`; None if TLS is not the reason.

        >>> Access().tls_error("grpcs://127.0.0.1:9", "Connection refused") is None
        True
        """
        text = details.lower()
        if url.startswith("grpc:"):
            if "socket closed" not in text or not _speaks_tls(url):
                return None
            what, expected = "cannot connect to the clip-server", "grpcs://, not grpc://"
            hint = f"{_AUTHORITY}, unless it is a public one"
            return ConfigError(what, where=url, found="it speaks TLS", expected=expected, hint=hint)
        found = next((reason for part, reason in _TLS_REASONS.items() if part in text), None)
        if found is None:
            return None
        what, authority = "no trusted connection to the clip-server", "the authority in server.ca_file"
        expected = f"a certificate for this host name from {authority if self.authority else 'a public authority'}"
        hint = f"{_AUTHORITY}, and use the host name that its certificate is for"
        return ConfigError(what, where=url, found=found, expected=expected, hint=hint)


def read_access(token_file: str | Path | None = None, ca_file: str | Path | None = None) -> Access:
    """Return the credentials for servers from these files, else from the environment."""
    ca_file = ca_file or os.environ.get(CA_VARIABLE) or None
    return Access(read_token(token_file), _read_authority(Path(ca_file).expanduser()) if ca_file else None)


def read_token(file: str | Path | None = None) -> str | None:
    """Return the token from a private file, else from ``SEMSCALE_SERVER_TOKEN``; None without either."""
    if file is None:
        value = os.environ.get(TOKEN_VARIABLE)
        return None if value is None else _validated_token(value, TOKEN_VARIABLE)
    path = Path(file).expanduser()
    return _validated_token(read_private_file(path, "the token file").decode("latin-1"), str(path))


def read_private_file(path: Path, what: str) -> bytes:
    """Return the content of a small file; raise ConfigError if it cannot be read, or others can read or change it."""
    try:
        with open_regular_file(path) as file:
            # of the open file: another one may have its name a moment later
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(65536)
    except OSError as error:
        raise ConfigError(f"{what} cannot be read", where=str(path), found=error.strerror) from error
    for permission, bits in _OPEN_TO_OTHERS.items():
        if mode & bits and not (permission == "read" and path.is_relative_to(_MOUNTED_SECRETS)):
            found, hint = stat.filemode(mode), f"chmod 600 {path}"
            raise ConfigError(f"others can {permission} {what}", where=str(path), found=found, hint=hint)
    return content


def token_matches(authorization: str, token: str) -> bool:
    """Return whether an `authorization` value, with or without `Bearer`, is the token; takes constant time.

    >>> [token_matches(value, "abc") for value in ("Bearer abc", "abc", "abd", "")]
    [True, True, False, False]
    """
    scheme, _, credentials = authorization.partition(" ")
    bare = credentials.strip() if scheme.lower() == "bearer" else authorization
    return hmac.compare_digest(_digest(bare), _digest(token))


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


def _validated_token(text: str, where: str) -> str:
    token = text.strip()
    if not token:
        expected = "a long random text, such as from `openssl rand -hex 32`"
        raise ConfigError("the token is empty", where=where, expected=expected)
    if not all("!" <= character <= "~" for character in token):  # gRPC metadata has no other characters
        expected = "one word of ASCII letters, digits and signs"
        raise ConfigError("the token cannot be sent", where=where, expected=expected)
    return token


def _read_authority(path: Path) -> bytes:
    try:
        content = read_regular_file(path)
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=content.decode("ascii"))
    except (ssl.SSLError, ValueError) as error:  # an SSLError is an OSError, too
        expected = "one or more certificates in PEM"
        raise ConfigError("not a file of certificates", where=str(path), expected=expected) from error
    except OSError as error:
        what = "the file of the certificate authority cannot be read"
        raise ConfigError(what, where=str(path), found=error.strerror) from error
    return content


def is_address(url: str) -> bool:
    """Return whether a URL is `grpc://host:port` or `grpcs://host:port`; clip-client silently uses 80 without a port.

    >>> is_address("grpc://gpu1:51000"), is_address("grpc://gpu1"), is_address("http://gpu1:51000")
    (True, False, False)
    """
    try:
        parts = urlsplit(url)
        return parts.scheme in ("grpc", "grpcs") and bool(parts.hostname) and bool(parts.port)
    except ValueError:
        return False


def _speaks_tls(url: str, timeout: float = 3.0) -> bool:
    """Return whether a TLS server answers; gRPC cannot tell one that hangs up from one that is starting."""
    parts = urlsplit(url)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # nothing is sent to it
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 0), timeout) as connection:
            context.wrap_socket(connection).close()
    except (OSError, ValueError):
        return False
    return True
