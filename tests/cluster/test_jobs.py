"""Studies as jobs of a real Ray cluster with dashboard and token authentication."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests
from conftest import Jobs
from ray_nodes import ROOT
from result_files import results_of

from semscale.common.progress import SilentReporter
from semscale.config import load_study
from semscale.store.segment import read_keys
from semscale.study.pipeline import sweep

pytestmark = pytest.mark.cluster

_STUDY = "datasets: [shapes, digits]\ncontrols: [duplicates]\nsteps: 3\nlimit: 60\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("jobs")


@pytest.fixture(scope="module")
def local(mini_server: str, ray_session: None, clone: Path, place: Path) -> dict[str, object]:
    """The results of the study without a job."""
    (clone / "small.yaml").write_text(f"name: small\n{_STUDY}server: {{urls: ['{mini_server}']}}\n")
    (clone / "own.yaml").write_text(f"name: own\n{_STUDY}encoding: {{batch_size: 4, actors: 1}}\n")
    study = load_study(clone / "small.yaml").model_copy(update={"store": str(place / "local-store")})
    return results_of(sweep(study, place / "local", SilentReporter()).directory)


def job_of(text: str) -> str:
    found = re.search(r"raysubmit_\w+", text)
    assert found, text
    return found[0]


def sent(log: str) -> tuple[int, int]:
    found = re.search(r"sent to the server: (\d+) images?, (\d+) texts?", log)
    assert found, log
    return int(found[1]), int(found[2])


def texts_of(results: dict[str, object]) -> set[str]:
    """Return all category texts of the study."""
    ladders = [content for name, content in results.items() if name.startswith("ladders/")]
    steps = [step for content in ladders if isinstance(content, bytes) for step in json.loads(content)["steps"]]
    return {text for step in steps for texts in step["categories"].values() for text in texts}


def test_job_gives_what_a_local_sweep_gives_bit_for_bit(jobs: Jobs, local: dict[str, object], place: Path) -> None:
    done = jobs.ray_submit("ray_jobs/sweep.py", "small.yaml", "--out", f"{place}/job")
    assert done.returncode == 0, done.stdout + done.stderr
    assert sent(done.stdout)[0] == 120
    assert results_of(place / "job") == local
    # what was sent with the job is what ran, and no token is told
    log = jobs.log(job_of(done.stdout))
    assert "Traceback" not in log
    assert jobs.nodes.token not in log + done.stdout + done.stderr


def test_failing_study_is_a_failing_job_that_says_why(jobs: Jobs, local: dict[str, object], clone: Path) -> None:
    (clone / "wrong.yaml").write_text("datasets: ['folder:/nowhere/photos']\n")
    done = jobs.submit("wrong.yaml")  # the folder might be there on the cluster
    assert done.returncode == 1
    assert "/nowhere/photos' does not exist" in done.stdout
    assert re.search(r"Error: job raysubmit_\w+ failed", done.stderr)
    assert jobs.status(job_of(done.stdout)) == "FAILED"
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("environment", "found", "status"),
    [
        ({"RAY_AUTH_TOKEN": "0" * 32}, "another token", 403),
        ({"RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN": ""}, "no token", 401),
    ],
)
def test_wrong_and_missing_tokens_are_refused(
    jobs: Jobs, local: dict[str, object], environment: dict[str, str], found: str, status: int
) -> None:
    before = len(jobs.nodes.get("/api/jobs/"))
    done = jobs.submit("small.yaml", **environment)
    assert done.returncode == 1
    assert f"found:    {found}" in done.stderr
    assert "Traceback" not in done.stderr
    headers = {"Authorization": f"Bearer {environment['RAY_AUTH_TOKEN']}"} if environment["RAY_AUTH_TOKEN"] else {}
    bare = requests.post(f"{jobs.nodes.address}/api/jobs/", json={"entrypoint": "true"}, headers=headers, timeout=30)
    assert bare.status_code == status
    assert len(jobs.nodes.get("/api/jobs/")) == before


def test_stopped_job_leaves_nothing_and_is_resumed_by_the_same_submit(
    jobs: Jobs, local: dict[str, object], place: Path
) -> None:
    options = ("own.yaml", "--", "--out", f"{place}/stopped", "--store", f"{place}/store")
    begun = jobs.submit("--no-follow", *options)
    assert begun.returncode == 0, begun.stderr
    job = job_of(begun.stdout)
    jobs.wait_for(job, "starting clip-server, 2 replicas: done")
    assert any("semscale.serving" in line for line in jobs.working())
    stopped = jobs.run("ray", "job", "stop", "--address", jobs.nodes.address, job)
    assert stopped.returncode == 0, stopped.stderr
    assert jobs.status(job) == "STOPPED"
    assert "Stopped. To continue: semscale sweep --resume" in jobs.log(job)
    for _ in range(100):  # Ray ends a job's workers when it has heard of its end
        if not jobs.working():
            break
        time.sleep(0.1)
    assert not jobs.working()
    stored = sum(len(read_keys(path)) for path in place.glob("store/*/*/*.parquet"))
    again = jobs.submit(*options)
    assert again.returncode == 0, again.stdout + again.stderr
    texts = len(texts_of(local))
    assert sum(sent(again.stdout)) == 120 + texts - stored
    assert results_of(place / "stopped") == local


def test_ctrl_c_stops_following_and_not_the_job(jobs: Jobs, local: dict[str, object], clone: Path, place: Path) -> None:
    command = [sys.executable, "-m", "semscale", "submit", "--address", jobs.nodes.address]
    follower = subprocess.Popen(
        [*command, "small.yaml", "--", "--out", f"{place}/followed", "--store", f"{place}/store"],
        cwd=clone,
        env=jobs.nodes.environment(PYTHONPATH=str(ROOT), PYTHONUNBUFFERED="1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert follower.stdout is not None
    lines = []
    for line in follower.stdout:
        lines.append(line)
        if "connecting to Ray" in line:
            break
    follower.send_signal(signal.SIGINT)
    _, errors = follower.communicate(timeout=30)
    assert follower.returncode == 130
    job = job_of("".join(lines))
    assert f"ray job stop --address {jobs.nodes.address} {job}" in errors
    assert "Traceback" not in errors
    jobs.wait_for(job, "sent to the server: 0 images, 0 texts")  # all is in the store by now
