"""Python code of a model directory or download runs only if the user allows it."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from semscale.cli import main
from semscale.common.errors import SemscaleError
from semscale.models.loading import load_model

AUTO_MAP = json.dumps({"auto_map": {"AutoTokenizer": ["evil.Tokenizer", None]}})


def copied(model: Path, folder: Path, **text: Any) -> Path:
    """Copy a model directory, with further settings of its text tower."""
    shutil.copytree(model, folder, dirs_exist_ok=True)
    path = folder / "open_clip_config.json"
    settings = json.loads(path.read_text())
    settings["model_cfg"]["text_cfg"] |= text
    path.write_text(json.dumps(settings))
    return folder


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The values of trust_remote_code that transformers, which semscale does not install, gets."""
    calls: list[Any] = []
    stand_in = ModuleType("transformers")
    tokenizers = SimpleNamespace(from_pretrained=lambda name, **options: calls.append(options["trust_remote_code"]))
    monkeypatch.setattr(stand_in, "AutoTokenizer", tokenizers, raising=False)
    monkeypatch.setitem(sys.modules, "transformers", stand_in)
    return calls


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("open_clip_config.json", {"hf_tokenizer_name": "t", "tokenizer_kwargs": {"trust_remote_code": True}}),
        ("open_clip_config.json", {"tokenizer_kwargs": {"auto_map": {"AutoTokenizer": ["evil.Tokenizer", None]}}}),
        ("tokenizer_config.json", {"hf_tokenizer_name": "t"}),
        ("config.json", {"hf_model_name": "{folder}/tower"}),
    ],
)
def test_code_of_a_directory_is_refused(
    file: str, text: dict[str, Any], tmp_path: Path, tiny_model: Path, asked: list[Any]
) -> None:
    text = {key: value.format(folder=tmp_path) if isinstance(value, str) else value for key, value in text.items()}
    folder, beside = copied(tiny_model, tmp_path / "model", **text), tmp_path / "tower"
    beside.mkdir()
    if file != "open_clip_config.json":
        (folder if file.startswith("tokenizer") else beside).joinpath(file).write_text(AUTO_MAP)
    with pytest.raises(SemscaleError, match="refused: the model contains Python code") as caught:
        load_model(str(folder))
    assert file in str(caught.value.found)
    assert "--trust-remote-code" in str(caught.value.hint)
    assert asked == []


def test_transformers_gets_false_or_the_users_choice(tmp_path: Path, tiny_model: Path, asked: list[Any]) -> None:
    load_model(str(copied(tiny_model, tmp_path / "tame", hf_tokenizer_name="t")))
    wild = copied(tiny_model, tmp_path / "wild", hf_tokenizer_name="t", tokenizer_kwargs={"trust_remote_code": True})
    load_model(str(wild), trust_remote_code=True)
    assert asked == [False, True]


def test_code_of_a_download_is_refused(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, asked: list[Any]
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # what is in the cache is used
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    for name in ("model", "words"):
        (tmp_path / f"models--org--{name}" / "refs").mkdir(parents=True)
        (tmp_path / f"models--org--{name}" / "refs" / "main").write_text("0" * 40)
    copied(tiny_model, tmp_path / "models--org--model" / "snapshots" / ("0" * 40), hf_tokenizer_name="org/words")
    words = tmp_path / "models--org--words" / "snapshots" / ("0" * 40)
    words.mkdir(parents=True)
    load_model("hf-hub:org/model")
    (words / "tokenizer_config.json").write_text(AUTO_MAP)
    with pytest.raises(SemscaleError, match="refused: the model contains Python code"):
        load_model("hf-hub:org/model")
    assert asked == [False]


@pytest.mark.parametrize("flag", [[], ["--trust-remote-code"]])
def test_commands_refuse_it_unless_allowed(flag: list[str], tmp_path: Path, tiny_model: Path, asked: list[Any]) -> None:
    folder = copied(tiny_model, tmp_path, hf_tokenizer_name="t", tokenizer_kwargs={"trust_remote_code": True})
    options = ["--encoder", "local", "--limit", "10", "--store", str(tmp_path / "store"), *flag]
    done = CliRunner().invoke(main, ["encode", "--model", str(folder), "--dataset", "digits", *options])
    assert ("refused: the model contains Python code" in done.output) == (not flag), done.output
    assert asked == ([True] if flag else [])
