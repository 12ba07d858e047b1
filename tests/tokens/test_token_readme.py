"""The page's worked example: a new strategy is an entry and a module."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from tower_zoo import pictures, trace

import semscale.tokens
from semscale.tokens import token_strategies, token_strategy_names

PAGE = (Path(semscale.tokens.__file__).parent / "README.md").read_text(encoding="utf-8")


def test_the_worked_example_works(monkeypatch: pytest.MonkeyPatch) -> None:
    entry, code = re.findall(r"```python\n(.*?)```", PAGE.partition("## Adding")[2], flags=re.DOTALL)
    names: dict[str, Any] = {}
    exec(entry, names)
    module = ModuleType("semscale.tokens.strategies.noise")
    exec(code, module.__dict__)
    monkeypatch.setitem(token_strategies._STRATEGIES, "noise", names["NOISE"])
    monkeypatch.setitem(sys.modules, module.__name__, module)
    own, small, large, other = trace("tok", pictures(), ["noise:0", "noise:0.1", "noise:2", "noise:2#1"])
    assert not torch.equal(large.features, other.features)
    changes = [(outcome.features - own.features).norm() for outcome in (small, large)]
    assert 0 < changes[0] < changes[1]


def test_the_page_names_all_strategies_and_kinds() -> None:
    for name in token_strategy_names():
        rules = token_strategies.find_token_strategy(name)
        (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| `{name}` |")]
        cells = row.split("|")
        assert tuple(re.findall(r"`([a-z]+)`", cells[3])) == rules.kinds
        controls = "".join(re.findall(r"\*(.*?)\*", cells[3]))
        assert tuple(re.findall(r"`([a-z]+)`", controls)) == rules.controls
        assert set(re.findall(r"`([a-z-]+)`", cells[4])) == set(rules.options)
