"""The pages keep their promises: commands exist, the study file is valid, outputs are real, links lead somewhere."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner
from PIL import Image

import semscale
from semscale.categories import strategy_registry
from semscale.cli import main
from semscale.config import study_from
from semscale.datasets.dataset import DatasetOptions
from semscale.datasets.dataset_builder import build_dataset

ROOT = Path(__file__).parent.parent
COLUMNS = ("dataset", "strategy", "images", "baseline", "peak", "@", "scale", "change", "p", "critical", "trend")
# those of deploy and ray_jobs are tested in tests/deploy
FOLDERS = ("", ".github", "semscale", "semscale/*", "tests", "tests/*")
PAGES = sorted(path for folder in FOLDERS for path in ROOT.glob(f"{folder}/*.md".lstrip("/")))
README = (ROOT / "README.md").read_text(encoding="utf-8")
TEXT = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.DOTALL)


def commands() -> list[str]:
    lines = [line.partition("  #")[0].strip() for block in blocks("bash") for line in block.splitlines()]
    parts = [part.strip() for line in lines for part in line.split("&&")]
    return [part for part in parts if part.startswith("semscale ")]


@pytest.mark.parametrize("line", commands())
def test_every_semscale_command_parses(line: str) -> None:
    words = shlex.split(line)[1:]
    command = main.commands[words[0]]
    assert isinstance(command, click.Command)
    command.make_context(words[0], words[1:])


def test_the_study_file_of_the_readme_is_valid() -> None:
    (text,) = blocks("yaml")
    study = study_from(yaml.safe_load(text))
    assert [dataset.spec for dataset in study.datasets] == ["zip:flowers.zip", "folder:birds", "digits"]


def test_files_named_in_commands_exist() -> None:
    for path in re.findall(r"(?<![\w/.])(?:tests|semscale)/[\w/.]+\w", TEXT):
        assert (ROOT / path).exists(), path


def test_modules_named_on_the_architecture_and_fault_pages_exist() -> None:
    modules = [f"/{path.relative_to(ROOT).as_posix()}" for path in ROOT.glob("[st]e*/**/*.py")]
    for page in ("semscale/README.md", "tests/faults/README.md"):
        named = re.findall(r"[\w/]+\.py", (ROOT / page).read_text(encoding="utf-8"))
        assert len(named) >= 1
        for name in named:
            assert any(module.endswith(f"/{name}") for module in modules), name


def test_outputs_are_those_of_this_version() -> None:
    shown = re.search(r"<!-- output:sweep -->\n```text\n(.*?)```", README, flags=re.DOTALL)
    assert shown
    header = next(line for line in shown[1].splitlines() if line.startswith("dataset"))
    assert header.split() == list(COLUMNS)
    assert "96 trials, 8 curves" in shown[1]


@pytest.mark.parametrize("name", ["ladder", "check"])
def test_outputs_of_quick_commands_are_what_they_print(name: str) -> None:
    shown = re.search(rf"<!-- output:{name} -->\n```text\n\$ semscale (.*?)\n(.*?)```", TEXT, flags=re.DOTALL)
    assert shown
    printed = CliRunner(env={"COLUMNS": "110"}).invoke(main, shlex.split(shown[1])).stdout
    assert [line.rstrip() for line in printed.strip().splitlines()] == shown[2].rstrip().splitlines()


def python_blocks() -> list[tuple[str, str]]:
    """Return the Python blocks, and what is shown under each as its output."""
    return re.findall(r"```python\n(.*?)```\n(?:\n?```text\n(.*?)```)?", TEXT, flags=re.DOTALL)


@pytest.mark.parametrize(("code", "shown"), python_blocks())
def test_python_prints_what_is_shown(code: str, shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    strategy_registry.strategy_names()  # discover before the copy is made
    monkeypatch.setattr(strategy_registry, "_strategies", dict(strategy_registry._strategies))  # examples add some
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "README.md", "exec"), {})
    assert [line.rstrip() for line in printed.getvalue().splitlines()] == shown.splitlines()


def example(text: str) -> dict[str, Any]:
    (code,) = [block for block in blocks("python") if text in block]
    names: dict[str, Any] = {}
    exec(compile(code, "CONTRIBUTING.md", "exec"), names)
    return names


def test_the_strategy_of_the_example_makes_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    strategy_registry.strategy_names()  # discover before the copy is made
    monkeypatch.setattr(strategy_registry, "_strategies", dict(strategy_registry._strategies))
    example('@strategy("polite")')
    assert [made.text for made in strategy_registry.find_strategy("polite")("cat", "animal")] == ["cat", "cat, please"]


def test_the_loader_of_the_example_reads_a_list(tmp_path: Path) -> None:
    for number, colour in enumerate(("red", "blue")):
        Image.new("RGB", (8, 8), colour).save(tmp_path / f"{number}.png")
    (tmp_path / "list.txt").write_text(f"{tmp_path}/0.png\tred\n{tmp_path}/1.png\tblue\n")
    listing = example("class ListReader")["open_listing"](f"{tmp_path}/list.txt", DatasetOptions())
    dataset = build_dataset(listing, DatasetOptions(), "list")
    assert sorted(sample.true_class for sample in dataset.samples) == ["blue", "red"]
    assert dataset.reader.read(dataset.samples[0].location) == (tmp_path / "0.png").read_bytes()


def test_every_block_is_of_a_kind_that_a_test_looks_at() -> None:
    kinds = set(re.findall(r"^```(\w*)$", TEXT, flags=re.MULTILINE))
    assert kinds == {"", "bash", "yaml", "text", "python", "mermaid"}
    programs = {part.split()[0] for block in blocks("bash") for part in re.split(r"\n|&&", block) if part.strip()}
    # semscale and what is in tests/deploy are parsed; these set up, or are tools of the development
    known = {
        "semscale", "pip", "git", "cd", ".", "python", "python3", "pytest", "ruff", "mypy", "(umask", "docker",
        "kubectl", "ray", "pre-commit", "lint-imports",
    }  # fmt: skip
    assert programs <= known | {"#"}, programs - known


@pytest.mark.parametrize("line", [line for block in blocks("bash") for line in block.splitlines() if "pytest" in line])
def test_markers_and_paths_given_to_pytest_exist(line: str) -> None:
    words = shlex.split(line.partition("  #")[0])
    with (ROOT / "pyproject.toml").open("rb") as file:
        settings = tomllib.load(file)["tool"]["pytest"]["ini_options"]
    markers = {marker.partition(":")[0] for marker in settings["markers"]}
    assert {word for flag, word in pairwise(words) if flag == "-m" and word != "pytest"} <= markers
    assert all((ROOT / word).exists() for word in words if word.startswith("tests"))


@pytest.mark.parametrize("page", [*PAGES, *ROOT.glob("deploy/*.md"), *ROOT.glob("ray_jobs/*.md")], ids=str)
def test_local_links_of_every_page_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if not re.match(r"\w+:", target):
            assert (page.parent / target).exists(), target


def test_changes_and_citation_are_of_this_version() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    assert semscale.__version__ == project["version"]
    changes = (ROOT / ".github" / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(r"^## (\d\S+)", changes, flags=re.MULTILINE)[1] == project["version"]  # type: ignore[index]
    citation = yaml.safe_load((ROOT / ".github" / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors", "version", "license"} <= citation.keys()
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
    (study,) = citation["references"]
    assert study["identifiers"][0]["value"] == "arXiv:2503.12617"
