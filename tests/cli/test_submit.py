"""`semscale submit` and ray_jobs/ without a cluster: checks before the upload."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from semscale.cli import main
from semscale.cli.submit import (
    DEFAULT_ENVIRONMENT,
    NEVER_UPLOADED,
    _check_upload,
    _files_to_upload,
    read_environment,
)

JOBS = Path(__file__).parents[2] / "ray_jobs"
NO_DASHBOARD = ("--address", "http://127.0.0.1:1")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    return tmp_path


def submit(*words: str, study: str = "name: small\n") -> Result:
    Path("study.yaml").write_text(study, encoding="utf-8")
    result = CliRunner().invoke(main, ["submit", "study.yaml", *words])
    assert "Traceback" not in result.stderr
    return result


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("http://127.0.0.1:1", "Connection refused"),
        ("127.0.0.1:8265", "No connection adapters"),
        ("ray://host:10001", "No connection adapters"),
        ("http://host:port", "Failed to parse"),
        ("http://", "No host supplied"),
    ],
)
def test_missing_dashboard_is_reported(here: Path, address: str, found: str) -> None:
    result = submit("--address", address)
    assert result.exit_code == 1
    assert "no Ray dashboard answers" in result.stderr
    assert found in result.stderr


@pytest.fixture
def website() -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"hello")

        def log_message(self, *words: object) -> None:
            return

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_proxy_is_not_asked_for_the_loopback(here: Path, website: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "example.org")
    monkeypatch.setenv("http_proxy", website)
    assert "Connection refused" in submit(*NO_DASHBOARD).stderr
    assert os.environ["no_proxy"] == "example.org,127.0.0.1,localhost,::1"


def test_another_server_is_not_taken_for_a_dashboard(here: Path, website: str) -> None:
    assert "the server is not a Ray dashboard" in submit("--address", website).stderr


def test_all_errors_of_the_file_are_reported_before_the_cluster_is_contacted(here: Path) -> None:
    result = submit(*NO_DASHBOARD, study="stepz: 3\ndatasets: [digitz, 'folder:photos']\n")
    assert result.exit_code == 1
    assert all(word in result.stderr for word in ("stepz", "digitz", "photos"))
    assert "cluster" not in result.stderr


def test_absolute_paths_are_on_the_cluster_and_relative_ones_are_uploaded(here: Path) -> None:
    (here / "study" / "photos").mkdir(parents=True)
    (here / "study" / "photos.yaml").write_text("datasets: ['folder:photos', 'zip:/data/flowers.zip']\n")
    words = ["submit", "study/photos.yaml", "--working-dir", "study", *NO_DASHBOARD]
    assert "no Ray dashboard answers" in CliRunner().invoke(main, words).stderr


@pytest.mark.parametrize(
    ("words", "study", "message"),
    [
        (["--", "--runs", "results"], "name: a\n", "would be lost with the job's copy"),
        ([], "store: embeddings\n", "would be lost with the job's copy"),
        ([], "ray: {address: '10.0.0.1:6379'}\n", "a job runs on the cluster that it is submitted to"),
        (["--", "--tracking-uri", "http://ann:s3cret@mlflow:5000"], "name: a\n", "must not contain passwords"),
        (["--", "--server", "gpu1"], "name: a\n", "not of the form grpc://host:port"),
        (["--working-dir", "elsewhere"], "name: a\n", "the study is not in the uploaded folder"),
        (["--runtime-env", "nowhere.yaml"], "name: a\n", "cannot read the runtime environment"),
        (["--runtime-env", "study.yaml"], "- a\n", "list"),
    ],
)
def test_impossible_jobs_are_refused_before_the_cluster_is_contacted(
    here: Path, words: list[str], study: str, message: str
) -> None:
    (here / "elsewhere").mkdir()
    result = submit(*NO_DASHBOARD, *words, study=study)
    assert result.exit_code == 1
    assert message in result.stderr
    assert "s3cret" not in result.stderr
    assert "answers" not in result.stderr


def test_the_upload_is_summarised(here: Path) -> None:
    for name in ("photos/a.bin", "photos/b.bin", "token", ".ssh/id", "left.bin", "my.bin", "random.py"):
        (here / name).parent.mkdir(exist_ok=True)
        (here / name).write_bytes(bytes(400_000))
    (here / ".gitignore").write_text("left.bin\n")
    files = _files_to_upload(Path(), ["/my.bin", *NEVER_UPLOADED])
    assert _check_upload(Path(), files) == "4 files, 1.2 MB: photos/ (0.8 MB), random.py (0.4 MB), .gitignore"
    assert "warning: random.py hides the module of the same name in the job" in submit(*NO_DASHBOARD).stderr


def test_too_much_is_not_uploaded(here: Path) -> None:
    (here / "photos").mkdir()
    with (here / "photos" / "all.zip").open("wb") as file:
        file.truncate(101_000_000)
    errors = submit(*NO_DASHBOARD).stderr
    assert "the folder is too large for a job" in errors
    assert "found:    2 files, 101.0 MB: photos/ (101.0 MB), study.yaml" in errors
    assert "expected: at most 100 MB" in errors


def test_wrong_options_of_the_job_are_wrong_usage(here: Path) -> None:
    assert submit(*NO_DASHBOARD, "--", "--stepz", "3").exit_code == 2
    assert submit(*NO_DASHBOARD, "--", "--resume", "run").exit_code == 2
    assert submit(*NO_DASHBOARD, "--stage", "score", "--", "--resume", "run").exit_code == 2


def test_runtime_environment_of_the_working_directory_is_used(here: Path) -> None:
    assert read_environment(None, here) == DEFAULT_ENVIRONMENT
    ours = read_environment(None, JOBS.parent)
    assert ours == yaml.safe_load((JOBS / "runtime_env.yaml").read_text())
    assert DEFAULT_ENVIRONMENT["env_vars"].items() <= ours["env_vars"].items()


@pytest.mark.parametrize("name", ["sweep", "encode", "score", "report"])
def test_entry_points_are_the_commands(name: str) -> None:
    words = [sys.executable, str(JOBS / f"{name}.py"), "--help"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith(f"Usage: semscale {name} [OPTIONS]")
