"""Weights files that are read without executing anything: what is in them, and whether they fit a model."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import pickle
import re
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from open_clip.factory import _find_checkpoint_in_dir
from safetensors import SafetensorError, safe_open

from semscale.common.errors import ModelError

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
_CONTAINERS = ("state_dict", "model_state_dict", "model")  # keys under which training scripts keep the tensors
_HINT = "convert it where you trust it: safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')"


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keep open_clip's and the hub client's chatter away: what matters is raised."""
    previous = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)


def weights_in(directory: Path) -> Path:
    """Return the weights file that open_clip picks in a model directory."""
    with quiet_libraries():
        found = _find_checkpoint_in_dir(directory)
    if not found:
        expected = "open_clip_model.safetensors (or another .safetensors, .bin or .pth file)"
        raise ModelError("no weights in the model directory", where=str(directory), expected=expected)
    return Path(found)


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Read the names and shapes of the tensors in a weights file, without executing code and without the data."""
    if path.suffix not in SUFFIXES:
        expected = ", ".join(SUFFIXES)
        raise ModelError("unknown kind of weights file", where=str(path), found=path.suffix, expected=expected)
    if not path.is_file():  # a pipe would be waited for
        raise ModelError("the weights are not a file", where=str(path))
    check_digest(path)
    if path.suffix == ".safetensors":
        content, shapes = {}, _safetensors_shapes(path)
    else:
        content = _unpickle(path, "meta")
        shapes = {name: tuple(tensor.shape) for name, tensor in _tensors(content).items()}
    if not shapes:
        what, expected = (
            "the weights file holds no tensors by name",
            f"them, at the top or under {', '.join(_CONTAINERS)}",
        )
        found = ", ".join(map(repr, content))[:300] if isinstance(content, dict) else type(content).__name__
        raise ModelError(what, where=str(path), found=found or None, expected=expected)
    return {name.removeprefix("module."): shape for name, shape in shapes.items()}


def check_digest(path: Path) -> None:
    """Compare a weights file with the output of ``sha256sum`` in the file beside it, NAME.sha256, if any."""
    beside = path.with_name(path.name + ".sha256")
    if not beside.is_file():
        return
    try:
        expected = beside.read_text(encoding="ascii").split()[0].lower()
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError, IndexError) as error:
        raise ModelError("the checksum cannot be read", where=str(beside), found=type(error).__name__) from error
    if found != expected:
        what = "the weights file is not the one that its checksum belongs to"
        expected, hint = f"{expected[:80]}, from {beside.name}", "get the file again; it was damaged, or exchanged"
        raise ModelError(what, where=str(path), found=found, expected=expected, hint=hint)


def check_same_shapes(path: Path, model: torch.nn.Module) -> None:
    """Refuse weights that open_clip has stretched to fit: it interpolates position embeddings without a word."""
    own = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    for name, shape in read_shapes(path).items():
        if name in own and own[name] != shape and sorted((own[name], shape)) != [(), (1,)]:
            what = "the weights belong to another image size or context length than the architecture's"
            found, expected = f"{name} {list(shape)}", f"{name} {list(own[name])}"
            raise ModelError(what, where=str(path), found=found, expected=expected)


def _safetensors_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    try:
        with safe_open(str(path), framework="pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ModelError("not a readable safetensors file", where=str(path), found=str(error)) from error


@contextlib.contextmanager
def plain_weights(path: Path) -> Iterator[Path]:
    """Lend a weights file as open_clip reads it: a copy where the tensors lie under a key that it does not know."""
    content = {} if path.suffix == ".safetensors" else _unpickle(path, "meta")
    if not isinstance(content, dict) or "state_dict" in content or not set(_CONTAINERS) & content.keys():
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="semscale-") as folder:
        copy = Path(folder) / "open_clip_model.pth"
        torch.save(_tensors(_unpickle(path, "cpu")), copy)
        yield copy


def _tensors(content: Any) -> dict[str, torch.Tensor]:
    """Return the tensors by name that a file holds, if need be under a usual key of training checkpoints."""
    for key in _CONTAINERS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    items = content.items() if isinstance(content, dict) else ()
    return {str(name).removeprefix("module."): value for name, value in items if isinstance(value, torch.Tensor)}


def _unpickle(path: Path, device: str) -> Any:
    try:
        # weights_only: an unpickler that knows tensors and plain containers, and refuses everything else
        with quiet_libraries():
            return torch.load(path, map_location=device, weights_only=True)
    except pickle.UnpicklingError as error:
        match = re.search(r"GLOBAL (\S+)", str(error))
        # torch's own text goes on to recommend loading without the check
        found = f"a reference to {match.group(1)}" if match else "instructions that no list of tensors needs"
        what = "refused: this weights file holds more than tensors, and loading it could run code"
        raise ModelError(what, where=str(path), found=found, hint=_HINT) from error
    except Exception as error:  # a damaged file makes the unpickler stumble in any way
        reason = " ".join(str(error).split())[:200]
        raise ModelError("not a readable weights file", where=str(path), found=reason) from error
