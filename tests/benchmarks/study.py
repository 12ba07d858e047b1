"""A whole study against encoding its images and texts once, and against encoding them at every step.

6,097 and then 49,797 images, 12 steps, 2 strategies (quick: 150 images, 3 steps). One server of two replicas, one
Ray and one MLflow store are up before the clock starts, for every way. clip-client knows one address, and one client
keeps one replica busy: behind a gateway before two replicas it took as long. In turn within a round:
  encode once   clip-client's own `encode` of all unique images and texts, batch size tuned
  semscale      the whole study: encode, score, trials with their MLflow runs, conclusions, report; a fresh store
  every step    the original tool's way: at every step of every ladder clip-client encodes all images and all texts of
                the step, and the most similar text is looked up; the larger set is timed for one step of each ladder
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
from clip_client import Client
from docarray import Document, DocumentArray
from numpy.typing import NDArray

from semscale.cluster.connection import ray_cluster
from semscale.common.progress import ProgressCallback, SilentReporter
from semscale.config import StudyConfig, study_from
from semscale.datasets.bundled import bundled_listing
from semscale.serving.launcher import launch_server
from semscale.study.arms import Arm, make_arms
from semscale.study.pipeline import sweep

from .harness import Row, ratios, row, seconds_of

MODEL = "semscale-mini"
BATCH_SIZES = (32, 64, 128, 256)


def measure(quick: bool) -> list[Row]:
    """Return the study's time and speed against both other ways, and the time of one more trial."""
    with tempfile.TemporaryDirectory() as name, ray_cluster(None):
        root = Path(name)
        with launch_server(MODEL, replicas=2, log_file=root / "server.log") as server:
            if quick:
                return [
                    *compare(root / "s", server.urls, (30, 45), 3, 1, 1),
                    trial_cost(root, server.urls, (1, 3), 2, 1),
                ]
            return [
                *compare(root / "small", server.urls, (None, 2150), 12, 3, None),
                *compare(root / "large", server.urls, (None, 24_000), 12, 2, 1),
                trial_cost(root, server.urls, (2, 27), 12, 3),
            ]


def compare(
    root: Path, urls: Sequence[str], sizes: tuple[int | None, int], steps: int, rounds: int, most: int | None
) -> list[Row]:
    """Measure all ways on digits and shapes of these sizes; `most` limits the steps that are timed the old way."""
    write_images(root, *sizes)
    # a first small study makes the tracking store, which is a cost of the first study ever
    sweep(study_of(root, urls, 2, root / "warm", limit=200), root / "runs" / "warm", SilentReporter())
    plain = PlainClient(urls[0], make_arms(study_of(root, urls, steps, root / "none")))
    once, ours, every = [], [], []
    for number in range(rounds):
        once.append(seconds_of(plain.encode_once))
        study = study_of(root, urls, steps, root / f"store-{number}")
        ours.append(seconds_of(partial(sweep, study, root / "runs" / f"round-{number}", SilentReporter())))
        every.append(seconds_of(partial(plain.encode_every_step, most)) * steps / (most or steps))
    return [
        row(f"{plain.images:,} images, time against encoding the same once", ratios(ours, once), most=1.15),
        row(f"{plain.images:,} images, speed against the original tool's way", ratios(every, ours), least=20),
    ]


def trial_cost(root: Path, urls: Sequence[str], orders: tuple[int, int], steps: int, rounds: int) -> Row:
    """Return the milliseconds of one more trial, MLflow run included: many orders against few, all of it encoded."""
    per_trial = []
    for number in range(rounds + 1):  # the first one encodes
        seconds = []
        for count in orders:
            study = study_from(
                {
                    "name": f"trials-{number}-{count}",
                    "datasets": ["digits"],
                    "strategies": ["templates"],
                    "controls": [],
                    "orders": list(range(count)),
                    "steps": steps,
                    "server": {"urls": list(urls)},
                    "store": str(root / "store-of-trials"),
                }
            )
            clock = TrialClock()
            sweep(study, root / "runs" / study.name, clock)
            seconds.append(clock.seconds)
        per_trial.append(1000 * (seconds[1] - seconds[0]) / (steps * (orders[1] - orders[0])))
    return row("one more trial, ms", per_trial[1:], most=60)


class TrialClock(SilentReporter):
    """Progress reporter that keeps the seconds of the trials."""

    seconds = 0.0

    @contextmanager
    def stage(self, title: str, total: int | None = None, unit: str = "") -> Iterator[ProgressCallback]:
        """Time the stage."""
        start = time.perf_counter()
        yield lambda done, total: None
        if title == "trials":
            self.seconds = time.perf_counter() - start


def write_images(root: Path, digits: int | None, shapes: int) -> None:
    """Write both halves of the digits and any number of shapes into folders, outside of any clock."""
    for split in ("train", "test"):
        for name, size in (("digits", digits), ("shapes", shapes)):
            drawn = bundled_listing(name, split, size=size)
            for entry in drawn.entries:
                path = root / name / str(entry.label) / f"{split}-{Path(entry.file).name}"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(drawn.reader.read(entry.file))


def study_of(root: Path, urls: Sequence[str], steps: int, store: Path, limit: int | None = None) -> StudyConfig:
    """Return the study: two datasets, two strategies, no controls."""
    return study_from(
        {
            "name": store.name,
            "datasets": [
                {"spec": f"folder:{root / 'digits'}", "domain": "digit"},
                {"spec": f"folder:{root / 'shapes'}", "domain": "shape"},
            ],
            "strategies": ["templates", "templates-fixed"],
            "controls": [],
            "steps": steps,
            "limit": limit,
            "server": {"urls": list(urls)},
            "store": str(store),
        }
    )


class PlainClient:
    """What a careful user of clip-client alone would do."""

    def __init__(self, url: str, arms: Sequence[Arm]) -> None:
        self._client = Client(url)
        self._arms = arms
        self.images = sum(len(arm.dataset.samples) for arm in arms)
        self.texts = list(
            dict.fromkeys(text for arm in arms for ladder in arm.ladders for text in ladder.flatten().texts)
        )
        self.size = min(BATCH_SIZES, key=self._try_size)

    def _try_size(self, size: int) -> float:
        return min(seconds_of(partial(self._encode_images, self._arms[-1], size, 1000)) for _ in range(2))

    def encode_once(self) -> None:
        """Encode all images and all unique texts."""
        for arm in self._arms:
            self._encode_images(arm, self.size)
        self._encode_texts(self.texts)

    def encode_every_step(self, most: int | None) -> None:
        """Encode all images and the step's texts at every step, or the first `most` steps, of every ladder."""
        for strategy in range(len(self._arms[0].ladders)):
            for arm in self._arms:
                flat = arm.ladders[strategy].flatten()
                for end in flat.step_ends[:most]:
                    images = self._encode_images(arm, self.size)
                    (images @ self._encode_texts(flat.texts[:end]).T).argmax(axis=1)

    def _encode_images(self, arm: Arm, size: int, most: int | None = None) -> NDArray[np.float32]:
        reader = arm.dataset.reader
        files = islice((sample.file for sample in arm.dataset.samples), most)
        encoded = self._client.encode((Document(blob=reader.read(file)) for file in files), batch_size=size)
        return np.asarray(encoded.embeddings)

    def _encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        encoded = self._client.encode(DocumentArray([Document(text=text) for text in texts]), batch_size=self.size)
        return np.asarray(encoded.embeddings)
