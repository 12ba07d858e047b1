"""Robustness to the environment: proxies, output encodings, files with names of modules, signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from PIL import Image

from semscale.cli import main
from semscale.common.access import Access
from semscale.common.environment import bypass_proxies_for_loopback, files_shadowing_modules
from semscale.encoding.verification import check_server


def run(*words: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "semscale", *words]
    env = os.environ | {"SEMSCALE_RUNS": str(cwd / "runs")} | environment
    encoding = environment.get("PYTHONIOENCODING", "utf-8")
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, encoding=encoding, timeout=240, check=False)


@pytest.mark.parametrize("name", ["http_proxy", "https_proxy", "grpc_proxy"])
def test_a_server_on_the_loopback_is_reached_without_the_proxy(
    mini_server: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert check_server(mini_server, access=Access())[1] == 96


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {}),
        ({"NO_PROXY": "a.org"}, {}),
        ({"HTTP_PROXY": "http://p"}, {"no_proxy": "127.0.0.1,localhost,::1"}),
        ({"all_proxy": "x", "NO_PROXY": "a.org,localhost"}, {"no_proxy": "a.org,localhost,127.0.0.1,::1"}),
        ({"grpc_proxy": "x", "no_grpc_proxy": "b"}, {"no_grpc_proxy": "b,127.0.0.1,localhost,::1"}),
        ({"http_proxy": "x", "no_proxy": "*"}, {"no_proxy": "*"}),
    ],
)
def test_hosts_exempt_from_the_proxy(
    given: Mapping[str, str], expected: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", dict(given))
    bypass_proxies_for_loopback()
    assert os.environ.items() >= {**given, **expected}.items()
    assert expected or os.environ == given


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_output_encoding_that_lacks_characters(encoding: str, tmp_path: Path) -> None:
    for name in ("照片", "café"):
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        Image.new("RGB", (8, 8), len(name)).save(folder / "1.png")
    words = ("datasets", "check", "folder:photos")
    shown = run(*words, cwd=tmp_path, PYTHONIOENCODING=encoding)
    assert shown.returncode == 0, shown.stderr
    assert "\\u7167\\u7247" in shown.stdout
    document = run(*words, "--json", cwd=tmp_path, PYTHONIOENCODING=encoding)
    (dataset,) = json.loads(document.stdout)["datasets"]
    assert {row["class"] for row in dataset["classes"]} == {"照片", "café"}


@pytest.fixture
def own_modules(tmp_path: Path) -> Path:
    """A working folder with files that have the names of modules."""
    for name in ("random", "numpy", "click", "uvicorn", "torch"):
        (tmp_path / f"{name}.py").write_text(f"raise RuntimeError('the user's own {name}')\n")
    (tmp_path / "mine.py").touch()
    return tmp_path


def test_files_of_the_working_folder_are_no_modules_of_the_command(own_modules: Path) -> None:
    done = run("datasets", "list", cwd=own_modules)
    assert done.returncode == 0, done.stderr
    assert [file.stem for file in files_shadowing_modules(sorted(own_modules.iterdir()))] == [
        "click", "numpy", "random", "torch", "uvicorn",
    ]  # fmt: skip


@pytest.mark.faults
def test_files_of_the_working_folder_are_no_modules_of_servers_and_workers(own_modules: Path) -> None:
    words = ("--dataset", "shapes", "--limit", "12", "--steps", "2", "--no-controls", "--strategy", "templates")
    done = run("sweep", *words, cwd=own_modules)
    assert done.returncode == 0, done.stderr
    assert "the user's own" not in done.stdout + done.stderr


@pytest.mark.parametrize("ignored", [False, True])
def test_sigterm_is_ctrl_c_with_a_status_of_its_own(ignored: bool) -> None:
    @click.command()
    def ended() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()

    group = type(main)("semscale", commands={"ended": ended})
    interrupt = signal.getsignal(signal.SIGINT)
    try:
        if ignored:  # as in the background of a shell script
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        result = CliRunner().invoke(group, ["ended"])
    finally:
        signal.signal(signal.SIGINT, interrupt)
    assert result.exit_code == 143
    assert "Stopped. To continue: run the same command again" in result.stderr


def test_an_address_of_the_environment_is_named_with_the_whole_reason() -> None:
    code = "from semscale.cluster.connection import ray_cluster\nwith ray_cluster(None): pass"
    env = os.environ | {"RAY_ADDRESS": "http://127.0.0.1:8265"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=240, check=False)
    assert "where:    http://127.0.0.1:8265" in done.stderr
    assert "semscale submit; or check RAY_ADDRESS in the environment" in done.stderr
    assert "--ray-address" not in done.stderr
