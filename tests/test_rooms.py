"""The rooms: which package may import which; data flows one way, and the core knows no engine."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import semscale

ROOT = Path(semscale.__file__).parent

# a room -> the rooms it may import; errors, redact, access and files belong to all
ROOMS: dict[str, set[str]] = {
    "config": {"scoring"},
    "synthetic": set(),
    "datasets": {"synthetic"},
    "categories": set(),
    "scoring": set(),
    "analysis": {"scoring"},
    "models": set(),
    "serving": {"models"},
    "training": {"synthetic", "models", "datasets", "categories", "scoring"},
    "encoding": {"datasets"},
    "report": {"analysis", "scoring"},
    "tracking": {"analysis", "report"},
    "study": {
        "tracking",
        "report",
        "analysis",
        "scoring",
        "encoding",
        "serving",
        "models",
        "categories",
        "datasets",
        "config",
    },
    "runs": {"study", "report", "analysis", "encoding", "categories", "config"},
    "label": {"study", "encoding", "scoring", "datasets", "config"},
    "doctor": {"encoding", "categories", "models", "serving"},
    "api": {"study", "report", "analysis", "scoring", "encoding", "categories", "datasets", "config"},
    "cli": {
        "scoring",
        "study",
        "label",
        "doctor",
        "runs",
        "report",
        "encoding",
        "serving",
        "categories",
        "datasets",
        "config",
    },
}
SHARED = {"text", "errors", "redact", "access", "files", "documents"}
CORE = ("categories", "scoring", "analysis")
ENGINES = {"ray", "mlflow", "jina", "clip_client", "clip_server", "torch", "docarray", "open_clip"}
MOST_LINES = 350


def modules(room: str) -> list[Path]:
    return [ROOT / f"{room}.py"] if (ROOT / f"{room}.py").exists() else sorted((ROOT / room).rglob("*.py"))


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("room", ROOMS)
def test_room_imports_only_rooms_below(room: str) -> None:
    allowed = ROOMS[room] | SHARED | {room}
    for path in modules(room):
        used = {match[1] for name in imported(path) if (match := re.match(r"semscale\.(\w+)", name))}
        assert used <= allowed | {"__version__"}, f"{path.name} imports {sorted(used - allowed)}"


@pytest.mark.parametrize("room", CORE)
def test_core_knows_no_engine(room: str) -> None:
    for path in modules(room):
        engines = ENGINES - {"torch"} if path.name == "torch_backend.py" else ENGINES
        assert not {name.partition(".")[0] for name in imported(path)} & engines, path


def test_every_package_is_a_room() -> None:
    found = {path.stem for path in ROOT.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert found - {"__init__", "__main__"} == set(ROOMS) | SHARED


def floor(room: str) -> int:
    return 1 + max((floor(below) for below in ROOMS[room]), default=0)


def test_the_architecture_page_draws_every_room_on_its_floor() -> None:
    rows = re.findall(r"^\| (\d) \| (.*?) \|", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    drawn = {room: int(number) for number, names in rows for room in re.findall(r"`(\w+)`", names)}
    assert drawn == {room: floor(room) for room in ROOMS}


def test_modules_stay_small() -> None:
    long = {
        str(path.relative_to(ROOT)): n
        for path in ROOT.rglob("*.py")
        if (n := len(path.read_text().splitlines())) > MOST_LINES
    }
    assert not long
