"""Result files compared with the original tool's definition, computed from open_clip's embeddings in this process."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner

from semscale.cli import main
from semscale.common.errors import SemscaleError
from semscale.common.progress import ProgressCallback, ProgressReporter, SilentReporter
from semscale.datasets.image_decoding import decode
from semscale.datasets.loader_registry import load_dataset
from semscale.label.labelling import LabelResult, label
from semscale.label.listing import LabelRequest

CATEGORIES = ("circle", "Star", "a heart, in any colour", "zero", "cross", "triangle", "xylophone", "ring")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """150 files without classes in one folder, three of which are no images."""
    folder = tmp_path_factory.mktemp("photos")
    for name in ("shapes", "digits"):
        dataset = load_dataset(name, limit=75)
        for i, sample in enumerate(dataset.samples):
            (folder / f"{name},{i:03d}.png").write_bytes(dataset.reader.read(sample.location))
    (folder / "broken.png").write_bytes(b"no picture")
    (folder / "copy of broken.png").write_bytes(b"no picture")
    (folder / "empty.jpg").touch()
    return folder


def original(embeddings: np.ndarray, categories: Sequence[str]) -> tuple[list[str], dict[str, dict[str, Any]]]:
    """Return the original tool's labels and statistics: argmax of dot products, mean, variance, second best."""
    words = in_process_texts(categories)
    dots = embeddings.astype(np.float64) @ words.T.astype(np.float64)
    best = np.argmax(dots, axis=1)
    statistics = {}
    for k, category in enumerate(categories):
        won = dots[best == k]
        if not len(won):
            statistics[category] = {"fraction": 0.0}
            continue
        means = {other: np.mean(won[:, j]) for j, other in enumerate(categories) if j != k}
        statistics[category] = {
            "fraction": len(won) / len(dots),
            "average_dot_product": np.mean(won[:, k]),
            "variance": np.var(won[:, k]),
            "second_best_category": max(means, key=lambda name: means[name]),
        }
    return [categories[k] for k in best], statistics


def in_process_texts(texts: Sequence[str]) -> np.ndarray:
    from semscale.models.bundled_model import load_mini

    model, _, tokenizer = load_mini()
    with torch.inference_mode():
        rows: np.ndarray = model.encode_text(tokenizer(list(texts)), normalize=True).numpy()
    return rows


def in_process_images(folder: Path, names: Sequence[str]) -> np.ndarray:
    from semscale.models.bundled_model import load_mini

    model, preprocess, _ = load_mini()
    pictures = torch.stack([preprocess(decode((folder / name).read_bytes())) for name in names])
    with torch.inference_mode():
        rows: np.ndarray = model.encode_image(pictures, normalize=True).numpy()
    return rows


def read(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def check_statistics(path: Path, expected: dict[str, dict[str, Any]]) -> None:
    found = pd.read_csv(path, keep_default_na=False, na_values={"average_dot_product": "", "variance": ""})
    assert list(found) == ["category", "fraction", "average_dot_product", "variance", "second_best_category"]
    assert found["category"].tolist() == list(expected)
    for row in found.to_dict("records"):
        values = expected[row["category"]]
        assert row["fraction"] == pytest.approx(values["fraction"], abs=1e-12)
        assert row["second_best_category"] == values.get("second_best_category", "")
        for name in ("average_dot_product", "variance"):
            assert row[name] == pytest.approx(values.get(name, np.nan), abs=1e-6, nan_ok=True)


class Interrupted(SilentReporter):
    """Ctrl-C in the third window of 25."""

    @contextmanager
    def stage(self, title: str, total: int | None = None, unit: str = "") -> Iterator[ProgressCallback]:
        def advance(done: int, total: int | None) -> None:
            if title.startswith("labelling") and done > 55:
                raise KeyboardInterrupt

        yield advance


def run(
    given: Path, folder: Path, window: int = 2048, report: ProgressReporter | None = None, **more: Any
) -> LabelResult:
    request = LabelRequest(str(given), more.pop("categories", CATEGORIES), "semscale-mini", encoder="local", **more)
    return label(request, folder / "out", report or SilentReporter(), folder / "store", stats=True, window=window)


def test_images_as_the_original_tool_would_label_them_after_an_interruption(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(photos, tmp_path, window=25, report=Interrupted())
    assert list((tmp_path / "out").iterdir()) == []
    result = run(photos, tmp_path)
    header, *rows = read(tmp_path / "out" / "results.csv")
    names = sorted(path.name for path in photos.iterdir() if path.name.startswith(("digits", "shapes")))
    labels, statistics = original(in_process_images(photos, names), CATEGORIES)
    assert header == ["file", "label"]
    assert rows == [list(pair) for pair in zip(names, labels, strict=True)]
    check_statistics(tmp_path / "out" / "stats.csv", statistics)
    assert read(tmp_path / "out" / "quarantine.csv") == [
        ["file", "reason"],
        ["broken.png", "not an image that Pillow can read"],
        ["copy of broken.png", "not an image that Pillow can read"],
        ["empty.jpg", "the file is empty"],
    ]
    assert (result.n_labelled, result.n_bad) == (150, 3)
    assert 0 < result.sent <= 150 - 48  # two windows were stored
    files = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert files.keys() == {"quarantine.csv", "results.csv", "stats.csv"}
    # windows change nothing, and what is stored is not sent
    assert run(photos, tmp_path, window=40).sent == 0
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == files


def test_texts_as_the_original_tool_would_label_them(tmp_path: Path) -> None:
    texts = [f"a {size} {thing}" for size in ("small", "large", "red") for thing in ("star", "heart", "seven", "ring")]
    texts += ["the number zero", "circle, or what", "star"]
    with (tmp_path / "texts.csv").open("w", newline="") as file:
        rows = [[i, text] for i, text in enumerate(texts)]
        csv.writer(file).writerows([["id", "body"], *rows[:5], [5, "  "], [6, "word " * 5000], *rows[5:], [7]])
    result = run(tmp_path / "texts.csv", tmp_path, column="body", window=4)
    labels, statistics = original(in_process_texts(texts), CATEGORIES)
    assert read(tmp_path / "out" / "results.csv") == [
        ["text", "label"],
        *(list(pair) for pair in zip(texts, labels, strict=True)),
    ]
    check_statistics(tmp_path / "out" / "stats.csv", statistics)
    assert any(values["fraction"] == 0 for values in statistics.values()), "no category that wins nothing"
    assert read(tmp_path / "out" / "quarantine.csv") == [
        ["line", "reason"],
        ["7", "the text is empty"],
        ["8", "a text of 25000 characters is longer than 20000"],
        ["19", "the row has 1 cells where the first has 2"],
    ]
    assert (result.n_labelled, result.n_bad) == (15, 3)


def test_no_usable_items_are_an_error_with_all_reasons_in_the_quarantine(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(5):
        (folder / f"{i}.png").write_bytes(b"no picture %d" % i)
    with pytest.raises(SemscaleError, match="none of 5 images could be labelled"):
        run(folder, tmp_path, window=2)
    assert len(read(tmp_path / "out" / "quarantine.csv")) == 6


@pytest.mark.usefixtures("ray_session")
def test_the_command_prints_the_table_and_the_paths(
    photos: Path, mini_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["label", str(photos), "--categories", 'circle, "a heart, red", circle', "--server", mini_server]
    first = CliRunner().invoke(main, [*arguments, "--stats"])
    assert first.exit_code == 0, first.output
    (folder,) = (tmp_path / "semscale-labels").iterdir()
    assert "the category 'circle' is repeated in --categories" in first.output
    assert "150 images labelled, 3 cannot be used; sent to the server: 150" in first.output
    assert "a heart, red" in first.output
    for name in ("results", "stats", "quarantine"):
        assert str(Path("semscale-labels", folder.name, f"{name}.csv")) in first.output
    # a repetition: the same folder, the same files, and nothing is sent
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    again = CliRunner().invoke(main, [*arguments, "--stats", "--json"])
    document = json.loads(again.stdout)
    assert (document["kind"], document["labelled"], document["unusable"], document["sent"]) == ("image", 150, 3, 0)
    assert [Path(document[name]).name for name in ("results", "statistics", "quarantine")] == [
        "results.csv",
        "stats.csv",
        "quarantine.csv",
    ]
    assert [row["category"] for row in document["categories"]] == ["circle", "a heart, red"]
    assert "is repeated in --categories" in again.stderr
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("options", [[], ["--categories", "a", "--categories-file", "a.txt"]])
def test_categories_need_exactly_one_option(options: list[str]) -> None:
    result = CliRunner().invoke(main, ["label", "digits", *options])
    assert result.exit_code == 2
    assert "--categories-file" in result.output
