"""Descriptions of experiments and runs in Markdown: headline numbers, artifacts and filters."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, wraps
from typing import Any, ParamSpec

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from semscale.analysis.intervals import change_interval, mcnemar_p
from semscale.common.errors import summarize
from semscale.report.headlines import Headline
from semscale.tracking.idempotent_runs import tag_filter

P = ParamSpec("P")

# MLflow truncates a tag after 8,000 characters
_MAX_LENGTH = 7500
_MAX_STEPS = 40

CURVES_OF_A_DATASET = "tags.kind = 'curve' and tags.dataset = 'digits'"
TRIALS_OF_A_STRATEGY = "tags.kind = 'trial' and tags.strategy = 'templates' and metrics.scale >= 4"
CURVES_THAT_GAIN = "tags.kind = 'curve' and tags.role = 'strategy' and tags.verdict = 'up'"

EXPERIMENT_NOTE = f"""\
Accuracy of CLIP labelling against **scale**, the number of equivalent categories per class. \
A study run contains its curves, a curve run its trials. Filters for the search field of the runs:

- the curves of one dataset: `{CURVES_OF_A_DATASET}`
- the trials of one strategy from scale 4 on: `{TRIALS_OF_A_STRATEGY}`
- the curves that gain: `{CURVES_THAT_GAIN}`

Sorted by *Run Name* they are a plain list. To draw accuracy over scale, select curve runs, press *Compare*, and \
choose the metric accuracy below; step is the scale. `attributes.status = 'FINISHED'` excludes incomplete \
runs.
"""


def _never_fails(describe: Callable[P, str]) -> Callable[P, str]:
    """Replace a description that fails by its error: the run is recorded anyway."""

    @wraps(describe)
    def described(*args: P.args, **kwargs: P.kwargs) -> str:
        try:
            return describe(*args, **kwargs)
        except Exception as error:
            return f"Description left out: {escape_markdown(summarize(error))}"

    return described


@_never_fails
def describe_trial(row: Mapping[str, Any]) -> str:
    """Return the description of a row of trials.parquet.

    >>> row = {"dataset": "pets", "strategy": "wordnet", "model": "m_1", "aggregation": "max", "order": 0, "scale": 4,
    ...        "n_categories": 148, "n_images": 1000, "n_classes": 37, "n_correct": 917, "accuracy": 0.917,
    ...        "ci_low": 0.898, "ci_high": 0.933, "top5": 0.99, "ceiling": 0.95, "gained": 30, "lost": 10}
    >>> print(describe_trial(row).splitlines()[2])
    - against scale 1, on the same images: +2.00 points [0.73, 3.26]; 30 gained, 10 lost, p = 0.002 (McNemar)
    """
    low, high = change_interval(row["gained"], row["lost"], row["n_images"])
    change, p = (row["gained"] - row["lost"]) / row["n_images"], float(mcnemar_p(row["gained"], row["lost"]))
    return _render("trial.md", row=row, change=change, low=low, high=high, p=p)


@_never_fails
def describe_curve(curve: Mapping[str, Any], steps: pd.DataFrame, headline: Headline, study: str) -> str:
    """Return the description of a row of curves.parquet with its rows of steps.parquet, in a study of this name."""
    tags = {name: str(curve[name]) for name in ("dataset", "strategy")}
    return _render(
        "curve.md",
        row=curve,
        headline=sentence(headline),
        critical="none" if pd.isna(curve["critical_scale"]) else int(curve["critical_scale"]),
        steps=steps.head(_MAX_STEPS).to_dict("records"),
        filter=tag_filter(kind="trial", study=study, **tags),
    )


@_never_fails
def describe_study(headlines: Sequence[Headline], study: str, n_trials: int, n_curves: int) -> str:
    """Return the description of a study with as many of the curves' headlines as fit in a tag."""
    values = {"n_trials": n_trials, "n_curves": n_curves, "filter": tag_filter(kind="curve", study=study)}
    lines: list[str] = []
    room = _MAX_LENGTH - len(_render("study.md", headlines=(), **values))
    for number, headline in enumerate(headlines):
        room -= len(sentence(headline)) + 3
        if room < 0:
            lines.append(f"and {len(headlines) - number} more in `report.html`")
            break
        lines.append(sentence(headline))
    return _render("study.md", headlines=lines, **values)


def sentence(headline: Headline) -> str:
    """Return a headline in Markdown with the name of its curve in bold."""
    return f"**{escape_markdown(headline.curve)}**: {headline.change} {escape_markdown(headline.detail)}."


def escape_markdown(text: object) -> str:
    r"""Return a text on one line with the characters of Markdown and HTML escaped.

    >>> escape_markdown("a_b | <script>")
    'a\\_b \\| &lt;script&gt;'
    """
    line = " ".join(str(text).split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~])", r"\\\1", line)


def _render(template: str, **values: Any) -> str:
    return _templates().get_template(template).render(**values)


@lru_cache
def _templates() -> Environment:
    # Markdown, not HTML: names from data are escaped, and a filter is one line, which cannot end its code block
    loader = PackageLoader("semscale.tracking", ".")
    environment = Environment(loader=loader, undefined=StrictUndefined, trim_blocks=True)
    environment.filters |= {"escape_markdown": escape_markdown, "one_line": lambda text: " ".join(text.split())}
    environment.filters["points"] = lambda share: f"{100 * float(share):.2f}"
    return environment
