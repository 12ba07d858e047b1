"""Checkpoint files: safe reading without executing pickles, and checks against a model."""

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

WEIGHTS_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
_CONTAINERS = ("state_dict", "model_state_dict", "model")  # keys of the tensors in training checkpoints
_HINT = "convert it where you trust it: safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')"


@contextlib.contextmanager
def silence_libraries() -> Iterator[None]:
    """Suppress log messages and warnings of open_clip and the hub client; errors are raised anyway."""
    previous = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)


def find_weights(directory: Path) -> Path:
    """Return the weights file that open_clip selects in a model directory."""
    with silence_libraries():
        name = _find_checkpoint_in_dir(directory)
    if not name:
        expected = "open_clip_model.safetensors (or another .safetensors, .bin or .pth file)"
        raise ModelError("no weights in the model directory", where=str(directory), expected=expected)
    return Path(name)


def read_tensor_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the tensors in a weights file by name, without executing code or reading the data."""
    if path.suffix not in WEIGHTS_SUFFIXES:
        expected = ", ".join(WEIGHTS_SUFFIXES)
        raise ModelError("unknown kind of weights file", where=str(path), found=path.suffix, expected=expected)
    if not path.is_file():  # opening a pipe would block
        raise ModelError("the weights are not a file", where=str(path))
    check_digest(path)
    if path.suffix == ".safetensors":
        content, shapes = {}, _safetensors_shapes(path)
    else:
        content = _unpickle(path, "meta")
        shapes = {name: tuple(tensor.shape) for name, tensor in _tensors(content).items()}
    if not shapes:
        what = "the weights file has no tensors by name"
        expected = f"tensors at the top level or under {', '.join(_CONTAINERS)}"
        found = ", ".join(map(repr, content))[:300] if isinstance(content, dict) else type(content).__name__
        raise ModelError(what, where=str(path), found=found or None, expected=expected)
    return {name.removeprefix("module."): shape for name, shape in shapes.items()}


def check_digest(path: Path) -> None:
    """Raise ModelError if a weights file differs from its checksum in NAME.sha256 (``sha256sum``), if that exists."""
    checksum = path.with_name(path.name + ".sha256")
    if not checksum.is_file():
        return
    try:
        expected = checksum.read_text(encoding="ascii").split()[0].lower()
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError, IndexError) as error:
        raise ModelError("the checksum cannot be read", where=str(checksum), found=type(error).__name__) from error
    if found != expected:
        what = "the weights file does not match its checksum"
        expected, hint = f"{expected[:80]}, from {checksum.name}", "get the file again: it is damaged or another"
        raise ModelError(what, where=str(path), found=found, expected=expected, hint=hint)


def check_shapes(path: Path, model: torch.nn.Module) -> None:
    """Raise ModelError for weights that open_clip has resized: it silently interpolates position embeddings."""
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    for name, shape in read_tensor_shapes(path).items():
        if name in shapes and shapes[name] != shape and sorted((shapes[name], shape)) != [(), (1,)]:
            what = "the weights belong to another image size or context length than the architecture's"
            found, expected = f"{name} {list(shape)}", f"{name} {list(shapes[name])}"
            raise ModelError(what, where=str(path), found=found, expected=expected)


def _safetensors_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    try:
        with safe_open(str(path), framework="pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ModelError("not a readable safetensors file", where=str(path), found=str(error)) from error


@contextlib.contextmanager
def readable_weights(path: Path) -> Iterator[Path]:
    """Yield a weights file that open_clip can read: a copy if the tensors are under a key that it does not know."""
    content = {} if path.suffix == ".safetensors" else _unpickle(path, "meta")
    if not isinstance(content, dict) or "state_dict" in content or not set(_CONTAINERS) & content.keys():
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="semscale-") as folder:
        copy = Path(folder) / "open_clip_model.pth"
        torch.save(_tensors(_unpickle(path, "cpu")), copy)
        yield copy


def _tensors(content: Any) -> dict[str, torch.Tensor]:
    """Return the tensors of a file by name, also from under the usual keys of training checkpoints."""
    for key in _CONTAINERS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    items = content.items() if isinstance(content, dict) else ()
    return {str(name).removeprefix("module."): value for name, value in items if isinstance(value, torch.Tensor)}


def _unpickle(path: Path, device: str) -> Any:
    try:
        # weights_only: the unpickler accepts tensors and plain containers only
        with silence_libraries():
            return torch.load(path, map_location=device, weights_only=True)
    except pickle.UnpicklingError as error:
        match = re.search(r"GLOBAL (\S+)", str(error))
        # torch's message recommends loading without the check
        found = f"a reference to {match.group(1)}" if match else "instructions beyond tensors"
        what = "refused: this weights file contains more than tensors, and loading it could run code"
        raise ModelError(what, where=str(path), found=found, hint=_HINT) from error
    except Exception as error:  # the unpickler raises any kind for a damaged file
        reason = " ".join(str(error).split())[:200]
        raise ModelError("not a readable weights file", where=str(path), found=reason) from error
