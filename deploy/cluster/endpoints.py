"""Keep a number of clip-server nodes in a Ray cluster, and a file with the addresses of those that are there.

Runs on the head, or anywhere inside the cluster: ``python endpoints.py --nodes 8 endpoints.txt``. A node has a
clip-server if its type in the cluster's YAML has the resource ``clip_server``; spot nodes come and go, and the file,
one ``grpc://host:port`` in a line, follows. Ctrl-C ends it and lets the autoscaler take the nodes back.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click
import ray
from ray.autoscaler.sdk import request_resources

RESOURCE = "clip_server"


def endpoints(nodes: Iterable[Mapping[str, Any]], port: int) -> list[str]:
    """Return the addresses of the clip-servers on the living nodes, sorted.

    >>> node = {"Alive": True, "NodeManagerAddress": "10.0.0.7", "Resources": {"clip_server": 1.0}}
    >>> endpoints([node, node | {"Alive": False}, node | {"Resources": {"CPU": 8.0}}], 51000)
    ['grpc://10.0.0.7:51000']
    """
    there = {node["NodeManagerAddress"] for node in nodes if node["Alive"] and node["Resources"].get(RESOURCE)}
    return sorted(f"grpc://{address}:{port}" for address in there)


def write(path: Path, urls: Iterable[str]) -> None:
    """Write the addresses, one in a line; a reader sees the old or the new file, never half of it."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text("".join(f"{url}\n" for url in urls), encoding="utf-8")
    os.replace(partial, path)


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--nodes", type=click.IntRange(min=0), help="Ask the autoscaler for this many nodes with a clip-server.")
@click.option("--port", default=51000, show_default=True, type=click.IntRange(1, 65535))
@click.option("--every", default=10.0, show_default=True, type=click.FloatRange(min=1), help="Seconds between looks.")
@click.option("--once", is_flag=True, help="Look once and end; the nodes stay as long as the cluster has use for them.")
def main(file: Path, nodes: int | None, port: int, every: float, once: bool) -> None:
    """Write the addresses of the cluster's clip-servers into FILE, again whenever nodes come or go."""
    ray.init(address="auto", log_to_driver=False, logging_level="ERROR")
    if nodes is not None:
        request_resources(bundles=[{RESOURCE: 1}] * nodes)
    known: list[str] | None = None
    try:
        while True:
            found = endpoints(ray.nodes(), port)
            if found != known:
                write(file, found)
                click.echo(f"{len(found)} clip-servers: {', '.join(found) or 'none yet'}")
            known = found
            if once:
                return
            time.sleep(every)
    finally:
        if nodes is not None and not once:
            request_resources(bundles=[])


if __name__ == "__main__":
    main()
