"""The composite loss with named terms: cross-entropy plus weighted alignment of attention with AU maps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from aupipe.fer_models.targets import attention, cosine, resize_maps


@dataclass(frozen=True)
class LossTerms:
    """Scalars: ``ce`` (cross-entropy), ``align`` (1 - cosine, unweighted), ``total`` (what is minimised)."""

    ce: Tensor
    align: Tensor
    total: Tensor

    def plus(self, extra: Tensor) -> LossTerms:
        """Add another term to what is minimised."""
        return LossTerms(self.ce, self.align, self.total + extra)

    def stacked(self) -> Float[Tensor, "3"]:
        """Stack the three terms, detached, float64, in the order of :data:`TERMS`."""
        return torch.stack([self.ce.detach(), self.align.detach(), self.total.detach()]).double()


TERMS = ("ce", "align", "total")
Average = Literal["batch", "valid"]


def local_share(has_map: Bool[Tensor, "b"]) -> Float[Tensor, ""]:
    """Compute the share of the samples that have a map."""
    return has_map.to(torch.float32).mean()


@dataclass(frozen=True)
class Objective:
    """``total = ce + align_weight * align`` over the given layers (numbered from 1).

    Attributes:
        align_weight: Weight of the alignment; 0: it is reported, but not minimised.
        layers: Numbers of the layers to align.
        label_smoothing: Smoothing of the labels, in [0, 1].
        average: The alignment is a mean over the ``batch``, or over its ``valid`` samples, those with a map.
        share_with_map: Gives the share of samples with a map in the whole batch, of which ``has_map`` may be one
            process's part.
    """

    align_weight: float
    layers: tuple[int, ...]
    label_smoothing: float = 0.0
    average: Average = "batch"
    share_with_map: Callable[[Bool[Tensor, "b"]], Float[Tensor, ""]] = local_share

    def __call__(
        self,
        logits: Float[Tensor, "b k"],
        features: Sequence[Tensor],
        label: Int64[Tensor, "b"],
        au_map: Float[Tensor, "b m m"],
        has_map: Bool[Tensor, "b"],
        valid: Float[Tensor, "b m m"] | None = None,
    ) -> LossTerms:
        """Compute the loss terms of a batch.

        Args:
            logits: Class scores.
            features: Feature maps of all layers ``(b, c, h, w)``, the deepest last.
            label: Class indices.
            au_map: AU maps in [0, 1]; zero where ``has_map`` is False.
            has_map: True for samples with a map.
            valid: 1 where a pixel counts, 0 in erased areas (see :func:`alignment`).
        """
        return self.compose(self.classification(logits, label), features, au_map, has_map, valid)

    def classification(self, logits: Float[Tensor, "b k"], label: Int64[Tensor, "b"]) -> Float[Tensor, ""]:
        """Compute the cross-entropy, averaged over the batch, with the run's label smoothing."""
        return F.cross_entropy(logits.float(), label, label_smoothing=self.label_smoothing)

    def compose(
        self,
        ce: Float[Tensor, ""],
        features: Sequence[Tensor],
        au_map: Float[Tensor, "b m m"],
        has_map: Bool[Tensor, "b"],
        valid: Float[Tensor, "b m m"] | None = None,
    ) -> LossTerms:
        """Add the alignment to a classification loss. ``valid``: 1 where a pixel counts (see :func:`alignment`).

        ``align_weight`` 0 leaves the alignment out of the graph but still reports it.
        """
        chosen = [features[number - 1] for number in self.layers]
        if self.align_weight == 0:
            chosen = [value.detach() for value in chosen]
        align = alignment(chosen, au_map, has_map, valid)
        if self.average == "valid":
            share = self.share_with_map(has_map)
            # Without any map the sum is 0 already.
            align = align / share.where(share > 0, 1.0)
        return LossTerms(ce, align, ce if self.align_weight == 0 else ce + self.align_weight * align)


def alignment(
    features: Sequence[Float[Tensor, "b _ _ _"]],
    au_map: Float[Tensor, "b m m"],
    has_map: Bool[Tensor, "b"],
    valid: Float[Tensor, "b m m"] | None = None,
) -> Float[Tensor, ""]:
    """Average ``1 - cos(T_l, A)`` over layers, summed over the samples with a map, divided by the **batch** size.

    Dividing by the batch size keeps a sample's weight the same however many of its batch have a map. ``A`` is brought
    to the size of ``T_l``; ``T_l`` itself is compared as it is.

    Args:
        features: Feature maps ``(b, c, h, w)`` of the layers to align.
        au_map: AU maps A.
        has_map: True for samples with a map.
        valid: How much each pixel of A counts, in [0, 1]; None: all alike. A pixel of the layer is compared by the
            share of it that is valid, with the part of A that lies there.
    """
    mask = has_map.to(torch.float32)
    losses = []
    for layer in features:
        level = attention(layer)
        size = (level.shape[-2], level.shape[-1])
        if valid is None:
            target = resize_maps(au_map, size)
        else:
            level, target = level * resize_maps(valid, size), resize_maps(au_map * valid, size)
        losses.append(((1 - cosine(level, target)) * mask).sum() / len(mask))
    return torch.stack(losses).mean()
