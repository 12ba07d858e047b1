"""Reading a study file, changed by options or not; all that is wrong comes in one message, before anything starts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from semscale.config.faults import Places, faults_of, raise_faults
from semscale.config.study import StudyConfig, contradictions
from semscale.config.tree import Fault, Location, NoTreeError, Tree, read_tree
from semscale.errors import SemscaleError

MAX_FILE_BYTES = 2 * 2**20
"""A study file larger than this is no study file; it would take a minute to read."""

Check = Callable[[Mapping[str, Any]], Iterable[Fault]]
"""Finds faults in a tree that may be wrong in every other way; for names that only other rooms know."""


def load_study(path: str | Path, *, check: Check | None = None) -> StudyConfig:
    """Read a study file.

    Args:
        path: the file.
        check: finds further faults, such as unknown names.

    Raises:
        SemscaleError: the file is missing, is no YAML, or holds mistakes; all of them are listed with their lines.
    """
    return read_study(path, {}, check=check)


def read_study(
    path: str | Path | None, options: Mapping[Location, tuple[str, Any]], *, check: Check | None = None
) -> StudyConfig:
    """Read a study file whose keys are replaced by the options of a command.

    Args:
        path: the file; None for the quickstart study.
        options: where in the tree -> name of the option and its value.
        check: finds further faults, such as unknown names.

    Raises:
        SemscaleError: as for :func:`load_study`; what an option says is named by the option.
    """
    tree = Tree({}) if path is None else _read(Path(path))
    places: dict[Location, int | str] = dict(tree.lines)
    faults = list(tree.faults)
    for location, (option, value) in options.items():
        within = tree.value
        for part in location[:-1]:
            within = within.setdefault(part, {}) if isinstance(within, dict) else None
        if isinstance(within, dict):  # if not, that is a fault of the file, which is told
            within[location[-1]] = value
            places = {place: line for place, line in places.items() if place[: len(location)] != location}
            faults = [fault for fault in faults if fault[0][: len(location)] != location]
            places[location] = option
    return _validated(tree.value, faults, places, str(path) if path is not None else None, check)


def study_from(tree: Mapping[str, Any], *, where: str = "options") -> StudyConfig:
    """Validate a study given as a tree of plain values; raises SemscaleError with every fault in it."""
    return _validated(dict(tree), [], {}, where, None)


def _validated(
    tree: dict[str, Any], faults: list[Fault], places: Places, where: str | None, check: Check | None
) -> StudyConfig:
    study = None
    try:
        study = StudyConfig.model_validate(tree)
    except ValidationError as error:
        # what the whole study says of itself is told below, with its place, also beside other faults
        faults += [fault for fault in faults_of(error, tree) if fault[0]]
    faults += contradictions(tree)
    if check is not None:
        faults += check(tree)
    raise_faults(faults, places, where)
    assert study is not None
    return study


def _read(path: Path) -> Tree:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SemscaleError("the study file cannot be read", where=str(path), found=reason) from error
    if len(content) > MAX_FILE_BYTES:
        raise SemscaleError(
            "the study file is too large",
            where=str(path),
            found=f"more than {MAX_FILE_BYTES // 2**20} MiB",
            hint="long lists of class names go to a file of their own: classes: names.yaml",
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SemscaleError(
            "the study file is not a text",
            where=f"{path}, line {line}",
            found=f"the byte 0x{content[error.start]:02x}, which is not UTF-8",
            expected="YAML in UTF-8",
        ) from error
    try:
        tree = read_tree(text)
    except NoTreeError as error:
        place = str(path) if error.line is None else f"{path}, line {error.line}"
        raise SemscaleError("the study file is not valid YAML", where=place, found=error.what) from error
    if tree.value is None:
        tree.value = {}
    if not isinstance(tree.value, dict):
        raise SemscaleError(
            "the study file must be a mapping of keys to values",
            where=str(path),
            found="a list" if isinstance(tree.value, list) else "a single value",
            expected="for example `datasets: [digits]`",
        )
    return tree
