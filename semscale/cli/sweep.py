"""``semscale sweep``: run a study."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from semscale.cli.group import main
from semscale.cli.options import dataset_entry, dataset_options
from semscale.errors import SemscaleError

if TYPE_CHECKING:
    from semscale.config import StudyConfig

# parameter, option and key in the study file
_PLACES = (
    ("models", "--model", ("models",)),
    ("strategies", "--strategy", ("strategies",)),
    ("controls", "--control", ("controls",)),
    ("orders", "--order", ("orders",)),
    ("aggregation", "--aggregation", ("aggregation",)),
    ("steps", "--steps", ("steps",)),
    ("limit", "--limit", ("limit",)),
    ("store", "--store", ("store",)),
    ("max_bad_fraction", "--max-bad-fraction", ("max_bad_fraction",)),
    ("servers", "--server", ("server", "urls")),
    ("replicas", "--replicas", ("server", "replicas")),
    ("device", "--device", ("server", "device")),
    ("actors", "--actors", ("encoding", "actors")),
    ("ray_address", "--ray-address", ("ray", "address")),
    ("tracking_uri", "--tracking-uri", ("tracking", "uri")),
)


@main.command()
@click.argument("study", required=False, type=click.Path(dir_okay=False, path_type=Path), metavar="[STUDY.yaml]")
@click.option("--out", metavar="DIR", help="Run directory, also s3://BUCKET/PREFIX.  [semscale-runs/NAME-ID]")
@click.option("--resume", metavar="RUN", help="Go on with the study of this run directory.")
@click.option("--dataset", "datasets", multiple=True, metavar="SPEC", help="See `semscale datasets`; repeatable.")
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
@click.option("--actors", type=click.IntRange(min=1), help="Encoder actors.  [one for every two CPUs]")
@click.option("--ray-address", metavar="ADDRESS", help="Ray cluster to use; without it Ray runs on this machine.")
@click.option("--tracking-uri", metavar="URI", help="MLflow server.  [mlflow.db beside the run directory]")
@click.option(
    "--store", metavar="DIR",
    help="Embedding store, also s3://BUCKET/PREFIX.  [SEMSCALE_STORE or ~/.cache/semscale/embeddings]",
)  # fmt: skip
@click.option("--limit", type=click.IntRange(min=1), help="At most this many images per dataset.")
@dataset_options
@click.option("--max-bad-fraction", type=float, help="Stop when more images of a dataset cannot be used.  [0.01]")
@click.option("--quiet", is_flag=True, help="No progress, only the table.")
def sweep(study: Path | None, out: str | None, resume: str | None, quiet: bool, **options: Any) -> None:
    """Run a study from images to conclusions.

    Encodes what is new, scores every scale step, records every trial in MLflow, and concludes per curve. Without
    STUDY.yaml it is the quickstart study: the bundled datasets and model. Options change the study. The same command
    again, or --resume with the run directory, goes on where it stopped, and sends nothing twice.

    \b
    semscale sweep --dataset folder:~/photos --model ViT-B-32::laion2b_s34b_b79k
    semscale sweep study.yaml --server grpc://gpu1:51000 --server grpc://gpu2:51000
    semscale sweep --resume semscale-runs/quickstart-1bfe32d8
    """
    from semscale.sweep.arms import make_arms

    if resume is not None:
        study, out = _resumed(resume, study, out), resume
    config = _study(study, options)
    if resume is not None:
        _check_secrets(config, resume)
    arms = make_arms(config)  # a study that cannot be is refused before the engines are imported
    from rich.console import Console

    from semscale.encoding.folder import Folder
    from semscale.sweep.progress import reporter
    from semscale.sweep.show import show_result
    from semscale.sweep.study import default_out
    from semscale.sweep.study import sweep as run

    console = Console()
    if not console.is_terminal:
        console = Console(width=110)  # a pipe has no width; tables should not wrap in it
    folder = Folder.of(out or default_out(config))
    try:
        result = run(config, folder, reporter(console, quiet=quiet), arms)
    except KeyboardInterrupt:
        if folder.local.exists():
            click.echo(f"To go on: semscale sweep --resume {out or default_out(config)}", err=True)
        raise
    show_result(console, result)


def _resumed(run: str, study: Path | None, out: str | None) -> Path:
    from semscale.sweep.rundir import study_file

    for option, given in (("STUDY.yaml", study), ("--out", out)):
        if given is not None:
            raise SemscaleError(
                "a run is resumed with its own study and in its own directory",
                where="--resume",
                found=f"{option} {given} beside it",
                hint=f"leave {option} away, or give the study without --resume",
            )
    return study_file(run)


def _check_secrets(config: StudyConfig, run: str) -> None:
    """Say what study.yaml does not hold, before something is tried with asterisks in place of a password."""
    places = {"tracking.uri": config.tracking.uri or "", **{url: url for url in config.server.urls}}
    places |= {f"datasets.{number}": entry.spec or "" for number, entry in enumerate(config.datasets)}
    hidden = [place for place, text in places.items() if "://***@" in text or text.endswith("?***")]
    if hidden:
        raise SemscaleError(
            "the run's study file holds no passwords and signatures, and this study needs them",
            where=f"{run}/study.yaml",
            found=", ".join(hidden),
            hint="give --tracking-uri, --server or the first command again; the run directory stays the same",
        )


def _study(path: Path | None, options: dict[str, Any]) -> StudyConfig:
    from semscale.config import read_study
    from semscale.sweep.names import unknown_names

    entry = dataset_entry(options)
    if entry and not options["datasets"]:
        raise SemscaleError(
            "options of a dataset need the dataset on the command line",
            where=", ".join(f"--{name.replace('_', '-')}" for name in entry),
            expected="--dataset SPEC; in a study file they stand beside spec:",
        )
    changes: dict[tuple[str | int, ...], tuple[str, Any]] = {}
    for name, option, place in _PLACES:
        value = options[name]
        if value is not None and value != ():
            changes[place] = (option, list(value) if isinstance(value, tuple) else value)
    if options["datasets"]:
        changes["datasets",] = ("--dataset", [{"spec": spec, **entry} for spec in options["datasets"]])
    if options["no_controls"]:
        changes["controls",] = ("--no-controls", [])
    if path is None and options["datasets"]:
        changes["name",] = ("--dataset", "study")  # no longer the quickstart
    return read_study(path, changes, check=unknown_names)
