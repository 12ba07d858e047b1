"""``semscale doctor``: is everything in place?"""

from __future__ import annotations

import sys
from dataclasses import asdict

import click

from semscale.cli.group import main
from semscale.cli.output import json_option, only_json, print_json


@main.command()
@click.option("--server", "servers", multiple=True, metavar="URL", help="Also try this clip-server; repeatable.")
@click.option("--store", metavar="DIR", help="Also try this embedding store.")
@json_option("passes, findings (rows with title, ok, detail, mend, required)")
def doctor(servers: tuple[str, ...], store: str | None, as_json: bool) -> None:
    """Check that everything is in place.

    Looks at versions, WordNet, device, servers (by a dry run) and the store. Every line says ok or what to do; the
    exit status is 1 if a line that sweeps need is not ok.

    \b
    semscale doctor --server grpc://gpu1:51000
    """
    from semscale.doctor import examine, show_findings

    with only_json(as_json):
        findings = examine(servers, store)
    passes = all(finding.ok or not finding.required for finding in findings)
    if as_json:
        print_json({"passes": passes, "findings": [asdict(finding) for finding in findings]})
    else:
        show_findings(findings)
    sys.exit(0 if passes else 1)
