"""``semscale doctor``: is everything in place?"""

from __future__ import annotations

import sys

import click

from semscale.cli.group import main


@main.command()
@click.option("--server", "servers", multiple=True, metavar="URL", help="Also try this clip-server; repeatable.")
@click.option("--store", metavar="DIR", help="Also try this embedding store.")
def doctor(servers: tuple[str, ...], store: str | None) -> None:
    """Check that everything is in place.

    Looks at versions, WordNet, device, servers (by a dry run) and the store. Every line says ok or what to do; the
    exit status is 1 if a line that sweeps need is not ok.

    \b
    semscale doctor --server grpc://gpu1:51000
    """
    from semscale.doctor import examine, show_findings

    findings = examine(servers, store)
    show_findings(findings)
    sys.exit(0 if all(finding.ok or not finding.required for finding in findings) else 1)
