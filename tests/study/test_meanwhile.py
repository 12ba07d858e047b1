"""Imports in a thread while Ray starts: they come, they fail in silence, and they never meet Ray's own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from semscale.meanwhile import SHARED, importing
from semscale.study.begin import HANDSHAKE
from semscale.study.study import LATER

_PROGRAM = """
import importlib, sys
import semscale.study.study
from semscale.study.cluster import ray_cluster

for name in {shared}:
    importlib.import_module(name)
before = set(sys.modules)
{work}
print(*sorted(set(sys.modules) - before))
"""


def _imported_by(work: str) -> set[str]:
    program = _PROGRAM.format(shared=SHARED, work=work)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_modules_are_there_when_the_context_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = "import threading\nsum(range(5_000_000))\nwhere = threading.current_thread().name\n"
    (tmp_path / "slow_neighbour.py").write_text(content)
    monkeypatch.syspath_prepend(str(tmp_path))
    with importing("slow_neighbour"):
        pass
    module = sys.modules.pop("slow_neighbour")
    assert module.where == "imports"


def test_who_needs_a_module_that_fails_meets_the_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_neighbour.py").write_text("raise ValueError('what is wrong')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with importing("broken_neighbour"):
        pass
    with pytest.raises(ValueError, match="what is wrong"):
        __import__("broken_neighbour")


def test_ray_and_the_thread_never_import_the_same_package() -> None:
    """Packages that import each other in circles may only be imported by one thread at a time."""
    ray = _imported_by("with ray_cluster(None):\n    pass")
    later = _imported_by(f"for name in {(*LATER, HANDSHAKE)}:\n    importlib.import_module(name)")
    assert {"mlflow", "jina", "matplotlib"} <= later
    assert len(ray) > 20
    both = {name for name in ray & later if name.partition(".")[0] not in sys.stdlib_module_names}
    assert both <= {"opentelemetry.proto"}  # an empty package


def test_reading_a_study_imports_no_engine() -> None:
    """What takes seconds is imported while Ray starts, and not before."""
    program = "import sys, semscale.study.study, semscale.study.fill\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert {"mlflow", "jina", "matplotlib", "sqlalchemy", "torch"}.isdisjoint(done.stdout.split())
