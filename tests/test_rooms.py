"""The packages: imports only go down (import-linter), the architecture page draws them, modules stay small."""

from __future__ import annotations

import re
import subprocess
import sysconfig
import tomllib
from pathlib import Path

import semscale

PACKAGE = Path(semscale.__file__).parent
ROOT = PACKAGE.parent
MOST_LINES = 350


def test_imports_only_go_down() -> None:
    command = [f"{sysconfig.get_path('scripts')}/lint-imports", "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout


def test_the_architecture_page_draws_every_package_on_its_floor() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = [set(re.findall(r"\w+", layer)) for layer in contracts[0]["layers"]]
    page = (PACKAGE / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d) \| (.*?) \|", page, flags=re.MULTILINE)
    drawn = [(int(number), set(re.findall(r"`(\w+)`", names))) for number, names in rows]
    assert drawn == list(zip(range(len(layers), 0, -1), layers, strict=True))


def test_modules_stay_small() -> None:
    long = {
        str(path.relative_to(PACKAGE)): n
        for path in PACKAGE.rglob("*.py")
        if (n := len(path.read_text().splitlines())) > MOST_LINES
    }
    assert not long
