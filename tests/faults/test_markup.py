"""Names from data that look like HTML, terminal markup, control codes or table syntax do nothing but stand there."""

from __future__ import annotations

import csv
import io
import json
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
from mlflow import MlflowClient
from rich.console import Console

from semscale.categories.ladder_builder import LadderSpec, build_ladder
from semscale.cli.show import show_ladder, show_sweep
from semscale.common.errors import SemscaleError
from semscale.common.progress import BarReporter, LineReporter, SilentReporter
from semscale.config import study_from
from semscale.datasets.loader_registry import load_dataset
from semscale.study.pipeline import sweep

SCRIPT = "<script>alert(1)</script>"
CLASSES = {
    "circle": SCRIPT,
    "square": 'a "quoted", name',
    "triangle": "[red]not red[/red]",
    "star": "<img src=x onerror=alert(2)>",
}
CODE = "\x1b[31m"


class Tags(HTMLParser):
    """Collects the tags of a page, and their attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.sources: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        self.sources |= {value or "" for name, value in attrs if name == "src"}


def test_a_whole_run_with_hostile_names(mini_server: str, ray_session: None, tmp_path: Path) -> None:
    folder = tmp_path / "<b>photos"
    shapes = load_dataset("shapes", per_class=5)
    for i, sample in enumerate(shapes.samples):
        if sample.true_class in CLASSES:
            target = folder / sample.true_class / f'"{i}" <i>\'=1+1,{CODE}.png'
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(shapes.reader.read(sample.location))
    (folder / "circle" / f'<script>{CODE}, "bad".png').write_bytes(b"no picture")
    study = study_from(
        {
            "datasets": [
                {"spec": f"folder:{folder}", "classes": CLASSES, "name": f"[blue]{SCRIPT}", "domain": "<i>shape"}
            ],
            "strategies": [{"strategy": "templates", "name": f"[red]{SCRIPT}"}],
            "controls": ["swapped"],
            "steps": 2,
            "max_bad_fraction": 0.5,
            "server": {"urls": [mini_server]},
        }
    )
    result = sweep(study, tmp_path / "runs" / "run", SilentReporter())

    page = (result.directory / "report.html").read_text(encoding="utf-8")
    seen = Tags()
    seen.feed(page)
    assert not {"i", "b"} & set(seen.tags)
    # the page's own: its data, Vega and what draws with it; pictures are thumbnails and confusions
    assert seen.tags.count("script") == page.count("</script") == 3
    assert "img" in seen.tags
    assert all(source.startswith("data:image/") for source in seen.sources)
    assert not {name for name in seen.attributes if name.startswith("on")}
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page

    ((name, file, reason),) = list(csv.reader((result.directory / "quarantine.csv").open(newline="")))[1:]
    assert (name, file) == (result.curves["dataset"].iloc[0], f'circle/<script>{CODE}, "bad".png')
    assert reason
    (predictions,) = (result.directory / "predictions").glob("*__red-*")
    assert set(pd.read_parquet(predictions)["true_class"]) == set(CLASSES.values())

    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'runs' / 'mlflow.db'}")
    run = result.trials["mlflow_run_id"].iloc[0]
    artifacts = {item.path for item in client.list_artifacts(run)}
    assert not {path for path in artifacts if path.endswith((".html", ".svg", ".htm", ".js"))}
    table = pd.read_csv(client.download_artifacts(run, "class_accuracy.csv", str(tmp_path)))
    assert set(table["class"]) == set(CLASSES.values())
    categories = json.loads(Path(client.download_artifacts(run, "categories.json", str(tmp_path))).read_text())
    assert {row[0] for row in categories["data"]} == set(CLASSES.values())
    for one in (run, *result.curves["mlflow_run_id"]):
        note = client.get_run(one).data.tags["mlflow.note.content"]
        assert not any("<script" in line for line in note.splitlines() if not line.startswith("    "))  # code

    console = Console(file=io.StringIO(), width=400, force_terminal=True)
    show_sweep(console, result)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert f"[red]{SCRIPT}" in shown
    assert CODE not in shown


def test_ladders_and_progress_are_printed_as_they_are() -> None:
    console = Console(file=io.StringIO(), width=400, force_terminal=True)
    show_ladder(
        console, build_ladder(LadderSpec("[b]pets", ["[red]cat", f"dog{CODE}"], "animal", "templates", steps=2))
    )
    for reporter in (LineReporter(console), BarReporter(console)):
        reporter.note(f"[red]note {CODE}")
        with reporter.stage(f"encoding [red]{CODE}", 2, "images") as advance:
            advance(2, 2)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    for words in ("[b]pets x templates", "[red]cat, dog", "[red]note", "encoding [red]"):
        assert words in shown
    assert CODE not in shown


def test_the_command_prints_no_control_codes(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from semscale.cli import main

    done = CliRunner().invoke(main, ["ladder", f"folder:{tmp_path}/{CODE}[red]"])
    assert done.exit_code == 1
    assert "[31m[red]" in done.output
    assert CODE not in done.output
    assert not isinstance(done.exception, SemscaleError)
