"""The pages keep their promises: commands have these options, files exist, and the figures follow from the formulas."""

from __future__ import annotations

import doctest
import importlib.util
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
import yaml
from manifests import DEPLOY, ROOT, check_entry_point

from semscale.cli import main
from semscale.config import study_from

PAGES = [page for page in (ROOT / "README.md", DEPLOY / "README.md", ROOT / "ray_jobs" / "README.md") if page.exists()]
README = (DEPLOY / "README.md").read_text(encoding="utf-8")


def lines() -> list[str]:
    found: list[str] = []
    for page in PAGES:
        for block in re.findall(r"```(?:bash|sh|console)\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                command = line.partition("  #")[0].strip().removeprefix("$ ")
                parts = [part.strip() for part in re.split(r"&&|;(?= \w+ )", command)]
                found += [part for part in parts if part]
    return found


def commands(program: str) -> list[str]:
    return sorted({line for line in lines() if line.split()[0] == program})


def parse(group: click.Command, words: list[str]) -> None:
    """Let a command look at its options, without running it."""
    while isinstance(group, click.Group):
        name, *words = words
        assert name in group.commands, f"no command {name}"
        group = group.commands[name]
    group.make_context(group.name, words)


@pytest.mark.parametrize("line", commands("semscale"))
def test_semscale_has_these_options(line: str) -> None:
    parse(main, shlex.split(line)[1:])


@pytest.mark.parametrize("line", commands("ray"))
def test_ray_has_these_options(line: str) -> None:
    from ray.scripts.scripts import cli as ray

    words = shlex.split(line)
    if words[1] == "job":
        job = ray.commands["job"].commands["submit" if words[2] == "submit" else words[2]]
        job.make_context(words[2], words[3:])
        if words[2] == "submit":
            runtime = (
                words[words.index("--runtime-env") + 1] if "--runtime-env" in words else "ray_jobs/runtime_env.yaml"
            )
            assert runtime == "ray_jobs/runtime_env.yaml"
            check_entry_point(words[words.index("--") + 1 :])
        return
    parse(ray, words[1:])
    for word in words:
        if word.endswith(".yaml"):
            assert (ROOT / word).exists(), word
    if words[1] == "exec":
        inner = shlex.split(next(word for word in words[3:] if not word.startswith("-")))
        if inner[0] == "mlflow":
            from mlflow.cli import cli as mlflow

            parse(mlflow, inner[1:])
        else:
            mounts = yaml.safe_load((ROOT / words[2]).read_text())["file_mounts"]
            script = runpy.run_path(str(ROOT / mounts[inner[1]]))
            parse(script["main"], inner[2:])


@pytest.mark.parametrize("program", ["docker", "kubectl", "python"])
def test_files_of_other_commands_exist(program: str) -> None:
    found = commands(program)
    for line in found:
        for option, path in re.findall(r"(-f|-k|--from-file=\w+=|^python) ?([\w./-]+/[\w./-]+)", line):
            if "/secrets/" not in path:
                assert (ROOT / path).exists(), f"{option} {path}"
    assert program == "python" or len(found) >= 4


def test_kubernetes_secrets_are_made_with_the_keys_that_pods_want() -> None:
    from test_kubernetes import SECRETS

    made = dict(re.findall(r"create secret generic ([\w-]+) --from-(?:file=(\w+)|env-file)=", README))
    assert made == {name: next(iter(keys or {""})) for name, keys in SECRETS.items()}


def test_every_file_of_the_folder_stands_in_the_page_and_links_exist() -> None:
    named = set(re.findall(r"`([\w./-]+)`", README))
    for path in DEPLOY.rglob("*"):
        relative = path.relative_to(DEPLOY)
        if (
            path.is_file()
            and "__pycache__" not in path.parts
            and path.name != "README.md"
            and "secrets" not in relative.parts
        ):
            assert {str(relative), *map(str, relative.parents)} & named, relative
    for place in re.findall(r"`(study/\w+\.py|report/\w+\.py|scoring/\w+\.py|encoding/\w+\.py)`", README):
        assert (ROOT / "semscale" / place).exists(), place


def test_the_study_for_a_cluster_is_valid() -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", README, flags=re.DOTALL)
    study = study_from(yaml.safe_load(text))
    clusters = [(DEPLOY / "cluster" / f"{name}.yaml").read_text() for name in ("aws", "gcp")]
    (entry,) = study.server.urls
    (command,) = [line for line in commands("ray") if "endpoints.py" in line]
    assert command.endswith(f' {entry.removeprefix("file:")}"'), "the file that endpoints.py writes"
    for cluster in clusters:
        assert f"--model {study.models[0]} " in cluster
        assert f"{study.server.token_file}: deploy/secrets/clip_token" in cluster


def test_the_page_says_what_has_not_been_tried() -> None:
    assert "**None of this has run in a cloud, on a Kubernetes cluster, or in a container engine**" in README


def test_the_estimate_is_what_the_program_prints() -> None:
    shown = re.search(r"<!-- output:estimate -->\n(.*?)<!-- end -->", README, flags=re.DOTALL)
    assert shown
    done = subprocess.run(
        [sys.executable, str(DEPLOY / "estimate.py")], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == shown[1]


def test_figures_follow_from_the_formulas_beside_them() -> None:
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in README.splitlines() if line.startswith("| `")
    ]
    assumed = {row[0].strip("`"): float(row[1]) for row in rows if len(row) == 3 and re.fullmatch(r"[\d.e+-]+", row[1])}
    assert len(assumed) == 14
    quantities = [row for row in rows if len(row) == 6]
    assert len(quantities) == 25
    for column in (1, 2, 3, 4):
        exact: dict[str, float] = dict(assumed)
        for row in quantities:
            name = row[0].split("`")[1]
            if row[5] == "given":
                exact[name] = float(row[column].replace(",", ""))
                continue
            exact[name] = eval(row[5].strip("`"), {"__builtins__": {}, "min": min}, exact)
            assert float(row[column].replace(",", "")) == pytest.approx(exact[name], rel=0.006), (name, column)


def test_the_row_of_a_segment_has_the_size_that_the_estimate_takes(tmp_path: Path) -> None:
    import numpy as np

    from semscale.store.segment import write_segment

    keys = [n.to_bytes(32, "big") for n in range(256)]
    path = write_segment(tmp_path, keys, np.zeros((256, 512), dtype=np.float32))
    stored = Path(str(path)).stat().st_size / 256
    assert stored == pytest.approx(4 * 512 + 32 + 10, rel=0.01)


def test_scores_have_the_bytes_that_the_estimate_takes() -> None:
    import numpy as np

    from semscale.scoring.kernel import LadderInputs, ScoreOptions, score_aggregations

    rows = np.eye(4, dtype=np.float32)
    owners, ends = np.arange(4, dtype=np.int32), np.array([4])
    inputs = LadderInputs(rows, rows, owners, ends, owners)
    scores = score_aggregations(inputs, ("max",), ScoreOptions(confidence=True, ceiling=True))["max"]
    assert sum(array.nbytes for array in vars(scores).values()) == 21 * 4


@pytest.mark.parametrize("name", ["estimate.py", "cluster/endpoints.py"])
def test_examples_in_the_programs_are_true(name: str) -> None:
    spec = importlib.util.spec_from_file_location("program", DEPLOY / name)
    assert spec is not None
    assert spec.loader is not None
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    result = doctest.testmod(program)
    assert result.attempted > 0
    assert result.failed == 0


def test_another_number_changes_the_estimate_and_an_unknown_name_is_refused() -> None:
    script = [sys.executable, str(DEPLOY / "estimate.py"), "--set"]
    dearer = subprocess.run([*script, "price_node=1.2"], capture_output=True, text=True, check=True, timeout=60).stdout
    assert "| `price_node` | 1.2 |" in dearer
    wrong = subprocess.run([*script, "prize=1"], capture_output=True, text=True, check=False, timeout=60)
    assert wrong.returncode == 2
    assert "'prize' is none of" in wrong.stderr
