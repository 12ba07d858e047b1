"""A study on two Ray nodes, during which something is lost; run as a script: MODE, folder, URL of a server."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

os.environ.update(NO_VERSION_CHECK="1", JINA_OPTOUT_TELEMETRY="1", RAY_USAGE_STATS_ENABLED="0")

import psutil
import ray
from ray.cluster_utils import Cluster
from rich.console import Console

from semscale.config import study_from
from semscale.sweep import study as sweep
from semscale.sweep.progress import Lines

MODE, FOLDER, URL = sys.argv[1], Path(sys.argv[2]), sys.argv[3]


class Saboteur(Lines):
    """Strikes once, amid the stage that the mode names."""

    def __init__(self) -> None:
        super().__init__(Console(), every=0.0)
        self.struck = False

    def note(self, text: str) -> None:
        super().note(text)
        if not self.struck and MODE != "none" and text.startswith(STAGES[MODE]) and "done" not in text:
            self.struck = True
            STRIKES[MODE]()


def kill_an_actor() -> None:
    victims = [p for p in psutil.Process().children(recursive=True) if "ray::EncoderActor" in " ".join(p.cmdline())]
    victims[0].send_signal(signal.SIGKILL)
    print("STRUCK an actor", flush=True)


def lose_the_node() -> None:
    # not in this thread: losing a node takes seconds, during which the work goes on
    threading.Thread(target=cluster.remove_node, args=(second, False)).start()
    print("STRUCK a node", flush=True)


STAGES = {"actor": "encoding shapes", "encode": "encoding shapes", "trial": "trials"}
STRIKES: dict[str, Any] = {"actor": kill_an_actor, "encode": lose_the_node, "trial": lose_the_node}

if __name__ == "__main__":
    nodes = {"include_dashboard": False, "object_store_memory": 200_000_000}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, **nodes})
    second = cluster.add_node(num_cpus=2, object_store_memory=200_000_000)
    ray.init(address=cluster.address, log_to_driver=False, namespace="semscale")
    config = study_from(
        {
            "name": "faults",
            "datasets": ["shapes"],
            "strategies": ["templates"],
            "controls": ["duplicates"],
            "steps": 6,
            "server": {"urls": [URL]},
            "encoding": {"batch_size": 16, "actors": 4},
            "store": str(FOLDER / "store"),
        }
    )
    result = sweep.sweep(config, FOLDER / "run", Saboteur())
    print("SENT", result.images_sent, flush=True)
    ray.shutdown()
    cluster.shutdown()
