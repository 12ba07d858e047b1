"""Loader of a study file and the options that override it; one message lists all mistakes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from semscale.common.errors import ConfigError
from semscale.common.files import open_regular_file
from semscale.common.parsing import KeyPath, PositionedYaml, ValidationIssue, read_yaml
from semscale.config.messages import quoted, raise_issues, validation_issues
from semscale.config.schema import StudyConfig, contradictions

MAX_FILE_BYTES = 2 * 2**20
"""Size limit of a study file, which takes seconds to read."""

Check = Callable[[Mapping[str, Any]], Iterable[ValidationIssue]]
"""Finds further issues in a tree that may be invalid otherwise, such as names that only other packages know."""


def load_study(
    path: str | Path | None, options: Mapping[KeyPath, tuple[str, Any]] | None = None, *, check: Check | None = None
) -> StudyConfig:
    """Read a study file, overridden by the options of a command; raise ConfigError with all mistakes.

    Args:
        path: the file; None for the quickstart study.
        options: key path in the study -> name of the option and its value.
        check: finds further issues, such as unknown names.
    """
    content = PositionedYaml({}) if path is None else _read(Path(path))
    positions: dict[KeyPath, int | str] = dict(content.lines)
    for key_path, (option, value) in (options or {}).items():
        section = content.value
        for part in key_path[:-1]:
            section = section.setdefault(part, {}) if isinstance(section, dict) else None
        if isinstance(section, dict):  # else validation reports the section
            section[key_path[-1]] = value
            depth = len(key_path)
            positions = {other: line for other, line in positions.items() if other[:depth] != key_path}
            content.issues = [issue for issue in content.issues if issue[0][:depth] != key_path]
            positions[key_path] = option
    return _validated(content, positions, None if path is None else str(path), check)


def study_from(tree: Mapping[str, Any], *, where: str = "options") -> StudyConfig:
    """Validate a study given as a tree of plain values; raise ConfigError with all mistakes."""
    return _validated(PositionedYaml(dict(tree)), {}, where)


def _validated(
    content: PositionedYaml, positions: Mapping[KeyPath, int | str], where: str | None, check: Check | None = None
) -> StudyConfig:
    tree, issues, study = content.value, content.issues, None
    try:
        study = StudyConfig.model_validate(tree)
    except ValidationError as error:
        issues += validation_issues(error, tree)
    raise_issues([*issues, *contradictions(tree), *(check(tree) if check else ())], positions, where)
    assert study is not None
    return study


def _read(path: Path) -> PositionedYaml:
    where, what = str(path), "the study file cannot be read"
    try:
        with open_regular_file(path) as file:
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
