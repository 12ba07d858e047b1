"""The commands from the command line: output and files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import psutil
import pytest
from click.testing import CliRunner

from semscale.cli import main


def run(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "semscale", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=240, check=False)


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
        (["label", "nowhere.zip", "--categories", "cat,dog"], "the input does not exist"),
        (["label", "digits", "--categories", "cat,,dog"], "a category is empty"),
        (["label", "digits", "--categories", "cat", "--server", "localhost"], "not of the form grpc://host:port"),
    ],
)
def test_user_mistakes_print_without_a_traceback(
    arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert words in result.stderr
    assert "Traceback" not in result.stderr
    assert not list(tmp_path.iterdir()), "a refused study leaves nothing behind"


def test_ladder_prints_and_writes_the_sets(tmp_path: Path) -> None:
    words = ["ladder", "digits", "--strategy", "templates-fixed", "--steps", "2"]
    shown = json.loads(CliRunner().invoke(main, [*words, "--json"]).stdout)
    assert CliRunner().invoke(main, [*words, "--out", str(tmp_path / "l.json")]).exit_code == 0
    assert shown == json.loads((tmp_path / "l.json").read_text())
    assert shown["steps"][1]["categories"]["six"] == ["six", "sixes"]


def test_doctor_names_what_is_wrong(mini_server: str, tmp_path: Path) -> None:
    words = ["doctor", "--server", mini_server, "--store", str(tmp_path / "store"), "--json"]
    good = CliRunner().invoke(main, words)
    assert good.exit_code == 0
    document = json.loads(good.stdout)
    assert document["passes"]
    (server,) = [row for row in document["findings"] if row["title"] == mini_server]
    assert "semscale-mini on cpu" in server["detail"]
    bad = CliRunner().invoke(main, ["doctor", "--server", "grpc://127.0.0.1:9", "--store", "/proc/nowhere"])
    assert bad.exit_code == 1
    assert bad.stdout.count("not ok") >= 2
    assert "to fix:" in bad.stdout


def test_quickstart_with_its_own_server_from_nothing_to_table(tmp_path: Path) -> None:
    study = tmp_path / "small.yaml"
    study.write_text(
        "name: small\ndatasets: [digits]\nstrategies: [templates]\ncontrols: []\nsteps: 2\nlimit: 40\n"
        "server: {replicas: 1}\nencoding: {actors: 1}\n"
    )
    result = run("sweep", str(study), cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    (folder,) = [path for path in (tmp_path / "semscale-runs").iterdir() if path.name.startswith("small-")]
    assert "2 trials, 1 curve; sent to the server: 40 images, 20 texts" in result.stdout
    assert f"MLflow   semscale ui semscale-runs/{folder.name}" in result.stdout
    assert len(pd.read_parquet(folder / "trials.parquet")) == 2
    assert "Traceback" not in result.stderr
    assert not [one for one in psutil.process_iter(["cmdline"]) if str(folder) in " ".join(one.info["cmdline"] or ())]
