from __future__ import annotations

import importlib
import inspect
import pickle
import re
from collections.abc import Iterator
from pathlib import Path

import semscale
from semscale.common.errors import SemscaleError

PACKAGE = Path(semscale.__file__).parent


def test_error_keeps_its_details_across_processes() -> None:
    error = SemscaleError("wrong", where="a.yaml", found="x", expected="y", hint="fix it")
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error)
    assert str(error).splitlines() == [
        "wrong",
        "  where:    a.yaml",
        "  found:    x",
        "  expected: y",
        "  to do:    fix it",
    ]


def kinds(base: type[SemscaleError]) -> Iterator[type[SemscaleError]]:
    yield base
    for kind in base.__subclasses__():
        yield from kinds(kind)


def example(kind: type[SemscaleError]) -> SemscaleError:
    """Return an exception of a kind; its arguments follow from the annotations of the constructor."""
    values = {"int": 3, "Path": PACKAGE, "Mapping[str, str]": {"a.png": "empty"}, "Sequence[str]": ["a.png"]}
    parameters = inspect.signature(kind).parameters.values()
    return kind(**{parameter.name: values.get(parameter.annotation, parameter.name) for parameter in parameters})  # type: ignore[arg-type]


def test_every_kind_of_exception_survives_pickling() -> None:
    """Ray carries exceptions between processes by pickle."""
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if re.search(r"^class \w+\((?!Value|OS|Connection)\w+Error\)", text, flags=re.MULTILINE):
            importlib.import_module(".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts))
    ours = [kind for kind in kinds(SemscaleError) if kind.__module__.startswith("semscale.")]
    assert len(ours) >= 14
    for kind in ours:
        error = example(kind)
        restored = pickle.loads(pickle.dumps(error))
        assert type(restored) is kind
        assert str(restored) == str(error)
        assert (restored.args, vars(restored)) == (error.args, vars(error))
