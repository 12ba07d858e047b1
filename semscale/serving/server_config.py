"""Settings of a clip-server."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from semscale.common.access import read_private
from semscale.common.environment import LOOPBACK
from semscale.common.errors import ServerError
from semscale.common.files import open_regular


@dataclass(frozen=True)
class ServeConfig:
    """What clip-servers of one model are started with."""

    model: str  # a name as in :func:`semscale.models.loading.load_model`
    replicas: int = 1
    device: str = "cpu"  # `cpu`, `cuda` (the servers are spread over the GPUs) or `cuda:N`
    dtype: str | None = None  # `fp32`, `fp16`, `bf16`; None: fp32 on CPU, fp16 on CUDA
    host: str = "127.0.0.1"
    port: int = 51000  # gRPC port of the first server, the others follow; 0 takes a free one for each
    minibatch_size: int | None = None  # rows that the model computes at once; None: by device and image size
    num_threads: int | None = None  # CPU threads per server; None: cores divided by replicas
    metrics_port: int | None = None  # of the first server's Prometheus page, the others follow
    token_file: str | None = None  # None: see :func:`semscale.common.access.read_token`
    tls_cert: str | None = None  # PEM file of the certificate chain
    tls_key: str | None = None  # PEM file of its private key
    compiled: bool = False  # with ``torch.compile``
    gpus: str | None = None  # `all`, or numbers and UUIDs of GPUs; `replicas` is then `per_gpu` for each of them
    per_gpu: int = 1
    trust_remote_code: bool = False  # run the tokenizer's Python code that a model brings with it

    def address(self, host: str | None = None) -> str:
        """Return `host:port` as gRPC takes it."""
        host = host or self.host
        return f"{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def url(self) -> str:
        """The address for clients on this machine.

        >>> ServeConfig("m", host="::", port=5).url, ServeConfig("m", host="::1", port=5, tls_cert="c").url
        ('grpc://127.0.0.1:5', 'grpcs://[::1]:5')
        """
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::") else self.host
        return f"{'grpcs' if self.tls_cert else 'grpc'}://{self.address(host)}"

    def metrics_host(self, has_token: bool) -> str:
        """Return the address of the page of metrics, which other machines reach where a token guards it.

        >>> ServeConfig("m", host="0.0.0.0").metrics_host(True), ServeConfig("m", host="0.0.0.0").metrics_host(False)
        ('0.0.0.0', '127.0.0.1')
        """
        return self.host if has_token or self.host in LOOPBACK else "127.0.0.1"

    def exposure(self, has_token: bool) -> str | None:
        """Return in one line what a server that other machines reach lacks; None if nothing."""
        missing = [] if has_token else ["--token-file or SEMSCALE_SERVER_TOKEN (a token)"]
        missing += [] if self.tls_cert else ["--tls-cert and --tls-key (TLS)"]
        if self.host in LOOPBACK or not missing:
            return None
        risk = "its token can be read on the way" if has_token else "every machine that reaches it can use this server"
        return f"warning: {self.host}: {risk}; see {' and '.join(missing)}"


def check_certificate(certificate: str | None, key: str | None) -> None:
    """Check that two PEM files, if they are given, are a certificate chain and its private key, closed to others."""
    if not certificate and not key:
        return
    if not certificate or not key:
        where = "--tls-key" if certificate else "--tls-cert"
        raise ServerError("a certificate and its key go together", where=where, expected="the PEM files of both")
    read_private(Path(key), "the key file")
    try:
        open_regular(certificate).close()
        # without the password of an encrypted key the terminal would be asked
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certificate, key, password="")
    except OSError as error:
        where, found = f"{certificate}, {key}", error.strerror or str(error)
        expected = "PEM files of a certificate chain and of its own private key, not encrypted"
        raise ServerError("the certificate cannot be served", where=where, found=found, expected=expected) from error
