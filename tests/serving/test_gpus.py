"""Which GPU a replica has; nothing here needs one."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from semscale.errors import SemscaleError
from semscale.serving.gpus import VISIBLE, choose_gpus, claim_gpu, visible_gpus


def test_the_environment_says_which_gpus_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VISIBLE, "2, GPU-5e")
    assert visible_gpus() == ["2", "GPU-5e"]
    monkeypatch.setenv(VISIBLE, "")
    assert visible_gpus() == []
    monkeypatch.delenv(VISIBLE)
    assert visible_gpus() == [str(number) for number in range(torch.cuda.device_count())]


@pytest.mark.parametrize("wanted", ["2", "GPU-7a", "0,,1", "cuda:0", "-1"])
def test_a_gpu_that_is_not_there_is_refused(wanted: str) -> None:
    with pytest.raises(SemscaleError, match="no such GPU") as caught:
        choose_gpus(wanted, ["4", "GPU-5e"])
    assert caught.value.where == "--gpus"


def test_every_replica_sees_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VISIBLE, "0,1,2")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert [claim_gpu(["0", "2"], replica, per_gpu=2) for replica in range(4)] == ["0", "0", "2", "2"]
    assert visible_gpus() == ["2"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_replica_that_does_not_see_one_gpu_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VISIBLE, "0")
    with pytest.raises(SemscaleError, match="a GPU of its own"):
        claim_gpu(["0"], 0, per_gpu=1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_server_for_gpus_on_a_machine_without_says_so() -> None:
    command = [sys.executable, "-m", "semscale.serving", "--model", "semscale-mini", "--gpus", "all", "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "no GPU that torch can use" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
