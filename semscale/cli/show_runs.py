"""Output of ``semscale compare`` and ``semscale replay``, and the tables of a replay."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
from rich.console import Console

from semscale.cli.output import interval, make_table, number, print_lines
from semscale.cli.show import critical
from semscale.common.errors import SemscaleError
from semscale.runs.comparison import COMPARED_SCALES, Row, StudyComparison
from semscale.runs.replay import Replay

_INTEGERS = ("critical_scale", "critical_low", "critical_high", "peak_n_categories")


def show_comparison(console: Console, comparison: StudyComparison) -> None:
    """Print the runs, the settings that differ, the curves, and the differences."""
    print_lines(console, *(f"{run.label}  {run.folder}" for run in comparison.runs), "")
    heading = "what differs" if comparison.differs else "no setting differs"
    titles = "|".join([heading, *(run.label for run in comparison.runs)])
    rows = ([name, *("-" if value is None else value for value in row)] for name, row in comparison.differs.items())
    console.print(make_table(titles, rows))
    if comparison.same:
        print_lines(console, f"the same: {', '.join(comparison.same)}")
    print_lines(console)
    titles = "|curve|images>|baseline>|peak @ scale>|change>|critical>|trend"
    console.print(make_table(titles, _curves(comparison.curves)))
    for label, names in comparison.unmatched.items():
        if names:
            print_lines(console, f"only in {label}: {', '.join(names)}")
    for paired in (True, False):
        rows_of_kind = [row for row in comparison.comparisons if row["paired"] is paired]
        if rows_of_kind:
            print_lines(console, "", _title(paired, comparison.n_tests))
            tests = "|gained>|lost>|p>|p Holm>" if paired else ""
            console.print(make_table(f"curve|at|>|>|difference>{tests}", _differences(rows_of_kind, paired)))
    notes = [
        f"{row['dataset']}: not the same images in {row['run']} ({row['images']}) and {row['other_run']} "
        f"({row['other_images']}); {row['common_images']} are in both"
        for row in comparison.comparisons
        if not row["paired"]
    ]
    others = dict.fromkeys(row["curve"] for row in comparison.comparisons if not row["same_sets"])
    notes += [f"different categories at the last common scale: {', '.join(others)}"] if others else []
    notes += [] if comparison.comparisons else ["", "the first run and the others have no curve in common"]
    for line in dict.fromkeys(notes):
        print_lines(console, line)


def _title(paired: bool, n_tests: int) -> str:
    if not paired:
        return "differences in points, later run minus first, on different images (95 % interval of two samples)"
    tests = f"Holm over {n_tests} tests" if n_tests > 1 else "one test"
    return f"differences in points, later run minus first, on the same images (95 % interval, exact McNemar; {tests})"


def _curves(rows: list[Row]) -> list[tuple[str, ...]]:
    names = [row["curve"] for row in rows]
    return [
        (
            row["run"],
            "" if row["curve"] == before else row["curve"],
            str(row["n_images"]),
            f"{100 * row['baseline']:.2f} %",
            f"{100 * row['peak']:.2f} % @ {row['peak_scale']}",
            _points(row["peak_change"], row["peak_change_low"], row["peak_change_high"]),
            critical(row),
            row["trend"],
        )
        for before, row in zip([None, *names], rows, strict=False)
    ]


def _differences(rows: list[Row], paired: bool) -> list[list[str]]:
    cells, before = [], None
    for row in rows:
        pair = (row["curve"], row["other_run"])
        peak = row["at"] == COMPARED_SCALES[2]
        accuracies = (
            f"{row[side]} {100 * row[f'{other}accuracy']:.2f} %" + (f" @ {row[f'{other}scale']}" if peak else "")
            for side, other in (("run", ""), ("other_run", "other_"))
        )
        at = f"scale {row['scale']}" if row["at"] == COMPARED_SCALES[1] else row["at"]
        difference = _points(row["difference"], row["low"], row["high"])
        cells.append(["" if pair == before else row["curve"], at, *accuracies, difference])
        if paired:
            cells[-1] += ["-" if row[name] is None else str(row[name]) for name in ("gained", "lost")]
            cells[-1] += ["<0.001" if row[name] < 0.0005 else f"{row[name]:.3f}" for name in ("p", "p_holm")]
        before = pair
    return cells


def _points(value: float, low: float, high: float) -> str:
    return f"{100 * value:+.2f} {interval(100 * low, 100 * high)}"


def show_replay(console: Console, result: Replay) -> None:
    """Print the steps, the predicted texts that are no category of their step, and the curves."""
    cells = (
        (
            *(row[key] for key in ("dataset", "family", "n_categories", "scale", "n_images", "correct")),
            number(row["accuracy"]),
            interval(row["ci_low"], row["ci_high"], ".1f"),
            number(row["published_accuracy"]),
            number(row["difference"], "+.2f"),
            ("yes" if row["usable"] else "no") + (" !" if row["issue"] else ""),
        )
        for row in result.steps
    )
    titles = "dataset|family|categories>|scale>|images>|correct>|accuracy>|95 %>|published>|difference>|usable"
    console.print(make_table(titles, cells))
    for row in result.steps:
        texts = ", ".join(f"{text} ({images})" for text, images in row["unknown"].items())
        for note in filter(None, (f"not offered, counted as wrong: {texts}" if texts else "", row["issue"])):
            print_lines(console, f"{row['dataset']} {row['family']} {row['n_categories']}: {note}")
    print_lines(console)
    cells = (
        (
            *(row[key] for key in ("dataset", "family", "n_images")),
            number(row["baseline"]),
            "" if row["peak"] is None else f"{row['peak']:.2f} @ {row['peak_n_categories']}",
            number(row["peak_change"], "+.2f"),
            number(row["peak_p"], ".4f"),
            number(row["final_change"], "+.2f"),
            f"{'' if row['trend'] is None else row['critical_scale'] or 'open'} "
            f"{interval(row['critical_low'], row['critical_high'], 'd')}".strip(),
            row["trend"],
        )
        for row in result.curves
    )
    titles = "dataset|family|images>|baseline>|peak @ categories>|change>|p>|final change>|critical scale>|trend"
    console.print(make_table(titles, cells))


def write_tables(result: Replay, out: Path) -> list[Path]:
    """Write the steps to a file and the curves to one with ``-curves`` in its name; return both paths.

    The column `unknown` contains JSON.
    """
    steps = pd.DataFrame([row | {"unknown": json.dumps(row["unknown"], ensure_ascii=False)} for row in result.steps])
    curves = pd.DataFrame(result.curves)
    for name in _INTEGERS:
        curves[name] = curves[name].astype("Int64")  # a missing one must not turn the others into 3.0
    curves_file = out.with_name(f"{out.stem}-curves{out.suffix}")
    try:
        for table, target in ((steps, out), (curves, curves_file)):
            target.parent.mkdir(parents=True, exist_ok=True)
            table.to_csv(target, index=False) if out.suffix.lower() == ".csv" else table.to_parquet(target, index=False)
    except OSError as error:
        raise SemscaleError("cannot write the table", where=str(out), found=error.strerror or str(error)) from error
    return [out, curves_file]
