"""Image towers: one view of open_clip's and timm's VisionTransformer, block by block.

A tower's sequence is `[B, P + N, C]`: P prefix tokens (class token, trained registers), then N patch tokens in raster
order. Blocks are computed as the models compute them, so that a loop over all of them gives the model's own bits.
Every other class is refused by name: no flat sequence (ResNet, ConvNeXt, Swin, FastViT), positions inside the attention
(EVA02, PE-Core), or a pool that this view does not know (CoCa).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any, cast

from torch import Tensor, nn
from torch.nn import functional

from semscale.common.errors import ModelError
from semscale.tokens.products import product
from semscale.tokens.stem import example_pixels, stem_macs, stem_spread
from semscale.tokens.token_counts import TowerShape

_OPEN_CLIP_BLOCKS = ("ResidualAttentionBlock", "CustomResidualAttentionBlock")
_TIMM_POOLS = ("token", "avg", "avgmax", "max", "map")
_DOWN = ("c_proj", "fc2", "w3", "w2")  # an MLP's last matrix in open_clip, timm, timm's SwiGLU and GeGLU


class Tower:
    """An image tower that can be run block by block.

    Args:
        visual: open_clip's `VisionTransformer`, timm's, or open_clip's `TimmModel` around timm's; in eval mode.

    Attributes:
        blocks: the transformer's blocks.
        prefix: tokens before the patches.
        heads, width: attention heads, channels.
        grid: rows and columns of patch tokens.
        class_token: whether the first token is the one that the tower reads as the image.
        pools_patches: whether the pool reads the patch tokens themselves (avg, max, map) and not one token.

    Raises:
        ModelError: the tower is of another class.
    """

    def __init__(self, visual: nn.Module) -> None:
        self.visual = visual
        trunk: Any = getattr(visual, "trunk", visual)
        self._open_clip = hasattr(trunk, "transformer")
        _check(trunk, self._open_clip)
        self._trunk = trunk
        if self._open_clip:
            self.blocks = list(trunk.transformer.resblocks)
            self.prefix, has_class = 1, True
            self.pools_patches = trunk.pool_type == "avg"
            self.grid, self.image_size = tuple(trunk.grid_size), tuple(trunk.image_size)
        else:
            self.blocks = list(trunk.blocks)
            self.prefix, has_class = trunk.num_prefix_tokens, bool(trunk.has_class_token)
            self.pools_patches = trunk.global_pool != "token"
            self.grid, self.image_size = tuple(trunk.patch_embed.grid_size), tuple(trunk.patch_embed.img_size)
        # a class token that the pool leaves out has learnt nothing to look for
        self.class_token = has_class and not self.pools_patches
        attention = self.blocks[0].attn
        self.heads: int = attention.num_heads
        weight = attention.in_proj_weight if self._open_clip else attention.qkv.weight
        self.width: int = weight.shape[1]

    @property
    def depth(self) -> int:
        """The number of blocks."""
        return len(self.blocks)

    @property
    def patches(self) -> int:
        """The number of patch tokens."""
        return int(self.grid[0] * self.grid[1])

    @property
    def latent_pool(self) -> bool:
        """True if a latent probe pools the patches by attention of its own (`map`)."""
        return not self._open_clip and getattr(self._trunk, "attn_pool", None) is not None

    @property
    def cell(self) -> tuple[int, int]:
        """Height and width in pixels of the cell that a patch token stands for."""
        return self.image_size[0] // self.grid[0], self.image_size[1] // self.grid[1]

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the tower's own result, float [B, D]."""
        return cast("Tensor", self.visual(pixels))

    def embed(self, pixels: Tensor) -> Tensor:
        """Return the sequence that enters the first block, [B, P + N, C]."""
        trunk = self._trunk
        if self._open_clip:
            return cast("Tensor", trunk._embeds(pixels))
        return cast("Tensor", trunk.norm_pre(trunk.patch_drop(trunk._pos_embed(trunk.patch_embed(pixels)))))

    def stem(self) -> nn.Module:
        """Return the patch embedding, before positions."""
        return cast("nn.Module", self._trunk.conv1 if self._open_clip else self._trunk.patch_embed)

    def blank(self, like: Tensor, count: int) -> Tensor:
        """Return `count` zero tokens as they would enter the first block, [B, count, C].

        They are zero before the tower's first normalisation, which acts token by token (arXiv 2506.08010).
        """
        norm = self._trunk.ln_pre if self._open_clip else self._trunk.norm_pre
        return cast("Tensor", norm(like.new_zeros(like.shape[0], count, like.shape[2])))

    def block(self, number: int, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Apply a block; see :meth:`attend` for the mask."""
        return self.feed(number, self.attend(number, tokens, mask))

    def attend(self, number: int, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Apply the attention half of a block with its residual.

        Args:
            number: the block.
            tokens: [B, L, C].
            mask: what is added to the logits, float [B or 1, H or 1, L or 1, L], -inf where a query does not read a
                key.

        Raises:
            TypeError: a mask of booleans, which open_clip would take for the numbers 0 and 1.
        """
        block = self.blocks[number]
        if mask is not None:
            mask = self._full(mask, tokens)
        if not self._open_clip:
            return cast("Tensor", tokens + block.drop_path1(block.ls1(block.attn(block.norm1(tokens), attn_mask=mask))))
        if hasattr(block, "ln_attn"):
            attended = block.ln_attn(block.attn(block.ln_1(tokens), attn_mask=mask))
        else:
            attended = block.attention(q_x=block.ln_1(tokens), attn_mask=mask)
        return cast("Tensor", tokens + block.ls_1(attended))

    def feed(self, number: int, tokens: Tensor) -> Tensor:
        """Apply the MLP half of a block with its residual."""
        block = self.blocks[number]
        if self._open_clip:
            return cast("Tensor", tokens + block.ls_2(block.mlp(block.ln_2(tokens))))
        return cast("Tensor", tokens + block.drop_path2(block.ls2(block.mlp(block.norm2(tokens)))))

    def run(self, tokens: Tensor, start: int, stop: int | None = None, mask: Tensor | None = None) -> Tensor:
        """Apply the blocks from `start` to before `stop` (the end unless given)."""
        for number in range(start, self.depth if stop is None else stop):
            tokens = self.block(number, tokens, mask)
        return tokens

    def finish(self, tokens: Tensor) -> Tensor:
        """Return the result of the sequence that left the last block: final norm, pool, projection; [B, D]."""
        trunk = self._trunk
        if self._open_clip:
            pooled, _ = trunk._pool(tokens)
            return cast("Tensor", pooled if trunk.proj is None else pooled @ trunk.proj)
        pooled = trunk.forward_head(trunk.norm(tokens))
        return cast("Tensor", pooled if self.visual is trunk else self.visual.head(pooled))  # type: ignore[operator]

    def queries(self, number: int, tokens: Tensor, positions: slice) -> Tensor:
        """Return the queries of a block for some of the tokens that enter it, float32 [B, H, L, C / H], unscaled."""
        return self._projected(number, tokens[:, positions], 0)

    def keys(self, number: int, tokens: Tensor) -> Tensor:
        """Return the keys of a block for the tokens that enter it, float32 [B, H, L, C / H]."""
        return self._projected(number, tokens, 1)

    def _projected(self, number: int, tokens: Tensor, third: int) -> Tensor:
        """Return queries (0) or keys (1), by their third of the block's joint matrix."""
        block = self.blocks[number]
        attention, (batch, length, _) = block.attn, tokens.shape
        if self._open_clip:
            tokens, weight, bias = block.ln_1(tokens), attention.in_proj_weight, attention.in_proj_bias
            norm = getattr(attention, ("ln_q", "ln_k")[third], None)
        else:
            tokens, weight, bias = block.norm1(tokens), attention.qkv.weight, attention.qkv.bias
            norm = (attention.q_norm, attention.k_norm)[third]
        bias = None if bias is None else bias.chunk(3)[third]
        vectors = functional.linear(tokens, weight.chunk(3)[third], bias)
        vectors = vectors.reshape(batch, length, self.heads, -1).transpose(1, 2)
        return (vectors if norm is None else cast("Tensor", norm(vectors))).float()

    def attention_received(self, number: int, tokens: Tensor) -> Tensor:
        """Return how much attention each patch gets in a block, float32 [B, L - P], computed beside the block.

        From the class token, averaged over heads (EViT, arXiv 2202.07800, section 3); where the tower pools patches,
        averaged over the queries of all of them.
        """
        key = self.keys(number, tokens)
        if self.class_token:
            logits = (self.queries(number, tokens, slice(1)) * key).sum(-1).unsqueeze(2)
        else:
            logits = product(self.queries(number, tokens, slice(self.prefix, None)), key.transpose(-1, -2))
        weights = (logits * key.shape[-1] ** -0.5).softmax(-1)
        return cast("Tensor", weights.mean((1, 2))[:, self.prefix :])

    def probe_attention(self, tokens: Tensor) -> Tensor:
        """Return the attention that a latent pool pays each patch of what left the last block, float32 [B, N]."""
        pool = self._trunk.attn_pool
        patches = self._trunk.norm(tokens)[:, self.prefix :]
        batch, length, _ = patches.shape
        query = pool.q(pool.latent.expand(batch, -1, -1)).reshape(batch, pool.latent_len, pool.num_heads, pool.head_dim)
        bias = None if pool.kv.bias is None else pool.kv.bias.chunk(2)[0]
        key = functional.linear(patches, pool.kv.weight.chunk(2)[0], bias)
        key = pool.k_norm(key.reshape(batch, length, pool.num_heads, pool.head_dim).transpose(1, 2))
        query = pool.q_norm(query.transpose(1, 2))
        weights = (product(query, key.transpose(-1, -2)) * pool.head_dim**-0.5).softmax(-1)
        return cast("Tensor", weights.mean((1, 2)))

    def down_projection(self, number: int) -> nn.Module:
        """Return the last matrix of a block's MLP, whose input are the neurons after their activation."""
        mlp = self.blocks[number].mlp
        return cast("nn.Module", next(getattr(mlp, name) for name in _DOWN if hasattr(mlp, name)))

    @cached_property
    def shape(self) -> TowerShape:
        """Shape of the tower for costs and checks; measuring it runs the patch embedding a few times."""
        down: Any = self.down_projection(0)
        weight = next(self._trunk.parameters())
        example = example_pixels(self.image_size).to(weight.device, weight.dtype)
        matrices = [module.weight.numel() for module in self.blocks[0].mlp.modules() if isinstance(module, nn.Linear)]
        return TowerShape(
            name=type(self._trunk).__name__,
            depth=self.depth,
            width=self.width,
            heads=self.heads,
            hidden=down.in_features,
            gated=sum(matrices) > 2 * self.width * down.in_features,
            grid=(self.grid[0], self.grid[1]),
            prefix=self.prefix,
            class_token=self.class_token,
            pools_patches=self.pools_patches,
            latent_pool=self.latent_pool,
            image_size=(self.image_size[0], self.image_size[1]),
            stem_macs=stem_macs(self.stem(), example),
            spread=stem_spread(self.stem(), example, (self.grid[0], self.grid[1])),
        )

    def _full(self, mask: Tensor, tokens: Tensor) -> Tensor:
        if not mask.is_floating_point():
            raise TypeError(f"a mask must be of floats, 0 and -inf, not {mask.dtype}")
        batch, length, _ = tokens.shape
        mask = mask.to(tokens.dtype)
        if not self._open_clip:
            return mask.expand(batch, -1, length, length)
        return mask.expand(batch, self.heads, length, length).reshape(-1, length, length)

    @contextmanager
    def watched(self, layers: frozenset[int]) -> Iterator[dict[int, Tensor]]:
        """Within the context, what enters these blocks is kept, by block; `depth` stands for what leaves the last."""
        seen: dict[int, Tensor] = {}

        def entering(number: int) -> Any:
            def keep(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
                seen[number] = inputs[0]

            return keep

        def leaving(_: nn.Module, __: object, output: Tensor) -> None:
            seen[self.depth] = output

        hooks = [self.blocks[n].register_forward_pre_hook(entering(n)) for n in layers if n < self.depth]
        if self.depth in layers:
            hooks.append(self.blocks[-1].register_forward_hook(leaving))
        try:
            yield seen
        finally:
            for hook in hooks:
                hook.remove()


def _check(trunk: Any, open_clip: bool) -> None:
    """Refuse a tower that is not one of the two classes, or has parts that :class:`Tower` does not know."""
    name = type(trunk).__name__
    if name != "VisionTransformer" or not (open_clip or hasattr(trunk, "_pos_embed")):
        raise _refusal(name, "no flat sequence of tokens with positions added at its start")
    if open_clip:
        blocks = trunk.transformer.resblocks
        if trunk.attn_pool is not None or trunk.pool_type not in ("tok", "avg") or trunk.output_tokens:
            raise _refusal(name, "a pool of its own (CoCa)")
        if any(type(block).__name__ not in _OPEN_CLIP_BLOCKS for block in blocks):
            raise _refusal(name, f"blocks of class {type(blocks[0]).__name__}")
        if getattr(blocks[0].attn, "scaled_cosine", False):
            raise _refusal(name, "scaled cosine attention")
        return
    if trunk.global_pool not in _TIMM_POOLS:
        raise _refusal(name, f"the pool {trunk.global_pool!r}")
    for block in trunk.blocks:
        if type(block).__name__ != "Block" or type(block.attn).__name__ != "Attention":
            raise _refusal(name, f"blocks of class {type(block).__name__} with {type(block.attn).__name__}")


def _refusal(name: str, found: str) -> ModelError:
    return ModelError(
        "token strategies cannot act on this image tower",
        where=f"class {name}",
        found=found,
        expected="VisionTransformer of open_clip or timm, without rotary positions",
        hint="leave out token strategies for this model",
    )
