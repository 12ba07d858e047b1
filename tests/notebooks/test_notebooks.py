"""The notebooks run from beginning to end, also where the published data are not."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


def outputs(notebook: nbformat.NotebookNode) -> str:
    """Return all that the cells have printed or displayed as text."""
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return "\n".join(
        output.get("text", "")
        + "\n".join(str(value) for kind, value in output.get("data", {}).items() if "text" in kind)
        for output in shown
    )


def test_published_study_runs_on_its_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEMSCALE_PUBLISHED", str(tmp_path / "nowhere"))
    notebook = nbformat.read(NOTEBOOKS / "published_study.ipynb", as_version=4)
    NotebookClient(
        notebook, timeout=200, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    text = outputs(notebook)
    assert "The published data are not here" in text
    assert "1 curves, 3 steps, 600 predictions" in text
    # printed 35.0, 42.5, 42.5; right are 150, 175 and 175 of 200
    assert "3 of 3 differ from the predictions" in text
    assert "Example +7.50 printed, +12.50 corrected" in text
    assert "1 of 1 curves are surely above their first step" in text


def test_published_study_is_kept_with_the_outputs_of_the_study() -> None:
    path = NOTEBOOKS / "published_study.ipynb"
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert path.stat().st_size < 300_000
    text = outputs(notebook)
    assert "Flowers10 +8.31 printed, +0.41 corrected" in text
    assert "The published data are not here" not in text
    assert not any(output.output_type == "error" for cell in notebook.cells for output in cell.get("outputs", []))
