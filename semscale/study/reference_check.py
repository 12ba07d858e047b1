"""Check of a study's references before anything starts: unknown names and missing local files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from semscale.categories.strategy_registry import check_options, control_names, find_strategy, strategy_names
from semscale.common.errors import SemscaleError
from semscale.common.parsing import KeyPath, ValidationIssue
from semscale.common.redact import mask_url
from semscale.config.messages import nearest, quoted
from semscale.datasets.bundled import BUNDLED
from semscale.datasets.class_from_path import compile_rule
from semscale.datasets.loader_registry import schemes

# schemes whose path is a single local file or folder, unless it is a URL
_SINGLE_PATH = {"folder": os.path.isdir, "zip": os.path.isfile, "tar": os.path.isfile, "table": os.path.isfile}
_MINI = "semscale-mini"

Entry = Mapping[str, Any]
Missing = Callable[[object, Callable[[str], bool]], bool]


def check_references(study: Mapping[str, Any], *, elsewhere: bool = False) -> Iterator[ValidationIssue]:
    """Yield a fault for each dataset, model, strategy and control that does not exist.

    The tree may be invalid in other ways. Nothing is listed, downloaded or loaded. With `elsewhere` the study is for
    other machines, and absolute paths are not looked up.
    """

    def missing(path: object, exists: Callable[[str], bool]) -> bool:
        local = isinstance(path, str) and "://" not in path and not (elsewhere and path.startswith(("/", "~")))
        return local and not exists(os.path.expanduser(str(path)))

    checks = {
        "datasets": ("spec", _dataset_faults),
        "strategies": ("strategy", _strategy_faults),
        "controls": ("", _control_faults),
    }
    server = study.get("server")
    if not (isinstance(server, Mapping) and server.get("urls")):  # stock clip-servers may have any model name
        checks["models"] = ("", _model_faults)
    for key, (name, check) in checks.items():
        entries = study.get(key)
        for number, entry in enumerate(entries if isinstance(entries, (list, tuple)) else ()):
            entry = {name: entry} if isinstance(entry, str) else entry
            if isinstance(entry, Mapping) and isinstance(entry.get(name), str) and entry[name]:
                for location, message in check(entry, missing):
                    yield (key, number, *location), message


def _dataset_faults(entry: Entry, missing: Missing) -> Iterator[ValidationIssue]:
    spec: str = entry["spec"]
    scheme, _, path = spec.partition(":")
    if spec in BUNDLED:
        for key in ("image", "label", "images"):
            if entry.get(key) is not None:
                yield (key,), f"the bundled dataset {spec} takes no such key"
    elif not path or scheme not in schemes():
        known = [*BUNDLED, *(f"{name}:..." for name in schemes())]
        yield ("spec",), f"unknown dataset {quoted(spec)}; {nearest(f'{scheme}:...' if path else spec, known)}"
    else:
        if scheme in _SINGLE_PATH and missing(path, _SINGLE_PATH[scheme]):
            yield ("spec",), f"the {'folder' if scheme == 'folder' else 'file'} {quoted(path)} does not exist"
        for key, exists in (("images", os.path.exists), ("classes", os.path.isfile)):
            if missing(entry.get(key), exists):
                yield (key,), f"{quoted(entry[key])} does not exist"
        if isinstance(rule := entry.get("class_from"), str):
            yield from _call_faults(("class_from",), lambda: compile_rule(rule))


def _strategy_faults(entry: Entry, missing: Missing) -> Iterator[ValidationIssue]:
    name, options = entry["strategy"], entry.get("options")
    if name not in strategy_names():
        yield ("strategy",), f"unknown strategy {quoted(name)}; {nearest(name, strategy_names())}"
    elif isinstance(options, Mapping):
        strategy = find_strategy(name)
        for key in map(str, options):
            yield from _call_faults(("options", key), partial(check_options, strategy, {key: None}))
        if "path" in strategy.options and missing(options.get("path"), os.path.isfile):
            yield ("options", "path"), f"the file {quoted(options['path'])} does not exist"


def _control_faults(entry: Entry, missing: Missing) -> Iterator[ValidationIssue]:
    name, controls = quoted(entry[""]), control_names()
    if entry[""] not in controls:
        is_strategy = entry[""] in strategy_names()
        what = f"{name} is a strategy, not a control" if is_strategy else f"unknown control {name}"
        yield (), f"{what}; {nearest(entry[''], controls)}"


def _model_faults(entry: Entry, missing: Missing) -> Iterator[ValidationIssue]:
    name = entry[""]
    if name.casefold().replace("_", "-") != _MINI:
        from semscale.models.model_name import parse_model_name  # imports open_clip and torch

        yield from _call_faults((), lambda: parse_model_name(name))
    elif name != _MINI:
        yield (), f"unknown model {quoted(name)}; did you mean {_MINI!r}?"


def _call_faults(location: KeyPath, call: Callable[[], object]) -> Iterator[ValidationIssue]:
    """Yield the error that a call raises, on one line."""
    try:
        call()
    except (SemscaleError, OSError, ValueError, RuntimeError) as error:  # also for an invalid file name
        yield location, mask_url("; ".join(map(str.strip, str(error).splitlines()))[:300])
