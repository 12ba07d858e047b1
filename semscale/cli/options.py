"""Command-line options generated from the study file's schema, and shell completion of names."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from semscale.common.errors import ConfigError, SemscaleError
from semscale.common.parsing import read_yaml

if TYPE_CHECKING:
    from semscale.config import StudyConfig

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]

_DATASET_KEYS = ("domain", "class_from", "classes", "split", "image", "label", "images", "orientation", "per_class")
DATASET = tuple(f"--{key.replace('_', '-')}" for key in _DATASET_KEYS)
"""Options of a dataset."""

_KEYS = {
    "--dataset": "datasets", "--model": "models", "--strategy": "strategies", "--control": "controls",
    "--order": "orders", "--aggregation": "aggregation", "--steps": "steps", "--limit": "limit",
    "--max-bad-fraction": "max_bad_fraction", "--encoder": "encoder", "--server": "server.urls",
    "--replicas": "server.replicas", "--device": "server.device",
    "--trust-remote-code": "server.trust_remote_code", "--actors": "encoding.actors",
    "--scoring-device": "scoring.device", "--ray-address": "ray.address", "--tracking-uri": "tracking.uri",
    "--store": "store",
}  # fmt: skip
STUDY = (*_KEYS, *DATASET)
"""Options that change a study."""


class SchemaCommand(click.Command):
    """Command with options that are keys of the study file; they are made on first use, since pydantic is slow to load.

    Args:
        keys: the options, of `STUDY`.
    """

    def __init__(self, *args: Any, keys: Sequence[str], **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.keys = keys

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return all parameters, the keys of the study first."""
        return [*map(_option, self.keys), *super().get_params(ctx)]


@cache
def _schema() -> dict[str, Any]:
    from semscale.config import StudyConfig

    return StudyConfig.model_json_schema()


@cache
def _option(name: str) -> click.Option:
    """Return the option for a key of the study file, with the key's type, choices, default and description."""
    node = schema = _schema()
    for part in _KEYS[name].split(".") if name in _KEYS else ("datasets", _parameter(name)):
        reference = node.get("$ref") or node.get("items", {}).get("$ref")
        node = (schema["$defs"][reference.rpartition("/")[2]] if reference else node)["properties"][part]
    kinds = node.get("anyOf", [node])
    types = {kind.get("type") for kind in (*kinds, *(kind.get("items", {}) for kind in kinds))}
    multiple = "array" in types and "object" not in types
    kind: Any = click.Choice(node["enum"]) if "enum" in node else None
    kind = kind or (bool if "boolean" in types else int if "integer" in types else float if "number" in types else str)
    # without a default, click passes False for an absent flag
    flag: dict[str, Any] = {"is_flag": True, "default": None} if kind is bool else {}
    default = node.get("default")
    words = [str(word) for word in (default if isinstance(default, list) else [default]) if word is not None]
    text = node.get("description", node["title"]) + "; repeatable" * multiple
    return click.Option(
        [name],
        type=kind,
        multiple=multiple,
        metavar=name.rpartition("-")[2].upper() if kind is str else None,
        help=text + (f"  [{', '.join(words)}]" if words and "{" not in words[0] and kind is not bool else ""),
        shell_complete=completer(name[2:]) if kind in (str, int) else None,
        **flag,
    )


def completer(kind: str, otherwise: str | None = None) -> Completer:
    """Return a completer of the names of a kind; if no name fits, the shell completes `otherwise`: `file` or `dir`."""

    def complete(context: click.Context, parameter: click.Parameter, word: str) -> list[CompletionItem]:
        items = [CompletionItem(name) for name in _names(kind) if name.startswith(word)]
        return items or ([CompletionItem(word, type=otherwise)] if otherwise else [])

    return complete


MODEL = click.option(
    "--model", default="semscale-mini", show_default=True, shell_complete=completer("model"), help="As for sweep."
)
FILE = click.Path(dir_okay=False, path_type=Path)


def _names(kind: str) -> Iterable[str]:
    from semscale.categories.strategy_registry import control_names, strategy_names
    from semscale.datasets.bundled import BUNDLED
    from semscale.datasets.loader_registry import schemes
    from semscale.scoring import AGGREGATIONS

    names: dict[str, Iterable[str]] = {
        "dataset": (*BUNDLED, *(f"{scheme}:" for scheme in schemes())),
        "model": ("semscale-mini", "hf-hub:"),  # open_clip's own list would cost the import of torch
        "strategy": [name for name in strategy_names() if name not in control_names()],
        "control": control_names(),
        "any-strategy": strategy_names(),
        "aggregation": AGGREGATIONS,
        "order": map(str, range(5)),
    }
    return newest_runs() if kind == "run" else names.get(kind, ())


def newest_runs() -> list[str]:
    """Return the run directories, newest first."""
    folder = os.environ.get("SEMSCALE_RUNS") or "semscale-runs"
    files = [] if "://" in folder else Path(folder).expanduser().glob("*/study.yaml")
    return [str(file.parent) for file in sorted(files, key=lambda file: -file.stat().st_mtime)]


def option_name(parameter: str) -> str:
    """Return the option of a parameter."""
    return f"--{parameter.replace('_', '-')}"


def _parameter(option: str) -> str:
    return option[2:].replace("-", "_")


def dataset_entry(options: dict[str, Any]) -> dict[str, Any]:
    """Remove the options of a dataset from all options, and return those that are set."""
    removed = {name: options.pop(name) for name in _DATASET_KEYS}
    return {name: value for name, value in removed.items() if value is not None}


def read_options(path: Path | None, options: dict[str, Any], *, elsewhere: bool = False) -> StudyConfig:
    """Return the study of a file, by default the quickstart study, changed by the options.

    Args:
        path: the study file.
        options: values of the options `STUDY`, and `no_controls`.
        elsewhere: the study runs on other machines: absolute paths need not exist on this one.
    """
    from semscale.config import load_study
    from semscale.study.reference_check import check_references

    entry = dataset_entry(options)
    if entry and not options["dataset"]:
        expected = "--dataset SPEC, or keys beside spec: in the study file"
        what = "dataset options require --dataset"
        raise ConfigError(what, where=", ".join(map(option_name, entry)), expected=expected)
    changes: dict[tuple[str | int, ...], tuple[str, Any]] = {}
    for option, key in _KEYS.items():
        value = options[_parameter(option)]
        if value is not None and value != ():
            changes[tuple(key.split("."))] = (option, list(value) if isinstance(value, tuple) else value)
    if options["dataset"]:
        changes["datasets",] = ("--dataset", [{"spec": spec, **entry} for spec in options["dataset"]])
        if path is None:
            changes["name",] = ("--dataset", "study")  # no longer the quickstart
    if options["no_controls"]:
        changes["controls",] = ("--no-controls", [])
    return load_study(path, changes, check=partial(check_references, elsewhere=elsewhere))


def key_values(pairs: Sequence[str]) -> dict[str, Any]:
    """Parse the options of a strategy: KEY=VALUE, VALUE in YAML."""
    try:
        values = {key: read_yaml(value).value for key, _, value in (pair.partition("=") for pair in pairs)}
    except SemscaleError:
        values = {"": None}
    if "" in values or not all("=" in pair for pair in pairs):
        raise ConfigError("a strategy option must be KEY=VALUE", where="--option", found=", ".join(pairs))
    return values
