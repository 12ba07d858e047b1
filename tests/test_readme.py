"""The README keeps its promises: its commands exist, its study file is valid, its pictures and files are there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest
import yaml
from click.testing import CliRunner

from semscale.cli import main
from semscale.config import study_from

ROOT = Path(__file__).parent.parent
COLUMNS = ("dataset", "strategy", "images", "baseline", "peak", "@", "scale", "change", "p", "critical", "trend")
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


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


def test_pictures_and_local_links_exist() -> None:
    targets = [target for target in re.findall(r"\]\(([^)]+)\)", README) if not target.startswith("http")]
    assert len(targets) >= 2
    for target in targets:
        assert (ROOT / target).exists(), target


def test_files_named_in_commands_exist() -> None:
    for path in re.findall(r"(?<![\w/.])tests/[\w/]+(?:\.py)?", README):
        assert (ROOT / path).exists(), path


def test_outputs_are_those_of_this_version() -> None:
    shown = re.search(r"<!-- output:sweep -->\n```text\n(.*?)```", README, flags=re.DOTALL)
    assert shown
    header = next(line for line in shown[1].splitlines() if line.startswith("dataset"))
    assert header.split() == list(COLUMNS)
    assert "96 trials, 8 curves" in shown[1]


@pytest.mark.parametrize("name", ["ladder", "check"])
def test_outputs_of_quick_commands_are_what_they_print(name: str) -> None:
    shown = re.search(rf"<!-- output:{name} -->\n```text\n\$ semscale (.*?)\n(.*?)```", README, flags=re.DOTALL)
    assert shown
    printed = CliRunner(env={"COLUMNS": "110"}).invoke(main, shlex.split(shown[1])).stdout
    assert [line.rstrip() for line in printed.strip().splitlines()] == shown[2].rstrip().splitlines()
