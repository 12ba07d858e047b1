"""Options that several commands share: how a dataset is read, and the keys of a study."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import yaml

from semscale.cli.complete import aggregations, controls, datasets, models, orders, strategies
from semscale.errors import SemscaleError

if TYPE_CHECKING:
    from semscale.config import StudyConfig

Command = Callable[..., Any]

_AT_LEAST_1 = click.IntRange(min=1)
_DATASET = {
    "--domain": {"help": "The word for what all classes are."},
    "--class-from": {"metavar": "RULE", "help": "Class from the path: {class}_{number}.jpg, or a regular expression."},
    "--classes": {
        "metavar": "FILE", "help": "Names for labels: a YAML or JSON mapping, or .txt with a name per line.",
    },
    "--split": {"metavar": "NAME", "help": "The part to read: train, val, test, all, ..."},
    "--image": {"metavar": "COLUMN", "help": "Column or field with the image, its path or its URL."},
    "--label": {"metavar": "COLUMN", "help": "Column or field with the class."},
    "--images": {"metavar": "PATH", "help": "Folder or archive where a table's images lie."},
    "--orientation": {
        "type": click.Choice(["stored", "exif"]), "help": "exif turns pictures as their tag says.  [stored]",
    },
    "--per-class": {"type": _AT_LEAST_1, "help": "At most this many images per class."},
}  # fmt: skip
_STORE = "Embedding store, also s3://BUCKET/PREFIX.  [SEMSCALE_STORE or ~/.cache/semscale/embeddings]"
_ENCODER = "local: encode in this process, without a clip-server; the results are the same.  [server]"

encoder_option = click.option("--encoder", type=click.Choice(["server", "local"]), help=_ENCODER)
model_option = click.option(
    "--model", default="semscale-mini", show_default=True, metavar="NAME", shell_complete=models, help="As for sweep."
)
server_option = click.option(
    "--server", "servers", multiple=True, metavar="URL",
    help="grpc://host:port of a running clip-server; repeatable. Without it one is started.",
)  # fmt: skip
store_option = click.option("--store", metavar="DIR", help=_STORE)

# option -> key of the study file, and settings of the option
_STUDY: dict[str, tuple[tuple[str | int, ...], dict[str, Any]]] = {
    "--model": (("models",), {
        "multiple": True, "metavar": "NAME", "shell_complete": models,
        "help": "semscale-mini, ARCHITECTURE::PRETRAINED, hf-hub:NAME or ARCHITECTURE::FILE; repeatable.",
    }),
    "--strategy": (("strategies",), {
        "multiple": True, "metavar": "NAME", "shell_complete": strategies,
        "help": "How categories are made; repeatable.",
    }),
    "--control": (("controls",), {
        "multiple": True, "metavar": "NAME", "shell_complete": controls,
        "help": "Arms of the same count without the meaning; repeatable.  [duplicates, random-words]",
    }),
    "--order": (("orders",), {
        "multiple": True, "type": click.IntRange(min=0), "shell_complete": orders,
        "help": "Order of categories; repeatable.  [0]",
    }),
    "--aggregation": (("aggregation",), {
        "multiple": True, "metavar": "NAME", "shell_complete": aggregations,
        "help": "max, mean-embedding, mean-similarity, logsumexp, top-3-mean; repeatable.  [max]",
    }),
    "--steps": (("steps",), {"type": _AT_LEAST_1, "help": "Scale steps.  [12]"}),
    "--encoder": (("encoder",), {"type": click.Choice(["server", "local"]), "help": _ENCODER}),
    "--server": (("server", "urls"), {
        "multiple": True, "metavar": "URL",
        "help": "grpc://host:port of a running clip-server, or a name that stands for many; or file:PATH with an "
        "address per line, which may change meanwhile. Repeatable; without it the sweep starts its own.",
    }),
    "--replicas": (("server", "replicas"), {"type": _AT_LEAST_1, "help": "Replicas of the sweep's own server.  [2]"}),
    "--device": (("server", "device"), {
        "type": click.Choice(["cpu", "cuda"]), "help": "Device of the sweep's own server.  [cpu]",
    }),
    "--scoring-device": (("scoring", "device"), {
        "metavar": "DEVICE",
        "help": "Where ladders are scored, with the same results: cpu, cuda, cuda:N, auto.  [cpu]",
    }),
    "--actors": (("encoding", "actors"), {
        "type": _AT_LEAST_1, "help": "Encoder actors.  [one for every two CPUs]",
    }),
    "--ray-address": (("ray", "address"), {
        "metavar": "ADDRESS", "help": "Ray cluster to use; without it Ray runs on this machine.",
    }),
    "--tracking-uri": (("tracking", "uri"), {
        "metavar": "URI", "help": "MLflow server.  [mlflow.db beside the run directory]",
    }),
    "--store": (("store",), {"metavar": "DIR", "help": _STORE}),
    "--limit": (("limit",), {"type": _AT_LEAST_1, "help": "At most this many images per dataset."}),
    "--max-bad-fraction": (("max_bad_fraction",), {
        "type": float, "help": "Stop when more images of a dataset cannot be used.  [0.01]",
    }),
}  # fmt: skip


def _parameter(option: str) -> str:
    return option[2:].replace("-", "_")


def dataset_options(command: Command) -> Command:
    """Add the options that say how a dataset is read; they arrive together, by name."""
    for option, settings in reversed(_DATASET.items()):
        command = click.option(option, **settings)(command)  # type: ignore[arg-type]
    return command


def dataset_entry(options: dict[str, Any]) -> dict[str, Any]:
    """Take the options of a dataset out of all options and return those that were given."""
    taken = {_parameter(option): options.pop(_parameter(option)) for option in _DATASET}
    return {name: value for name, value in taken.items() if value is not None}


def run_options(command: Command) -> Command:
    """Add `out` and `runs`: where the results go."""
    runs = "Folder of the run directories.  [SEMSCALE_RUNS or semscale-runs; in a Ray job ~/semscale-runs]"
    command = click.option("--runs", metavar="DIR", help=runs)(command)
    return click.option("--out", metavar="DIR", help="Run directory, also s3://BUCKET/PREFIX.  [RUNS/NAME-ID]")(command)


def study_options(command: Command) -> Command:
    """Add the options that change a study; they arrive together, by name."""
    for option, (_, settings) in reversed(_STUDY.items()):
        command = click.option(option, **settings)(command)
        if option == "--max-bad-fraction":
            command = dataset_options(command)
        if option == "--order":
            command = click.option("--no-controls", is_flag=True, help="No control arms.")(command)
    help_text = "See `semscale datasets`; repeatable."
    return click.option("--dataset", multiple=True, metavar="SPEC", shell_complete=datasets, help=help_text)(command)


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

    from semscale.config import load_study
    from semscale.study.names import unknown_names

    entry = dataset_entry(options)
    if entry and not options["dataset"]:
        raise SemscaleError(
            "options of a dataset need the dataset on the command line",
            where=", ".join(f"--{name.replace('_', '-')}" for name in entry),
            expected="--dataset SPEC; in a study file they stand beside spec:",
        )
    changes: dict[tuple[str | int, ...], tuple[str, Any]] = {}
    for option, (key, _) in _STUDY.items():
        value = options[_parameter(option)]
        if value is not None and value != ():
            changes[key] = (option, list(value) if isinstance(value, tuple) else value)
    if options["dataset"]:
        changes["datasets",] = ("--dataset", [{"spec": spec, **entry} for spec in options["dataset"]])
    if options["no_controls"]:
        changes["controls",] = ("--no-controls", [])
    if path is None and options["dataset"]:
        changes["name",] = ("--dataset", "study")  # no longer the quickstart
    return load_study(path, changes, check=partial(unknown_names, elsewhere=elsewhere))


def key_values(pairs: tuple[str, ...]) -> dict[str, Any]:
    """Return the options of a strategy, given as KEY=VALUE with YAML values."""
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
