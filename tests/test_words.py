"""The language of the package: noun phrases on top of modules, verbs on top of functions, and no private dialect."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import semscale

PACKAGE = Path(semscale.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
QUESTIONS = ("Who", "What", "Which", "How", "Where", "Whether", "From", "When", "Why")
DIALECT = re.compile(
    r"\b(mend(s|ed|ing)?|who(m)?ever|nobody|somebody|amid|is told|are told|of one's own|take note|as it were)\b",
    re.IGNORECASE,
)


def _docstrings() -> Iterator[tuple[str, ast.AST, str]]:
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
            if isinstance(node, kinds) and (text := ast.get_docstring(node)):
                yield f"{path.relative_to(PACKAGE)}:{getattr(node, 'lineno', 1)}", node, text


def test_no_docstring_is_a_question() -> None:
    asked = [where for where, _, text in _docstrings() if text.split(maxsplit=1)[0] in QUESTIONS]
    assert not asked


def test_the_words_of_the_field_are_used() -> None:
    pages = [*MODULES, *PACKAGE.rglob("*.md"), PACKAGE.parent / "README.md"]
    found = [
        f"{path.relative_to(PACKAGE.parent)}:{number}: {line.strip()}"
        for path in pages
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if DIALECT.search(line)
    ]
    assert not found


def test_no_two_public_classes_and_no_two_modules_of_a_package_share_a_name() -> None:
    classes: dict[str, list[str]] = defaultdict(list)
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                classes[node.name].append(str(path.relative_to(PACKAGE)))
    modules: dict[str, list[str]] = defaultdict(list)
    for path in MODULES:
        if not path.name.startswith("__") and path.parent.name != "cli":  # those have the names of the commands
            modules[path.stem].append(str(path.relative_to(PACKAGE)))
    assert not {name: where for name, where in [*classes.items(), *modules.items()] if len(where) > 1}
