"""Vision transformers as backbones: their tokens as grids, and the attention of the class token."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from timm.layers.attention import Attention
from timm.models._features import FeatureGetterNet
from torch import Tensor, nn

from aupipe.fer_data.errors import UserInputError, paragraph
from aupipe.fer_models.backbones.base import Backbone

SHOWN_BLOCKS = 5
"""Layers of a network whose blocks all work at one resolution: as many as a ResNet has."""


def shown_blocks(depth: int) -> tuple[int, ...]:
    """Choose the blocks (from 0) that serve as layers: evenly spaced, the last one included.

    >>> shown_blocks(12)
    (2, 4, 7, 9, 11)
    """
    count = min(SHOWN_BLOCKS, depth)
    return tuple(-(-depth * number // count) - 1 for number in range(1, count + 1))


def has_class_token(extractor: Any) -> bool:
    """Tell whether a network's tokens are led by a class token through all of its blocks."""
    model = getattr(extractor, "model", None)
    return getattr(model, "cls_token", None) is not None and getattr(model, "num_prefix_tokens", 0) > 0


class TokenNet(FeatureGetterNet):
    """A plain vision transformer that keeps its final norm beside the features, which come before it.

    A layer norm leaves every token with a channel mean of zero until its weights have been trained, so tokens after it
    have no attention (channel mean) to align; the residual stream before it does.
    """

    def __init__(self, model: Any, **options: Any) -> None:
        norm = model.norm
        super().__init__(model, **options)
        self.norm = norm


class TokenBackbone(Backbone):
    """A backbone of tokens with a class token. Its layers are the token grids after :func:`shown_blocks`."""

    @property
    def blocks(self) -> tuple[nn.Module, ...]:
        """All blocks, from the first."""
        model: Any = self.body.model
        return tuple(model.blocks)

    @property
    def attention_readable(self) -> bool:
        """True where :meth:`class_attention` works: each block has the standard attention, softmax(q k^T / sqrt(d))."""
        return all(type(getattr(block, "attn", None)) is Attention for block in self.blocks)

    def normalised(self, tokens: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return the last layer's tokens after the network's final norm, as its own classifier sees them."""
        norm: Any = self.body.norm
        normed: Tensor = norm(tokens.permute(0, 2, 3, 1))
        return normed.permute(0, 3, 1, 2)

    @contextlib.contextmanager
    def class_attention(self) -> Iterator[list[Float[Tensor, "b n"]]]:
        """Collect each block's attention of the class token to the patches, averaged over the heads.

        Forward passes inside the block append one ``(B, patches)`` per block, in row-major order of the grid. The
        softmax runs over all tokens, so a row sums to 1 minus what goes to the class token and its like.
        """
        rows: list[Tensor] = []
        model: Any = self.body.model

        def record(attention: Any, inputs: tuple[Tensor, ...]) -> None:
            rows.append(class_row(attention, inputs[0])[:, model.num_prefix_tokens :])

        if not self.attention_readable:
            raise UserInputError(
                paragraph(f"The attention of {self.name} cannot be read: its blocks compute it in a way of their own.")
            )
        hooks = [block.attn.register_forward_pre_hook(record) for block in model.blocks]
        try:
            yield rows
        finally:
            for hook in hooks:
                hook.remove()


def class_row(attention: Any, tokens: Float[Tensor, "b n c"]) -> Float[Tensor, "b n"]:
    """Compute softmax(q_0 k^T / sqrt(d)) of the first token, averaged over the heads of a standard attention module."""
    return class_logits(attention, tokens).softmax(-1).mean(1)


def class_logits(attention: Any, tokens: Float[Tensor, "b n c"]) -> Float[Tensor, "b h n"]:
    """Compute q_0 k^T / sqrt(d) of the first token in each head of a standard attention module."""
    b, n, _ = tokens.shape
    q, k, _ = attention.qkv(tokens).reshape(b, n, 3, attention.num_heads, attention.head_dim).unbind(2)
    q, k = attention.q_norm(q[:, 0]), attention.k_norm(k)
    return torch.einsum("bhd,bnhd->bhn", q * attention.scale, k)
