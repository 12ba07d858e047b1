"""Service discovery of clip-server nodes in a Ray cluster: requests nodes, and keeps a file of their addresses.

Runs on any node of the cluster: ``python endpoints.py --nodes 8 endpoints.txt``. A node has a clip-server if its type
in the cluster's YAML has the resource ``clip_server``. The file has a line ``grpc://host:port`` per node and is updated
when spot nodes come or go. Ctrl-C ends it and releases the nodes to the autoscaler.
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
    addresses = {node["NodeManagerAddress"] for node in nodes if node["Alive"] and node["Resources"].get(RESOURCE)}
    return sorted(f"grpc://{address}:{port}" for address in addresses)


def write(path: Path, urls: Iterable[str]) -> None:
    """Write the addresses atomically, one per line."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text("".join(f"{url}\n" for url in urls), encoding="utf-8")
    os.replace(partial, path)


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--nodes", type=click.IntRange(min=0), help="Nodes with a clip-server to request from the autoscaler.")
@click.option("--port", default=51000, show_default=True, type=click.IntRange(1, 65535))
@click.option("--every", default=10.0, show_default=True, type=click.FloatRange(min=1), help="Seconds between checks.")
@click.option("--once", is_flag=True, help="Check once and end, without releasing the nodes.")
def main(file: Path, nodes: int | None, port: int, every: float, once: bool) -> None:
    """Write the addresses of the cluster's clip-servers to FILE, whenever nodes come or go."""
    ray.init(address="auto", log_to_driver=False, logging_level="ERROR")
    if nodes is not None:
        request_resources(bundles=[{RESOURCE: 1}] * nodes)
    known: list[str] | None = None
    try:
        while True:
            current = endpoints(ray.nodes(), port)
            if current != known:
                write(file, current)
                click.echo(f"{len(current)} clip-servers: {', '.join(current) or 'none yet'}")
            known = current
            if once:
                return
            time.sleep(every)
    finally:
        if nodes is not None and not once:
            request_resources(bundles=[])


if __name__ == "__main__":
    main()
