"""The two sides of the alignment: a layer's attention, and the AU map at that layer's size."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from aupipe.fer_data.errors import UserInputError, paragraph

EPSILON = 1e-8
"""Floor of a norm, so that a zero map has cosine 0 and a zero gradient, never NaN."""


def parse_layers(text: str, n_layers: int) -> tuple[int, ...]:
    """Parse ``last``, ``5`` or ``5,4`` into layer numbers, deepest first, each once.

    Raises :class:`UserInputError` for a number outside ``1 .. n_layers``.
    """
    if text.strip() == "last":
        return (n_layers,)
    parts = [part.strip() for part in text.split(",")]
    numbers = {int(part) for part in parts if part.isdecimal()}
    if not all(part.isdecimal() for part in parts) or not all(1 <= number <= n_layers for number in numbers):
        valid = ", ".join(str(number) for number in range(1, n_layers + 1))
        raise UserInputError(
            paragraph(
                f"The layers to align, {text!r}, are not layers of this network.",
                expected=f"last, or some of {valid} separated by commas ({n_layers} is the deepest)",
                got=text,
                fix="Mend --align-layers.",
            )
        )
    return tuple(sorted(numbers, reverse=True))


def attention(features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b h w"]:
    """Average a layer's feature maps over the channels: T_l, in float32 or better. No shift, no scaling."""
    # The very numbers of mean(), without a copy in full precision and without a gradient as large as the features.
    precise = torch.promote_types(features.dtype, torch.float32)
    return features.sum(1, dtype=precise) / features.shape[1]


def resize_maps(maps: Float[Tensor, "b h w"], size: tuple[int, int]) -> Float[Tensor, "b x y"]:
    """Resize maps to ``(height, width)``: mean of the pixels under each where they shrink, bilinear where they grow.

    The mean is by area where the sizes divide; else pixels that an edge crosses count in full on both of its sides.
    """
    if tuple(maps.shape[-2:]) == size:
        return maps
    if maps.shape[-2] >= size[0] and maps.shape[-1] >= size[1]:
        resized = F.adaptive_avg_pool2d(maps[:, None], size)
    else:
        resized = F.interpolate(maps[:, None], size, mode="bilinear", align_corners=False)
    return torch.squeeze(resized, 1)


def cosine(a: Float[Tensor, "b h w"], b: Float[Tensor, "b h w"]) -> Float[Tensor, "b"]:
    """Compute the cosine of two maps seen as vectors, in float32; 0 when either is zero."""
    # Norms are floored one by one: their product may underflow when each of them is still meaningful.
    return torch.sum(directions(a) * directions(b), 1)


def directions(maps: Float[Tensor, "*b h w"]) -> Float[Tensor, "*b n"]:
    """Scale maps, seen as vectors in float32, to length 1; a zero map stays zero."""
    vectors = maps.flatten(-2).float()
    return torch.div(vectors, torch.linalg.vector_norm(vectors, dim=-1, keepdim=True).clamp_min(EPSILON))


def positive_part(maps: Float[Tensor, "b h w"]) -> Float[Tensor, "b h w"]:
    """Keep what a map says *for* something: negative values become 0."""
    return maps.clamp_min(0)
