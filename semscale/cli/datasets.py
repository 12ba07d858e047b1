"""``semscale datasets``: what a dataset can be, and what one holds."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from semscale.cli.group import main
from semscale.cli.options import DATASET, FILE, SchemaCommand, completer, dataset_entry, option_name
from semscale.cli.output import Result, json_option
from semscale.common.errors import SemscaleError
from semscale.common.redact import redact
from semscale.common.text import counted

if TYPE_CHECKING:
    from semscale.categories.ladder import Ladder
    from semscale.config import StrategyConfig, StudyConfig
    from semscale.datasets.base import Dataset


@main.group(invoke_without_command=True)
@click.pass_context
def datasets(context: click.Context) -> None:
    """What a dataset can be, and what one holds.

    A dataset is named by a spec, on the command line and in study files:

    \b
    digits, shapes            bundled; nothing else needed
    folder:PATH               a folder per class, also below train/, val/, test/
    zip:PATH                  the same inside a ZIP archive, never unpacked
    tar:PATH                  the same inside .tar, .tar.gz and the like
    table:FILE                .csv, .tsv, .jsonl or .parquet with a row per image
    webdataset:SHARDS         DIR/{000..099}.tar with .jpg beside .cls or .json
    parquet:PATH              Hugging Face style: an image and a label per row
    hf:NAME[:SPLIT]           through the package datasets
    torchvision:NAME[:SPLIT]  through the package torchvision

    PATH is a local path or any that fsspec knows: s3://, gs://, https://. A rule (--class-from), a column (--label)
    or a mapping of names (--classes) tells the classes where folders do not.

    \b
    semscale datasets check folder:~/photos
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@datasets.command("list")
@json_option("bundled (name, images, classes, domain), schemes (how other specs begin)")
def list_datasets() -> Result:
    """Name the bundled datasets, and how the specs of others begin.

    \b
    semscale datasets list
    """
    from semscale.datasets.bundled import BUNDLED
    from semscale.datasets.loader_registry import load_dataset, schemes

    rows = [
        {"name": found.name, "images": len(found.samples), "classes": len(found.classes), "domain": found.domain}
        for found in map(load_dataset, BUNDLED)
    ]
    lines = ["{name:<8} {images:>6,} images of {classes} classes; domain: {domain}".format_map(row) for row in rows]
    lines += [" ".join(f"{scheme}:" for scheme in schemes())]
    return Result(lambda: {"bundled": rows, "schemes": schemes()}, lambda: click.echo("\n".join(lines)))


@datasets.command(cls=SchemaCommand, keys=DATASET)
@click.argument("spec", shell_complete=completer("dataset", "file"))
@click.option("--limit", type=click.IntRange(min=1), help="At most this many images.")
@click.option("--seed", default=0, type=click.IntRange(min=0), help="Of a cut, and of what the sheet shows.  [0]")
@click.option("--max-bad-fraction", type=click.FloatRange(0, 1, max_open=True), help="Accept this share.  [0.01]")
@click.option("--quarantine", type=FILE, help="Write what cannot be used: CSV.")
@click.option("--sheet", type=FILE, help="Write a contact sheet: PNG.")
@click.option("--per-class-on-sheet", default=3, show_default=True, type=click.IntRange(1, 12), help="Images in a row.")
@click.option("--strategy", shell_complete=completer("any-strategy"), help="Of the sheet's categories.  [templates]")
@click.option("--steps", type=click.IntRange(min=1), help="Scale steps of these categories.  [12, or the study's]")
@click.option("--all", "everything", is_flag=True, help="List all classes, not only the first 40.")
@click.option("--threads", type=click.IntRange(1, 256), help="Images decoded at a time.  [one per processor]")
@json_option("datasets (what is in each), passes (whether a sweep would go on)")
def check(spec: str, sheet: Path | None, quarantine: Path | None, **options: Any) -> Result:
    """Read every image of a dataset and say what is there.

    Shows the classes as a model will read them, sizes and kinds of pictures, exact duplicates, and what cannot be used
    and why. SPEC is what `semscale datasets` lists, or a study file, whose datasets are then all checked. Nothing is
    encoded. The exit status is 1 if a sweep would stop because too many images cannot be used.

    \b
    semscale datasets check shapes --sheet shapes.png
    semscale datasets check folder:~/photos --domain flower --quarantine bad.csv
    semscale datasets check study.yaml
    """
    from semscale.cli.show_check import show_check
    from semscale.common.progress import open_console, reporter
    from semscale.datasets.contact_sheet import draw_sheet, save_sheet
    from semscale.datasets.dataset_check import DatasetCheck, check_dataset
    from semscale.datasets.loader_registry import load_dataset

    for file in (sheet, quarantine):
        if file is not None:
            with _writing(file):  # fail before all images are read, not afterwards
                file.parent.mkdir(parents=True, exist_ok=True)
    study, entries, strategy = _datasets_of(spec, options)
    fraction = study.max_bad_fraction if options["max_bad_fraction"] is None else options["max_bad_fraction"]
    report = reporter(open_console(stderr=True))
    checked: list[tuple[DatasetCheck, str, Path | None]] = []
    for entry in entries:
        with report.stage(f"listing {redact(entry['spec'])}"):
            dataset = load_dataset(**entry)
        # made before the images are read: a wrong strategy should not cost that time
        ladder = None if sheet is None else _ladder(dataset, study, strategy, options["steps"])
        with report.stage(f"reading {dataset.name}", len(dataset.samples), "images") as advance:
            found = check_dataset(dataset, threads=options["threads"], progress=advance)
        path = sheet and (sheet if len(entries) == 1 else sheet.with_name(f"{sheet.stem}-{dataset.name}{sheet.suffix}"))
        checked.append((found, redact(entry["spec"]), path))
        if ladder is not None and path is not None:
            about = (
                f"{counted(len(found.positions), 'images', ',')} of {counted(len(dataset.classes), 'classes', ',')}, "
                f"domain {dataset.domain}; {ladder.steps[-1].n_categories:,} categories of {ladder.strategy}"
            )
            layout = {"about": about, "per_class": options["per_class_on_sheet"], "seed": options["seed"]}
            with report.stage("drawing the contact sheet"):
                save_sheet(draw_sheet(dataset, found.positions, ladder.steps[-1].categories, **layout), path)
    passes = all(found.passes(fraction) for found, _, _ in checked)
    if quarantine is not None:
        unusable = [(found.dataset.name, *item) for found, _, _ in checked for item in found.quarantine.items()]
        with _writing(quarantine), quarantine.open("w", newline="", encoding="utf-8") as opened:
            csv.writer(opened).writerows([("dataset", "file", "reason"), *unusable])

    def document() -> dict[str, Any]:
        rows = [
            {"spec": of, **found.to_json(fraction), "sheet": None if path is None else str(path)}
            for found, of, path in checked
        ]
        return {"datasets": rows, "passes": passes}

    def show() -> None:
        console = open_console()
        for found, _, path in checked:
            show_check(console, found, fraction, everything=options["everything"])
            if path is not None:
                click.echo(f"contact sheet: {path}")
        if quarantine is not None:
            click.echo(f"quarantine: {quarantine}, {counted(len(unusable), 'images', ',')}")
        if sheet is None:
            click.echo("with --sheet FILE.png: a few images of each class beside its categories")

    return Result(document, show, 0 if passes else 1)


def _datasets_of(spec: str, options: dict[str, Any]) -> tuple[StudyConfig, list[dict[str, Any]], StrategyConfig]:
    """Return the study, what `load_dataset` takes for each of its datasets, and whose texts stand on the sheet."""
    from semscale.config import StrategyConfig, StudyConfig, load_study
    from semscale.datasets.loader_registry import schemes

    entry = dataset_entry(options)
    is_study = spec.endswith((".yaml", ".yml")) and spec.partition(":")[0] not in schemes()
    if is_study and entry:
        what, expected = "options of a dataset do not go with a study file", "in a study file they stand beside spec:"
        raise SemscaleError(what, where=", ".join(map(option_name, entry)), expected=expected)
    study = load_study(spec) if is_study else StudyConfig()
    entries = [dataset.model_dump() for dataset in study.datasets]
    if not is_study:
        entries = [{"spec": spec, **entry, "seed": options["seed"]}]
    for one in entries:
        limits = (one.get("limit"), study.limit, options["limit"])
        one["limit"] = min((limit for limit in limits if limit is not None), default=None)
    if is_study and options["strategy"] is None:
        return study, entries, study.strategies[0]
    return study, entries, StrategyConfig(strategy=options["strategy"] or "templates", short="stay")


def _ladder(dataset: Dataset, study: StudyConfig, strategy: StrategyConfig, steps: int | None) -> Ladder:
    from semscale.categories.ladder_builder import LadderSpec, build_ladder

    how = strategy.model_dump(exclude={"name", "strategy"})
    how |= {"steps": steps or study.steps, "scales": study.scales, "label": strategy.label}
    return build_ladder(LadderSpec(dataset.name, dataset.classes, dataset.domain, strategy.strategy, **how))


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SemscaleError("the file cannot be written", where=str(path), found=str(error)) from error
