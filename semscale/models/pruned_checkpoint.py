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
from safetensors.torch import load_file, save_file

_TABLE = "token_embedding.weight"
_ROWS = "token_embedding.rows"
_INDICES = "token_embedding.indices"
_FORMAT = "semscale-compact-1"
_VOCABULARY = 49_408
_NOISE_SCALE = 0.02  # the scale at which open_clip starts a token table


def save_compact(
    state: dict[str, torch.Tensor], used_tokens: Sequence[int], path: Path, record: dict[str, Any]
) -> None:
    """Write a CLIP state dict with the token table cut down to `used_tokens`, and its checksum beside it.

    `record`, how the weights came about, is kept as JSON in the file's metadata.
    """
    indices = torch.tensor(sorted(set(used_tokens)), dtype=torch.int32)
    tensors = {**state, _ROWS: state[_TABLE][indices.long()], _INDICES: indices}
    del tensors[_TABLE]
    halved = {
        name: (tensors[name].half() if tensors[name].is_floating_point() else tensors[name]).contiguous().cpu()
        for name in sorted(tensors)
    }
    # one entry only: safetensors writes several in an order that changes from run to run
    save_file(halved, path, {_FORMAT: json.dumps(record, sort_keys=True)})
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_name(path.name + ".sha256").write_text(f"{digest}  {path.name}\n", encoding="ascii")


def load_compact(path: Path) -> dict[str, torch.Tensor]:
    """Return the float32 state dict of a file that `save_compact` wrote, with the whole token table."""
    read_record(path)
    tensors = {
        name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in load_file(path).items()
    }
    rows, indices = tensors.pop(_ROWS), tensors.pop(_INDICES).long()
    # numpy's generator, because its stream is the same in every version
    noise = np.random.default_rng(_VOCABULARY).standard_normal((_VOCABULARY, rows.shape[1]), np.float32)
    table = torch.from_numpy(noise * np.float32(_NOISE_SCALE))
    table[indices] = rows
    return {_TABLE: table} | tensors


def read_used_tokens(path: Path) -> list[int]:
    """Return the rows of the token table that the file holds, sorted."""
    with safe_open(path, framework="pt") as file:
        used: list[int] = file.get_tensor(_INDICES).tolist()
    return used


def read_record(path: Path) -> dict[str, Any]:
    """Return what `save_compact` was told about how the weights came about."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
    if _FORMAT not in metadata:
        raise ValueError(f"{path.name} is not in the format {_FORMAT}")
    record: dict[str, Any] = json.loads(metadata[_FORMAT])
    return record
