"""The constraints name one release of everything that an installation has, from nowhere in particular."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

FILE = Path(__file__).parents[2] / "constraints.txt"
# the project, what every environment begins with, and what pyproject.toml bounds itself because builds need it too
OWN = {"semscale", "pip", "wheel", "setuptools"}


def pinned() -> dict[str, str]:
    lines = [line.partition("#")[0].strip() for line in FILE.read_text(encoding="utf-8").splitlines()]
    found = {}
    for line in filter(None, lines):
        requirement = Requirement(line)
        match = re.fullmatch(r"==([^*,]+)", str(requirement.specifier))
        assert match, f"{line} does not name one release"
        assert requirement.url is None, line
        assert canonicalize_name(requirement.name) not in found, f"{requirement.name} stands there twice"
        found[canonicalize_name(requirement.name)] = match[1]
    return found


def needed() -> set[str]:
    """Everything that semscale with its extras `server` and `dev` brings along, as installed here."""
    installed = {canonicalize_name(one.metadata["Name"]): one for one in distributions()}
    found: set[str] = set()
    waiting = [("semscale", "server"), ("semscale", "dev")]
    seen = set(waiting)
    while waiting:
        name, extra = waiting.pop()
        for text in (installed[name].requires or []) if name in installed else []:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                other = canonicalize_name(requirement.name)
                found.add(other)
                new = {(other, one) for one in ("", *requirement.extras)} - seen
                seen |= new
                waiting += new
    return (found & set(installed)) - OWN


def test_every_dependency_has_one_release_and_no_address() -> None:
    assert "://" not in FILE.read_text(encoding="utf-8")
    assert sorted(needed() - set(pinned())) == []


def test_what_is_installed_fits_together() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", "check"], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout
