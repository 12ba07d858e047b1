"""Descriptions of runs: the numbers of the tables, escaped names, and a limited length."""

from __future__ import annotations

from typing import Any

import pandas as pd

from semscale.report.headlines import Headline, headline
from semscale.tracking.descriptions import describe_curve, describe_study, describe_trial, escape_markdown

PLACE = {"dataset": "pets", "model": "m", "strategy": "word_net", "aggregation": "max"}
TRIAL: dict[str, Any] = {
    **PLACE, "order": 0, "scale": 4, "n_categories": 148, "n_images": 1000, "n_classes": 37, "n_correct": 917,
    "accuracy": 0.917, "ci_low": 0.898, "ci_high": 0.933, "top5": 0.99, "ceiling": 0.95, "gained": 30, "lost": 10,
}  # fmt: skip
CURVE: dict[str, Any] = {
    **PLACE, "n_images": 1000, "n_classes": 37, "n_orders": 1, "role": "strategy", "trend": "rise-plateau",
    "critical_scale": 4, "critical_low": 2, "critical_high": 4, "peak": 0.918, "peak_scale": 4, "peak_p": 0.001,
    "final_change_high": 0.02,
}  # fmt: skip
STEPS = pd.DataFrame(
    {
        **PLACE, "scale": [1, 2, 4], "accuracy": [0.9, 0.91, 0.918], "ci_low": 0.89, "ci_high": 0.93,
        "change": [0, 0.01, 0.018], "change_band_low": [0, 0, 0.009], "change_band_high": [0, 0.02, 0.027],
    }
)  # fmt: skip
FOUND = headline(CURVE, STEPS, pd.DataFrame())


def test_a_trial_says_its_numbers_and_where_to_look() -> None:
    text = describe_trial(TRIAL)
    for words in ("**91.70 %** of 1000 images", "148 categories for 37 classes", "+2.00 points [0.73, 3.26]"):
        assert words in text
    assert "30 gained, 10 lost, p = 0.002" in text
    assert "word\\_net, scale 4" in text
    assert "`categories.json`" in text
    assert "this is scale 1" in describe_trial({**TRIAL, "scale": 1, "gained": 0, "lost": 0})


def test_a_curve_says_its_answer_and_every_step() -> None:
    text = describe_curve(CURVE, STEPS, FOUND, "Ann's")
    assert text.startswith("**pets x word\\_net**: +1.8 points [0.9, 2.7] by scale 4, the last one tried (p = 0.001).")
    assert "| 4 | 91.80 | 89.00 to 93.00 | +1.80 | 0.90 to 2.70 |" in text
    assert text.count("\n| ") == 1 + len(STEPS)
    assert "tags.study = \"Ann's\" and tags.dataset = 'pets' and tags.strategy = 'word_net'" in text


def test_a_study_with_many_curves_fits_into_a_tag() -> None:
    short = describe_study([FOUND], "s", 3, 1)
    assert short.count("\n- ") == 1
    assert "more in" not in short
    many = [Headline(f"dataset {i} x strategy", "up", FOUND.change, FOUND.detail) for i in range(500)]
    text = describe_study(many, "s", 1500, 500)
    assert len(text) < 8000
    shown = text.count("- **dataset")
    assert f"- and {500 - shown} more in `report.html`" in text
    assert shown > 30


def test_names_are_no_markdown_and_no_html() -> None:
    assert escape_markdown("[a](b) *c*\n<script>`") == "\\[a\\](b) \\*c\\* &lt;script&gt;\\`"
    assert "<img" not in describe_trial({**TRIAL, "dataset": "<img src=x>"})
