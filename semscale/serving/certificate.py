"""Whether a certificate and its key can be served, asked before minutes go into a model."""

from __future__ import annotations

import ssl

from semscale.errors import SemscaleError


def check_certificate(certificate: str | None, key: str | None) -> None:
    """Check that both are given or neither, that they can be read, and that they belong together.

    Args:
        certificate: PEM file of the certificate chain.
        key: PEM file of the private key, not encrypted.

    Raises:
        SemscaleError: they cannot be served.
    """
    if not certificate and not key:
        return
    if not certificate or not key:
        raise SemscaleError(
            "a certificate and its key go together",
            where="--tls-cert" if not certificate else "--tls-key",
            found="not given",
            expected="the PEM files of both",
        )
    try:
        # without the password of an encrypted key the terminal would be asked
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certificate, key, password="")
    except OSError as error:
        raise SemscaleError(
            "the certificate cannot be served",
            where=f"{certificate}, {key}",
            found=error.strerror or str(error),
            expected="PEM files of a certificate chain and of its own private key, not encrypted",
        ) from error
