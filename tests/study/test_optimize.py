"""Greedy selection with a real clip-server and a real Ray."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from click.testing import CliRunner
from rich.console import Console

from semscale.analysis.greedy import stratified_halves
from semscale.categories import strategy_registry
from semscale.categories.candidates import candidate_pool
from semscale.categories.ladder_files import read_ladder
from semscale.categories.strategy_registry import Category, Strategy, StrategyContext
from semscale.cli import main
from semscale.cli.show import show_optimized
from semscale.common.errors import SemscaleError
from semscale.common.progress import SilentReporter
from semscale.config import study_from
from semscale.datasets.loader_registry import load_dataset
from semscale.study.optimize import EmbeddedDataset, OptimizedCategories, choose_categories, optimize

pytestmark = pytest.mark.usefixtures("ray_session")

LIMIT = 120
ALIASES = {"blicket": "circle", "dax": "star", "fep": "heart", "toma": "arrow"}
"""Words that the model has never read, and what they stand for."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("optimize")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of shapes under names that the model has never read."""
    folder = tmp_path_factory.mktemp("photos")
    source = load_dataset("shapes")
    names = {known: alias for alias, known in ALIASES.items()}
    kept = [sample for sample in source.samples if sample.true_class in names][:LIMIT]
    for index, sample in enumerate(kept):
        target = folder / names[sample.true_class] / f"{index}.png"
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(source.reader.read(sample.file))
    return folder


@pytest.fixture(scope="module", autouse=True)
def _true_words() -> Iterator[None]:
    """A strategy for the time of these tests: useless words, and then what the names stand for."""

    def lists(context: StrategyContext) -> Mapping[str, list[Category | None]]:
        return {
            name: [Category(text, source) for text, source in ((name, "{c}"), (f"{name} x", "{c} x"), (word, "word"))]
            for name, word in ((name, ALIASES.get(name, f"the {name}")) for name in context.classes)
        }

    strategy_registry.strategy_names()  # or these would not be looked for any more
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(strategy_registry._strategies, "true-words", Strategy("true-words", "", lists=lists))
        yield


def recommended(photos: Path, store: Path, url: str, seed: int = 0) -> OptimizedCategories:
    entry = {"spec": f"folder:{photos}", "domain": "shape"}
    study = study_from({"datasets": [entry], "server": {"urls": [url]}, "store": str(store)})
    return optimize(study, ["true-words"], SilentReporter(), seed)


@pytest.fixture(scope="module")
def found(_true_words: None, photos: Path, store: Path, mini_server: str) -> OptimizedCategories:
    return recommended(photos, store, mini_server)


def test_the_words_that_help_are_chosen_and_the_other_half_says_how_much(found: OptimizedCategories) -> None:
    assert (found.chosen[0].index, found.chosen[0].label) == (2, "circle, star, ...")
    assert found.n_choosing + found.n_held_out == LIMIT
    assert abs(found.n_choosing - found.n_held_out) <= 1
    values = found.held_out()
    assert values["gain_low"] > 10
    assert values["gain"] == pytest.approx(values["after"] - values["before"])
    assert found.after == found.before + found.gained - found.lost
    assert values["before_low"] < values["before"] < values["before_high"] < values["after_low"]
    assert found.ladder.steps[1].categories["dax"] == ("dax", "star")


def test_the_held_out_half_has_no_part_in_the_choice() -> None:
    rng = np.random.default_rng(0)
    dataset = load_dataset("digits", limit=200)
    pool = candidate_pool(dataset.name, dataset.classes, dataset.domain, ["templates"])
    texts = [*dataset.classes, *(made.text for candidate in pool for made in candidate.categories.values() if made)]
    vectors = dict(zip(texts, rng.standard_normal((len(texts), 8)).astype(np.float32), strict=True))
    true_class = np.array([dataset.classes.index(sample.true_class) for sample in dataset.samples], np.int32)
    _, held_out = stratified_halves(true_class, seed=5)

    def found_in(images: npt.NDArray[np.float32]) -> OptimizedCategories:
        embedded = EmbeddedDataset(dataset, np.arange(200), images, vectors)
        return choose_categories(embedded, pool, "none", ("templates",), seed=5)

    # near the names, so that something changes when the held-out half becomes noise
    images = np.stack([vectors[sample.true_class] for sample in dataset.samples])
    images += rng.standard_normal(images.shape).astype(np.float32)
    noise = images.copy()
    noise[held_out] = rng.standard_normal((len(held_out), 8))
    one, other = found_in(images), found_in(noise)
    assert one.rounds == other.rounds
    assert one.ladder == other.ladder
    assert other.before < one.before


def test_command_writes_a_ladder_and_prints_json(mini_server: str, store: Path, tmp_path: Path) -> None:
    out = tmp_path / "chosen.json"
    arguments = ["optimize", "shapes", "--server", mini_server, "--store", str(store), "--limit", str(LIMIT)]
    arguments += ["--strategy", "templates-fixed", "--seed", "3", "--out", str(out)]
    printed = CliRunner().invoke(main, [*arguments, "--json"])
    assert printed.exit_code == 0, printed.stderr
    result = json.loads(printed.stdout)
    assert "encoding shapes" in printed.stderr
    assert (result["dataset"], result["seed"], result["strategies"]) == ("shapes", 3, ["templates-fixed"])
    assert (result["n_choosing"], result["held_out"]["n_images"], result["n_positions"]) == (60, 60, 11)
    assert read_ladder(out).to_json() == result["ladder"]
    taken = [row for row in result["rounds"] if row["taken"]]
    assert len(result["ladder"]["steps"]) == 1 + len(taken)
    if not taken:
        assert [result["held_out"][name] for name in ("gain", "gain_low", "gain_high")] == [0, 0, 0]
    again = CliRunner().invoke(main, arguments)
    assert again.exit_code == 0
    assert "60 images to choose, 60 images held out, seed 3" in again.stdout
    assert f"ladder  {out}" in again.stdout


def test_another_seed_halves_the_images_otherwise(
    photos: Path, store: Path, mini_server: str, found: OptimizedCategories
) -> None:
    assert recommended(photos, store, mini_server) == found
    other = recommended(photos, store, mini_server, seed=7)
    assert (other.before, other.rounds) != (found.before, found.rounds)


def test_bad_images_are_in_neither_half(photos: Path, store: Path, mini_server: str, tmp_path: Path) -> None:
    shutil.copytree(photos, tmp_path / "photos")
    sorted((tmp_path / "photos").rglob("*.png"))[0].write_bytes(b"no picture")
    result = recommended(tmp_path / "photos", store, mini_server)
    assert (result.unusable, result.n_choosing + result.n_held_out) == (1, LIMIT - 1)


def test_table_says_what_was_taken_and_what_it_gains(found: OptimizedCategories) -> None:
    console = Console(record=True, width=100)
    show_optimized(console, found)
    text = console.export_text()
    assert "circle, star, ..." in text
    assert "points [" in text
    nothing = dataclasses.replace(found, rounds=(), tried=(), after=found.before, gained=0, lost=0)
    show_optimized(console, nothing)
    assert "the class names alone are recommended" in console.export_text()
    assert np.isclose(nothing.held_out()["gain_high"], 0)


def test_one_image_is_refused(mini_server: str, store: Path) -> None:
    tree = {"datasets": ["digits"], "limit": 1, "server": {"urls": [mini_server]}, "store": str(store)}
    with pytest.raises(SemscaleError, match="cannot be halved"):
        optimize(study_from(tree), ["templates"], SilentReporter())
