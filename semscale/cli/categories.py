"""Commands ``semscale ladder`` and ``semscale optimize``: the category texts of a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from semscale.cli.group import main
from semscale.cli.options import DATASET, FILE, MODEL, SchemaCommand, completer, dataset_entry, key_values
from semscale.cli.output import Result, json_option
from semscale.common.text import counted


@main.command(cls=SchemaCommand, keys=DATASET)
@click.argument("dataset", shell_complete=completer("dataset"))
@click.option("--strategy", default="templates", show_default=True, shell_complete=completer("any-strategy"))
@click.option("--steps", default=12, show_default=True, type=click.IntRange(min=1))
@click.option("--scales", default="linear", show_default=True, type=click.Choice(["linear", "exponential"]))
@click.option("--order", default=0, show_default=True, type=click.IntRange(min=0))
@click.option("--option", "options", multiple=True, metavar="KEY=VALUE", help="Option of the strategy; VALUE is YAML.")
@click.option("--short", default="stop", type=click.Choice(["stop", "stay"]), help="If texts run out.  [stop]")
@click.option("--shared", default="refuse", type=click.Choice(["refuse", "drop"]), help="For shared texts.  [refuse]")
@click.option("--out", type=FILE, help="Write the ladder as JSON.")
@json_option("dataset, strategy, order, classes, steps, provenance, notes, as in a ladder file")
def ladder(dataset: str, strategy: str, order: int, options: tuple[str, ...], out: Path | None, **keys: Any) -> Result:
    """Print or write the category sets of a dataset.

    \b
    semscale ladder digits --strategy templates --steps 4
    semscale ladder folder:photos --domain flower --out flowers.json
    """
    from semscale.categories.ladder_builder import LadderSpec, build_ladder
    from semscale.cli.show import show_ladder
    from semscale.common.progress import choose_reporter, open_console
    from semscale.common.redact import mask_url
    from semscale.datasets.loader_registry import load_dataset

    console = open_console()
    progress = choose_reporter(open_console(stderr=True), quiet=not console.is_terminal)  # none in a pipe
    with progress.stage(f"listing {mask_url(dataset)}"):
        loaded = load_dataset(dataset, **dataset_entry(keys))
    spec = LadderSpec(loaded.name, loaded.classes, loaded.domain, strategy, options=key_values(options), **keys)
    built = build_ladder(spec, order=order)
    if out is not None:
        built.save(out)
        click.echo(f"{out}: {counted(len(built.steps), 'steps')}, up to {built.steps[-1].n_categories} categories")
    return Result(built.to_json, lambda: show_ladder(console, built) if out is None else None)


@main.command(cls=SchemaCommand, keys=(*DATASET, "--encoder", "--server", "--store"))
@click.argument("dataset", shell_complete=completer("dataset"))
@MODEL
@click.option(
    "--strategy", multiple=True, shell_complete=completer("strategy"),
    help="Source of candidate texts; repeatable.  [templates-fixed, image-picture, prompts]",
)  # fmt: skip
@click.option("--limit", type=click.IntRange(min=1), help="At most this many images.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Seed of the split into halves.")
@click.option("--out", type=FILE, help="Write the ladder as JSON, for the strategy `file`.")
@json_option("dataset, model, strategies, seed, rounds, held_out (percent, points), ladder, and counts")
def optimize(dataset: str, out: Path | None, **options: Any) -> Result:
    """Choose a category set for a dataset and measure its gain.

    Starts from the class names and adds the text (the same template for every class) that corrects the most images, as
    long as the gain is certain: the best of a round's m texts is added if the one-sided paired interval of its gain, at
    confidence 1 - 0.05 / m, is above 0. One half of the images chooses the texts, the held-out half measures the gain.
    DATASET is a dataset spec (see `semscale datasets`).

    \b
    semscale optimize shapes --strategy templates-fixed --strategy prompts --out shapes.json
    semscale optimize folder:photos --domain flower --model ViT-B-32::laion2b_s34b_b79k
    """
    from semscale.cli.show import show_optimized
    from semscale.common.progress import choose_reporter, open_console
    from semscale.config import study_from
    from semscale.study.optimize import DEFAULT_STRATEGIES
    from semscale.study.optimize import optimize as run

    keys = {name: options[name] for name in ("limit", "store")}
    keys |= {"datasets": [{"spec": dataset, **dataset_entry(options)}], "models": [options["model"]]}
    keys |= {"encoder": options["encoder"] or "server", "server": {"urls": options["server"]}}
    result = run(
        study_from(keys), options["strategy"] or DEFAULT_STRATEGIES, choose_reporter(open_console()), options["seed"]
    )
    if out is not None:
        result.ladder.save(out)
    return Result(result.to_json, lambda: show_optimized(open_console(min_width=100), result, out))
