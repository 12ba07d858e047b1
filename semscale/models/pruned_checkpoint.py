"""Checkpoint with a pruned token table: half precision, and only the token rows that training used.

The standard vocabulary has 49,408 rows, of which a small training set touches a few hundred. The others are not
stored; loading fills them with the same small noise every time, so that unknown words are faint, but not equal.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

_TABLE = "token_embedding.weight"
_ROWS = "token_embedding.rows"
_INDICES = "token_embedding.indices"
_FORMAT = "semscale-compact-1"
_NOISE_SEED = 49_408
_NOISE_SCALE = 0.02  # the scale at which open_clip starts a token table


def save_compact(
    state: dict[str, torch.Tensor], used_tokens: Sequence[int], path: Path, record: dict[str, Any]
) -> None:
    """Write a CLIP state dict with the token table cut down to `used_tokens`, and its checksum beside it.

    Args:
        state: the state dict of an open_clip CLIP.
        used_tokens: rows of the token table to keep, each once.
        path: where the safetensors file goes.
        record: how the weights came about; kept as JSON in the file's metadata.
    """
    indices = torch.tensor(sorted(set(used_tokens)), dtype=torch.int32)
    tensors = {name: _halve(tensor) for name, tensor in state.items() if name != _TABLE}
    tensors[_ROWS] = _halve(state[_TABLE][indices.long()])
    tensors[_INDICES] = indices
    # one entry only: safetensors writes several in an order that changes from run to run
    metadata = {_FORMAT: json.dumps(record, sort_keys=True)}
    save_file({name: tensors[name] for name in sorted(tensors)}, path, metadata)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_name(path.name + ".sha256").write_text(f"{digest}  {path.name}\n", encoding="ascii")


def load_compact(path: Path) -> dict[str, torch.Tensor]:
    """Return the float32 state dict of a file that `save_compact` wrote, with the whole token table.

    Raises:
        ValueError: the file is no such file.
    """
    with safe_open(path, framework="pt") as file:
        if _FORMAT not in (file.metadata() or {}):
            raise ValueError(f"{path.name} is not in the format {_FORMAT}")
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    rows, indices = tensors.pop(_ROWS).float(), tensors.pop(_INDICES).long()
    return {_TABLE: _fill(rows, indices)} | {name: _widen(tensor) for name, tensor in tensors.items()}


def read_used_tokens(path: Path) -> list[int]:
    """Return the rows of the token table that the file holds, sorted."""
    with safe_open(path, framework="pt") as file:
        used: list[int] = file.get_tensor(_INDICES).tolist()
    return used


def read_record(path: Path) -> dict[str, Any]:
    """Return what `save_compact` was told about how the weights came about."""
    with safe_open(path, framework="pt") as file:
        record: dict[str, Any] = json.loads(file.metadata()[_FORMAT])
    return record


def _fill(rows: torch.Tensor, indices: torch.Tensor, vocabulary: int = 49_408) -> torch.Tensor:
    # numpy's generator, because its stream is the same in every version
    noise = np.random.default_rng(_NOISE_SEED).standard_normal((vocabulary, rows.shape[1]), np.float32)
    table = torch.from_numpy(noise * np.float32(_NOISE_SCALE))
    table[indices] = rows
    return table


def _halve(tensor: torch.Tensor) -> torch.Tensor:
    return (tensor.half() if tensor.is_floating_point() else tensor).contiguous().cpu()


def _widen(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor
