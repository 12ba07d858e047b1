"""The command line: parse, call, print. Imports of the heavy engines stay inside the commands."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import semscale
from semscale.errors import SemscaleError

if TYPE_CHECKING:
    from semscale.config import StudyConfig

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


class _Group(click.Group):
    """Prints user mistakes without a traceback; exit status 1 for them, 2 for wrong usage, 130 for Ctrl-C."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        kwargs["standalone_mode"] = False
        try:
            status = super().main(*args, **kwargs)
        except click.ClickException as error:
            error.show()
            status = error.exit_code
        except SemscaleError as error:
            click.echo(f"Error: {error}", err=True)
            status = 1
        except (click.Abort, KeyboardInterrupt):
            click.echo("Stopped. The same command again goes on from here.", err=True)
            status = 130
        sys.exit(status if isinstance(status, int) else 0)


@click.group(cls=_Group, context_settings=_CONTEXT)
@click.version_option(semscale.__version__, prog_name="semscale")
def main() -> None:
    """Measure what happens to a CLIP model's labelling accuracy when every class gets more category texts.

    \b
    semscale sweep                    the bundled datasets and model, nothing else needed
    semscale sweep study.yaml         a study of your own
    semscale optimize DATASET         which categories are worth having?
    semscale replay PATH              re-score what others published
    semscale doctor                   is everything in place?
    """


@main.command()
@click.argument("study", required=False, type=click.Path(dir_okay=False, path_type=Path), metavar="[STUDY.yaml]")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Run directory.  [semscale-runs/NAME-ID]")
@click.option("--dataset", "datasets", multiple=True, metavar="SPEC", help="digits, shapes or folder:PATH; repeatable.")
@click.option(
    "--model", "models", multiple=True, metavar="NAME",
    help="semscale-mini, ARCHITECTURE::PRETRAINED, hf-hub:NAME or ARCHITECTURE::FILE; repeatable.",
)  # fmt: skip
@click.option("--strategy", "strategies", multiple=True, metavar="NAME", help="How categories are made; repeatable.")
@click.option(
    "--control", "controls", multiple=True, metavar="NAME",
    help="Arms of the same count without the meaning; repeatable.  [duplicates, random-words]",
)  # fmt: skip
@click.option("--no-controls", is_flag=True, help="No control arms.")
@click.option(
    "--order", "orders", multiple=True, type=click.IntRange(min=0), help="Order of categories; repeatable.  [0]"
)
@click.option(
    "--aggregation", metavar="NAME", help="max, mean-embedding, mean-similarity, logsumexp, top-3-mean.  [max]"
)
@click.option("--steps", type=click.IntRange(min=1), help="Scale steps.  [12]")
@click.option(
    "--server", "servers", multiple=True, metavar="URL",
    help="grpc://host:port of a running clip-server; repeatable. Without it the sweep starts its own.",
)  # fmt: skip
@click.option("--replicas", type=click.IntRange(min=1), help="Replicas of the sweep's own server.  [2]")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), help="Device of the sweep's own server.  [cpu]")
@click.option("--actors", type=click.IntRange(min=1), help="Encoder actors.  [two per server]")
@click.option("--ray-address", metavar="ADDRESS", help="Ray cluster to use; without it Ray runs on this machine.")
@click.option("--tracking-uri", metavar="URI", help="MLflow server.  [mlflow.db beside the run directory]")
@click.option("--store", metavar="DIR", help="Embedding store.  [SEMSCALE_STORE or ~/.cache/semscale/embeddings]")
@click.option("--limit", type=click.IntRange(min=1), help="At most this many images per dataset.")
@click.option("--quiet", is_flag=True, help="No progress, only the table.")
def sweep(study: Path | None, out: Path | None, quiet: bool, **options: Any) -> None:
    """Run a study from images to conclusions.

    Encodes what is new, scores every scale step, records every trial in MLflow, and concludes per curve. Without
    STUDY.yaml it is the quickstart study: the bundled datasets and model. Options change the study; the same command
    again continues or repeats it, and sends nothing twice.

    \b
    semscale sweep --dataset folder:~/photos --model ViT-B-32::laion2b_s34b_b79k
    semscale sweep study.yaml --server grpc://gpu1:51000 --server grpc://gpu2:51000
    """
    config = _study(study, options)
    from rich.console import Console

    from semscale.sweep.progress import reporter
    from semscale.sweep.show import show_result
    from semscale.sweep.study import sweep as run

    console = Console()
    if not console.is_terminal:
        console = Console(width=110)  # a pipe has no width; tables should not wrap in it
    result = run(config, out, reporter(console, quiet=quiet))
    show_result(console, result)


def _study(path: Path | None, options: dict[str, Any]) -> StudyConfig:
    from semscale.config import load_study, study_from

    base = load_study(path) if path else study_from({})
    tree = base.model_dump()
    for name in ("datasets", "models", "strategies", "controls", "orders", "aggregation", "steps", "limit", "store"):
        if options[name]:
            tree[name] = options[name]
    if options["no_controls"]:
        tree["controls"] = []
    if path is None and options["datasets"]:
        tree["name"] = "study"  # no longer the quickstart
    sections = {
        "servers": ("server", "urls"),
        "replicas": ("server", "replicas"),
        "device": ("server", "device"),
        "actors": ("encoding", "actors"),
        "ray_address": ("ray", "address"),
        "tracking_uri": ("tracking", "uri"),
    }
    for option, (section, key) in sections.items():
        if options[option]:
            tree[section][key] = options[option]
    return study_from(tree)


@main.command()
@click.option("--model", default="semscale-mini", show_default=True, help="As for sweep.")
@click.option("--replicas", default=1, show_default=True, type=click.IntRange(min=1))
@click.option("--device", default="cpu", show_default=True, type=click.Choice(["cpu", "cuda"]))
@click.option("--dtype", type=click.Choice(["fp32", "fp16", "bf16"]), help="[fp32 on cpu, fp16 on cuda]")
@click.option("--host", default="127.0.0.1", show_default=True, help="Interface to listen on.")
@click.option("--port", default=51000, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one.")
@click.option("--minibatch-size", type=click.IntRange(min=1), help="Rows computed at once.  [32 on cpu, 64 on cuda]")
@click.option("--metrics-port", type=click.IntRange(1, 65535), help="Prometheus metrics of the executors.")
def serve(**options: Any) -> None:
    """Start a clip-server for a model.

    A jina Flow with the project's executor, over gRPC; stays until Ctrl-C.

    \b
    semscale serve --model ViT-B-32::laion2b_s34b_b79k --device cuda --replicas 2 --port 51000
    """
    from semscale.serving.flow import ServeConfig
    from semscale.serving.flow import serve as run

    sys.exit(run(ServeConfig(**options)))


@main.command()
@click.argument("dataset")
@click.option("--strategy", default="templates", show_default=True)
@click.option("--steps", default=12, show_default=True, type=click.IntRange(min=1))
@click.option("--scales", default="linear", show_default=True, type=click.Choice(["linear", "exponential"]))
@click.option("--order", default=0, show_default=True, type=click.IntRange(min=0))
@click.option("--option", "options", multiple=True, metavar="KEY=VALUE", help="For the strategy; VALUE may be YAML.")
@click.option(
    "--short", default="stop", show_default=True, type=click.Choice(["stop", "stay"]), help="When texts run out."
)
@click.option(
    "--shared", default="refuse", show_default=True, type=click.Choice(["refuse", "drop"]), help="Two classes' text."
)
@click.option("--domain", help="The word for what all classes are.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write the ladder as JSON.")
def ladder(
    dataset: str, strategy: str, options: tuple[str, ...], domain: str | None, out: Path | None, **how: Any
) -> None:
    """Show or write the category sets of a dataset.

    \b
    semscale ladder digits --strategy templates --steps 4
    semscale ladder folder:photos --domain flower --out flowers.json
    """
    from semscale.categories.ladder import build_ladder
    from semscale.datasets.registry import load_dataset

    loaded = load_dataset(dataset, domain=domain)
    made = build_ladder(loaded.name, loaded.classes, loaded.domain, strategy, options=_key_values(options), **how)
    if out is not None:
        made.save(out)
        click.echo(f"{out}: {len(made.steps)} steps, {made.steps[-1].n_categories} categories at the last")
        return
    from rich.console import Console

    from semscale.sweep.show import show_ladder

    show_ladder(Console(), made)


@main.command()
@click.argument("dataset")
@click.option("--model", default="semscale-mini", show_default=True, metavar="NAME", help="As for sweep.")
@click.option(
    "--strategy", "strategies", multiple=True, metavar="NAME",
    help="Whose texts are tried; repeatable.  [templates-fixed, image-picture, prompts]",
)  # fmt: skip
@click.option("--domain", help="The word for what all classes are.")
@click.option(
    "--server", "servers", multiple=True, metavar="URL",
    help="grpc://host:port of a running clip-server; repeatable. Without it one is started.",
)  # fmt: skip
@click.option("--store", metavar="DIR", help="Embedding store.  [SEMSCALE_STORE or ~/.cache/semscale/embeddings]")
@click.option("--limit", type=click.IntRange(min=1), help="At most this many images.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Of the halves.")
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="Write the chosen set, for the strategy `file`."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, and the progress to standard error.")
def optimize(dataset: str, strategies: tuple[str, ...], store: str | None, out: Path | None, **options: Any) -> None:
    """Choose a category set for a dataset, and measure what it gains.

    Starts from the class names and adds the text (the same template for every class) that makes most images right, as
    long as the gain is sure: the best of the m texts of a round is taken if the one-sided paired interval of its gain,
    with confidence 1 - 0.05 / m, lies above 0. One half of the images chooses; the other half, which the choice has
    not seen, measures the gain. DATASET is digits, shapes or folder:PATH.

    \b
    semscale optimize shapes --strategy templates-fixed --strategy prompts --out shapes.json
    semscale optimize folder:photos --domain flower --model ViT-B-32::laion2b_s34b_b79k
    """
    import json

    from rich.console import Console

    from semscale.sweep.optimize import STRATEGIES
    from semscale.sweep.optimize import optimize as run
    from semscale.sweep.progress import reporter
    from semscale.sweep.show_optimized import show_optimized
    from semscale.sweep.study import default_store

    as_json = options.pop("as_json")
    console = Console(stderr=as_json)
    place = (Path(store) if store else default_store()).expanduser().resolve()
    result = run(dataset, strategies=strategies or STRATEGIES, store=place, report=reporter(console), **options)
    if out is not None:
        result.ladder.save(out)
    if as_json:
        click.echo(json.dumps(result.to_json(), indent=1, ensure_ascii=False))
    else:
        # a narrow window wraps lines, which is easier to read than cells cut short
        show_optimized(Console(width=max(Console().width, 100)), result, out)


@main.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PATH [PATH ...]")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Also write the steps: .csv or .parquet.")
@click.option("--format", "form", default="table", show_default=True, type=click.Choice(["table", "json"]))
def replay(paths: tuple[Path, ...], out: Path | None, form: str) -> None:
    """Re-score predictions that others published.

    PATH holds ladder.json and predictions.parquet, or is a run directory, or a folder of such folders. Every predicted
    text is looked up in the categories offered at its step. Accuracies are in percent, changes in points. With --out
    FILE the curves go to FILE-curves beside the steps.

    \b
    semscale replay published/ --out rescored.csv
    semscale replay semscale-runs/quickstart --format json
    """
    from rich.console import Console

    from semscale.replay.run import replay as run
    from semscale.replay.show import as_json, check_ending, show_replay, write_tables

    if out is not None:
        check_ending(out)
    result = run(paths)
    if form == "json":
        click.echo(as_json(result))
    else:
        # a narrow window wraps lines, which is easier to read than cells cut short
        show_replay(Console(width=max(Console().width, 120)), result)
    if out is not None:
        steps, curves = write_tables(result, out)
        click.echo(f"steps   {steps}\ncurves  {curves}", err=form == "json")


def _key_values(pairs: tuple[str, ...]) -> dict[str, Any]:
    import yaml

    values = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        try:
            values[key] = yaml.safe_load(value)
        except yaml.YAMLError:
            equals = ""
        if not key or not equals:
            raise SemscaleError("an option of a strategy is KEY=VALUE", where="--option", found=pair)
    return values


@main.command()
@click.option("--server", "servers", multiple=True, metavar="URL", help="Also try this clip-server; repeatable.")
@click.option("--store", metavar="DIR", help="Also try this embedding store.")
def doctor(servers: tuple[str, ...], store: str | None) -> None:
    """Check that everything is in place.

    Looks at versions, WordNet, device, servers (by a dry run) and the store. Every line says ok or what to do; the
    exit status is 1 if a line that sweeps need is not ok.
    """
    from semscale.doctor import examine, show_findings

    findings = examine(servers, store)
    show_findings(findings)
    sys.exit(0 if all(finding.ok or not finding.required for finding in findings) else 1)
