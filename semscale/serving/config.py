"""Settings of a clip-server, checked before minutes go into a model."""

from __future__ import annotations

import ssl
from dataclasses import dataclass

from semscale.errors import SemscaleError

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class ServeConfig:
    """What clip-servers are started with.

    Args:
        model: a model name as in :func:`semscale.models.loading.load_model`.
        replicas: servers to start; server r listens at `port` + r.
        device: `cpu`, `cuda` (the servers are spread over the GPUs) or `cuda:N`.
        dtype: `fp32`, `fp16`, `bf16` or None (fp32 on CPU, fp16 on CUDA).
        host: address to bind to; only 127.0.0.1 keeps other machines out.
        port: gRPC port of the first server; 0 takes a free one for each.
        minibatch_size: rows that the model computes at once; None: by device and image size.
        num_threads: CPU threads per server; None: cores divided by replicas.
        metrics_port: Prometheus page of server r at this port + r; None: no pages.
        token_file: holds the token that clients must show; None: see :func:`semscale.access.read_token`.
        tls_cert, tls_key: PEM files of the certificate chain and its private key; None: no TLS.
        compiled: compile the model with ``torch.compile``.
        gpus: `all`, or numbers and UUIDs of GPUs; each gets `per_gpu` servers, and `replicas` is then their number.
        per_gpu: servers per GPU.

    Raises:
        SemscaleError: a number out of range.
    """

    model: str
    replicas: int = 1
    device: str = "cpu"
    dtype: str | None = None
    host: str = "127.0.0.1"
    port: int = 51000
    minibatch_size: int | None = None
    num_threads: int | None = None
    metrics_port: int | None = None
    token_file: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    compiled: bool = False
    gpus: str | None = None
    per_gpu: int = 1

    def __post_init__(self) -> None:
        at_least_one = {
            "--per-gpu": self.per_gpu,
            "--replicas": self.replicas,
            "--minibatch-size": self.minibatch_size,
            "--threads": self.num_threads,
        }
        for option, number in at_least_one.items():
            if number is not None and number < 1:
                raise SemscaleError("a setting is out of range", where=option, found=str(number), expected="1 or more")
        if not 0 <= self.port <= 65535:
            raise SemscaleError(
                "a setting is out of range", where="--port", found=str(self.port), expected="0 to 65535"
            )

    def url(self, port: int) -> str:
        """Return the address for clients on this machine.

        >>> ServeConfig("m", host="::").url(5), ServeConfig("m", host="::1", tls_cert="c").url(5)
        ('grpc://127.0.0.1:5', 'grpcs://[::1]:5')
        """
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::") else self.host
        return f"{'grpcs' if self.tls_cert else 'grpc'}://{f'[{host}]' if ':' in host else host}:{port}"

    def exposure(self, has_token: bool) -> str | None:
        """Return in one line what a server that other machines reach lacks; None if nothing."""
        missing = [
            *([] if has_token else ["--token-file or SEMSCALE_SERVER_TOKEN (a token)"]),
            *([] if self.tls_cert else ["--tls-cert and --tls-key (TLS)"]),
        ]
        if self.host in LOOPBACK or not missing:
            return None
        risk = "its token can be read on the way" if has_token else "every machine that reaches it can use this server"
        return f"warning: {self.host}: {risk}; see {' and '.join(missing)}"


def check_certificate(certificate: str | None, key: str | None) -> None:
    """Check that a certificate chain and its private key are both given or neither, readable, and belong together.

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
