"""A study file with mistakes: all of them in one message, with their lines, before anything is started."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from semscale.common.errors import SemscaleError
from semscale.config import StudyConfig, load_study, study_from
from semscale.study.reference_check import check_references

MANY = """\
dataset: [digits]
datasets:
  - digitz
  - folder:nowhere/at/all
  - {spec: shapes, label: test, limt: 3}
  - {spec: "zip:https://ann:hunter2@host/a.zip?sig=abc", class_from: "no place", per_class: yes}
models: [semscale_mini]
strategies: [templats, {strategy: custom, options: {template: [a]}}, {strategy: file, options: {path: nope.json}}]
controls: [templates, swaped]
scales: [1, x]
steps: 3
steps: 4
orders: []
margin: "0.5"
aggregation: maxx
encoding: {draft: "yes", deadline: .inf, actors: 3.5}
server: [grpc://here:1]
name: 3
"""

EXPECTED = {
    1: ["unknown key 'dataset'; did you mean 'datasets'?"],
    3: ["unknown dataset 'digitz'; did you mean 'digits'?"],
    4: ["the folder 'nowhere/at/all' does not exist"],
    5: ["unknown key 'datasets.2.limt'; did you mean 'limit'?", "datasets.2.label: the bundled dataset shapes"],
    6: [
        "datasets.3.class_from: the rule for the class does not mark",
        "datasets.3.per_class: Input should be a valid integer (found True)",
    ],
    7: ["unknown model 'semscale_mini'; did you mean 'semscale-mini'?"],
    8: [
        "unknown strategy 'templats'; did you mean 'templates'?",
        "strategies.1.options.template: the strategy does not take this option",
        "the file 'nope.json' does not exist",
    ],
    9: ["'templates' is a strategy, not a control", "unknown control 'swaped'; did you mean 'swapped'?"],
    10: ["scales: Input should be 'linear' or 'exponential' (found a list); or: Input should be a valid integer"],
    12: ["steps: duplicate key, first in line 11", "steps: contradicts scales, a list of 2"],
    13: ["orders: at least one is needed, or the grid of trials is empty"],
    14: ["margin: Input should be a valid number (found '0.5')"],
    15: ["aggregation: expected max, mean-embedding"],
    16: [
        "encoding.draft: Input should be a valid boolean (found 'yes')",
        "encoding.deadline: Input should be a finite number (found inf)",
        "encoding.actors: Input should be a valid integer (found 3.5)",
    ],
    17: ["server: Input should be a valid dictionary or instance of ServerConfig (found a list)"],
    18: ["name: Input should be a valid string (found 3)"],
}


def write(folder: Path, content: str | bytes) -> Path:
    path = folder / "study.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def message_of(path: Path) -> str:
    with pytest.raises(SemscaleError) as caught:
        load_study(path, check=check_references)
    return str(caught.value)


def test_every_mistake_of_a_file_is_told_with_its_line(tmp_path: Path) -> None:
    message = message_of(write(tmp_path, MANY))
    told: dict[int, list[str]] = {}
    for line, said in re.findall(r"^  - line (\d+): (.*)$", message, re.MULTILINE):
        told.setdefault(int(line), []).append(said)
    assert told.keys() == EXPECTED.keys()
    for line, words in EXPECTED.items():
        assert len(told[line]) == len(words), told[line]
        for word in words:
            assert any(word in said for said in told[line]), (word, told[line])
    assert f"{sum(map(len, EXPECTED.values()))} mistakes" in message
    assert "hunter2" not in message
    assert "abc" not in message


def test_a_command_with_mistakes_starts_nothing(tmp_path: Path) -> None:
    write(tmp_path, "strategies: [templats]\ndatasets: [folder:nowhere]\nsteps: 4\nscales: [1, 2]\n")
    command = [sys.executable, "-X", "importtime", "-m", "semscale", "sweep", "study.yaml", "--model", "semscale_mini"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time")}
    said = "\n".join(line for line in done.stderr.splitlines() if not line.startswith("import time"))
    assert done.returncode == 1
    assert "4 mistakes" in said
    assert "  - --model: models.0: unknown model 'semscale_mini'" in said
    assert "line 1: strategies.0.strategy: unknown strategy 'templats'" in said
    assert "line 3: steps: contradicts scales" in said
    assert "semscale.study.reference_check" in imported
    assert not imported & {"ray", "mlflow", "jina", "torch", "open_clip"}
    assert [path.name for path in tmp_path.iterdir()] == ["study.yaml"]


def test_an_option_replaces_what_the_file_says_and_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, "datasets: [digitz]\nsteps: x\nserver: {replicas: 3}\n")
    options: dict[Any, Any] = {("datasets",): ("--dataset", [{"spec": "digits"}]), ("steps",): ("--steps", 3)}
    study = load_study(path, options, check=check_references)
    assert [entry.spec for entry in study.datasets] == ["digits"]
    assert (study.steps, study.server.replicas) == (3, 3)
    with pytest.raises(SemscaleError) as caught:
        load_study(path, {**options, ("server", "urls"): ("--server", ["here"])}, check=check_references)
    assert "  - --server: server.urls: 'here' is not of the form" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("steps: 3\n\tlimit: 4\n", 2, "not valid YAML"),
        ("steps: [1, 2\nlimit: 3\n", 2, "not valid YAML"),
        ("a: *nobody\n", 1, "the alias *nobody"),
        ("steps: 3\nname: \x07\n", 2, "control character"),
        ("steps: 3\ndatasets: &a [*a]\n", 2, "the alias *a"),
        ("limit: " + "[" * 5000 + "\n", None, "nested too deeply"),
        ('name: "\\UFFFFFFFF"\n', None, "not valid YAML"),
    ],
)
def test_what_is_no_yaml_is_named_with_its_line(text: str, line: int | None, words: str, tmp_path: Path) -> None:
    message = message_of(write(tmp_path, text))
    assert words in message
    assert (f", line {line}\n" in message) == (line is not None)


def test_aliases_are_refused_unexpanded_and_merge_keys_are_unknown(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    message = message_of(write(tmp_path, "\n".join(lines)))
    assert "the alias *a0; write out what it stands for" in message
    assert "study.yaml, line 2\n" in message
    merged = "datasets:\n  - {<<: {per_class: 5}, spec: digits}\n"
    assert "line 2: unknown key 'datasets.0.<<'" in message_of(write(tmp_path, merged))


def test_a_huge_or_binary_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    with path.open("wb") as file:
        file.truncate(100 * 2**20)
    assert "the study file is too large" in message_of(path)
    path.write_bytes(b"steps: 3\n\x89PNG\r\n\x1a\n\xff\xfe")
    message = message_of(path)
    assert "is not a text" in message
    assert "line 2" in message
    assert "cannot be read" in message_of(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file" in message_of(tmp_path / "pipe")


@pytest.mark.parametrize("text", ["1" + ":1" * 500_000, "0x" + "1" * 10_000, "1" * 10_000])
def test_a_number_without_end_is_refused(text: str, tmp_path: Path) -> None:
    message = message_of(write(tmp_path, f"steps: 3\nlimit: {text}\n"))
    assert f"line 2\n  found:    a number of {len(text):,} characters" in message


def test_words_that_yaml_changes_are_not_taken_for_numbers(tmp_path: Path) -> None:
    study = load_study(write(tmp_path, "datasets:\n- {spec: digits, name: d, domain: 2001-01-01}\n"))
    assert study.datasets[0].domain == "2001-01-01"
    study = study_from({"datasets": [{"spec": "zip:a", "classes": {3: "x"}}]})
    assert study.datasets[0].classes == {"3": "x"}
    message = message_of(
        write(tmp_path, "orders: [yes]\nlimit: '5'\nsteps: 1:30:1\ndatasets: [{spec: digits, name: no}]\n")
    )
    assert "line 1: orders.0: Input should be a valid integer (found True)" in message
    assert "line 2: limit: Input should be a valid integer (found '5')" in message
    assert "line 4: datasets.0.name: Input should be a valid string (found False)" in message


# --- any text, any mutated study -----------------------------------------------------------------------------------

KEYS = [*StudyConfig.model_fields, "spec", "strategy", "options", "urls", "replicas", "classes", "per_class", "<<", ""]
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.sampled_from(["digits", "templates", "duplicates", "max", "grpc://h:1", "semscale-mini", "folder:/", "linear"]),
    st.text(max_size=12),
)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(st.sampled_from(KEYS), st.text(max_size=4)), inner, max_size=4),
    ),
    max_leaves=12,
)
VALID = yaml.safe_dump(StudyConfig().model_dump(mode="json"), sort_keys=False)
PIECES = [*"[]{}\t'\"#|\n", "- ", ": ", "&a ", "*a", "!!int ", "!!python/object ", "<<: *a"]


@st.composite
def mutated(draw: Any) -> str:
    text = draw(st.sampled_from([VALID, MANY]))
    for _ in range(draw(st.integers(1, 4))):
        at, length = draw(st.integers(0, len(text))), draw(st.integers(0, 12))
        piece = draw(st.one_of(st.sampled_from(PIECES), st.text(max_size=5)))
        text = text[:at] + piece + text[at + length :]
    return text


@st.composite
def changed(draw: Any) -> str:
    tree = draw(st.dictionaries(st.sampled_from(KEYS), TREES, max_size=6))
    return yaml.safe_dump(tree, allow_unicode=draw(st.booleans()))


def a_study_or_one_message(folder: Path, text: str) -> None:
    path = write(folder, text.encode("utf-8", "surrogatepass"))
    try:
        study = load_study(path, check=check_references)
    except SemscaleError as error:
        message = str(error)
        message.encode()
        last = len(text.splitlines()) + 1
        for line in re.findall(r"^  - line (\d+): |study\.yaml, line (\d+)$", message, re.MULTILINE):
            assert 1 <= int("".join(line)) <= last
        assert "pydantic" not in message
    else:
        again = load_study(write(folder, study.to_yaml()))
        assert again.digest() == study.digest()


@pytest.fixture
def quick_names(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    # paths that a text may happen to name
    monkeypatch.chdir(tmp_path_factory.mktemp("empty"))


def try_texts(examples: int, folder: Path, **how: Any) -> None:
    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), **how)
    @given(text=st.one_of(st.text(), mutated(), changed()))
    def check(text: str) -> None:
        a_study_or_one_message(folder, text)

    check()


def test_any_text_is_a_study_or_one_message(tmp_path: Path, quick_names: None) -> None:
    try_texts(40, tmp_path, derandomize=True)


@pytest.mark.fuzz
@pytest.mark.timeout(1200)
def test_thousands_of_texts_are_studies_or_messages(tmp_path: Path, quick_names: None) -> None:
    try_texts(int(os.environ.get("SEMSCALE_FUZZ", "4000")), tmp_path)
