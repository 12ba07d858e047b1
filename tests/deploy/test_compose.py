"""deploy/compose.yaml: what docker-compose itself makes of it, and who can reach what."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from typing import Any

import click
import pytest
import yaml
from manifests import DEPLOY, strings

from semscale.cli import main
from semscale.config import study_from

FILE = DEPLOY / "compose.yaml"
SECRETS = {"ray_token", "clip_token", "postgres_password"}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """The file with its merges done."""
    tree: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return tree


@pytest.mark.parametrize("profile", ["cpu", "gpu"])
def test_docker_compose_takes_it(profile: str) -> None:
    program = shutil.which("docker-compose")
    if program is None:
        pytest.skip("no docker-compose here (apt install docker-compose)")
    command = [program, "-f", str(FILE), "--profile", profile]
    done = subprocess.run([*command, "config"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    services = yaml.safe_load(done.stdout)["services"]
    assert {"ray-head", "ray-worker", "mlflow", "postgres"} <= set(services)


def test_both_profiles_have_a_server_of_the_same_name(compose: dict[str, Any]) -> None:
    servers = {tuple(s["profiles"]): s for name, s in compose["services"].items() if name.startswith("clip-server")}
    assert set(servers) == {("cpu",), ("gpu",)}
    for server in servers.values():
        assert server["networks"]["cluster"]["aliases"] == ["clip-server"]
    devices = servers["gpu",]["deploy"]["resources"]["reservations"]["devices"]
    assert devices == [{"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}]


def test_ports_are_published_on_loopback_only(compose: dict[str, Any]) -> None:
    published = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert published == ["127.0.0.1:8265:8265", "127.0.0.1:5000:5000"]


def test_only_mlflow_reaches_the_database(compose: dict[str, Any]) -> None:
    assert compose["networks"]["database"] == {"internal": True}
    inside = {name for name, service in compose["services"].items() if "database" in service["networks"]}
    assert inside == {"mlflow", "postgres"}
    assert compose["services"]["postgres"]["networks"] == ["database"]


def test_containers_are_confined(compose: dict[str, Any]) -> None:
    assert len(compose["services"]) == 6
    for name, service in compose["services"].items():
        assert int(service["user"].partition(":")[0]) > 0, name
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert {"cpus", "memory"} <= set(service["deploy"]["resources"]["limits"]), name
        assert "/tmp:mode=1777" in service["tmpfs"], name
        assert service["healthcheck"]["test"][0] == "CMD", name
        assert not {"privileged", "network_mode", "pid", "ipc", "cap_add", "devices"} & set(service), name
        of_host = {volume for volume in service["volumes"] if volume.startswith((".", "/", "~"))}
        assert of_host <= {"./quickstart.yaml:/study/quickstart.yaml:ro"}, name
        assert re.search(r":[\w.-]*\d", service["image"]), name


def test_secrets_are_files_that_git_does_not_know(compose: dict[str, Any]) -> None:
    assert compose["secrets"] == {name: {"file": f"./secrets/{name}"} for name in SECRETS}
    assert "/deploy/secrets/" in (DEPLOY.parent / ".gitignore").read_text().splitlines()
    used = {secret for service in compose["services"].values() for secret in service["secrets"]}
    assert used == SECRETS
    for text in strings(compose):
        assert not re.search(r"://[^/@\s]*:[^/@\s]+@", text), f"a password in {text}"
    for name, service in compose["services"].items():
        for variable, value in service.get("environment", {}).items():
            if re.search(r"TOKEN|PASSWORD", variable):
                assert value.startswith("/run/secrets/"), f"{name}: {variable}"


def test_ray_wants_a_token_of_everybody(compose: dict[str, Any]) -> None:
    for name in ("ray-head", "ray-worker"):
        environment = compose["services"][name]["environment"]
        assert environment["RAY_AUTH_MODE"] == "token"
        assert environment["RAY_AUTH_TOKEN_PATH"] == "/run/secrets/ray_token"


def test_commands_are_those_of_the_pinned_versions(compose: dict[str, Any]) -> None:
    from mlflow.cli import cli as mlflow
    from ray.scripts.scripts import cli as ray

    groups: dict[str, click.Group] = {"semscale": main, "ray": ray, "mlflow": mlflow}
    seen = set()
    for service in compose["services"].values():
        command = service.get("command") or []
        words = shlex.split(command) if isinstance(command, str) else list(command)
        if words[:1] == ["serve"]:
            words = ["semscale", *words]  # the image's entry point
        if words[:2] == ["bash", "-c"]:
            words = shlex.split(words[2].partition(" exec ")[2])
        for line in (words, service["healthcheck"]["test"][1:]):
            if line and line[0] in groups:
                groups[line[0]].commands[line[1]].make_context(line[1], line[2:])
                seen.add(tuple(line[:2]))
    assert seen == {
        ("ray", "start"), ("ray", "health-check"), ("semscale", "serve"), ("semscale", "health"), ("mlflow", "server")
    }  # fmt: skip


def test_mlflow_knows_its_own_names(compose: dict[str, Any]) -> None:
    from mlflow.server.security_utils import is_allowed_host_header

    line = compose["services"]["mlflow"]["command"][2]
    hosts = line.partition("--allowed-hosts ")[2].split(",")
    for host in ("mlflow:5000", "localhost:5000", "127.0.0.1:5000"):
        assert is_allowed_host_header(hosts, host)
    assert not is_allowed_host_header(hosts, "elsewhere.example:5000")


def test_the_quickstart_for_it_names_its_services_and_secrets(compose: dict[str, Any]) -> None:
    study = study_from(yaml.safe_load((DEPLOY / "quickstart.yaml").read_text()))
    assert study.server.urls == ("grpc://clip-server:51000",)
    assert study.tracking.uri == "http://mlflow:5000"
    head = compose["services"]["ray-head"]
    assert study.server.token_file == "/run/secrets/clip_token"
    assert "clip_token" in head["secrets"]
    assert study.store == head["environment"]["SEMSCALE_STORE"]
    assert any(volume.endswith(":/data") for volume in head["volumes"])
