"""Output of sweep, encode, ladder, optimize and label, and the JSON documents of studies."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from rich.console import Console

from semscale.categories.ladder import Ladder
from semscale.cli.output import make_table, number, print_lines
from semscale.common.text import counted
from semscale.report.headlines import CURVE_KEY

if TYPE_CHECKING:  # these import Ray and MLflow
    from semscale.label.labelling import LabelResult
    from semscale.store.mirrored_directory import MirroredDirectory
    from semscale.study.encoding_stage import EncodeResult
    from semscale.study.optimize import OptimizedCategories
    from semscale.study.pipeline import SweepResult

_MOST_ROWS = 24
_MOST_CATEGORIES = 12


def show_sweep(console: Console, result: SweepResult) -> None:
    """Print one line per curve, then counts and the paths of the results."""
    several = {name: result.curves[name].nunique() > 1 for name in ("model", "aggregation")}
    columns = [name for name in CURVE_KEY if several.get(name, True)]
    titles = "|".join([*columns, "images>", "baseline>", "peak @ scale>", "change>", "p>", "critical>", "trend"])
    table = make_table(
        titles,
        (
            [
                *(curve[name] for name in (*columns, "n_images")),
                f"{100 * curve['baseline']:.2f} %",
                f"{100 * curve['peak']:.2f} % @ {curve['peak_scale']}",
                f"{100 * curve['peak_change']:+.2f}",
                f"{curve['peak_p']:.3f}",
                critical(curve),
                curve["trend"],
            ]
            for curve in result.curves.to_dict("records")
        ),
    )
    table.columns[-1].min_width = 7
    if "model" in columns:
        table.columns[columns.index("model")].overflow = "ellipsis"
    print_lines(console)
    console.print(table)
    paths = {"results": result.folder, "report": result.folder / "report.html", "MLflow": result.ui_command}
    head = f"{counted(len(result.trials), 'trials')}, {counted(len(result.curves), 'curves')}; "
    _show_counts(console, result, head, paths)


def show_encoded(console: Console, result: EncodeResult) -> None:
    """Print the counts of an encoded study and the paths of run directory and store."""
    _show_counts(console, result, "", {"run": result.folder, "store": result.store})


def _show_counts(console: Console, result: EncodeResult, head: str, paths: Mapping[str, object]) -> None:
    _show_shares(console, result.work)
    print_lines(
        console,
        "",
        f"{head}sent to the server: {counted(result.images_sent, 'images')}, {counted(result.texts_sent, 'texts')}",
        *([f"{counted(result.quarantined, 'images')} in quarantine.csv"] if result.quarantined else []),
        *(f"{name:<8} {path}" for name, path in paths.items()),
    )


def critical(curve: dict[Any, Any]) -> str:
    """Format the critical scale with its interval; the last scale means "there or beyond"."""
    scale = curve["critical_scale"]
    return f"{'-' if pd.isna(scale) else int(scale)} [{int(curve['critical_low'])}, {int(curve['critical_high'])}]"


def sweep_document(result: SweepResult) -> dict[str, Any]:
    """Return the JSON document of a sweep: `curves` are the rows of curves.parquet, counts those of this process."""
    views = {"report": _absolute(result.folder / "report.html"), "mlflow": result.ui_command}
    counts = {"trials": len(result.trials), **_counts(result)}
    return {"run": _absolute(result.folder), **views, **counts, "curves": result.curves.to_dict("records")}


def encode_document(result: EncodeResult) -> dict[str, Any]:
    """Return the JSON document of an encoded study; counts are those of this process."""
    return {"run": _absolute(result.folder), "store": _absolute(result.store), **_counts(result)}


def _counts(result: EncodeResult) -> dict[str, int]:
    return {name: getattr(result, name) for name in ("images_sent", "texts_sent", "quarantined")}


def _absolute(folder: MirroredDirectory) -> str:
    return str(folder) if folder.is_remote else str(folder.local)


def show_ladder(console: Console, ladder: Ladder) -> None:
    """Print the categories that each step adds."""
    seen: set[str] = set()
    rows: list[tuple[int, int, str]] = []
    for step in ladder.steps:
        new = [text for name in ladder.classes for text in step.categories[name] if text not in seen]
        seen.update(new)
        rows.append((step.scale, step.n_categories, ", ".join(new)))
    print_lines(console, f"{ladder.dataset} x {ladder.strategy}, order {ladder.order}")
    console.print(make_table("scale>|categories>|new at this step", rows))
    for note in ladder.notes:
        print_lines(console, f"note: {note}")


def show_optimized(console: Console, result: OptimizedCategories, out: Path | None = None) -> None:
    """Print a line per round of the search, the gain on the held-out half, and the file of the ladder, if any."""
    n, rows = result.n_choosing, []
    for row, (candidate, outcome) in enumerate(zip(result.tried, result.rounds, strict=True), start=1):
        gains = f"{100 * (outcome.gained - outcome.lost) / n:+.2f}", f"{100 * outcome.low:+.2f}"
        counts = *gains, outcome.gained, outcome.lost, "yes" if outcome.taken else "no"
        accuracy = f"{100 * outcome.correct / n:.2f} %"
        rows.append((row, candidate.strategy, candidate.label, outcome.n_candidates, accuracy, *counts))
    positions = counted(result.n_positions, "positions")
    print_lines(
        console,
        "",
        f"{result.dataset} x {result.model}: {positions} of {', '.join(result.strategies)}; "
        f"{counted(n, 'images')} to choose, {counted(result.n_held_out, 'images')} held out, seed {result.seed}",
        *([f"{counted(result.unusable, 'images')} cannot be used"] if result.unusable else []),
    )
    titles = "round|strategy|best candidate|tried>|accuracy>|gain>|at least>|gained>|lost>|taken"
    console.print(make_table(titles, rows))
    values = result.held_out()
    lines = ["", f"class names alone  {_accuracy(values, 'before')}"]
    if result.chosen:
        more = f"{counted(len(result.chosen), 'more texts')} per class"
        gain = f"{values['gain']:+.2f} points [{values['gain_low']:+.2f}, {values['gain_high']:+.2f}]"
        lines += [f"with {more:<13} {_accuracy(values, 'after')}"]
        lines += [f"gain  {gain} on the held-out images"]
    else:
        lines += ["no text has a significant gain: the class names alone are recommended"]
    print_lines(console, *lines, *([] if out is None else [f"ladder  {out}"]))


def _accuracy(values: dict[str, float], name: str) -> str:
    return f"{values[name]:.2f} % [{values[f'{name}_low']:.2f}, {values[f'{name}_high']:.2f}]"


def _show_shares(console: Console, work: pd.DataFrame) -> None:
    """Print the share of each endpoint, node and actor (without actors if there are many) unless there is only one."""
    if work["endpoint"].nunique() < 2 and work["node"].nunique() < 2:
        return
    columns = ["endpoint", "node", "actor"]
    if work.groupby(columns).ngroups > _MOST_ROWS:
        columns.remove("actor")
    shares = work.groupby(columns, as_index=False)[["calls", "images", "texts", "seconds"]].sum()
    n_rows = shares["images"] + shares["texts"]
    shares["share"] = (100 * n_rows / max(1, n_rows.sum())).map("{:.0f} %".format)
    rates = zip(n_rows, shares.pop("seconds"), strict=True)
    shares["rate"] = [f"{n / seconds:.0f}" if seconds else "-" for n, seconds in rates]
    print_lines(console)
    titles = "|".join([*columns, "calls>", "images>", "texts>", "share>", "rows/s>"])
    console.print(make_table(titles, shares.itertuples(index=False)))


def show_label_result(console: Console, result: LabelResult) -> None:
    """Print the first rows of a labelling's statistics, counts, and the paths of its files."""
    rows = (
        (name, number(share, ".4f"), number(average, ".4f"), number(variance, ".2e"), second)
        for name, share, average, variance, second in result.statistics.fillna({"second_best_category": ""})
        .head(_MOST_CATEGORIES)
        .itertuples(index=False)
    )
    print_lines(console)
    console.print(make_table("category|fraction>|average dot product>|variance>|second best category", rows))
    more = len(result.statistics) - _MOST_CATEGORIES
    document = result.to_json()
    print_lines(
        console,
        *([f"... and {counted(more, 'more categories')}"] if more > 0 else []),
        "",
        f"{counted(result.n_labelled, f'{result.kind}s')} labelled, {result.n_bad} cannot be used; "
        f"sent to the server: {result.sent}",
        *(f"{name:<11} {document[name]}" for name in ("results", "statistics", "quarantine") if document[name]),
    )
