"""A study on two Ray nodes, during which something is lost; run as a script: MODE, folder, URL of a server."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

os.environ.update(NO_VERSION_CHECK="1", JINA_OPTOUT_TELEMETRY="1", RAY_USAGE_STATS_ENABLED="0")

import numpy as np
import psutil
import ray
from ray.cluster_utils import Cluster
from rich.console import Console

from semscale.common.progress import LineReporter
from semscale.config import StudyConfig, study_from
from semscale.encoding.store_backed_encoder import EncodedImages
from semscale.store.embedding_store import EmbeddingStore
from semscale.store.key_index import content_digest
from semscale.store.segment import write_segment
from semscale.study import pipeline, trial_grid
from semscale.study.arms import make_arms
from semscale.study.encoding_stage import EncodedArm
from semscale.study.scoring_stage import ScoredLadder, choose_placement, score_arm

MODE, FOLDER, URL = sys.argv[1], Path(sys.argv[2]), sys.argv[3]


def at_work(title: str, below: psutil.Process) -> list[psutil.Process]:
    """Return the Ray workers of a node, or of all, that do something; Ray puts it into their titles."""
    found = []
    for process in below.children(recursive=True):
        try:
            if title in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:  # ended meanwhile
            continue
    return found


class Saboteur(LineReporter):
    """Strikes once, amid the stage that the mode names, when there is something to strike."""

    def __init__(self) -> None:
        super().__init__(Console(), every=0.0)
        self.begun = False

    def note(self, text: str) -> None:
        super().note(text)
        if not self.begun and text.startswith(STAGES.get(MODE, "never")) and "done" not in text:
            self.begun = True
            # not in this thread: losing a node takes seconds, during which the work goes on
            threading.Thread(target=strike).start()


def strike() -> None:
    node = psutil.Process(second.all_processes["raylet"][0].process.pid)
    title = TITLES[MODE]
    for _ in range(3000):
        if victims := at_work(title, node):
            break
        time.sleep(0.01)
    else:
        return
    if MODE == "actor":
        victims[0].send_signal(signal.SIGKILL)
    else:
        lose_node()
    print("STRUCK", MODE, flush=True)


STAGES = {"actor": "encoding shapes", "encode": "encoding shapes", "trial": "trials"}
TITLES = {
    "actor": "ray::EncoderActor",
    "encode": "ray::EncoderActor.encode",
    "score": "ray::_score_range",
    "trial": "ray::StepTrial",
}


def study(**more: Any) -> StudyConfig:
    return study_from(
        {
            "name": "faults",
            "datasets": ["shapes"],
            "strategies": ["templates"],
            "controls": ["duplicates"],
            "steps": 6,
            "server": {"urls": [URL]},
            "encoding": {"batch_size": 16, "actors": 4},
            "store": str(FOLDER / "store"),
            **more,
        }
    )


def strike_at_results() -> None:
    """Lose the node when its workers have answered and nobody has fetched the answers, which are no small ones."""
    take, struck = trial_grid._OnResult.on_trial_result, threading.Event()

    def slowly(
        self: trial_grid._OnResult, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        take(self, iteration, trials, trial, result, **info)
        if not struck.is_set():
            struck.set()
            time.sleep(3.0)  # the other workers answer meanwhile, and this thread is the one that would fetch it
            lose_node()
            print("STRUCK", MODE, flush=True)

    fit = trial_grid._fit

    def counted(*arguments: Any) -> Any:
        print("EXPERIMENT", flush=True)
        return fit(*arguments)

    trial_grid._OnResult.on_trial_result, trial_grid._fit = slowly, counted  # type: ignore[method-assign]


def lose_node() -> None:
    """End all of the second node at once, as when the machine is gone."""
    node = psutil.Process(second.all_processes["raylet"][0].process.pid)
    for process in [node, *node.children(recursive=True)]:
        process.send_signal(signal.SIGKILL)
    cluster.remove_node(second, allow_graceful=False)


class RandomRows:
    """Stands for the encoder behind 48,000 images and 864 texts, with random rows: they take seconds to score."""

    class identity:  # noqa: N801
        logit_scale = 100.0

    def __init__(self) -> None:
        templates = [f"{{c}} number {i}" for i in range(72)]
        strategy = {"strategy": "custom", "options": {"templates": templates}}
        config = study(strategies=[strategy], controls=[], orders=list(range(8)), steps=3, scales=[1, 2, 72])
        (arm,) = make_arms(config)
        texts = list(dict.fromkeys(text for ladder in arm.ladders for text in ladder.flatten().texts))
        positions = np.tile(np.arange(len(arm.dataset.samples)), 40)
        keys = [content_digest(f"image {i}") for i in range(len(positions))]
        numbers = np.random.default_rng(0)
        for kind, names in (("image", keys), ("text", list(map(content_digest, texts)))):
            rows = numbers.standard_normal((len(names), 512), dtype=np.float32)
            write_segment(FOLDER / kind, names, rows / np.linalg.norm(rows, axis=1, keepdims=True))
        images = EncodedImages(positions, np.array(keys, dtype="V32"), {}, 0)
        self.arm = EncodedArm(arm, images, self)  # type: ignore[arg-type]

    def image_embeddings(self, keys: Any) -> Any:
        return EmbeddingStore(FOLDER / "image").read(keys)

    def text_embeddings(self, texts: Any) -> Any:
        return EmbeddingStore(FOLDER / "text").read([content_digest(text) for text in texts])

    def score(self) -> list[bytes]:
        """Return every bit of the scores of all ladders."""
        found: list[ScoredLadder] = score_arm(self.arm, "random", ("max",), choose_placement("cpu"), Counter())
        return [array.tobytes() for one in found for array in vars(one.scores).values()]


def main() -> None:
    if MODE == "score":
        rows = RandomRows()
        undisturbed = rows.score()
        striking = threading.Thread(target=strike)
        striking.start()
        assert rows.score() == undisturbed
        striking.join()
        print("EQUAL", len(undisturbed), flush=True)
    else:
        print("SENT", pipeline.sweep(study(), FOLDER / "run", Saboteur()).images_sent, flush=True)


if __name__ == "__main__":
    # from so many bytes on, answers stay where they were made until they are fetched
    small = {"_system_config": {"max_direct_call_object_size": 1000}} if MODE == "result" else {}
    nodes = {"include_dashboard": False, "object_store_memory": 400_000_000, **small}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, **nodes})
    second = cluster.add_node(num_cpus=2, object_store_memory=400_000_000)
    ray.init(address=cluster.address, log_to_driver=False, namespace="semscale")
    # of such a small study the trials would be one worker's work
    trial_grid._IMAGES_PER_WORKER = 1000
    if MODE == "result":
        strike_at_results()
    main()
    ray.shutdown()
    cluster.shutdown()
