"""Notes of experiments and runs in Markdown: the numbers, and where to look next."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from semscale.analysis.intervals import change_interval, mcnemar_p
from semscale.report.answers import Answer
from semscale.tracking.runs import filter_of

# MLflow cuts a tag after 8,000 characters
_LONGEST = 7500
_MOST_STEPS = 40

CURVES_OF_A_DATASET = "tags.kind = 'curve' and tags.dataset = 'digits'"
TRIALS_OF_A_STRATEGY = "tags.kind = 'trial' and tags.strategy = 'templates' and metrics.scale >= 4"
CURVES_THAT_GAIN = "tags.kind = 'curve' and tags.role = 'strategy' and tags.verdict = 'up'"

EXPERIMENT_NOTE = f"""\
Accuracy of CLIP labelling against **scale**, the number of equivalent categories per class. \
A study run holds its curves, a curve run its trials. Filters for the search field of the runs:

- the curves of one dataset: `{CURVES_OF_A_DATASET}`
- the trials of one strategy from scale 4 on: `{TRIALS_OF_A_STRATEGY}`
- the curves that gain: `{CURVES_THAT_GAIN}`

Sorted by *Run Name* they are a plain list. To draw accuracy over scale, select curve runs, press *Compare*, and \
choose the metric accuracy below; step is the scale. `attributes.status = 'FINISHED'` leaves out what a sweep has not \
completed.
"""


def describe_trial(row: Mapping[str, Any]) -> str:
    """Return the note of a row of trials.parquet.

    >>> row = {"dataset": "pets", "strategy": "wordnet", "model": "m_1", "aggregation": "max", "order": 0, "scale": 4,
    ...        "n_categories": 148, "n_images": 1000, "n_classes": 37, "n_correct": 917, "accuracy": 0.917,
    ...        "ci_low": 0.898, "ci_high": 0.933, "top5": 0.99, "ceiling": 0.95, "gained": 30, "lost": 10}
    >>> print(describe_trial(row).splitlines()[0])
    **91.70 %** of 1000 images of pets labelled right [89.80, 93.30], with 148 categories for 37 classes.
    >>> print(describe_trial(row).splitlines()[2])
    - against scale 1, on the same images: +2.00 points [0.73, 3.26]; 30 gained, 10 lost, p = 0.002 (McNemar)
    """
    low, high = change_interval(row["gained"], row["lost"], row["n_images"])
    p = float(mcnemar_p(row["gained"], row["lost"]))
    change = 100 * (row["gained"] - row["lost"]) / row["n_images"]
    against = (
        f"{change:+.2f} points [{100 * float(low):.2f}, {100 * float(high):.2f}]; "
        f"{row['gained']} gained, {row['lost']} lost, {_p(p)} (McNemar)"
    )
    return "\n".join(
        [
            f"**{100 * row['accuracy']:.2f} %** of {row['n_images']} images of {plain(row['dataset'])} labelled right "
            f"[{100 * row['ci_low']:.2f}, {100 * row['ci_high']:.2f}], with {row['n_categories']} categories for "
            f"{row['n_classes']} classes.",
            "",
            f"- against scale 1, on the same images: {'this is scale 1' if row['scale'] == 1 else against}",
            f"- categories: {plain(row['strategy'])}, scale {row['scale']}, order {row['order']}; "
            f"class score: {row['aggregation']}; model: {plain(row['model'])}",
            f"- right class among the first 5: {100 * row['top5']:.2f} %; a best choice among these categories: "
            f"{100 * row['ceiling']:.2f} %",
            "",
            "*Artifacts*: `categories.json` is the label set, a row per category with the images that it won; "
            "`class_accuracy.csv`; `category_statistics.csv`. The parent run is the curve, with confusion matrices.",
        ]
    )


def describe_curve(curve: Mapping[str, Any], steps: pd.DataFrame, found: Answer, study: str) -> str:
    """Return the note of a row of curves.parquet with its rows of steps.parquet, in a study of this name."""
    critical = "none" if pd.isna(curve["critical_scale"]) else int(curve["critical_scale"])
    lines = [
        sentence(found),
        "",
        f"- {curve['n_images']} images of {curve['n_classes']} classes of {plain(curve['dataset'])}; model: "
        f"{plain(curve['model'])}; class score: {curve['aggregation']}; orders: {curve['n_orders']}",
        f"- categories: {plain(curve['strategy'])}" + (" (a control)" if curve["role"] == "control" else ""),
        f"- trend: {curve['trend']}; critical scale: {critical} [{curve['critical_low']:.0f}, "
        f"{curve['critical_high']:.0f}]; peak: {100 * curve['peak']:.2f} % at scale {curve['peak_scale']:.0f}",
        "",
        "| scale | accuracy, % | 95 % interval | change, points | 95 % interval, all scales at once |",
        "|--:|--:|:-:|--:|:-:|",
    ]
    lines += [
        f"| {row['scale']} | {100 * row['accuracy']:.2f} | {100 * row['ci_low']:.2f} to {100 * row['ci_high']:.2f} "
        f"| {100 * row['change']:+.2f} | {100 * row['change_band_low']:.2f} to {100 * row['change_band_high']:.2f} |"
        for row in steps.head(_MOST_STEPS).to_dict("records")
    ]
    return "\n".join(
        [
            *lines,
            "",
            "*Model metrics* draws accuracy over scale, which is the step. *Artifacts*: `curve.png` with its band; "
            "`confusion-*.png` at scale 1, at the peak and at the last scale; `steps.csv` with all tests; "
            "`trials.csv`. Its trials:",
            "",
            _code(filter_of(kind="trial", study=study, **{name: str(curve[name]) for name in ("dataset", "strategy")})),
        ]
    )


def describe_study(found: Sequence[Answer], study: str, n_trials: int, n_curves: int) -> str:
    """Return the note of a study: an answer for every curve that is no control, as far as MLflow has room."""
    head = [f"{n_trials} trials, {n_curves} curves.", ""]
    tail = [
        "",
        "*Artifacts*: `report.html` says it all on one page; a `curves-*.png` per dataset; the tables as Parquet. "
        "Its curves, to select and compare:",
        "",
        _code(filter_of(kind="curve", study=study)),
    ]
    answers: list[str] = []
    room = _LONGEST - sum(map(len, [*head, *tail]))
    for number, one in enumerate(found):
        line = f"- {sentence(one)}"
        room -= len(line) + 1
        if room < 0:
            answers.append(f"- and {len(found) - number} more in `report.html`")
            break
        answers.append(line)
    return "\n".join([*head, *answers, *tail])


def sentence(found: Answer) -> str:
    """Return an answer with the name of its curve in bold."""
    return f"**{plain(found.head)}**: {found.change} {plain(found.rest)}."


def plain(text: object) -> str:
    r"""Return a text from data so that Markdown takes it as it is, on one line.

    >>> plain("a_b | <script>")
    'a\\_b \\| &lt;script&gt;'
    """
    line = " ".join(str(text).split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~])", r"\\\1", line)


def _p(value: float) -> str:
    return f"p = {value:.3f}" if value >= 0.0005 else "p < 0.001"


def _code(text: str) -> str:
    """Return a block of code, which names from data cannot end: it is one line, indented."""
    return "    " + " ".join(text.split())
