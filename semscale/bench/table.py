"""Which benchmarks there are, what each is to reach, and the table of what was found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from semscale.bench.run import Outcome

Result = Mapping[str, Any]
NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Found:
    """A median over the rounds, with the least and the most."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Measure:
    """One figure of a benchmark.

    Attributes:
        text: what it is, unit included.
        pick: takes it from what ``measure`` returned; None where this run has no such figure.
        most: the target: it should not be above this.
        least: the target: it should not be below this.
        form: how the number is written.
        lacking: why a run can be without it.
    """

    text: str
    pick: Callable[[Result], Found | None]
    most: float | None = None
    least: float | None = None
    form: str = ".2f"
    lacking: str = ""


@dataclass(frozen=True)
class Row:
    """A line of the table; `met` is None where there is no target or no figure."""

    measure: str
    target: str
    found: str
    met: bool | None


def _spread(
    entry: Result | None, middle: str = "ratio", low: str = "ratio_low", high: str = "ratio_high"
) -> Found | None:
    return None if entry is None else Found(entry[middle], entry[low], entry[high])


def _one(entries: list[Result], **wanted: str) -> Result | None:
    return next((entry for entry in entries if all(entry[key] == value for key, value in wanted.items())), None)


def _study(size: str, key: str, result: Result) -> Found | None:
    part = result.get("large") if size == "large" else result
    return None if part is None else _spread(part[key], "median", "low", "high")


def _encode(model: str, result: Result) -> Found | None:
    table = _one(result["tables"], kind="pixels", model=model)
    return None if table is None else _spread(_one(table["rows"], way="server, packed"), "rate_ratio", "low", "high")


def _scale(endpoints: int, result: Result) -> Found | None:
    return _spread(next((row for row in result["endpoints"] if row["endpoints"] == endpoints), None))


def _kernel(way: str, result: Result) -> Found | None:
    return _spread(_one(result["rows"], way=way))


def _peak(way: str, result: Result) -> Found | None:
    row = _one(result["rows"], way=way)
    return None if row is None else Found(row["peak_mb"])


def _growth(case: str, result: Result) -> Found | None:
    return _spread(_one(result["growth"], case=case))


def _reading(loader: str, result: Result) -> Found | None:
    return _spread(result["reading"].get(loader), "median", "least", "most")


def _listing(key: str, result: Result) -> Found | None:
    return Found(result["listing"][key])


_LOADERS = ("folder", "zip", "tar", "table", "webdataset", "parquet")
_MAX, _FULL = "max, predictions", "only at full size"
_ONCE: dict[str, Any] = {"most": 1.15}
_EVERY: dict[str, Any] = {"least": 20, "form": ".1f"}

BENCHMARKS: dict[str, tuple[Measure, ...]] = {
    "study": tuple(
        Measure(text, partial(_study, size, key), lacking=_FULL, **target)
        for size, images in (("small", "6,000"), ("large", "50,000"))
        for text, key, target in (
            (f"{images} images, time against encoding the same once", "against_once", _ONCE),
            (f"{images} images, speed against the original tool's way", "faster_than_every_step", _EVERY),
        )
    ),
    "encode": (
        Measure("server's rate against bare open_clip, semscale-mini", partial(_encode, "semscale-mini"), least=0.85),
        Measure(
            "server's rate against bare open_clip, ViT-B-32", partial(_encode, "ViT-B-32"), least=0.85, lacking=_FULL
        ),
    ),
    "second_run": (
        Measure(
            "a study done already, without the start of Ray, s",
            lambda result: _spread(result, "seconds", "seconds_low", "seconds_high"),
            most=10,
            form=".1f",
        ),
    ),
    "kernel": (
        Measure("`max`, predictions, against the bare product", partial(_kernel, _MAX), most=1.05, form=".3f"),
        Measure("`max`, predictions, peak memory beyond the inputs, MB", partial(_peak, _MAX), most=300, form=".0f"),
        Measure(
            "screening in bfloat16 against float32",
            lambda result: _spread(result["screened"]),
            most=0.5,
            lacking="no AMX here, without which it does not pay",
        ),
        Measure(
            "a GPU against the CPU, near ties scored again",
            lambda result: _spread(result["on_gpu"]),
            form=".3f",
            lacking="no GPU",
        ),
        Measure("all five aggregations against `max`", lambda result: _spread(result["together"]), most=2.5),
        *(
            Measure(f"time with twice the {what}", partial(_growth, f"{what} x 2"), most=2.1)
            for what in ("images", "classes", "steps")
        ),
    ),
    "trials": (
        Measure(
            "one more trial, ms",
            lambda result: _spread(result, "ms_per_trial", "ms_per_trial_low", "ms_per_trial_high"),
            most=60,
            form=".0f",
        ),
    ),
    "scale": (
        *(
            Measure(
                f"{endpoints} endpoints that wait, share of what they could do",
                partial(_scale, endpoints),
                least=0.9,
                lacking=_FULL,
            )
            for endpoints in (4, 16)
        ),
        Measure("one of four endpoints four times slower, share", lambda result: _spread(result["uneven"]), least=0.9),
        Measure("processor time per image, ms", lambda result: Found(result["limit"]["processor_ms"])),
        Measure(
            "the driver's memory at its highest, bytes per image",
            lambda result: Found(result["bytes_per_image"]["driver"]) if result["bytes_per_image"] else None,
            form=".0f",
            lacking=_FULL,
        ),
    ),
    "datasets": (
        *(
            Measure(f"reading {loader}, rate against bare Pillow", partial(_reading, loader), least=0.9)
            for loader in _LOADERS
        ),
        Measure("reading zip, deflated, rate against bare Pillow", partial(_reading, "zip, deflated")),
        Measure("reading tar.gz, compressed, rate against bare Pillow", partial(_reading, "tar.gz")),
        Measure("listing, samples per second", partial(_listing, "samples_per_second"), form=",.0f"),
        Measure("listing, MiB beyond a short one", partial(_listing, "mib_beyond"), form=".0f"),
    ),
}


def rows_of(name: str, outcome: Outcome) -> list[Row]:
    """Return the rows of a benchmark, all of them, whether it ran or not."""
    return [_row(name, measure, outcome) for measure in BENCHMARKS[name]]


def _row(name: str, measure: Measure, outcome: Outcome) -> Row:
    text, target = f"{name}: {measure.text}", _target(measure)
    if outcome.result is None:
        return Row(text, target, f"{NOT_MEASURED}: {outcome.error}", None)
    found = measure.pick(outcome.result)
    if found is None:
        return Row(text, target, f"{NOT_MEASURED}: {measure.lacking}" if measure.lacking else NOT_MEASURED, None)
    shown = format(found.value, measure.form)
    if found.low is not None and found.high is not None:
        shown += f" ({found.low:{measure.form}} to {found.high:{measure.form}})"
    return Row(text, target, shown, _met(measure, found.value))


def _target(measure: Measure) -> str:
    if measure.most is not None:
        return f"<= {measure.most:g}"
    return "" if measure.least is None else f">= {measure.least:g}"


def _met(measure: Measure, value: float) -> bool | None:
    if measure.most is not None:
        return value <= measure.most
    return None if measure.least is None else value >= measure.least


def markdown(document: Result) -> str:
    """Return what :func:`document` made as Markdown: the machine, warnings, and the table."""
    machine = document["machine"]
    versions = [f"{name} {version or 'missing'}" for name, version in machine["packages"].items()]
    lines = [
        f"{machine['cpu']} ({', '.join(machine['flags']) or 'no fast bfloat16'}), {machine['cores']} cores, "
        f"{machine['memory_gib']:.0f} GiB; Python {machine['python']}, {', '.join(versions)}; "
        f"load {document['load_start']:.1f} at the start, {document['load_end']:.1f} at the end",
    ]
    if document["load_start"] > 1:
        lines += ["", "The machine was busy when this began (load above 1): these figures are not worth quoting."]
    if document["quick"]:
        lines += [
            "",
            "Quick sizes: they show that the benchmarks run; the targets are for the full ones.",
        ]
    lines += ["", "| measure | target | found (lowest to highest) | met |", "|---|---|---|---|"]
    met = {True: "yes", False: "no", None: ""}
    for row in document["rows"]:
        cells = (row["measure"], row["target"], row["found"].replace("|", "\\|"), met[row["met"]])
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def document(
    outcomes: Mapping[str, Outcome], machine: Result, load_start: float, load_end: float, quick: bool
) -> dict[str, Any]:
    """Return everything that was found, as JSON takes it; at quick sizes no target counts as met or not."""
    rows = [row for name, outcome in outcomes.items() for row in rows_of(name, outcome)]
    return {
        "quick": quick,
        "machine": dict(machine),
        "load_start": load_start,
        "load_end": load_end,
        "rows": [asdict(replace(row, met=None) if quick else row) for row in rows],
        "benchmarks": {name: vars(outcome) for name, outcome in outcomes.items()},
    }
