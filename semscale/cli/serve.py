"""Commands ``semscale serve``, ``semscale health`` and ``semscale doctor``: clip-servers and the installation."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from semscale.cli.group import main
from semscale.cli.options import MODEL, SchemaCommand
from semscale.cli.output import Result, json_option, print_lines

_TOKEN_FILE = click.option(
    "--token-file", metavar="FILE", help="File with the server's token.  [SEMSCALE_SERVER_TOKEN]"
)


@main.command()
@MODEL
@click.option("--replicas", default=1, show_default=True, type=click.IntRange(min=1))
@click.option("--device", default="cpu", show_default=True, type=click.Choice(["cpu", "cuda"]))
@click.option(
    "--gpus", metavar="LIST", help="all, or comma-separated numbers and UUIDs: a replica for each, which sees only it."
)
@click.option("--per-gpu", default=1, show_default=True, type=click.IntRange(min=1), help="Replicas for each GPU.")
@click.option("--dtype", type=click.Choice(["fp32", "fp16", "bf16"]), help="[fp32 on cpu, fp16 on cuda]")
@click.option("--host", default="127.0.0.1", show_default=True, help="Interface to listen on.")
@click.option("--port", default=51000, show_default=True, type=click.IntRange(0, 65535), help="0 chooses a free port.")
@click.option(
    "--minibatch-size", type=click.IntRange(min=1), help="Rows per forward pass.  [16 to 64 on cpu, 256 on cuda]"
)
@click.option("--compile", "compiled", is_flag=True, help="Compile the model: starts a minute later, faster on GPUs.")
@click.option("--trust-remote-code", is_flag=True, help="Run Python code of a model directory or download.")
@_TOKEN_FILE
@click.option("--tls-cert", metavar="FILE", help="PEM file of the certificate chain; enables TLS (grpcs://).")
@click.option("--tls-key", metavar="FILE", help="PEM file of its private key.")
@click.option("--metrics-port", type=click.IntRange(1, 65535), help="Port of Prometheus metrics, with the same token.")
def serve(**options: Any) -> None:
    """Start a clip-server for a model.

    Runs one process per replica, each on its own port, over gRPC, until Ctrl-C. Prints the addresses.

    \b
    semscale serve --replicas 2 --port 51000
    semscale serve --model ViT-B-32::laion2b_s34b_b79k --gpus all --per-gpu 2
    """
    from semscale.serving.replicas import serve as run
    from semscale.serving.server_config import ServeConfig

    run(ServeConfig(**options))


@main.command()
@click.argument("url", metavar="URL")
@click.option("--timeout", default=10.0, show_default=True, type=click.FloatRange(min=0.1), help="Seconds to wait.")
@_TOKEN_FILE
@json_option("url, dimension (of an embedding)")
def health(url: str, timeout: float, token_file: str | None) -> Result:
    """Ask a clip-server to encode one short text.

    Exit status 0 if it does, 1 with the reason if not: a probe for containers and load balancers. The gRPC health
    service does not tell whether the model encodes.

    \b
    semscale health grpc://127.0.0.1:51000 --timeout 5
    """
    from semscale.common.access import read_access
    from semscale.common.redact import mask_url
    from semscale.encoding.verification import check_server

    _, dimension = check_server(url, timeout, read_access(token_file))
    document = {"url": mask_url(url), "dimension": dimension}
    return Result(lambda: document, lambda: click.echo(f"{mask_url(url)} encodes, dimension {dimension}"))


@main.command(cls=SchemaCommand, keys=("--server", "--store"))
@json_option("passes, findings (rows with title, ok, detail, fix, required)")
def doctor(server: tuple[str, ...], store: str | None) -> Result:
    """Check the installation.

    Checks versions, WordNet, the device, the store, and that servers encode a text. Every line says ok or how to fix
    it; the exit status is 1 if something that sweeps require is not ok.

    \b
    semscale doctor --server grpc://gpu1:51000
    """
    from semscale.cli.doctor import diagnose
    from semscale.common.progress import open_console

    findings = diagnose(server, store)
    passes = all(finding.ok or not finding.required for finding in findings)

    def show() -> None:
        console, width = open_console(), max(len(finding.title) for finding in findings)
        for finding in findings:
            console.print("[green]ok    [/green]" if finding.ok else "[red]not ok[/red]", end="")
            print_lines(console, f" {finding.title:<{width}}  {finding.detail}")
            if not finding.ok:
                print_lines(console, f"       {'':<{width}}  to fix: {finding.fix}")

    document = {"passes": passes, "findings": [asdict(finding) for finding in findings]}
    return Result(lambda: document, show, 0 if passes else 1)
