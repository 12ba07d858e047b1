"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click
import yaml

from semscale.errors import SemscaleError

_DATASET = {
    "domain": click.option("--domain", help="The word for what all classes are."),
    "class_from": click.option(
        "--class-from", metavar="RULE", help="Class from the path: {class}_{number}.jpg, or a regular expression."
    ),
    "classes": click.option(
        "--classes", metavar="FILE", help="Names for labels: a YAML or JSON mapping, or .txt with a name per line."
    ),
    "split": click.option("--split", metavar="NAME", help="The part to read: train, val, test, all, ..."),
    "image": click.option("--image", metavar="COLUMN", help="Column or field with the image, its path or its URL."),
    "label": click.option("--label", metavar="COLUMN", help="Column or field with the class."),
    "images": click.option("--images", metavar="PATH", help="Folder or archive where a table's images lie."),
    "orientation": click.option(
        "--orientation", type=click.Choice(["stored", "exif"]), help="exif turns pictures as their tag says.  [stored]"
    ),
    "per_class": click.option("--per-class", type=click.IntRange(min=1), help="At most this many images per class."),
}

encoder_option = click.option(
    "--encoder",
    type=click.Choice(["server", "local"]),
    help="local: encode in this process, without a clip-server; the results are the same.  [server]",
)


def dataset_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say how a dataset is read; they arrive together, by name."""
    for option in reversed(_DATASET.values()):
        function = option(function)
    return function


def dataset_entry(options: dict[str, Any]) -> dict[str, Any]:
    """Take the options of a dataset out of all options and return those that were given."""
    taken = {name: options.pop(name) for name in _DATASET}
    return {name: value for name, value in taken.items() if value is not None}


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
