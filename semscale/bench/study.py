"""What a whole study costs against encoding its images and texts once, and against encoding them at every step.

    python -m semscale.bench.study            # 6,097 and then 49,797 images, 12 steps, 2 strategies
    python -m semscale.bench.study --quick    # 150 images, 3 steps; the old way for one step

With the small set the fixed costs of a study weigh most (workers that start, 48 trials and their MLflow runs, the
report), with the large one the cost of an image; there the old way is timed for one step of each ladder.

One server, one Ray and one MLflow store are up before the clock starts, for every way. In turn within a round:
  encode once     clip-client's own `encode` of all unique images and texts, batch size tuned; it reads the files while
                  it waits for answers
  semscale        the whole study: encode, score, trials with their MLflow runs, conclusions, report; a fresh store
  every step      the original tool's way: at every step of every ladder clip-client encodes all images again and all
                  texts of the step, and the most similar text is looked up
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from clip_client import Client
from docarray import Document, DocumentArray
from numpy.typing import NDArray

from semscale.bench.alone import run_alone
from semscale.config import StudyConfig, study_from
from semscale.datasets.bundled import load_bundled
from semscale.serving.launcher import launch_server
from semscale.study.arms import Arm, make_arms
from semscale.study.cluster import ray_cluster
from semscale.study.progress import Stage
from semscale.study.study import sweep

MODEL = "semscale-mini"
SIZES = (32, 64, 128, 256)


class Clock:
    """A reporter that keeps the seconds of each stage, by the first word of its title."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, title: str, total: int | None = None, unit: str = "") -> Iterator[Stage]:
        """Time a stage."""
        start = time.perf_counter()
        yield lambda done, total: None
        word = title.split()[0]
        self.seconds[word] = self.seconds.get(word, 0.0) + time.perf_counter() - start

    def note(self, text: str) -> None:
        """Say nothing."""


def draw(root: Path, digits: int | None, shapes: int) -> None:
    """Draw both halves of the digits and any number of shapes into folders; nobody's clock runs."""
    for split in ("train", "test"):
        for name, size in (("digits", digits), ("shapes", shapes)):
            drawn = load_bundled(name, split, size)
            for sample in drawn.samples:
                path = root / name / sample.true_class / f"{split}-{Path(sample.file).name}"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(drawn.reader.read(sample.file))


def study_of(root: Path, url: str, steps: int, store: Path, name: str, limit: int | None = None) -> StudyConfig:
    """Return the study: two datasets, two strategies, no controls."""
    return study_from(
        {
            "name": name,
            "datasets": [
                {"spec": f"folder:{root / 'digits'}", "domain": "digit"},
                {"spec": f"folder:{root / 'shapes'}", "domain": "shape"},
            ],
            "strategies": ["templates", "templates-fixed"],
            "controls": [],
            "steps": steps,
            "limit": limit,
            "server": {"urls": [url]},
            "store": str(store),
        }
    )


class PlainClient:
    """What a careful user of clip-client alone would do.

    Args:
        url: the server.
        arms: the study's datasets and ladders.
    """

    def __init__(self, url: str, arms: Sequence[Arm]) -> None:
        self._client = Client(url)
        self._arms = arms
        self.images = sum(len(arm.dataset.samples) for arm in arms)
        self.texts = list(
            dict.fromkeys(text for arm in arms for ladder in arm.ladders for text in ladder.flatten().texts)
        )
        self.size = min(SIZES, key=self._try_size)

    def _try_size(self, size: int) -> float:
        taken = []
        for _ in range(2):
            start = time.perf_counter()
            self._encode_images(self._arms[-1], size, 1000)
            taken.append(time.perf_counter() - start)
        return min(taken)

    def encode_once(self) -> None:
        """Encode all images and all unique texts."""
        for arm in self._arms:
            self._encode_images(arm, self.size)
        self._encode_texts(self.texts)

    def encode_every_step(self, most: int | None) -> int:
        """Encode all images and the step's texts at every step of every ladder; return the number of passes."""
        passes = 0
        for strategy in range(len(self._arms[0].ladders)):
            for arm in self._arms:
                flat = arm.ladders[strategy].flatten()
                for end in flat.step_ends[:most]:
                    images = self._encode_images(arm, self.size)
                    (images @ self._encode_texts(flat.texts[:end]).T).argmax(axis=1)
                    passes += 1
        return passes

    def _encode_images(self, arm: Arm, size: int, most: int | None = None) -> NDArray[np.float32]:
        samples, reader = arm.dataset.samples, arm.dataset.reader
        files = islice((sample.file for sample in samples), most)
        encoded = self._client.encode((Document(blob=reader.read(file)) for file in files), batch_size=size)
        return np.asarray(encoded.embeddings)

    def _encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        encoded = self._client.encode(DocumentArray([Document(text=text) for text in texts]), batch_size=self.size)
        return np.asarray(encoded.embeddings)


def seconds_of(work: Callable[[], object]) -> float:
    """Return how long one call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(quick: bool, rounds: int | None = None) -> dict[str, Any]:
    """Return the seconds of each way per round and the two ratios of the study, see the top of this file."""
    rounds = rounds or (1 if quick else 3)
    with tempfile.TemporaryDirectory() as name, ray_cluster(None):
        root = Path(name)
        with launch_server(MODEL, replicas=2, log_file=root / "server.log") as server:
            if quick:
                return compare(root / "small", server.url, (30, 45), 3, rounds, most=1)
            small = compare(root / "small", server.url, (None, 2150), 12, rounds, most=None)
            return small | {"large": compare(root / "large", server.url, (None, 24_000), 12, min(rounds, 2), most=1)}


def compare(
    root: Path, url: str, sizes: tuple[int | None, int], steps: int, rounds: int, most: int | None
) -> dict[str, Any]:
    """Measure all ways on a set.

    Args:
        root: folder for everything.
        url: the server.
        sizes: digits and shapes of each half; None takes all digits.
        steps: scale steps.
        rounds: how often everything is measured.
        most: the old way is only timed for this many steps of each ladder; None times all.
    """
    taken: dict[str, list[float]] = {"encode once": [], "semscale": [], "every step": []}
    stages: list[dict[str, float]] = []
    draw(root, *sizes)
    # a first small study makes the tracking store, which is a cost of the first study ever
    sweep(study_of(root, url, 2, root / "warm", "warm", limit=200), root / "runs" / "warm", Clock())
    plain = PlainClient(url, make_arms(study_of(root, url, steps, root / "none", "arms")))
    for number in range(rounds):
        taken["encode once"].append(seconds_of(plain.encode_once))
        study = study_of(root, url, steps, root / f"store-{number}", f"round-{number}")
        clock = Clock()
        out = root / "runs" / f"round-{number}"
        taken["semscale"].append(seconds_of(partial(sweep, study, out, clock)))
        stages.append(clock.seconds)
        seconds = seconds_of(lambda: plain.encode_every_step(most))
        taken["every step"].append(seconds * steps / (most or steps))
    return {
        "images": plain.images,
        "texts": len(plain.texts),
        "steps": steps,
        "rounds": rounds,
        "cores": os.cpu_count(),
        "batch_size": plain.size,
        "extrapolated": most is not None,
        "seconds": taken,
        "stages": stages,
        "against_once": _spread(taken["semscale"], taken["encode once"]),
        "faster_than_every_step": _spread(taken["every step"], taken["semscale"]),
    }


def _spread(above: Sequence[float], below: Sequence[float]) -> dict[str, float]:
    ratios = [x / y for x, y in zip(above, below, strict=True)]
    return {"median": statistics.median(ratios), "low": min(ratios), "high": max(ratios)}


def markdown(result: Mapping[str, Any]) -> str:
    """Return the result as tables, with where the study's time went."""
    return "\n\n".join(_table(each) for each in (result, result.get("large")) if each)


def _table(result: Mapping[str, Any]) -> str:
    lines = [
        f"{result['images']} images, {result['texts']} texts, {result['steps']} steps, 2 strategies, "
        f"{result['rounds']} rounds, {result['cores']} cores; clip-client in batches of {result['batch_size']}",
        "",
        "| way | seconds | range |",
        "|---|---|---|",
    ]
    for way, seconds in result["seconds"].items():
        name = f"{way} (extrapolated from one step)" if way == "every step" and result["extrapolated"] else way
        lines.append(f"| {name} | {statistics.median(seconds):.1f} | {min(seconds):.1f} to {max(seconds):.1f} |")
    once, every = result["against_once"], result["faster_than_every_step"]
    lines += [
        "",
        f"Time is {once['median']:.2f} ({once['low']:.2f} to {once['high']:.2f}) times that of encoding once,",
        f"speed {every['median']:.1f} ({every['low']:.1f} to {every['high']:.1f}) times that of encoding every step.",
        "",
        "| stage | seconds |",
        "|---|---|",
    ]
    lines += [
        f"| {stage} | {statistics.median([one[stage] for one in result['stages']]):.1f} |"
        for stage in result["stages"][0]
    ]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Run the benchmark, print Markdown and one line of JSON."""
    return run_alone(__doc__, "150 images, 3 steps, one round", measure, markdown, arguments)


if __name__ == "__main__":
    main()
