"""Weights files that are read without executing anything: what is in them, and whether they fit a model."""

from __future__ import annotations

import hashlib
import pickle
import re
import warnings
from pathlib import Path
from typing import Any

import torch

from semscale.errors import SemscaleError

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
_HINT = "convert it where you trust it: safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')"


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Read the names and shapes of the tensors in a weights file, without executing code and without the data.

    Raises:
        SemscaleError: another checksum than the file beside it says; a suffix that is not .safetensors, .pt, .pth or
            .bin; a damaged file; a pickle that wants to run code; a file that holds no tensors by name.
    """
    if path.suffix not in SUFFIXES:
        raise SemscaleError(
            "unknown kind of weights file", where=str(path), found=path.suffix, expected=", ".join(SUFFIXES)
        )
    check_digest(path)
    state = _safetensors_shapes(path) if path.suffix == ".safetensors" else _pickled_state(path)
    shapes = {name.removeprefix("module."): shape for name, shape in state.items()}
    if not shapes:
        raise SemscaleError("the weights file holds no tensors by name", where=str(path))
    return shapes


def check_digest(path: Path) -> None:
    """Compare a weights file with the SHA-256 in the file beside it (``weights.safetensors.sha256``), if there is one.

    The file beside it is what ``sha256sum weights.safetensors`` prints.

    Raises:
        SemscaleError: they differ, or there is no digest in it.
    """
    beside = path.with_name(path.name + ".sha256")
    if not beside.is_file():
        return
    try:
        expected = beside.read_text(encoding="ascii").split()[0].lower()
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError, IndexError) as error:
        raise SemscaleError("the checksum cannot be read", where=str(beside), found=type(error).__name__) from error
    if found != expected:
        raise SemscaleError(
            "the weights file is not the one that its checksum belongs to",
            where=str(path),
            found=found,
            expected=f"{expected[:80]}, from {beside.name}",
            hint="get the file again; it was damaged, or exchanged",
        )


def check_same_shapes(path: Path, model: torch.nn.Module) -> None:
    """Refuse weights that open_clip has stretched to fit: it interpolates position embeddings without a word.

    Raises:
        SemscaleError: a tensor of the file has another shape in the model.
    """
    own = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    for name, shape in read_shapes(path).items():
        if name in own and own[name] != shape and sorted((own[name], shape)) != [(), (1,)]:
            raise SemscaleError(
                "the weights belong to another image size or context length than the architecture's",
                where=str(path),
                found=f"{name} {list(shape)}",
                expected=f"{name} {list(own[name])}",
            )


def describe_mismatch(path: Path, error: Exception) -> SemscaleError | None:
    """Turn torch's long report of tensors that do not fit into one sentence; None if that is not what failed."""
    text = str(error)
    if "state_dict" not in text:
        return None
    sizes = re.findall(r"size mismatch for (\S+): copying a param with shape (torch\.Size\(\[[^]]*\]\))", text)
    missing = re.search(r"Missing key\(s\) in state_dict: (.*?)\. *(?:\n|$)", text)
    unexpected = re.search(r"Unexpected key\(s\) in state_dict: (.*?)\. *(?:\n|$)", text)
    found = []
    if missing:
        found.append(_count("tensor is missing", "tensors are missing", missing.group(1).split(", ")))
    if unexpected:
        found.append(_count("tensor is unknown", "tensors are unknown", unexpected.group(1).split(", ")))
    if sizes:
        found.append(_count("has another shape", "have another shape", [name for name, _ in sizes]))
    return SemscaleError(
        "the weights do not belong to this architecture",
        where=str(path),
        found="; ".join(found) or " ".join(text.split())[:300],
        hint="name the architecture that the weights were trained with",
    )


def _count(one: str, many: str, names: list[str]) -> str:
    first = names[0].strip("\"' ")
    return f"{len(names)} {one if len(names) == 1 else many} (such as {first})"


def _safetensors_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise SemscaleError("not a readable safetensors file", where=str(path), found=str(error)) from error


def _pickled_state(path: Path) -> dict[str, tuple[int, ...]]:
    try:
        # weights_only: an unpickler that knows tensors and plain containers, and refuses everything else.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content: Any = torch.load(path, map_location="meta", weights_only=True)
    except pickle.UnpicklingError as error:
        raise SemscaleError(
            "refused: this weights file holds more than tensors, and loading it could run code",
            where=str(path),
            found=_forbidden(error),
            hint=_HINT,
        ) from error
    except Exception as error:  # A damaged file makes the unpickler stumble in any way.
        if "TorchScript" in str(error):
            raise SemscaleError("refused: a TorchScript archive holds code", where=str(path), hint=_HINT) from error
        reason = " ".join(str(error).split())[:200]
        raise SemscaleError("not a readable weights file", where=str(path), found=reason) from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict):
        return {}
    return {str(k): tuple(v.shape) for k, v in content.items() if isinstance(v, torch.Tensor)}


def _forbidden(error: Exception) -> str:
    match = re.search(r"GLOBAL (\S+)", str(error))
    # torch's own text goes on to recommend loading without the check.
    return f"a reference to {match.group(1)}" if match else "instructions that no list of tensors needs"
