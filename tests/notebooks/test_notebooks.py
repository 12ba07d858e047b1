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
        + "\n".join(str(value) for kind, value in sorted(output.get("data", {}).items()) if "text" in kind)
        for output in shown
    )


def run(name: str, folder: Path) -> str:
    notebook = nbformat.read(NOTEBOOKS / name, as_version=4)
    NotebookClient(
        notebook, timeout=200, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    ).execute()
    return outputs(notebook)


def test_published_study_runs_on_its_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEMSCALE_PUBLISHED", str(tmp_path / "nowhere"))
    text = run("published_study.ipynb", tmp_path)
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


# kernels start anew, with pandas, torch and the model; they need only run where somebody waits for it
@pytest.mark.parametrize(
    "name",
    [
        pytest.param("own_dataset.ipynb", marks=pytest.mark.benchmark),
        pytest.param("quickstart.ipynb", marks=pytest.mark.benchmark),
        pytest.param("critical_scale.ipynb", marks=pytest.mark.benchmark),
    ],
)
def test_notebook_prints_again_what_it_is_kept_with(name: str, tmp_path: Path) -> None:
    path = NOTEBOOKS / name
    assert run(name, tmp_path) == outputs(nbformat.read(path, as_version=4))


@pytest.mark.parametrize("name", ["quickstart.ipynb", "critical_scale.ipynb", "own_dataset.ipynb"])
def test_notebook_is_small_whole_and_without_errors(name: str) -> None:
    path = NOTEBOOKS / name
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert path.stat().st_size < 300_000
    assert all(cell.outputs or "import" in cell.source for cell in notebook.cells if cell.cell_type == "code")
    kinds = {output.output_type for cell in notebook.cells for output in cell.get("outputs", [])}
    assert kinds <= {"execute_result", "display_data"}  # neither errors nor warnings
    assert "image/png" in {kind for cell in notebook.cells for o in cell.get("outputs", []) for kind in o.data}


def test_the_quickstart_is_short() -> None:
    notebook = nbformat.read(NOTEBOOKS / "quickstart.ipynb", as_version=4)
    lines = [line for cell in notebook.cells if cell.cell_type == "code" for line in cell.source.splitlines()]
    assert len([line for line in lines if line.strip()]) < 40
