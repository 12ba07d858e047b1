"""Output on a terminal: plain text with NO_COLOR, shell completion, and the exit statuses in the help."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.shell_completion import BashComplete
from click.testing import CliRunner
from rich.console import Console

from semscale.cli import main
from semscale.common.progress import BarReporter, LineReporter

ESCAPE = "\x1b"
CHECK = ["datasets", "check", "shapes", "--per-class", "2"]


def offered(*words: str) -> list[str]:
    """Return what is offered for the last of the words."""
    completion = BashComplete(main, {}, "semscale", "_SEMSCALE_COMPLETE")
    return [item.value for item in completion.get_completions(list(words[:-1]), words[-1])]


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["sw"], ["sweep"]),
        (["sweep", "--agg"], ["--aggregation"]),
        (["sweep", "--dataset", "d"], ["digits"]),
        (["sweep", "--dataset", "web"], ["webdataset:"]),
        (["sweep", "--strategy", "templates"], ["templates", "templates-fixed"]),
        (["sweep", "--strategy", "dup"], []),
        (["sweep", "--control", ""], ["duplicates", "random-characters", "random-words", "shuffled", "swapped"]),
        (["sweep", "--aggregation", "mean"], ["mean-embedding", "mean-similarity"]),
        (["sweep", "--model", "sem"], ["semscale-mini"]),
        (["sweep", "--order", ""], ["0", "1", "2", "3", "4"]),
        (["ladder", "sh"], ["shapes"]),
        (["ladder", "shapes", "--strategy", "swap"], ["swapped"]),
        (["datasets", "check", "dig"], ["digits"]),
        (["optimize", "digits", "--strategy", "prom"], ["prompts"]),
        (["serve", "--model", "sem"], ["semscale-mini"]),
    ],
)
def test_names_are_completed(words: list[str], names: list[str]) -> None:
    assert offered(*words) == names


def test_run_directories_are_completed_the_newest_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEMSCALE_RUNS", str(tmp_path))
    assert offered("compare", "here/") == ["here/"]  # left to the shell, which knows folders
    for age, name in enumerate(("old", "new")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "study.yaml").write_text("")
        os.utime(tmp_path / name / "study.yaml", (age, age))
    for words in (["report"], ["ui"], ["compare", "x"], ["sweep", "--resume"]):
        assert offered(*words, "") == [str(tmp_path / "new"), str(tmp_path / "old")]


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_takes_the_script_and_completes(tmp_path: Path) -> None:
    program = tmp_path / "semscale"
    program.write_text(
        f"#!{sys.executable}\nimport sys\nsys.argv[0] = 'semscale'\nfrom semscale.cli import main\nmain()\n"
    )
    program.chmod(0o755)
    code = (
        f'eval "$(_SEMSCALE_COMPLETE=bash_source {program})"; COMP_WORDS=(semscale sweep --strategy templ); '
        f'COMP_CWORD=3; _semscale_completion {program}; echo "${{COMPREPLY[@]}}"'
    )
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["templates", "templates-fixed"]


def on_terminal(words: Sequence[str], **environment: str) -> str:
    """Return what a command writes to a real terminal."""
    ours, theirs = pty.openpty()
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    command = [sys.executable, "-m", "semscale", *words]
    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env={**kept, "TERM": "xterm-256color", **environment}
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # how a terminal on Linux ends
            break
        if not part:
            break
        shown += part
    os.close(ours)
    assert process.wait(60) == 0, shown
    return shown.decode()


def test_terminal_gets_bars_and_with_no_color_plain_text_and_lines() -> None:
    coloured = on_terminal(CHECK)
    assert ESCAPE in coloured
    plain = on_terminal(CHECK, NO_COLOR="1")
    assert ESCAPE not in plain
    assert "reading shapes: done, 24 images" in plain
    assert "all 24 images can be used" in plain


@pytest.mark.parametrize("words", [CHECK, ["ladder", "digits", "--steps", "2"], ["--help"]])
def test_no_color_wins_over_force_color(words: list[str]) -> None:
    plain = CliRunner(env={"NO_COLOR": "1", "FORCE_COLOR": "1"}).invoke(main, words)
    assert plain.exit_code == 0
    assert ESCAPE not in plain.output
    forced = CliRunner(env={"FORCE_COLOR": "1"}).invoke(main, words)
    assert (ESCAPE in forced.output) == (words != ["--help"])


def test_a_stage_without_counts_reports_that_it_runs() -> None:
    shown, heard = io.StringIO(), threading.Event()

    class Heard(LineReporter):
        def note(self, text: str) -> None:
            super().note(text)
            heard.set()

    with Heard(Console(file=shown), silence=0.01).stage("starting"):
        assert heard.wait(60)
    assert shown.getvalue().startswith("starting: 0 s so far\n")
    assert shown.getvalue().splitlines()[-1].startswith("starting: done, ")


def test_bars_count_with_rate_and_time_left_and_lines_with_slow_rates() -> None:
    shown = io.StringIO()
    with BarReporter(Console(file=shown, force_terminal=True, width=110)).stage("trials", 4, "trials") as advance:
        advance(1, 4)
    assert re.search(r"trials .* 4/4 .* trials/s 0:00:00 0:00:\d\d", re.sub(r"\x1b\[[\d;?]*\w", "", shown.getvalue()))
    shown = io.StringIO()
    with LineReporter(Console(file=shown, width=110), every=0).stage("trials", 4, "trials") as advance:
        advance(1, 4)
        advance(3, 4)
    first, second, end = shown.getvalue().splitlines()
    assert first == "trials: 1/4 trials"  # the time before it is the start of workers
    assert re.fullmatch(r"trials: 3/4 trials, [\d.]+/s, \d+ s left", second)
    assert end.startswith("trials: done, 3 trials, ")


def test_datasets_are_listed() -> None:
    shown = json.loads(CliRunner().invoke(main, ["datasets", "list", "--json"]).stdout)
    assert shown["bundled"][1] == {"name": "shapes", "images": 1200, "classes": 12, "domain": "shape"}
    assert {"folder", "zip", "hf"} <= set(shown["schemes"])
    plain = CliRunner().invoke(main, ["datasets", "list"]).stdout
    assert "shapes    1,200 images of 12 classes; domain: shape" in plain
    assert "folder: " in plain


def test_help_has_the_exit_statuses() -> None:
    shown = CliRunner().invoke(main, ["--help"]).stdout
    for status in ("0 done", "1 an error", "2 wrong usage", "130 stopped"):
        assert status in shown
