import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from semscale.report.answers import answer
from semscale.report.confusion import confusion_png
from semscale.report.figures import CurveLine, curves_png
from semscale.report.page import write_report
from semscale.scoring.metrics import Confusion

NASTY = "<script>alert('x')</script>--><b>"


def tables(dataset: str) -> tuple[pd.DataFrame, ...]:
    trials = pd.DataFrame(
        {
            "dataset": dataset,
            "model": "m",
            "strategy": ["a", "a", "b", "b"],
            "aggregation": "max",
            "order": 0,
            "scale": [1, 2, 1, 2],
            "n_categories": [4, 8, 4, 8],
            "accuracy": [0.5, 0.75, 0.5, 0.25],
            "ci_low": [0.3, 0.5, 0.3, 0.1],
            "ci_high": [0.7, 0.9, 0.7, 0.5],
            "top5": 1.0,
            "macro_f1": 0.5,
            "mean_margin": [0.1, 0.2, 0.1, -0.1],
        }
    )
    curves = pd.DataFrame(
        {
            "dataset": dataset,
            "model": "m",
            "strategy": ["a", "b"],
            "aggregation": "max",
            "role": ["strategy", "control"],
            "n_images": 20,
            "baseline": 0.5,
            "peak": [0.75, 0.5],
            "peak_scale": [2, 1],
            "peak_change": [0.25, 0.0],
            "peak_p": [0.01, 1.0],
            "final": [0.75, 0.25],
            "final_change": [0.25, -0.25],
            "final_change_low": [0.1, -0.4],
            "final_change_high": [0.4, -0.1],
            "critical_scale": [2.0, float("nan")],
            "critical_low": [1, 1],
            "critical_high": [2, 2],
            "ceiling": [0.9, 0.5],
            "trend": ["rise", "decline"],
        }
    )
    steps = trials.assign(
        band_low=trials["ci_low"],
        band_high=trials["ci_high"],
        change=trials["accuracy"] - 0.5,
        change_band_low=[0.0, 0.1, 0.0, -0.4],
        change_band_high=[0.0, 0.4, 0.0, -0.1],
    )
    controls = pd.DataFrame(
        {
            "dataset": dataset,
            "model": "m",
            "strategy": "a",
            "aggregation": "max",
            "control": "b",
            "scale": pd.array([None, 1, 2], dtype="Int64"),
            "difference": [0.5, 0.0, 0.5],
            "low": [0.3, 0.0, 0.3],
            "high": [0.7, 0.0, 0.7],
            "p": [0.001, 1.0, 0.001],
        }
    )
    return trials, curves, steps, controls, pd.DataFrame()


def words(page: str) -> str:
    return " ".join(re.sub(r"<script.*?</script>|<style>.*?</style>|<[^>]*>", " ", page, flags=re.DOTALL).split())


def specs_of(page: str) -> dict[str, Any]:
    return json.loads(page.partition('<script type="application/json" id="specs">')[2].partition("</script>")[0])


def test_report_says_every_curve_and_needs_nothing_from_outside(tmp_path: Path) -> None:
    page = write_report(tmp_path, "study", *tables("pets")).read_text(encoding="utf-8")
    said = "pets x a: +25.0 points [10.0, 40.0] by scale 2, the last one tried (p = 0.010); at equal counts 50.0 points"
    assert f"{said} better than b." in words(page)
    assert "b (control)" in page
    assert page.partition("<script")[0].count("<tr>") == (1 + 2) + (1 + 1) + (1 + 4)
    links = re.findall(r'(?:src|href)="([^"]*)"', page.partition("<script")[0])
    assert links
    assert all(link.startswith(("#", "data:")) for link in links)
    assert "default-src 'none'" in page


def test_charts_hold_what_was_found(tmp_path: Path) -> None:
    specs = specs_of(write_report(tmp_path, "study", *tables("pets")).read_text(encoding="utf-8"))
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
    pairs = zip(tables("pets")[:4], tables("birds")[:4], strict=True)
    both = [pd.concat(pair, ignore_index=True) for pair in pairs]
    page = write_report(tmp_path, "study", *both, pd.DataFrame()).read_text(encoding="utf-8")
    specs = specs_of(page)
    assert list(specs) == ["curve0", "curve1", "small0", "small1"]
    bands = [specs[name]["layer"][1]["layer"][0]["encoding"]["y"]["scale"]["domain"] for name in ("small0", "small1")]
    assert bands == [[-40.0, 40.0]] * 2
    assert page.count('class="chart') == 4


def test_several_aggregations_have_a_figure_and_a_column_each(tmp_path: Path) -> None:
    first, second = tables("pets"), [table.assign(aggregation="logsumexp") for table in tables("pets")]
    second[3]["difference"] = -0.25
    second[3]["low"], second[3]["high"] = -0.3, -0.2
    both = [pd.concat(pair, ignore_index=True) for pair in zip(first[:4], second[:4], strict=True)]
    page = write_report(tmp_path, "study", *both, pd.DataFrame()).read_text(encoding="utf-8")
    assert {"curve0", "curve1"} <= set(specs_of(page))
    assert page.count("<td>logsumexp</td>") == 2 + 1 + 4
    assert re.search(r"pets x a: [^;]*; at equal counts 50.0 points better than b", words(page))
    assert re.search(r"pets x a x logsumexp: [^;]*; at equal counts 25.0 points worse than b", words(page))
    assert "logsumexp" not in words(write_report(tmp_path, "study", *first).read_text(encoding="utf-8"))


def test_chance_and_decline_are_said_as_such() -> None:
    _, curves, steps, controls, _ = tables("pets")
    chance, falls = curves.to_dict("records")
    chance |= {"peak_p": 0.2, "final_change_low": -0.1}
    said = "pets x a: +25.0 points [10.0, 40.0] at its best, scale 2: not distinguishable from chance (p = 0.200)"
    assert str(answer(chance, steps, controls)).startswith(said)
    said = "pets x b: -25.0 points [-40.0, -10.0] at scale 2; no scale is better than the class names."
    assert str(answer(falls, steps, controls)) == said


def test_names_from_data_are_escaped(tmp_path: Path) -> None:
    page = write_report(tmp_path, NASTY, *tables(NASTY)).read_text(encoding="utf-8")
    assert page.count("<script") == page.count("</script>") == 3
    assert "--><b>" not in page
    assert "&lt;script&gt;" in page


def test_same_curves_give_the_same_picture() -> None:
    line = CurveLine("a", [1, 2, 4], [0.1, 0.2, 0.3], [0.0, 0.1, 0.2], [0.2, 0.3, 0.4])
    assert curves_png([line], "t") == curves_png([line], "t")


def counted(matrix: Any) -> Confusion:
    true, predicted = np.nonzero(matrix)
    times = np.asarray(matrix)[true, predicted]
    return Confusion.of(np.repeat(true, times), np.repeat(predicted, times), len(matrix))


@pytest.mark.parametrize("n", [2, 45, 30_000])
def test_confusion_is_drawn_for_few_and_for_many_classes(n: int) -> None:
    everywhere = np.arange(1, n, dtype=np.int32)  # the first is a class without images
    confusion = Confusion.of(everywhere, everywhere, n)
    png = confusion_png(confusion, [f"class {i} {NASTY}" for i in range(n)], "t")
    picture = np.asarray(shown(png))
    middle = picture[picture.shape[0] // 4 : -picture.shape[0] // 4, picture.shape[1] // 4 : -picture.shape[1] // 4]
    assert (middle.mean(axis=2) < 200).any()  # the diagonal can be seen


def shown(png: bytes) -> Image.Image:
    return Image.open(io.BytesIO(png)).convert("RGB")


def test_confusions_of_the_same_classes_show_their_own_counts() -> None:
    first, second = np.array([[3, 0], [1, 2]]), np.array([[3, 0], [2, 1]])
    pictures = [np.asarray(shown(confusion_png(counted(c), ["a", "b"], "t"))) for c in (first, second, first)]
    assert np.array_equal(pictures[0], pictures[2])
    rows = np.flatnonzero((pictures[0] != pictures[1]).any(axis=(1, 2)))
    assert len(rows)
    # the row of the second class differs, and nothing above it
    assert rows.min() > pictures[0].shape[0] / 4


def test_a_long_title_stays_inside_the_picture() -> None:
    title = "a dataset / a-model-with-a-long-name / a-strategy / o=12 / s=12: 92.5 %"
    pictures = [shown(confusion_png(counted(np.eye(2, dtype=int)), ["a", "b"], t)) for t in (title, " ")]
    changed = np.flatnonzero((np.asarray(pictures[0]) != np.asarray(pictures[1])).any(axis=(0, 2)))
    assert 0 < changed.min() < changed.max() < pictures[0].width - 1
