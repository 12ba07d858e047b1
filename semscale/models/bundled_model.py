"""Bundled model `semscale-mini`: a small CLIP that knows digits and shapes only.

As a demonstrator it runs a whole study without a GPU or a download. `python -m semscale.training.mini` trained it on
the training halves of the bundled datasets. Importing this module registers the architecture with open_clip, so that
`open_clip.create_model("semscale-mini")` builds it untrained.

Its weights are stored in half precision and with a pruned token table: of the 49,408 rows of the vocabulary, only the
few hundred that training has changed. Loading fills the others with small noise, always the same, so that unknown
words are faint, but not equal.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from timm.layers import HybridEmbed
from timm.models import register_model
from timm.models.vision_transformer import VisionTransformer
from timm.models.vision_transformer_hybrid import ConvStem

from semscale.common.errors import ModelError, summarize
from semscale.models.checkpoints import check_digest

NAME = "semscale-mini"  # also in open_clip
IMAGE_SIZE = 40  # width and height of its input in pixels
WEIGHTS = Path(__file__).parent / "weights" / f"{NAME}.safetensors"
_TABLE = "token_embedding.weight"
_ROWS = "token_embedding.rows"
_INDICES = "token_embedding.indices"
_FORMAT = "semscale-compact-1"
_VOCABULARY = 49_408
_NOISE_SCALE = 0.02  # open_clip's standard deviation for the initialisation of a token table

Preprocess = Callable[[Image.Image], torch.Tensor]


@register_model  # type: ignore[untyped-decorator, unused-ignore]  # timm has no types
def vit_semscale_mini(
    pretrained: bool = False, num_classes: int = 0, global_pool: str = "avg", **unused: Any
) -> VisionTransformer:
    """Return the untrained image tower: 40 x 40 pixels to 5 x 5 tokens of width 96, three transformer blocks.

    A plain patch embedding learns too slowly on one CPU core; a small stack of convolutions before the transformer
    fixes that (T. Xiao et al., Early Convolutions Help Transformers See Better, 2021). The arguments are timm's.
    """
    stem = ConvStem(depth=5, channels=(24, 48, 48, 96, 96), stride=(2, 2, 1, 2, 1))
    tower = VisionTransformer(
        img_size=IMAGE_SIZE,
        patch_size=1,
        num_classes=num_classes,
        global_pool=global_pool,
        class_token=False,
        embed_dim=96,
        depth=3,
        num_heads=3,
        embed_layer=partial(HybridEmbed, backbone=stem),
    )
    # open_clip's timm adapter reads this; without pool_size it takes the output as one vector per image
    tower.default_cfg = {"architecture": "vit_semscale_mini", "input_size": (3, IMAGE_SIZE, IMAGE_SIZE)}
    tower.pretrained_cfg = tower.default_cfg
    return tower


open_clip.add_model_config(Path(__file__).parent / f"{NAME}.json")


def build_mini() -> open_clip.CLIP:
    """Return the untrained model, float32; torch's global seed determines its initial weights."""
    # as open_clip.create_model(NAME), without its warning on the root logger that no weights were loaded
    model = open_clip.CLIP(**open_clip.get_model_config(NAME))
    open_clip.set_model_preprocess_cfg(model, asdict(PreprocessCfg(size=model.visual.image_size)))
    return model


def mini_transforms(model: open_clip.CLIP) -> tuple[Preprocess, open_clip.SimpleTokenizer]:
    """Return the image preprocessing and the tokenizer of the model."""
    preprocess: Preprocess = image_transform_v2(PreprocessCfg(**model.visual.preprocess_cfg), is_train=False)
    return preprocess, open_clip.get_tokenizer(NAME)


def load_mini(weights: Path = WEIGHTS) -> tuple[open_clip.CLIP, Preprocess, open_clip.SimpleTokenizer]:
    """Return the trained model (float32, eval mode, on the CPU), its preprocessing and its tokenizer.

    The preprocessing maps a Pillow image to a (3, 40, 40) tensor, the tokenizer n texts to (n, 77) token numbers.
    """
    check_digest(weights)
    model = build_mini()
    try:
        model.load_state_dict(load_pruned(weights))
    except Exception as error:  # safetensors, torch and load_pruned raise different kinds
        what, hint = f"the weights of {NAME} cannot be read", "python -m semscale.training.mini trains them again"
        raise ModelError(what, where=str(weights), found=summarize(error), hint=hint) from error
    model.eval()
    preprocess, tokenizer = mini_transforms(model)
    return model, preprocess, tokenizer


def save_pruned(state: dict[str, torch.Tensor], used_tokens: Sequence[int], path: Path, record: dict[str, Any]) -> None:
    """Write a CLIP state dict with the token table pruned to `used_tokens`, and its checksum beside it.

    `record` describes the training and is stored as JSON in the file's metadata.
    """
    indices = torch.tensor(sorted(set(used_tokens)), dtype=torch.int32)
    tensors = {**state, _ROWS: state[_TABLE][indices.long()], _INDICES: indices}
    del tensors[_TABLE]
    halved = {name: _cast(tensors[name], torch.float16).contiguous().cpu() for name in sorted(tensors)}
    # a single entry: safetensors writes several in an order that varies between runs
    save_file(halved, path, {_FORMAT: json.dumps(record, sort_keys=True)})
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_name(path.name + ".sha256").write_text(f"{digest}  {path.name}\n", encoding="ascii")


def load_pruned(path: Path) -> dict[str, torch.Tensor]:
    """Return the float32 state dict of a file that `save_pruned` wrote, with the full token table."""
    read_record(path)
    tensors = {name: _cast(tensor, torch.float32) for name, tensor in load_file(path).items()}
    rows, indices = tensors.pop(_ROWS), tensors.pop(_INDICES).long()
    # numpy's generator has the same stream in every version
    noise = np.random.default_rng(_VOCABULARY).standard_normal((_VOCABULARY, rows.shape[1]), np.float32)
    table = torch.from_numpy(noise * np.float32(_NOISE_SCALE))
    table[indices] = rows
    return {_TABLE: table} | tensors


def _cast(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def read_used_tokens(path: Path) -> list[int]:
    """Return the sorted indices of the token table's rows in the file."""
    indices: list[int] = load_file(path)[_INDICES].tolist()
    return indices


def read_record(path: Path) -> dict[str, Any]:
    """Return the record of the training that `save_pruned` wrote; raise ValueError for another format."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
    if _FORMAT not in metadata:
        raise ValueError(f"{path.name} is not in the format {_FORMAT}")
    record: dict[str, Any] = json.loads(metadata[_FORMAT])
    return record
