"""The study of a command: its options, and how they change the file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from semscale.cli.complete import aggregations, controls, datasets, models, orders, strategies
from semscale.cli.options import dataset_entry, dataset_options, encoder_option
from semscale.errors import SemscaleError

if TYPE_CHECKING:
    from semscale.config import StudyConfig

# what `--json` prints of a study
RESULT_KEYS = (
    "run, report (places), mlflow (what opens it), trials, images_sent, texts_sent, quarantined (counts), curves (rows "
    "of curves.parquet)"
)
# parameter, option and key in the study file
_PLACES = (
    ("models", "--model", ("models",)),
    ("strategies", "--strategy", ("strategies",)),
    ("controls", "--control", ("controls",)),
    ("orders", "--order", ("orders",)),
    ("aggregations", "--aggregation", ("aggregation",)),
    ("steps", "--steps", ("steps",)),
    ("limit", "--limit", ("limit",)),
    ("store", "--store", ("store",)),
    ("max_bad_fraction", "--max-bad-fraction", ("max_bad_fraction",)),
    ("encoder", "--encoder", ("encoder",)),
    ("servers", "--server", ("server", "urls")),
    ("replicas", "--replicas", ("server", "replicas")),
    ("device", "--device", ("server", "device")),
    ("scoring_device", "--scoring-device", ("scoring", "device")),
    ("actors", "--actors", ("encoding", "actors")),
    ("ray_address", "--ray-address", ("ray", "address")),
    ("tracking_uri", "--tracking-uri", ("tracking", "uri")),
)
_OPTIONS = (
    click.option(
        "--dataset",
        "datasets",
        multiple=True,
        metavar="SPEC",
        shell_complete=datasets,
        help="See `semscale datasets`; repeatable.",
    ),
    click.option(
        "--model",
        "models",
        multiple=True,
        metavar="NAME",
        shell_complete=models,
        help="semscale-mini, ARCHITECTURE::PRETRAINED, hf-hub:NAME or ARCHITECTURE::FILE; repeatable.",
    ),
    click.option(
        "--strategy",
        "strategies",
        multiple=True,
        metavar="NAME",
        shell_complete=strategies,
        help="How categories are made; repeatable.",
    ),
    click.option(
        "--control",
        "controls",
        multiple=True,
        metavar="NAME",
        shell_complete=controls,
        help="Arms of the same count without the meaning; repeatable.  [duplicates, random-words]",
    ),
    click.option("--no-controls", is_flag=True, help="No control arms."),
    click.option(
        "--order",
        "orders",
        multiple=True,
        type=click.IntRange(min=0),
        shell_complete=orders,
        help="Order of categories; repeatable.  [0]",
    ),
    click.option(
        "--aggregation",
        "aggregations",
        multiple=True,
        metavar="NAME",
        shell_complete=aggregations,
        help="max, mean-embedding, mean-similarity, logsumexp, top-3-mean; repeatable.  [max]",
    ),
    click.option("--steps", type=click.IntRange(min=1), help="Scale steps.  [12]"),
    encoder_option,
    click.option(
        "--server",
        "servers",
        multiple=True,
        metavar="URL",
        help="grpc://host:port of a running clip-server, or a name that stands for many; or file:PATH with an address "
        "per line, which may change meanwhile. Repeatable; without it the sweep starts its own.",
    ),
    click.option("--replicas", type=click.IntRange(min=1), help="Replicas of the sweep's own server.  [2]"),
    click.option("--device", type=click.Choice(["cpu", "cuda"]), help="Device of the sweep's own server.  [cpu]"),
    click.option(
        "--scoring-device",
        metavar="DEVICE",
        help="Where ladders are scored, with the same results: cpu, cuda, cuda:N, auto.  [cpu]",
    ),
    click.option("--actors", type=click.IntRange(min=1), help="Encoder actors.  [one for every two CPUs]"),
    click.option("--ray-address", metavar="ADDRESS", help="Ray cluster to use; without it Ray runs on this machine."),
    click.option("--tracking-uri", metavar="URI", help="MLflow server.  [mlflow.db beside the run directory]"),
    click.option(
        "--store",
        metavar="DIR",
        help="Embedding store, also s3://BUCKET/PREFIX.  [SEMSCALE_STORE or ~/.cache/semscale/embeddings]",
    ),
    click.option("--limit", type=click.IntRange(min=1), help="At most this many images per dataset."),
    dataset_options,
    click.option("--max-bad-fraction", type=float, help="Stop when more images of a dataset cannot be used.  [0.01]"),
)


def place_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `out` and `runs`: where the results go."""
    runs = "Folder of the run directories.  [SEMSCALE_RUNS or semscale-runs; in a Ray job ~/semscale-runs]"
    function = click.option("--runs", metavar="DIR", help=runs)(function)
    return click.option("--out", metavar="DIR", help="Run directory, also s3://BUCKET/PREFIX.  [RUNS/NAME-ID]")(
        function
    )


def study_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that change a study; they arrive together, by name."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def read_options(path: Path | None, options: dict[str, Any], *, elsewhere: bool = False) -> StudyConfig:
    """Return the study of a file, the quickstart study without one, as the options change it.

    Args:
        path: the study file.
        options: what `study_options` brought.
        elsewhere: it is for other machines, so that absolute paths need not exist on this one.

    Raises:
        SemscaleError: mistakes; all of them are listed.
    """
    from functools import partial

    from semscale.config import read_study
    from semscale.study.names import unknown_names

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
    return read_study(path, changes, check=partial(unknown_names, elsewhere=elsewhere))
