"""The help of every command has an example, and the examples are commands."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from semscale.cli import main


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in group.commands.items():
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


ALL = dict(commands(main))


def examples(command: click.Command) -> list[str]:
    return re.findall(r"^ *(semscale .+?)(?:  .*)?$", command.help or "", flags=re.MULTILINE)


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_help_has_an_example_of_the_command(path: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(main, [*path, "--help"])
    assert shown.exit_code == 0
    assert re.search(rf"^  semscale {' '.join(path)}\b", shown.stdout, flags=re.MULTILINE)


@pytest.mark.parametrize("line", [line for command in [main, *ALL.values()] for line in examples(command)])
def test_examples_parse(line: str) -> None:
    group: click.Command = main
    words = shlex.split(line.replace("[options]", ""))[1:]
    while isinstance(group, click.Group):
        name, *words = words
        group = group.commands[name]
    group.make_context(group.name, words)
