"""The Ray cluster files: Ray's own schema and preparation take them, and every GPU node starts its clip-server."""

from __future__ import annotations

import copy
import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from manifests import DEPLOY, strings
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.autoscaler.sdk import get_docker_host_mount_location

from semscale.cli import main
from semscale.encoding.server_discovery import Addresses

CLOUDS = ("aws", "gcp")


@pytest.fixture(params=CLOUDS)
def cluster(request: pytest.FixtureRequest) -> dict[str, Any]:
    text = (DEPLOY / "cluster" / f"{request.param}.yaml").read_text(encoding="utf-8")
    tree: dict[str, Any] = yaml.safe_load(text)
    return tree


def test_ray_takes_it(cluster: dict[str, Any]) -> None:
    prepared = prepare_config(copy.deepcopy(cluster))
    validate_config(prepared)
    assert prepared["available_node_types"]["head"]["max_workers"] == 0
    assert prepared["available_node_types"]["gpu"]["max_workers"] == 16


def test_the_head_is_on_demand_and_the_gpus_are_on_spot(cluster: dict[str, Any]) -> None:
    head, gpu = (cluster["available_node_types"][name] for name in ("head", "gpu"))
    assert cluster["head_node_type"] == "head"
    if cluster["provider"]["type"] == "aws":
        assert gpu["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
        assert "InstanceMarketOptions" not in head["node_config"]
    else:
        assert gpu["node_config"]["scheduling"]["provisioningModel"] == "SPOT"
        assert "scheduling" not in head["node_config"]
    assert (gpu["min_workers"], gpu["max_workers"]) == (0, cluster["max_workers"])
    assert gpu["resources"]["clip_server"] == 1


def test_every_gpu_node_starts_a_clip_server(cluster: dict[str, Any]) -> None:
    (line,) = [c for c in cluster["available_node_types"]["gpu"]["initialization_commands"] if "docker run" in c]
    words = shlex.split(line)
    image = words.index("REGISTRY/semscale-server:0.1.0")
    name, *options = words[image + 1 :]
    context = main.commands[name].make_context(name, options)
    assert context.params["gpus"] == "all"
    assert {"--gpus", "--read-only", "--cap-drop", "--restart"} <= set(words[:image])
    # Ray puts mounted files there before a node's own commands run
    host = get_docker_host_mount_location(cluster["cluster_name"])
    assert f"{host}/home/ray/secrets/clip_token:{context.params['token_file']}:ro" in words[:image]


def test_tokens_come_from_files_and_are_wanted(cluster: dict[str, Any]) -> None:
    tokens = {f"/home/ray/secrets/{name}": f"deploy/secrets/{name}" for name in ("ray_token", "clip_token")}
    assert cluster["file_mounts"] == tokens | {"/home/ray/endpoints.py": "deploy/cluster/endpoints.py"}
    assert any(line.startswith("chmod 600 /home/ray/secrets/*") for line in cluster["setup_commands"])
    options = " ".join(cluster["docker"]["run_options"])
    assert "RAY_AUTH_MODE=token" in options
    assert "RAY_AUTH_TOKEN_PATH=/home/ray/secrets/ray_token" in options
    for text in strings(cluster):
        assert not re.search(r"AKIA|BEGIN .*PRIVATE|://[^/@\s]*:[^/@\s]+@", text)


def test_ray_is_started_with_options_that_it_has(cluster: dict[str, Any]) -> None:
    from ray.scripts.scripts import cli as ray

    assert isinstance(ray, click.Group)
    lines = [*cluster["head_start_ray_commands"], *cluster["worker_start_ray_commands"]]
    assert len(lines) == 4
    for line in lines:
        program, name, *options = shlex.split(line)
        assert program == "ray"
        ray.commands[name].make_context(name, options)
    assert any("--dashboard-host=127.0.0.1" in line for line in lines)


def test_endpoints_are_those_of_living_nodes_with_a_server(ray_session: None, tmp_path: Path) -> None:
    import ray

    script, file = DEPLOY / "cluster" / "endpoints.py", tmp_path / "endpoints.txt"
    namespace = runpy.run_path(str(script))
    (node,) = ray.nodes()
    assert namespace["endpoints"]([node], 51000) == [], "the session's Ray has no such resource"
    server = node | {"Resources": node["Resources"] | {namespace["RESOURCE"]: 1.0}}
    gone = server | {"Alive": False, "NodeManagerAddress": "192.0.2.99"}
    urls = namespace["endpoints"]([server, gone], 51000)
    assert urls == [f"grpc://{node['NodeManagerAddress']}:51000"]
    namespace["write"](file, urls)
    assert file.read_text() == f"{urls[0]}\n"
    assert Addresses([f"file:{file}"]).current() == tuple(urls), "what the study reads again while it runs"
    # the session's Ray is on the loopback alone, as on macOS; elsewhere a client takes it for the machine's address
    code = "import runpy, sys; from ray._private import ray_constants as c; c.ENABLE_RAY_CLUSTER = False"
    code += "; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", code, str(script), str(file), "--once"],
        capture_output=True, text=True, timeout=120, check=False,
        env=os.environ | {"RAY_ADDRESS": ray.get_runtime_context().gcs_address},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == "0 clip-servers: none yet\n"
    assert file.read_text() == ""
