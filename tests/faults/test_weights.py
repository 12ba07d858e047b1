"""Weights that are not what they should be: another checksum, another architecture, a pickle that would run code."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from semscale.common.errors import SemscaleError
from semscale.models.bundled_model import WEIGHTS, load_mini
from semscale.models.loading import load_model


class Attack:
    """Unpickled carelessly, it makes a folder."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


def copied(folder: Path) -> Path:
    for suffix in ("", ".sha256"):
        shutil.copy(f"{WEIGHTS}{suffix}", folder / f"{WEIGHTS.name}{suffix}")
    return folder / WEIGHTS.name


def test_the_bundled_weights_are_those_of_their_checksum(tmp_path: Path) -> None:
    path = copied(tmp_path)
    load_mini(weights=path)
    content = bytearray(path.read_bytes())
    content[-1000] ^= 1  # amid the numbers, where nothing else would notice
    path.write_bytes(bytes(content))
    with pytest.raises(SemscaleError, match="does not match its checksum"):
        load_mini(weights=path)
    path.with_name(path.name + ".sha256").write_text("")
    with pytest.raises(SemscaleError, match="the checksum cannot be read"):
        load_mini(weights=path)


def test_a_file_with_a_wrong_checksum_beside_it_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({"a": torch.zeros(3)}, str(path))
    (tmp_path / "weights.safetensors.sha256").write_text(f"{'0' * 64}  weights.safetensors\n")
    with pytest.raises(SemscaleError, match="does not match its checksum"):
        load_model(f"ViT-B-32::{path}")


@pytest.mark.parametrize("harm", ["names", "shapes", "more", "fewer"])
def test_tensors_of_another_architecture_are_refused(harm: str, tmp_path: Path) -> None:
    state = load_mini()[0].state_dict()
    name = next(name for name in state if state[name].ndim == 2)
    if harm == "names":
        state = {f"other.{key}": value for key, value in state.items()}
    elif harm == "shapes":
        state[name] = state[name][:-1].clone()
    elif harm == "more":
        state["one.more"] = torch.zeros(2)
    else:
        del state[name]
    path = tmp_path / "weights.safetensors"
    save_file({key: value.contiguous().clone() for key, value in state.items()}, str(path))
    with pytest.raises(SemscaleError, match=r"do not belong to this architecture|another image size"):
        load_model(f"semscale-mini::{path}")
    assert load_file(str(path))


@pytest.mark.parametrize("suffix", [".pt", ".bin", ".pth"])
@pytest.mark.parametrize("form", ["torch", "pickle", "legacy", "zip"])
def test_no_pickle_runs_whatever_it_is_called(form: str, suffix: str, tmp_path: Path) -> None:
    path, target = tmp_path / f"weights{suffix}", tmp_path / "attacked"
    if form == "pickle":
        path.write_bytes(pickle.dumps({"a": Attack(target)}))
    elif form == "zip":
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("archive/data.pkl", pickle.dumps(Attack(target)))
            file.writestr("archive/version", "3\n")
    else:
        torch.save({"a": Attack(target)}, path, _use_new_zipfile_serialization=form == "torch")
    with pytest.raises(SemscaleError) as caught:
        load_model(f"semscale-mini::{path}")
    assert caught.value.where == str(path)
    if form == "torch":
        assert caught.value.found == "a reference to posix.mkdir"
    assert not target.exists()


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "open_clip_config.json").write_text('{"model_cfg": {}}')
    os.mkfifo(tmp_path / "open_clip_model.safetensors")
    with pytest.raises(SemscaleError, match="not a file"):
        load_model(str(tmp_path))


def test_a_pickle_given_to_the_command_is_refused_before_anything_starts(tmp_path: Path) -> None:
    path, target = tmp_path / "weights.pt", tmp_path / "attacked"
    torch.save({"a": Attack(target)}, path)
    command = [sys.executable, "-m", "semscale", "sweep", "--model", f"ViT-B-32::{path}", "--dataset", "digits"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert "--model: models.0: " in done.stderr
    assert "refused" in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["weights.pt"]
