"""`python -m semscale.serving --model NAME`: the server in the foreground."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence

from semscale.errors import SemscaleError
from semscale.serving.flow import ServeConfig, serve


def build_parser() -> argparse.ArgumentParser:
    """Describe the arguments; their meaning is that of :class:`semscale.serving.flow.ServeConfig`."""
    parser = argparse.ArgumentParser(prog="python -m semscale.serving", description="Serve a CLIP model over gRPC.")
    parser.add_argument("--model", required=True, help="semscale-mini, ARCH::TAG, hf-hub:ORG/NAME, ARCH::FILE or DIR")
    parser.add_argument("--replicas", type=int, default=1, help="processes that hold the model")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("--dtype", help="fp32, fp16 or bf16 (default: fp32 on CPU, fp16 on CUDA)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=51000, help="gRPC port; 0 takes a free one")
    parser.add_argument("--minibatch", dest="minibatch_size", type=int, help="rows computed at once")
    parser.add_argument("--threads", dest="num_threads", type=int, help="CPU threads per replica")
    parser.add_argument("--timeout", dest="timeout_send", type=float, help="seconds to wait for a replica")
    parser.add_argument("--metrics-port", type=int, help="Prometheus page of the first replica")
    parser.add_argument("--token-file", help="file with the token that clients must show")
    parser.add_argument("--tls-cert", help="PEM file of the certificate chain")
    parser.add_argument("--tls-key", help="PEM file of its private key")
    parser.add_argument("--compile", dest="compiled", action="store_true", help="compile the model first")
    parser.add_argument("--gpus", help="all, or numbers and UUIDs with commas")
    parser.add_argument("--per-gpu", type=int, default=1, help="replicas per GPU")
    parser.add_argument("--status-fd", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--lifeline-fd", type=int, help=argparse.SUPPRESS)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, serve until a signal comes, and return the exit status."""
    try:
        config = ServeConfig(**vars(build_parser().parse_args(arguments)))
    except SemscaleError as error:
        print(f"semscale serve: error: {error}", file=sys.stderr)
        return 2
    return serve(config)


if __name__ == "__main__":
    status = main()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    # Taking down torch's modules one by one takes seconds and frees nothing that the end of the process does not.
    os._exit(status)
