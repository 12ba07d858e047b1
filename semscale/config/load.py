"""Reading a study file and the options that change it; all mistakes come in one message, before anything starts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from semscale.config.messages import faults_of, raise_faults
from semscale.config.study import StudyConfig, contradictions
from semscale.config.yaml_positions import Fault, Location, PositionedYaml, read_yaml
from semscale.errors import SemscaleError

MAX_FILE_BYTES = 2 * 2**20
"""Size of the largest study file, which takes seconds to read."""

Check = Callable[[Mapping[str, Any]], Iterable[Fault]]
"""Finds faults in a tree that may be wrong in every other way; for names that only other packages know."""


def load_study(
    path: str | Path | None, options: Mapping[Location, tuple[str, Any]] | None = None, *, check: Check | None = None
) -> StudyConfig:
    """Read a study file whose keys are replaced by the options of a command; raises SemscaleError with all mistakes.

    Args:
        path: the file; None for the quickstart study.
        options: location in the study -> name of the option and its value.
        check: finds further faults, such as unknown names.
    """
    content = PositionedYaml({}) if path is None else _read(Path(path))
    positions: dict[Location, int | str] = dict(content.lines)
    for location, (option, value) in (options or {}).items():
        section = content.value
        for part in location[:-1]:
            section = section.setdefault(part, {}) if isinstance(section, dict) else None
        if isinstance(section, dict):  # else the file has a fault there
            section[location[-1]] = value
            positions = {place: line for place, line in positions.items() if place[: len(location)] != location}
            content.faults = [fault for fault in content.faults if fault[0][: len(location)] != location]
            positions[location] = option
    return _validated(content, positions, None if path is None else str(path), check)


def study_from(tree: Mapping[str, Any], *, where: str = "options") -> StudyConfig:
    """Validate a study given as a tree of plain values; raises SemscaleError with every fault in it."""
    return _validated(PositionedYaml(dict(tree)), {}, where)


def _validated(
    content: PositionedYaml, positions: Mapping[Location, int | str], where: str | None, check: Check | None = None
) -> StudyConfig:
    tree, faults, study = content.value, content.faults, None
    try:
        study = StudyConfig.model_validate(tree)
    except ValidationError as error:
        faults += faults_of(error, tree)
    raise_faults([*faults, *contradictions(tree), *(check(tree) if check else ())], positions, where)
    assert study is not None
    return study


def _read(path: Path) -> PositionedYaml:
    try:
        with path.open("rb") as file:
            text = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SemscaleError("the study file cannot be read", where=str(path), found=reason) from error
    if len(text) > MAX_FILE_BYTES:
        hint = "long lists of class names go to a file of their own: classes: names.yaml"
        found = f"more than {MAX_FILE_BYTES // 2**20} MiB"
        raise SemscaleError("the study file is too large", where=str(path), found=found, hint=hint)
    try:
        content = read_yaml(text.decode("utf-8-sig"), str(path))
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        found = f"the byte 0x{text[error.start]:02x}, which is not UTF-8"
        raise SemscaleError("the study file is not a text", where=f"{path}, line {line}", found=found) from error
    if content.value is None:
        content.value = {}
    if not isinstance(content.value, dict):
        found, expected = (
            "a list" if isinstance(content.value, list) else "a single value",
            "such as datasets: [digits]",
        )
        raise SemscaleError("a study file is a mapping of keys", where=str(path), found=found, expected=expected)
    return content
