"""The commands as a user gives them, in processes of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

SEMSCALE = [sys.executable, "-m", "semscale"]


def run(*arguments: str, cwd: Path | None = None, timeout: float = 240) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*SEMSCALE, *arguments], capture_output=True, text=True, cwd=cwd, timeout=timeout, check=False
    )


def processes_mentioning(word: str) -> list[str]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if word in command:
            found.append(f"{folder.name} {command[:200]}")
    return found


@pytest.mark.parametrize(
    "command",
    ["", "sweep", "encode", "submit", "serve", "health", "ladder", "optimize", "label", "replay", "doctor"],
)
def test_help_is_there(command: str) -> None:
    result = run(*command.split(), "--help")
    assert result.returncode == 0
    assert "Usage: " in result.stdout


def test_wrong_usage_exits_2() -> None:
    result = run("sweep", "--stepz", "3")
    assert result.returncode == 2
    assert "No such option" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sweep", "--dataset", "digitz"], "did you mean 'digits'"),
        (["sweep", "--strategy", "template"], "templates"),
        (["sweep", "--steps", "13"], "at most 12"),
        (["sweep", "--server", "localhost"], "not of the form grpc://host:port"),
        (["sweep", "nowhere.yaml"], "nowhere.yaml"),
        (["ladder", "folder:/nowhere"], "does not exist"),
        (["optimize", "digits", "--strategy", "prompt"], "did you mean prompts"),
        (["optimize", "digits", "--server", "localhost"], "not of the form grpc://host:port"),
        (["label", "nowhere.zip", "--categories", "cat,dog"], "nothing to label at this path"),
        (["label", "digits", "--categories", "cat,,dog"], "a category is empty"),
        (["label", "digits", "--categories", "cat", "--server", "localhost"], "not of the form grpc://host:port"),
    ],
)
def test_user_mistakes_print_without_a_traceback(arguments: list[str], words: str, tmp_path: Path) -> None:
    result = run(*arguments, cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr.startswith("Error: ")
    assert words in result.stderr
    assert "Traceback" not in result.stderr
    assert not list(tmp_path.iterdir()), "a refused study leaves nothing behind"


def test_ladder_prints_and_writes_the_sets(tmp_path: Path) -> None:
    shown = json.loads(run("ladder", "digits", "--strategy", "templates-fixed", "--steps", "2", "--json").stdout)
    written = run(
        "ladder", "digits", "--strategy", "templates-fixed", "--steps", "2", "--out", str(tmp_path / "l.json")
    )
    assert written.returncode == 0
    ladder = json.loads((tmp_path / "l.json").read_text())
    assert ladder["steps"][1]["categories"]["six"] == ["six", "sixes"]
    assert shown == ladder


def test_doctor_names_what_is_wrong(mini_server: str, tmp_path: Path) -> None:
    good = run("doctor", "--server", mini_server, "--store", str(tmp_path / "store"), "--json")
    assert good.returncode == 0
    document = json.loads(good.stdout)
    assert document["passes"]
    (server,) = [row for row in document["findings"] if row["title"] == mini_server]
    assert "semscale-mini on cpu" in server["detail"]
    bad = run("doctor", "--server", "grpc://127.0.0.1:9", "--store", "/proc/nowhere")
    assert bad.returncode == 1
    assert bad.stdout.count("not ok") >= 2
    assert "to mend:" in bad.stdout


def test_quickstart_with_its_own_server_from_nothing_to_table(tmp_path: Path) -> None:
    study = tmp_path / "small.yaml"
    study.write_text("name: small\ndatasets: [digits]\nstrategies: [templates]\ncontrols: []\nsteps: 2\nlimit: 40\n")
    result = run("sweep", str(study), cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    (folder,) = [path for path in (tmp_path / "semscale-runs").iterdir() if path.name.startswith("small-")]
    assert "2 trials, 1 curves; sent to the server: 40 images, 20 texts" in result.stdout
    assert f"MLflow   semscale ui semscale-runs/{folder.name}" in result.stdout
    assert len(pd.read_parquet(folder / "trials.parquet")) == 2
    assert "Traceback" not in result.stderr
    assert not processes_mentioning(str(folder))
