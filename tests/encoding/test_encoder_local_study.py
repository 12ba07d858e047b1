"""``--encoder local`` of the commands: the same results without a server and, if possible, without Ray."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner, Result

from semscale.cli import main
from semscale.datasets.loader_registry import load_dataset

STUDY = ("--dataset", "digits", "--per-class", "10", "--strategy", "templates", "--no-controls", "--steps", "3")


def invoke(*arguments: str, folder: Path) -> Result:
    result = CliRunner(env={"SEMSCALE_STORE": str(folder / "store")}).invoke(main, arguments)
    assert result.exit_code == 0, result.output
    return result


def test_encode_fills_the_store_of_a_study(tmp_path: Path) -> None:
    first = invoke("encode", *STUDY, "--encoder", "local", "--out", str(tmp_path / "run"), folder=tmp_path)
    assert "starting Ray" not in first.output
    assert "100 images" in first.output
    work = pd.read_csv(tmp_path / "run" / "logs" / "encoding.csv")
    assert work["endpoint"].tolist() == ["this process"]
    assert work[["images", "texts"]].to_numpy().tolist() == [[100, 30]]
    again = invoke("encode", *STUDY, "--encoder", "local", "--out", str(tmp_path / "run"), "--json", folder=tmp_path)
    assert "loading" not in again.output
    assert json.loads(again.stdout) == {
        "run": str(tmp_path / "run"),
        "store": str(tmp_path / "store"),
        "images_sent": 0,
        "texts_sent": 0,
        "quarantined": 0,
    }
    assert "encoding digits: done, 100 images" in again.stderr


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    digits = load_dataset("digits", per_class=2)
    for i, sample in enumerate(digits.samples):
        (tmp_path / "pictures").mkdir(exist_ok=True)
        (tmp_path / "pictures" / f"{sample.true_class}-{i}.png").write_bytes(digits.reader.read(sample.location))
    return tmp_path / "pictures"


def test_label_needs_no_server(pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "labelled"
    words = "zero,one,two,three,four,five,six,seven,eight,nine"
    result = invoke(
        "label", str(pictures), "--categories", words, "--encoder", "local", "--out", str(out), folder=tmp_path
    )
    assert "starting" not in result.output
    table = pd.read_csv(out / "results.csv")
    assert len(table) == 20
    assert (table["file"].str.partition("-")[0] == table["label"]).mean() > 0.7


def test_optimize_needs_no_server(tmp_path: Path) -> None:
    result = CliRunner(env={"SEMSCALE_STORE": str(tmp_path / "store")}).invoke(
        main,
        ["optimize", "digits", "--limit", "60", "--strategy", "templates-fixed", "--encoder", "local", "--json"],
    )
    assert result.exit_code == 0, result.output
    assert "starting" not in result.output
    assert json.loads(result.stdout)["n_choosing"] == 30


def test_servers_with_a_local_encoder_are_an_error(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["label", str(tmp_path), "--categories", "a,b", "--encoder", "local",
                                       "--server", "grpc://127.0.0.1:9"])  # fmt: skip
    assert result.exit_code == 1
    assert "names servers" in result.output
