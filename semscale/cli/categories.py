"""``semscale ladder`` and ``semscale optimize``: the category texts of a dataset."""

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
@click.option("--option", "options", multiple=True, metavar="KEY=VALUE", help="For the strategy; VALUE may be YAML.")
@click.option("--short", default="stop", type=click.Choice(["stop", "stay"]), help="When texts run out.  [stop]")
@click.option("--shared", default="refuse", type=click.Choice(["refuse", "drop"]), help="Two classes' text.  [refuse]")
@click.option("--out", type=FILE, help="Write the ladder as JSON.")
@json_option("dataset, strategy, order, classes, steps, provenance, notes, as in a ladder file")
def ladder(dataset: str, strategy: str, order: int, options: tuple[str, ...], out: Path | None, **how: Any) -> Result:
    """Show or write the category sets of a dataset.

    \b
    semscale ladder digits --strategy templates --steps 4
    semscale ladder folder:photos --domain flower --out flowers.json
    """
    from semscale.categories.ladder_builder import LadderSpec, build_ladder
    from semscale.cli.show import show_ladder
    from semscale.common.progress import open_console, reporter
    from semscale.common.redact import shown
    from semscale.datasets.loader_registry import load_dataset

    console = open_console()
    # in a pipe there is nobody who waits
    with reporter(open_console(stderr=True), quiet=not console.is_terminal).stage(f"listing {shown(dataset)}"):
        loaded = load_dataset(dataset, **dataset_entry(how))
    spec = LadderSpec(loaded.name, loaded.classes, loaded.domain, strategy, options=key_values(options), **how)
    made = build_ladder(spec, order=order)
    if out is not None:
        made.save(out)
        click.echo(f"{out}: {counted(len(made.steps), 'steps')}, {made.steps[-1].n_categories} categories at the last")
    return Result(made.to_json, lambda: show_ladder(console, made) if out is None else None)


@main.command(cls=SchemaCommand, keys=(*DATASET, "--encoder", "--server", "--store"))
@click.argument("dataset", shell_complete=completer("dataset"))
@MODEL
@click.option(
    "--strategy", multiple=True, shell_complete=completer("strategy"),
    help="Whose texts are tried; repeatable.  [templates-fixed, image-picture, prompts]",
)  # fmt: skip
@click.option("--limit", type=click.IntRange(min=1), help="At most this many images.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Of the halves.")
@click.option("--out", type=FILE, help="Write the set, for the strategy `file`.")
@json_option("dataset, model, strategies, seed, rounds, held_out (percent, points), ladder, and counts")
def optimize(dataset: str, out: Path | None, **options: Any) -> Result:
    """Choose a category set for a dataset, and measure what it gains.

    Starts from the class names and adds the text (the same template for every class) that makes most images right, as
    long as the gain is sure: the best of the m texts of a round is taken if the one-sided paired interval of its gain,
    with confidence 1 - 0.05 / m, lies above 0. One half of the images chooses; the other half, which the choice has
    not seen, measures the gain. DATASET is what `semscale datasets` lists.

    \b
    semscale optimize shapes --strategy templates-fixed --strategy prompts --out shapes.json
    semscale optimize folder:photos --domain flower --model ViT-B-32::laion2b_s34b_b79k
    """
    from semscale.cli.show import show_optimized
    from semscale.common.progress import open_console, reporter
    from semscale.config import study_from
    from semscale.study.optimize import DEFAULT_STRATEGIES
    from semscale.study.optimize import optimize as run

    tree = {name: options[name] for name in ("limit", "store")}
    tree |= {"datasets": [{"spec": dataset, **dataset_entry(options)}], "models": [options["model"]]}
    tree |= {"encoder": options["encoder"] or "server", "server": {"urls": options["server"]}}
    result = run(study_from(tree), options["strategy"] or DEFAULT_STRATEGIES, reporter(open_console()), options["seed"])
    if out is not None:
        result.ladder.save(out)
    return Result(result.to_json, lambda: show_optimized(open_console(least=100), result, out))
