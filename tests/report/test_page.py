"""Report of a run: curves, evidence with and without its parts, and figures."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from semscale.report.evidence import CategorySet, Evidence, RunTables
from semscale.report.figures import CurveLine, confusion_png, curves_png
from semscale.report.headlines import headline
from semscale.report.page import write_report

NASTY = "<script>alert('x')</script>--><b>"


def tables(dataset: str) -> RunTables:
    key = {"dataset": dataset, "model": "m", "aggregation": "max"}
    trials = pd.DataFrame(
        {
            **key, "strategy": ["a", "a", "b", "b"], "order": 0, "scale": [1, 2, 1, 2], "n_categories": [4, 8, 4, 8],
            "accuracy": [0.5, 0.75, 0.5, 0.25], "ci_low": [0.3, 0.5, 0.3, 0.1], "ci_high": [0.7, 0.9, 0.7, 0.5],
            "top5": 1.0, "macro_f1": 0.5, "mean_margin": [0.1, 0.2, 0.1, -0.1],
        }
    )  # fmt: skip
    curves = pd.DataFrame(
        {
            **key, "strategy": ["a", "b"], "role": ["strategy", "control"], "n_images": 20, "baseline": 0.5,
            "peak": [0.75, 0.5], "peak_scale": [2, 1], "peak_change": [0.25, 0.0], "peak_p": [0.01, 1.0],
            "final": [0.75, 0.25], "final_change": [0.25, -0.25], "final_change_low": [0.1, -0.4],
            "final_change_high": [0.4, -0.1], "critical_scale": [2.0, float("nan")], "critical_low": 1,
            "critical_high": 2, "ceiling": [0.9, 0.5], "trend": ["rise", "decline"],
        }
    )  # fmt: skip
    steps = trials.assign(
        band_low=trials["ci_low"],
        band_high=trials["ci_high"],
        change=trials["accuracy"] - 0.5,
        change_band_low=[0.0, 0.1, 0.0, -0.4],
        change_band_high=[0.0, 0.4, 0.0, -0.1],
    )
    controls = pd.DataFrame(
        {
            **key, "strategy": "a", "control": "b", "scale": pd.array([None, 1, 2], dtype="Int64"),
            "difference": [0.5, 0.0, 0.5], "low": [0.3, 0.0, 0.3], "high": [0.7, 0.0, 0.7], "p": [0.001, 1.0, 0.001],
        }
    )  # fmt: skip
    return RunTables(trials, curves, steps, controls, pd.DataFrame())


def both(first: RunTables, second: RunTables) -> RunTables:
    """Return the tables of both in one."""
    pairs = zip(vars(first).values(), vars(second).values(), strict=True)
    return RunTables(*(pd.concat(pair, ignore_index=True) for pair in pairs))


def page_of(folder: Path, tables: RunTables, study: str = "study", evidence: Evidence | None = None) -> str:
    return write_report(folder, study, tables, evidence or Evidence()).read_text(encoding="utf-8")


def words(page: str) -> str:
    return " ".join(re.sub(r"<script.*?</script>|<style>.*?</style>|<[^>]*>", " ", page, flags=re.DOTALL).split())


def specs_of(page: str) -> dict[str, Any]:
    return json.loads(page.partition('<script type="application/json" id="specs">')[2].partition("</script>")[0])


def test_report_says_every_curve_and_needs_nothing_from_outside(tmp_path: Path) -> None:
    page = page_of(tmp_path, tables("pets"))
    text = "pets x a: +25.0 points [10.0, 40.0] by scale 2, the last one tried (p = 0.010); at equal counts 50.0 points"
    assert f"{text} better than b." in words(page)
    assert "b (control)" in page
    assert page.partition("<script")[0].count("<tr>") == (1 + 2) + (1 + 1) + (1 + 4)
    links = re.findall(r'(?:src|href)="([^"]*)"', page.partition("<script")[0])
    assert links
    assert all(link.startswith(("#", "data:")) for link in links)
    assert "default-src 'none'" in page


def test_charts_hold_what_was_found(tmp_path: Path) -> None:
    specs = specs_of(page_of(tmp_path, tables("pets")))
    assert list(specs) == ["curve0"]  # one dataset has no small multiples
    values = specs["curve0"]["data"]["values"]
    assert [(row["n"], row["s"], row["a"], row["k"]) for row in values] == [
        ("a", 1, 50.0, False),
        ("a", 2, 75.0, True),
        ("b", 1, 50.0, False),
        ("b", 2, 25.0, False),
    ]
    assert specs["curve0"]["encoding"]["color"]["scale"]["range"] == ["var(--s1)", "var(--c1)"]


def test_two_datasets_stand_side_by_side_on_one_axis(tmp_path: Path) -> None:
    page = page_of(tmp_path, both(tables("pets"), tables("birds")))
    specs = specs_of(page)
    assert list(specs) == ["curve0", "curve1", "small0", "small1"]
    bands = [specs[name]["layer"][1]["layer"][0]["encoding"]["y"]["scale"]["domain"] for name in ("small0", "small1")]
    assert bands == [[-40.0, 40.0]] * 2
    assert page.count('class="chart') == 4


def test_several_aggregations_have_a_figure_and_a_column_each(tmp_path: Path) -> None:
    first = tables("pets")
    second = RunTables(*(table.assign(aggregation="logsumexp") for table in vars(first).values()))
    second.controls["difference"] = -0.25
    second.controls["low"], second.controls["high"] = -0.3, -0.2
    page = page_of(tmp_path, both(first, second))
    assert {"curve0", "curve1"} <= set(specs_of(page))
    assert page.count("<td>logsumexp</td>") == 2 + 1 + 4
    assert re.search(r"pets x a: [^;]*; at equal counts 50.0 points better than b", words(page))
    assert re.search(r"pets x a x logsumexp: [^;]*; at equal counts 25.0 points worse than b", words(page))
    assert "logsumexp" not in words(page_of(tmp_path, first))


def test_headlines_of_chance_and_decline() -> None:
    run = tables("pets")
    steps, controls = run.steps, run.controls
    chance, falls = run.curves.to_dict("records")
    chance |= {"peak_p": 0.2, "final_change_low": -0.1}
    text = "pets x a: +25.0 points [10.0, 40.0] at its best, scale 2: not distinguishable from chance (p = 0.200)"
    assert str(headline(chance, steps, controls)).startswith(text)
    text = "pets x b: -25.0 points [-40.0, -10.0] at scale 2; no scale is better than the class names."
    assert str(headline(falls, steps, controls)) == text


def test_names_from_data_are_escaped(tmp_path: Path) -> None:
    page = page_of(tmp_path, tables(NASTY), NASTY)
    assert page.count("<script") == page.count("</script>") == 3
    assert "--><b>" not in page
    assert "&lt;script&gt;" in page


def test_same_curves_give_the_same_picture() -> None:
    line = CurveLine("a", [1, 2, 4], [0.1, 0.2, 0.3], [0.0, 0.1, 0.2], [0.2, 0.3, 0.4])
    assert curves_png([line], "t") == curves_png([line], "t")


def drawn(true: Any, predicted: Any, classes: list[str], title: str = "t") -> np.ndarray:
    png = confusion_png(np.asarray(true), np.asarray(predicted), classes, title)
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


@pytest.mark.parametrize("n", [2, 45, 30_000])
def test_confusion_is_drawn_for_few_and_for_many_classes(n: int) -> None:
    everywhere = np.arange(1, n)  # the first is a class without images
    picture = drawn(everywhere, everywhere, [f"class {i} {NASTY}" for i in range(n)])
    middle = picture[picture.shape[0] // 4 : -picture.shape[0] // 4, picture.shape[1] // 4 : -picture.shape[1] // 4]
    assert (middle.mean(axis=2) < 200).any()  # the diagonal can be seen


def test_confusions_of_the_same_classes_show_their_own_counts() -> None:
    true = [0, 0, 0, 1, 1, 1]
    pictures = [drawn(true, predicted, ["a", "b"]) for predicted in ([0, 0, 0, 0, 1, 1], [0, 0, 0, 0, 0, 1])]
    rows = np.flatnonzero((pictures[0] != pictures[1]).any(axis=(1, 2)))
    assert rows.min() > pictures[0].shape[0] / 4  # the row of the second class differs, and nothing above it


def test_names_are_drawn_as_they_are_written_and_not_at_any_length() -> None:
    height, width, _ = drawn([0, 1], [0, 1], ["x" * 9000, "costs $\\frac{ $"], "pets $\\frac{ $").shape
    assert height < 1000
    assert width < 1000
    line = CurveLine("$\\frac{ $", [1, 2], [0.1, 0.2], [0.0, 0.1], [0.2, 0.3])
    assert curves_png([line], "pets $\\frac{ $")


def test_a_long_title_stays_inside_the_picture() -> None:
    title = "a dataset / a-model-with-a-long-name / a-strategy-with-options / logsumexp / s=12"
    pictures = [drawn([0, 1], [0, 1], ["a", "b"], words) for words in (title, "t")]
    assert pictures[0].shape == pictures[1].shape
    assert (pictures[0][:, [0, 1, -2, -1]] == 255).all()


CURVE = {"model": "m", "strategy": "a", "aggregation": "max", "scale": 2}


def picture() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(buffer, "JPEG")
    return buffer.getvalue()


def evidence(name: str, n_classes: int = 2) -> Evidence:
    key = {"dataset": name, **CURVE}
    classes = [f"{name} {i}" for i in range(n_classes)]
    names = [f"{name}/{i}.png" for i in range(11)]
    flips = pd.DataFrame(
        {"direction": ["gained"] * 10 + ["lost"], "n": [40] * 10 + [1], "file": names, "true_class": name}
    ).assign(before="old", after="new", **key)
    winners = pd.DataFrame({"category": [f"{name} text", "other"], "class": classes[:2], "share": [0.75, 0.25]}).assign(
        images=[15, 5], right=[12, 5], gained=[40, 0], lost=[0, 1], **key
    )
    confusions = pd.DataFrame(
        {"true_class": classes, "predicted_class": [*classes[1:], classes[0]], "before": 3, "after": 1}
    ).assign(**key)
    points = pd.DataFrame(
        {"dataset": name, "model": "m", "strategy": "a", "kind": ["image", "category"], "label": name}
    ).assign(**{"class": classes[0], "x": [0.1, 0.2], "y": [0.3, 0.4], "variance": 0.5})
    return Evidence(
        flips=flips,
        thumbnails=pd.DataFrame({"dataset": [name], "file": [f"{name}/0.png"], "picture": [picture()]}),
        winners=winners,
        confusions=confusions,
        points=points,
        quarantine=pd.DataFrame({"dataset": [name], "file": [f"{name}.png"], "reason": ["the file is empty"]}),
        categories=[CategorySet(name, "a", [1, 2], {name: [name, "more"]}, 30, [f"note {name}"])],
        environment={
            "semscale": "0.0.9", "python": "3.11", "system": name, "packages": {"numpy": "2.4"}, "margin": 0.5,
            "models": {name: {"encoder": "e-1", "weights_sha256": "abc", "dtype": "fp32"}},
            "servers": ["grpc://***@gpu1:51000"], "orders": [0, 1], "seeds": {name: 7},
        },
    )  # fmt: skip


def test_every_part_is_shown(tmp_path: Path) -> None:
    page = page_of(tmp_path, tables("pets"), evidence=evidence("pets"))
    text = words(page)
    for part in (
        "40 gained, 1 lost",
        "40 images; by pets text 40",
        "1 image; by other 1",
        "old → new",
        "pets text pets 0 75.0 % 80 % 40 0",
        "pets 0 pets 1 3 1 -2",
        "1 image, 1 text of a; 50 % of the variance",
        "pets more",
        "and 29 more classes",
        "note pets",
        "1 image could not be used",
        "0.0.9 (this page:",
        "weights SHA-256 abc",
        "grpc://***@gpu1:51000",
        "pets 7",
        f"semscale sweep {tmp_path}/study.yaml",
    ):
        assert part in text.replace(" · ", " "), part
    # eight images of the ten are shown, of which one has a picture
    assert page.count("<li><span") == 8
    assert base64.b64encode(picture()).decode() in page


def test_confusion_is_a_tiny_picture_where_the_classes_are_few(tmp_path: Path) -> None:
    def matrices(n: int) -> list[Any]:
        found = re.findall(
            r"data:image/png;base64,([^\"]+)", page_of(tmp_path, tables("pets"), evidence=evidence("pets", n))
        )
        return [np.asarray(Image.open(io.BytesIO(base64.b64decode(one)))) for one in found]

    before, after = matrices(5)
    assert before.shape == (5, 5, 3)
    assert (before == after).all()  # shares of a row's images, and each class has one confusion only
    assert len(np.unique(before.reshape(-1, 3), axis=0)) == 2
    assert not matrices(41)


def test_nothing_but_the_tables_is_needed(tmp_path: Path) -> None:
    page = page_of(tmp_path, tables("pets")).partition("<script")[0]
    for part in ("What changed", "Images and category texts", "Category sets", 'id="quarantine"', "<img"):
        assert part not in page


def test_names_in_the_evidence_are_escaped(tmp_path: Path) -> None:
    page = page_of(tmp_path, tables(NASTY), evidence=evidence(NASTY))
    assert page.count("<script") == page.count("</script>") == 3
    assert "<b>" not in page.partition('<script type="module">')[0]
    assert "&lt;script&gt;" in page


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    other, run = tmp_path / "other", tmp_path / "run"
    other.write_text("unchanged")
    run.mkdir()
    for name in ("report.html", "report.html.partial"):
        (run / name).symlink_to(other)
    page_of(run, tables("digits"))
    assert other.read_text() == "unchanged"
    assert not (run / "report.html").is_symlink()
