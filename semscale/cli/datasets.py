"""Commands ``semscale datasets list`` and ``semscale datasets check``: dataset specs, and what a dataset contains."""

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
from semscale.common.errors import ConfigError, SemscaleError
from semscale.common.redact import mask_url
from semscale.common.text import counted

if TYPE_CHECKING:
    from semscale.categories.ladder import Ladder
    from semscale.config import StrategyConfig, StudyConfig
    from semscale.datasets.dataset import Dataset


@main.group(invoke_without_command=True)
@click.pass_context
def datasets(context: click.Context) -> None:
    """List and check image datasets.

    A dataset is given by a spec, on the command line and in study files:

    \b
    digits, shapes            bundled with semscale
    folder:PATH               a folder per class, also below train/, val/, test/
    zip:PATH                  the same in a ZIP archive, read without unpacking
    tar:PATH                  the same in a .tar or .tar.gz archive
    table:FILE                .csv, .tsv, .jsonl or .parquet with a row per image
    webdataset:SHARDS         DIR/{000..099}.tar with .jpg beside .cls or .json
    parquet:PATH              Hugging Face style: an image and a label per row
    hf:NAME[:SPLIT]           Hugging Face, through the package datasets
    torchvision:NAME[:SPLIT]  through the package torchvision

    PATH is a local path or a URL that fsspec can open: s3://, gs://, https://. Where folders do not give the classes, a
    rule (--class-from), a column (--label) or a mapping of names (--classes) does.

    \b
    semscale datasets check folder:~/photos
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@datasets.command("list")
@json_option("bundled (name, images, classes, domain), schemes (prefixes of other specs)")
def list_datasets() -> Result:
    """List the bundled datasets and the prefixes of other specs.

    \b
    semscale datasets list
    """
    from semscale.datasets.bundled import BUNDLED
    from semscale.datasets.loader_registry import load_dataset, schemes

    rows = [
        {"name": data.name, "images": len(data.samples), "classes": len(data.classes), "domain": data.domain}
        for data in map(load_dataset, BUNDLED)
    ]
    lines = ["{name:<8} {images:>6,} images of {classes} classes; domain: {domain}".format_map(row) for row in rows]
    lines += [" ".join(f"{scheme}:" for scheme in schemes())]
    return Result(lambda: {"bundled": rows, "schemes": schemes()}, lambda: click.echo("\n".join(lines)))


@datasets.command(cls=SchemaCommand, keys=DATASET)
@click.argument("spec", shell_complete=completer("dataset", "file"))
@click.option("--limit", type=click.IntRange(min=1), help="At most this many images.")
@click.option("--seed", default=0, type=click.IntRange(min=0), help="Seed of the subset and of the sheet.  [0]")
@click.option("--max-bad-fraction", type=click.FloatRange(0, 1, max_open=True), help="Tolerated share.  [0.01]")
@click.option("--quarantine", type=FILE, help="Write the unusable images and the reasons as CSV.")
@click.option("--sheet", type=FILE, help="Write a contact sheet as PNG.")
@click.option("--per-class-on-sheet", default=3, show_default=True, type=click.IntRange(1, 12), help="Images per row.")
@click.option("--strategy", shell_complete=completer("any-strategy"), help="Strategy of the sheet.  [templates]")
@click.option("--steps", type=click.IntRange(min=1), help="Steps of the sheet's ladder.  [12, or the study's]")
@click.option("--all", "everything", is_flag=True, help="List all classes, not only the first 40.")
@click.option("--threads", type=click.IntRange(1, 256), help="Images to decode in parallel.  [one per processor]")
@json_option("datasets (a report on each), passes (whether a sweep would continue)")
def check(spec: str, sheet: Path | None, quarantine: Path | None, **options: Any) -> Result:
    """Read every image of a dataset and report what it contains.

    Shows the classes as a model reads them, image sizes and formats, exact duplicates, and unusable images with the
    reasons. SPEC is a dataset spec (see `semscale datasets`), or a study file to check all its datasets. Nothing is
    encoded. The exit status is 1 if a sweep would stop because too many images are unusable.

    \b
    semscale datasets check shapes --sheet shapes.png
    semscale datasets check folder:~/photos --domain flower --quarantine bad.csv
    semscale datasets check study.yaml
    """
    from semscale.cli.show_check import show_check
    from semscale.common.progress import choose_reporter, open_console
    from semscale.datasets.contact_sheet import draw_sheet, save_sheet
    from semscale.datasets.dataset_check import DatasetCheck, check_dataset
    from semscale.datasets.loader_registry import load_dataset

    for file in (sheet, quarantine):
        if file is not None:
            with _writing(file):  # fail before the images are read, not afterwards
                file.parent.mkdir(parents=True, exist_ok=True)
    study, entries, strategy = _datasets_of(spec, options)
    fraction = study.max_bad_fraction if options["max_bad_fraction"] is None else options["max_bad_fraction"]
    report = choose_reporter(open_console(stderr=True))
    checked: list[tuple[DatasetCheck, str, Path | None]] = []
    for entry in entries:
        with report.stage(f"listing {mask_url(entry['spec'])}"):
            dataset = load_dataset(**entry)
        # built before the images are read, so that a wrong strategy fails early
        ladder = None if sheet is None else _ladder(dataset, study, strategy, options["steps"])
        with report.stage(f"reading {dataset.name}", len(dataset.samples), "images") as advance:
            outcome = check_dataset(dataset, threads=options["threads"], progress=advance)
        path = sheet and (sheet if len(entries) == 1 else sheet.with_name(f"{sheet.stem}-{dataset.name}{sheet.suffix}"))
        checked.append((outcome, mask_url(entry["spec"]), path))
        if ladder is not None and path is not None:
            positions, n_classes = outcome.positions, counted(len(dataset.classes), "classes", ",")
            about = (
                f"{counted(len(positions), 'images', ',')} of {n_classes}, domain {dataset.domain}; "
                f"{ladder.steps[-1].n_categories:,} categories of {ladder.strategy}"
            )
            layout = {"about": about, "per_class": options["per_class_on_sheet"], "seed": options["seed"]}
            with report.stage("drawing the contact sheet"):
                save_sheet(draw_sheet(dataset, positions, ladder.steps[-1].categories, **layout), path)
    passes = all(outcome.passes(fraction) for outcome, _, _ in checked)
    if quarantine is not None:
        unusable = [(one.dataset.name, *item) for one, _, _ in checked for item in one.quarantine.items()]
        with _writing(quarantine), quarantine.open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([("dataset", "file", "reason"), *unusable])

    def document() -> dict[str, Any]:
        rows = [
            {"spec": spec, **outcome.to_json(fraction), "sheet": None if path is None else str(path)}
            for outcome, spec, path in checked
        ]
        return {"datasets": rows, "passes": passes}

    def show() -> None:
        console = open_console()
        for outcome, _, path in checked:
            show_check(console, outcome, fraction, everything=options["everything"])
            if path is not None:
                click.echo(f"contact sheet: {path}")
        if quarantine is not None:
            click.echo(f"quarantine: {quarantine}, {counted(len(unusable), 'images', ',')}")
        if sheet is None:
            click.echo("--sheet FILE.png shows some images of each class beside its categories")

    return Result(document, show, 0 if passes else 1)


def _datasets_of(spec: str, options: dict[str, Any]) -> tuple[StudyConfig, list[dict[str, Any]], StrategyConfig]:
    """Return the study, the arguments of `load_dataset` for each of its datasets, and the strategy of the sheet."""
    from semscale.config import StrategyConfig, StudyConfig, load_study
    from semscale.datasets.loader_registry import schemes

    entry = dataset_entry(options)
    is_study = spec.endswith((".yaml", ".yml")) and spec.partition(":")[0] not in schemes()
    if is_study and entry:
        what, expected = "dataset options cannot be combined with a study file", "keys beside spec: in the study file"
        raise ConfigError(what, where=", ".join(map(option_name, entry)), expected=expected)
    study = load_study(spec) if is_study else StudyConfig()
    entries = [dataset.model_dump() for dataset in study.datasets]
    if not is_study:
        entries = [{"spec": spec, **entry, "seed": options["seed"]}]
    for dataset in entries:
        limits = (dataset.get("limit"), study.limit, options["limit"])
        dataset["limit"] = min((limit for limit in limits if limit is not None), default=None)
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
