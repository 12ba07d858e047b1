"""The server: one jina Flow with a gRPC gateway and replicas of :class:`SemscaleEncoder`."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import FrameType
from typing import Any

from semscale.access import read_token
from semscale.errors import SemscaleError
from semscale.models.model_info import minibatch_rows
from semscale.serving.announce import Announcer, say, set_announcer
from semscale.serving.certificate import check_certificate
from semscale.serving.environment import available_cores, prepare_environment
from semscale.serving.lifeline import end_children_with_me, watch_parent
from semscale.serving.metrics import monitoring_arguments

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_PATIENCE = 20.0
# jina's clients, the gateway among them, ping every 10 s; gRPC's servers take pings that carry no data for an attack
# and close the connection after a few, amid a long request or after minutes of rest, unless they are told not to count
_GRPC_OPTIONS = {"grpc.http2.max_ping_strikes": 0}


@dataclass(frozen=True)
class ServeConfig:
    """What a server is started with.

    Args:
        model: a model name as in :func:`semscale.models.loading.load_model`.
        replicas: processes that each hold the model.
        device: `cpu`, `cuda` (replicas spread over the GPUs) or `cuda:N`.
        dtype: `fp32`, `fp16`, `bf16` or None (fp32 on CPU, fp16 on CUDA).
        host: address to bind to; only 127.0.0.1 keeps other machines out.
        port: gRPC port; 0 takes a free one.
        minibatch_size: rows that the model computes at once; None: see :func:`minibatch_rows`.
        num_threads: CPU threads per replica; None: cores divided by replicas.
        timeout_send: seconds that the gateway waits for a replica's answer; None waits for ever.
        metrics_port: Prometheus page of replica r at this port + r; None: no pages.
        status_fd: file descriptor for events to the process that started the server (see `announce`).
        lifeline_fd: reading end of a pipe; when its other end closes, the server stops.
        token_file: holds the token that clients must show; None: see :func:`semscale.access.read_token`.
        compiled: compile the model with ``torch.compile``.
        gpus: `all`, or numbers and UUIDs of GPUs; each gets `per_gpu` replicas, and `replicas` is then their number.
        per_gpu: replicas per GPU.
        tls_cert, tls_key: PEM files of the certificate chain and its private key; None: no TLS.
    """

    model: str
    replicas: int = 1
    device: str = "cpu"
    dtype: str | None = None
    host: str = "127.0.0.1"
    port: int = 51000
    minibatch_size: int | None = None
    num_threads: int | None = None
    timeout_send: float | None = None
    metrics_port: int | None = None
    status_fd: int | None = None
    lifeline_fd: int | None = None
    token_file: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    compiled: bool = False
    gpus: str | None = None
    per_gpu: int = 1

    def __post_init__(self) -> None:
        _expect(self.per_gpu >= 1, "--per-gpu", self.per_gpu, "1 or more")
        _expect(self.replicas >= 1, "--replicas", self.replicas, "1 or more")
        _expect(0 <= self.port <= 65535, "--port", self.port, "0 to 65535")
        _expect(
            self.minibatch_size is None or self.minibatch_size >= 1, "--minibatch", self.minibatch_size, "1 or more"
        )
        _expect(self.num_threads is None or self.num_threads >= 1, "--threads", self.num_threads, "1 or more")
        _expect(self.timeout_send is None or self.timeout_send > 0, "--timeout", self.timeout_send, "seconds above 0")


def serve(config: ServeConfig) -> int:
    """Start the server, say when it is ready, and block until SIGINT or SIGTERM.

    Returns:
        the exit status: 0 after an orderly stop, 1 if the server cannot start (which has been said).
    """
    announcer = Announcer(config.status_fd)
    set_announcer(announcer)
    stop = threading.Event()
    starting = True

    def on_signal(signum: int, frame: FrameType | None) -> None:
        stop.set()
        if starting:
            raise KeyboardInterrupt

    _on_stop_signals(on_signal)
    if config.lifeline_fd is not None:
        watch_parent(config.lifeline_fd, on_gone=lambda: _stop_soon(stop))
    flow: Any = None
    supervisor: Any = None
    try:
        flow = build_flow(config, announcer)
        # Importing jina has put Python's own handler of SIGINT back.
        _on_stop_signals(on_signal)
        from semscale.serving.supervisor import Supervisor

        flow.start()
        starting = False
        supervisor = Supervisor(flow, announcer.changed)
        announcer.ready(_url(config, flow.port), supervisor.process_ids())
        supervisor.watch(stop)
        say("stopping")
        return 0
    except KeyboardInterrupt:
        say("stopped before it was ready")
        return 0
    except SemscaleError as error:
        # Whoever hears this may send SIGTERM at once.
        starting = False
        announcer.error(error)
        return 1
    finally:
        starting = False
        if supervisor is not None:
            supervisor.settle()
        if flow is not None:
            flow.close()


def build_flow(config: ServeConfig, announcer: Announcer) -> Any:
    """Load the model once and build the Flow whose replicas are forked from this process and share its weights.

    Raises:
        SemscaleError: a model or device that cannot be had, or a port that is taken.
    """
    prepare_environment()
    token = read_token(config.token_file)
    check_certificate(config.tls_cert, config.tls_key)
    if config.port:
        # Before minutes go into a large model; asked again when it is needed.
        _claim_port(config.host, config.port)
    announcer.progress(f"loading {config.model}")
    import torch

    from semscale.models.devices import pick_device
    from semscale.models.loading import read_model, resolve_dtype
    from semscale.serving.gpus import choose_gpus, visible_gpus

    gpus: list[str] = []
    if config.gpus is not None:
        gpus = choose_gpus(config.gpus, visible_gpus())
        config = replace(config, device="cuda", replicas=len(gpus) * config.per_gpu)
    pick_device(config.device)
    if config.device == "cuda" and not gpus:
        gpus = visible_gpus()
    resolve_dtype(config.dtype, config.device)
    # A single thread leaves no OpenMP pool behind; a forked replica could not use the parent's.
    torch.set_num_threads(1)
    loaded = read_model(config.model)
    identity = loaded.identity
    announcer.progress(
        f"{identity.name} ({identity.architecture}), weights {identity.weights_sha256[:12]}, "
        f"{identity.embedding_dim} dimensions; starting {config.replicas} "
        f"{'replica' if config.replicas == 1 else 'replicas'} on {config.device}"
    )

    # The libraries' own: deprecated imports, annotations written as strings, pydantic keys of another version.
    warnings.filterwarnings("ignore", category=UserWarning, module=r"clip_server|jina|hubble|pydantic")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from semscale.serving import executor, gateway
        from semscale.serving.plain_flow import PlainFlow

    gateway.require_token(token)
    executor.preload(loaded, config.model)
    end_children_with_me()
    for replica in range(config.replicas):
        # jina logs an empty line for a failed request when it may not print the traceback; the executor says why.
        logging.getLogger(f"clip/rep-{replica}").addFilter(lambda record: bool(record.getMessage().strip()))
    port = _claim_port(config.host, config.port)
    if config.host not in _LOOPBACK:
        _warn_of_visitors(config, port, token is not None)
    if config.metrics_port is not None:
        say(f"metrics of replica 0 at http://{config.host}:{config.metrics_port}, of the next one port higher each")
    flow = PlainFlow(
        protocol="grpc",
        host=config.host,
        port=port,
        grpc_server_options=_GRPC_OPTIONS,
        **({"timeout_send": int(config.timeout_send * 1000)} if config.timeout_send else {}),
    )
    # for the gateway alone: options of the Flow reach the replicas as well
    tls = {"ssl_certfile": config.tls_cert, "ssl_keyfile": config.tls_key} if config.tls_cert else {}
    flow = flow.config_gateway(uses=gateway.SemscaleGateway, **tls)
    return flow.add(
        name="clip",
        uses=executor.SemscaleEncoder,
        uses_with=_executor_arguments(config, identity.image_size, gpus),
        replicas=config.replicas,
        host="127.0.0.1",
        # A large model may take minutes to reach a GPU.
        timeout_ready=-1,
        quiet_error=True,
        **monitoring_arguments(config.metrics_port, config.replicas, config.host),
    )


def _on_stop_signals(handler: Callable[[int, FrameType | None], None]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handler)


def _stop_soon(stop: threading.Event) -> None:
    """Stop in good order, or, should that hang, at once: the kernel then ends gateway and replicas."""
    stop.set()
    os.kill(os.getpid(), signal.SIGTERM)
    timer = threading.Timer(_PATIENCE, os._exit, args=(1,))
    timer.daemon = True
    timer.start()


def _executor_arguments(config: ServeConfig, image_size: tuple[int, int], gpus: list[str]) -> dict[str, Any]:
    threads = config.num_threads or max(1, available_cores() // config.replicas)
    return {
        "name": config.model,
        "device": config.device,
        "dtype": config.dtype,
        "minibatch_size": config.minibatch_size or minibatch_rows(config.device, image_size),
        "num_threads": threads,
        "num_worker_preprocess": min(8, threads),
        "compiled": config.compiled,
        "gpus": gpus or None,
        "per_gpu": config.per_gpu,
    }


def _claim_port(host: str, port: int) -> int:
    """Check that a port is free, or find a free one (0)."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise SemscaleError(
                "the server cannot listen there",
                where=f"{host}:{port}",
                found=error.strerror or str(error),
                hint="choose another --port, or 0 for any free one",
            ) from error
        return int(probe.getsockname()[1])


def _warn_of_visitors(config: ServeConfig, port: int, guarded: bool) -> None:
    """Say in one line what a server that other machines reach lacks."""
    who = "every machine that reaches it can use this server" if not guarded else "its token can be read on the way"
    ways = [
        *([] if guarded else ["--token-file or SEMSCALE_SERVER_TOKEN (a token)"]),
        *([] if config.tls_cert else ["--tls-cert and --tls-key (TLS)"]),
    ]
    if ways:
        say(f"warning: {config.host}:{port}: {who}; see {' and '.join(ways)}")


def _url(config: ServeConfig, port: int) -> str:
    host, scheme = config.host, "grpcs" if config.tls_cert else "grpc"
    name = "127.0.0.1" if host in ("0.0.0.0", "::") else host
    return f"{scheme}://[{name}]:{port}" if ":" in name else f"{scheme}://{name}:{port}"


def _expect(fine: bool, where: str, found: object, expected: str) -> None:
    if not fine:
        raise SemscaleError("a setting is out of range", where=where, found=str(found), expected=expected)
