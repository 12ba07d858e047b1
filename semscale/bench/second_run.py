"""What a study costs that is done already: everything is in the store and recorded, the same command comes again.

    python -m semscale.bench.second_run            # 24 trials, three repeats
    python -m semscale.bench.second_run --quick    # 4 trials, 40 images, one repeat

The first run fills a fresh store and a fresh MLflow. Each run is a process of its own, as a user's is. What is counted
is its time from the interpreter's start over the imports and the study to its end, and Ray's own end, without what Ray
takes to start: that is measured beside each run in a process that does nothing else, since a sweep imports while Ray
starts.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

_STUDY = """
name: second
datasets: [digits]
strategies: [templates, templates-fixed]
controls: []
"""


def run_once(study: Path, out: Path, store: Path) -> None:
    """Carry the study out in this process, and print as JSON what was sent."""
    from semscale.config import load_study
    from semscale.study.progress import Quiet
    from semscale.study.study import sweep

    config = load_study(study).model_copy(update={"store": str(store)})
    result = sweep(config, out, Quiet())
    print(json.dumps({"trials": len(result.trials), "sent": result.images_sent + result.texts_sent}))


def start_ray() -> None:
    """Start a local Ray in this process and end it, and print as JSON how long the start took."""
    from semscale.study.cluster import ray_cluster

    before = time.perf_counter()
    with ray_cluster(None):
        print(json.dumps({"ray_start": time.perf_counter() - before}))


def timed_run(study: Path, folder: Path) -> dict[str, Any]:
    """Run the study in a new process and return its seconds, those of Ray's start, and what it told."""
    told = _in_a_process("--start-ray")
    start = time.perf_counter()
    told |= _in_a_process("--once", str(study), str(folder / "run"), str(folder / "store"))
    seconds = time.perf_counter() - start
    return {**told, "seconds": seconds, "without_ray_start": seconds - told["ray_start"]}


def _in_a_process(*arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "semscale.bench.second_run", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def measure(quick: bool = False, rounds: int | None = None) -> dict[str, Any]:
    """Return the seconds of the first run and of its repeats, each with and without the start of Ray."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        study = folder / "study.yaml"
        study.write_text(_STUDY + ("steps: 2\nlimit: 40\n" if quick else "steps: 12\n"), encoding="utf-8")
        first = timed_run(study, folder)
        repeats = [timed_run(study, folder) for _ in range(rounds or (1 if quick else 3))]
    counted = [one["without_ray_start"] for one in repeats]
    return {
        "trials": first["trials"],
        "cores": os.cpu_count(),
        "rounds": len(repeats),
        "first": first,
        "repeats": repeats,
        "seconds": statistics.median(counted),
        "seconds_low": min(counted),
        "seconds_high": max(counted),
        "ray_start": statistics.median(one["ray_start"] for one in repeats),
    }


def markdown(result: dict[str, Any]) -> str:
    """Return the result as a table: seconds without the start of Ray, which stands beside them."""
    first = result["first"]
    rows = [
        ("first", first["sent"], first["without_ray_start"], "", first["ray_start"]),
        (
            "again",
            result["repeats"][-1]["sent"],
            result["seconds"],
            f"{result['seconds_low']:.1f} to {result['seconds_high']:.1f}",
            result["ray_start"],
        ),
    ]
    lines = [
        f"{result['trials']} trials, {result['rounds']} repeats, {result['cores']} cores",
        "",
        "| run | sent | seconds | range | start of Ray, s |",
        "|---|---|---|---|---|",
    ]
    lines += [f"| {run} | {sent} | {seconds:.1f} | {spread} | {ray:.1f} |" for run, sent, seconds, spread, ray in rows]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Run the benchmark, print Markdown and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="4 trials, 40 images, one repeat")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--once", nargs=3, type=Path, metavar=("STUDY", "OUT", "STORE"), help=argparse.SUPPRESS)
    parser.add_argument("--start-ray", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.once:
        run_once(*options.once)
        return {}
    if options.start_ray:
        start_ray()
        return {}
    result = measure(options.quick, options.rounds)
    print(markdown(result))
    print(json.dumps(result))
    return result


if __name__ == "__main__":
    main()
