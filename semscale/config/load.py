"""Reading a study file and the options that change it; all mistakes come in one message, before anything starts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from semscale.common.errors import ConfigError
from semscale.common.files import open_regular
from semscale.common.parsing import Fault, Location, PositionedYaml, read_yaml
from semscale.config.messages import faults_of, quoted, raise_faults
from semscale.config.schema import StudyConfig, contradictions

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
    where, what = str(path), "the study file cannot be read"
    try:
        with open_regular(path) as file:
            text = file.read(MAX_FILE_BYTES + 1)
        if len(text) > MAX_FILE_BYTES:
            what, found = "the study file is too large", f"more than {MAX_FILE_BYTES // 2**20} MiB"
            raise ConfigError(what, where=where, found=found, hint="put class names into a file: classes: names.yaml")
        content = read_yaml(text.decode("utf-8-sig"), where, "the study file")
    except UnicodeDecodeError as error:
        line, found = text.count(b"\n", 0, error.start) + 1, f"the byte 0x{text[error.start]:02x}"
        what, where = "the study file is not a text", f"{path}, line {line}"
        raise ConfigError(what, where=where, found=found, expected="UTF-8") from error
    except (OSError, ValueError) as error:
        raise ConfigError(what, where=where, found=getattr(error, "strerror", None) or str(error)) from error
    content.value = {} if content.value is None else content.value
    if not isinstance(content.value, dict):
        what, expected = "a study file is a mapping of keys", "such as datasets: [digits]"
        raise ConfigError(what, where=where, found=quoted(content.value), expected=expected)
    return content
