"""Names in a study that the registries do not know, and files that are not there: found without starting anything."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from semscale.categories.registry import check_options, control_names, find_strategy, strategy_names
from semscale.config.faults import nearest, quoted
from semscale.config.tree import Fault, Location
from semscale.datasets.bundled import BUNDLED
from semscale.datasets.paths import compile_rule
from semscale.datasets.registry import schemes
from semscale.errors import SemscaleError

# schemes whose path is one file or one folder on this machine, unless it is a URL
_ONE_PATH = {"folder": os.path.isdir, "zip": os.path.isfile, "tar": os.path.isfile, "table": os.path.isfile}
_MINI = "semscale-mini"

Missing = Callable[[str, Callable[[str], bool]], bool]


def unknown_names(study: Mapping[str, Any], *, elsewhere: bool = False) -> Iterator[Fault]:
    """Find datasets, models, strategies and controls that do not exist, in a tree that may be wrong in other ways.

    Nothing is listed, downloaded or loaded; a model other than the bundled one costs the import of open_clip.

    Args:
        study: the tree.
        elsewhere: the study is for other machines: absolute paths, which are theirs, are taken as they are.
    """
    is_missing = partial(_is_missing, elsewhere)
    yield from _each(study, "datasets", "spec", partial(_dataset, is_missing))
    yield from _each(study, "strategies", "strategy", partial(_strategy, is_missing))
    yield from _each(study, "controls", "", _control)
    server = study.get("server")
    # what a stock clip-server runs is known under any name that the user gives
    if not (isinstance(server, Mapping) and server.get("urls")):
        yield from _each(study, "models", "", _model)


def _each(
    study: Mapping[str, Any], key: str, inner: str, check: Callable[[Mapping[str, Any]], Iterator[Fault]]
) -> Iterator[Fault]:
    entries = study.get(key)
    for number, entry in enumerate(entries if isinstance(entries, (list, tuple)) else ()):
        entry = {inner: entry} if isinstance(entry, str) else entry
        if isinstance(entry, Mapping) and isinstance(entry.get(inner), str) and entry[inner]:
            for location, message in check(entry):
                yield (key, number, *(part for part in location if part)), message


def _is_missing(elsewhere: bool, path: str, exists: Callable[[str], bool]) -> bool:
    return not (elsewhere and path.startswith(("/", "~"))) and not exists(os.path.expanduser(path))


def _dataset(is_missing: Missing, entry: Mapping[str, Any]) -> Iterator[Fault]:
    spec: str = entry["spec"]
    scheme, _, path = spec.partition(":")
    if spec in BUNDLED:
        for key in ("class_from", "classes", "split", "image", "label", "images"):
            if entry.get(key) is not None:
                yield (key,), f"the bundled dataset {spec} is complete and takes no such key"
        return
    if not path or scheme not in schemes():
        known = [*BUNDLED, *(f"{name}:..." for name in schemes())]
        yield ("spec",), f"unknown dataset {quoted(spec)}; {nearest(spec if not path else f'{scheme}:...', known)}"
        return
    if scheme in _ONE_PATH and "://" not in path and is_missing(path, _ONE_PATH[scheme]):
        kind = "folder" if scheme == "folder" else "file"
        yield ("spec",), f"the {kind} {quoted(path)} does not exist"
    images, classes, rule = entry.get("images"), entry.get("classes"), entry.get("class_from")
    if isinstance(images, str) and "://" not in images and is_missing(images, os.path.exists):
        yield ("images",), f"{quoted(images)} does not exist"
    if isinstance(classes, str) and is_missing(classes, os.path.isfile):
        yield ("classes",), f"the file {quoted(classes)} does not exist"
    if isinstance(rule, str):
        yield from _complaint(("class_from",), lambda: compile_rule(rule))


def _strategy(is_missing: Missing, entry: Mapping[str, Any]) -> Iterator[Fault]:
    name, options = entry["strategy"], entry.get("options")
    if name not in strategy_names():
        yield ("strategy",), f"unknown strategy {quoted(name)}; {nearest(name, strategy_names())}"
        return
    if not isinstance(options, Mapping):
        return
    strategy = find_strategy(name)
    for key in map(str, options):
        yield from _complaint(("options", key), partial(check_options, strategy, {key: None}))
    path = options.get("path")
    if "path" in strategy.options and isinstance(path, str) and is_missing(path, os.path.isfile):
        yield ("options", "path"), f"the file {quoted(path)} does not exist"


def _control(entry: Mapping[str, Any]) -> Iterator[Fault]:
    name = entry[""]
    if name in control_names():
        return
    if name in strategy_names():
        yield (), f"{quoted(name)} is a strategy and no control; there are: {', '.join(control_names())}"
    else:
        yield (), f"unknown control {quoted(name)}; {nearest(name, control_names())}"


def _model(entry: Mapping[str, Any]) -> Iterator[Fault]:
    name = entry[""]
    if name == _MINI:
        return
    if name.casefold().replace("_", "-") == _MINI:
        yield (), f"unknown model {quoted(name)}; did you mean {_MINI!r}?"
        return
    from semscale.models.model_name import parse_name  # brings open_clip and torch along

    yield from _complaint((), lambda: parse_name(name))


def _complaint(location: Location, call: Callable[[], object]) -> Iterator[Fault]:
    """Say in one line what a call complains about."""
    try:
        call()
    except SemscaleError as error:
        found = f" (found {quoted(error.found.strip(chr(39)))})" if error.found else ""
        expected = f"; expected {error.expected}" if error.expected else ""
        hint = f"; {error.hint}" if error.hint else ""
        yield location, f"{error.what}{found}{expected}{hint}"
    except (OSError, ValueError, RuntimeError) as error:  # a name that no file can have
        yield location, f"cannot be looked up ({' '.join(str(error).split())[:200] or type(error).__name__})"
