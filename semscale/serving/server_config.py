"""Settings of a clip-server."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from semscale.common.access import read_private_file
from semscale.common.environment import LOOPBACK
from semscale.common.errors import ConfigError
from semscale.common.files import open_regular_file


@dataclass(frozen=True)
class ServeConfig:
    """Settings of the clip-servers of a model."""

    model: str  # a name as in :func:`semscale.models.loading.load_model`
    replicas: int = 1
    device: str = "cpu"  # `cpu`, `cuda` (the servers are spread over the GPUs) or `cuda:N`
    dtype: str | None = None  # `fp32`, `fp16`, `bf16`; None: fp32 on CPU, fp16 on CUDA
    host: str = "127.0.0.1"
    port: int = 51000  # gRPC port of the first server, the others follow; 0: a free port for each
    minibatch_size: int | None = None  # rows that the model computes at a time; None: by device and image size
    num_threads: int | None = None  # CPU threads per server; None: cores divided by replicas
    metrics_port: int | None = None  # of the first server's Prometheus page, the others follow
    token_file: str | None = None  # None: see :func:`semscale.common.access.read_token`
    tls_cert: str | None = None  # PEM file of the certificate chain
    tls_key: str | None = None  # PEM file of its private key
    compiled: bool = False  # with ``torch.compile``
    gpus: str | None = None  # `all`, or numbers and UUIDs of GPUs; `replicas` is then `per_gpu` for each of them
    per_gpu: int = 1
    trust_remote_code: bool = False  # run Python code of the tokenizer that comes with a model

    def address(self, host: str | None = None) -> str:
        """Return `host:port` in gRPC's syntax."""
        host = host or self.host
        return f"{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def url(self) -> str:
        """Return the address for clients on this machine.

        >>> ServeConfig("m", host="::", port=5).url, ServeConfig("m", host="::1", port=5, tls_cert="c").url
        ('grpc://127.0.0.1:5', 'grpcs://[::1]:5')
        """
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::") else self.host
        return f"{'grpcs' if self.tls_cert else 'grpc'}://{self.address(host)}"

    def metrics_host(self, has_token: bool) -> str:
        """Return the host of the metrics page, which only a token opens to other machines.

        >>> ServeConfig("m", host="0.0.0.0").metrics_host(True), ServeConfig("m", host="0.0.0.0").metrics_host(False)
        ('0.0.0.0', '127.0.0.1')
        """
        return self.host if has_token or self.host in LOOPBACK else "127.0.0.1"

    def exposure_warning(self, has_token: bool) -> str | None:
        """Return a line of warning if other machines reach the server without token or TLS, else None."""
        missing = [] if has_token else ["--token-file or SEMSCALE_SERVER_TOKEN (a token)"]
        missing += [] if self.tls_cert else ["--tls-cert and --tls-key (TLS)"]
        if self.host in LOOPBACK or not missing:
            return None
        risk = "its token can be intercepted" if has_token else "every machine that reaches this server can use it"
        return f"warning: {self.host}: {risk}; see {' and '.join(missing)}"


def check_certificate(certificate: str | None, key: str | None) -> None:
    """Raise ConfigError unless two PEM files, if set, are a certificate chain and its private key, closed to others."""
    if not certificate and not key:
        return
    if not certificate or not key:
        where = "--tls-key" if certificate else "--tls-cert"
        raise ConfigError("a certificate and its key go together", where=where, expected="the PEM files of both")
    read_private_file(Path(key), "the key file")
    try:
        open_regular_file(certificate).close()
        # without a password OpenSSL would ask for the one of an encrypted key in the terminal
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certificate, key, password="")
    except OSError as error:
        where, found = f"{certificate}, {key}", error.strerror or str(error)
        expected = "PEM files of a certificate chain and its private key, not encrypted"
        raise ConfigError("the certificate cannot be used", where=where, found=found, expected=expected) from error
