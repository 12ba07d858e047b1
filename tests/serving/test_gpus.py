"""Assignment of GPUs to replicas; no test needs a GPU."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch

from semscale.common.errors import SemscaleError
from semscale.serving.launcher import launch_server
from semscale.serving.replicas import Supervisor, choose_gpus, visible_gpus
from semscale.serving.server_config import ServeConfig
from semscale.serving.server_process import GPU_VARIABLE


def test_the_environment_lists_the_visible_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(GPU_VARIABLE, "2, GPU-5e")
    assert visible_gpus() == ["2", "GPU-5e"]
    monkeypatch.setenv(GPU_VARIABLE, "")
    assert visible_gpus() == []


@pytest.mark.parametrize("wanted", ["2", "GPU-7a", "0,,1", "cuda:0", "-1"])
def test_a_missing_gpu_is_refused(wanted: str) -> None:
    with pytest.raises(SemscaleError, match="no such GPU") as caught:
        choose_gpus(wanted, ["4", "GPU-5e"])
    assert caught.value.where == "--gpus"


def test_every_replica_sees_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(GPU_VARIABLE, "4,GPU-5e,7")
    with Supervisor(ServeConfig("m", gpus="0,2", per_gpu=2, port=0), threading.Event()) as supervisor:
        seen = [replica.options["env"][GPU_VARIABLE] for replica in supervisor.replicas]
    assert seen == ["4", "4", "7", "7"]
    with Supervisor(ServeConfig("m", device="cuda", replicas=4, port=0), threading.Event()) as supervisor:
        assert [replica.options["env"][GPU_VARIABLE] for replica in supervisor.replicas] == ["4", "GPU-5e", "7", "4"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_server_for_gpus_needs_a_gpu(tmp_path: Path) -> None:
    with pytest.raises(SemscaleError, match="no GPU that torch can use"):
        launch_server("semscale-mini", gpus="all", log_file=tmp_path / "log")
