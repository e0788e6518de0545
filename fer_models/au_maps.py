"""Attention that names its action unit: one map for each, from a layer's features by a 1 x 1 convolution.

``aupipe train --guidance per-au`` trains it beside the merged alignment. Each map is held against the place of its
action unit on this very face, as high as the action unit's weight there; the map of one that the face does not show,
against nothing. ``--guidance per-au-contrast`` also asks that of two faces of one class the one whose action unit has
more weight has the higher map.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from aupipe.fer_data.action_units.modes import DRAWN_AUS
from aupipe.fer_data.loading.targets import FaceAus
from aupipe.fer_models.targets import resize_maps

LEAST_EXTENT = 1e-2
"""Sum of a region that is in the crop at all, and that the codebook describes."""

RARE = -3.0
"""Bias of the maps before training: most of a face shows no action unit."""


LEAST_DIFFERENCE = 0.25
"""Difference of weights from which two faces of a class are said to differ in an action unit."""


class AuMaps(nn.Module):
    """Maps of :data:`~aupipe.fer_data.action_units.modes.DRAWN_AUS`, in its order, in [0, 1] at the layer's size."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.read = nn.Conv2d(channels, len(DRAWN_AUS), 1)
        nn.init.constant_(self.read.bias, RARE)  # type: ignore[arg-type]

    def logits(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b a h w"]:
        """Read the maps' logits out of a layer."""
        found: Tensor = self.read(features)
        return found.float()

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b a h w"]:
        """Read the maps out of a layer."""
        return self.logits(features).sigmoid()


def guidance_loss(
    logits: Float[Tensor, "b a h w"],
    aus: FaceAus,
    label: Int64[Tensor, "b"],
    valid: Float[Tensor, "b m m"] | None = None,
    *,
    contrast: bool = False,
) -> Float[Tensor, ""]:
    """Compute :func:`au_map_loss`, and with ``contrast`` also :func:`au_contrast_loss`, whose arguments these are.

    Regions are brought to the maps' size once for both.
    """
    size = (logits.shape[-2], logits.shape[-1])
    aus = replace(aus, regions=resize_maps(aus.regions.flatten(0, 1), size).reshape(logits.shape))
    valid = None if valid is None else resize_maps(valid, size)
    loss = au_map_loss(logits, aus, valid)
    return loss + au_contrast_loss(logits, aus, label, valid) if contrast else loss


def au_map_loss(
    logits: Float[Tensor, "b a h w"], aus: FaceAus, valid: Float[Tensor, "b h w"] | None = None
) -> Float[Tensor, ""]:
    """Compare maps with the regions of the faces' action units.

    The divergence of ``weight * region``, pixel by pixel a probability, from the map, summed and divided by the
    region's own sum: 0 where they are equal. (A squared error leaves maps dead that begin low.) Averaged over action
    units that can be drawn, then over the batch, as 0 for faces of which nothing is known.

    Args:
        logits: Of the maps (:meth:`AuMaps.logits`).
        aus: The faces' action units, their regions at the maps' size.
        valid: 1 where a pixel counts, 0 in erased areas.
    """
    target = (aus.weights[:, :, None, None] * aus.regions).clamp(0, 1)
    counted = 1.0 if valid is None else valid[:, None]
    least = -torch.xlogy(target, target) - torch.xlogy(1 - target, 1 - target)
    divergence = F.binary_cross_entropy_with_logits(logits, target, reduction="none") - least
    missed, extent = (divergence * counted).sum((2, 3)), aus.regions.sum((2, 3))
    drawn = extent > LEAST_EXTENT
    share = (missed / extent.where(drawn, 1.0)).where(drawn, 0.0).sum(1) / drawn.sum(1).clamp_min(1)
    return (share * aus.known).mean()


def au_contrast_loss(
    logits: Float[Tensor, "b a h w"],
    aus: FaceAus,
    label: Int64[Tensor, "b"],
    valid: Float[Tensor, "b h w"] | None = None,
) -> Float[Tensor, ""]:
    """Ask of faces of one class that the one with more of an action unit has the higher map of it in its region.

    ``softplus(h_j - h_i)`` over all pairs whose weights differ by more than :data:`LEAST_DIFFERENCE`, i having more; h
    is the mean logit over the region. Averaged over the pairs, 0 without any. Under torchrun pairs are of one
    process's part of a batch.

    Args:
        logits: Of the maps (:meth:`AuMaps.logits`).
        aus: The faces' action units, their regions at the maps' size.
        label: Their classes.
        valid: 1 where a pixel counts, 0 in erased areas.
    """
    regions = aus.regions if valid is None else aus.regions * valid[:, None]
    extent = regions.sum((2, 3))
    drawn = (extent > LEAST_EXTENT) & aus.known[:, None]
    height = (logits * regions).sum((2, 3)) / extent.clamp_min(LEAST_EXTENT)
    differ = aus.weights[:, None] - aus.weights[None] > LEAST_DIFFERENCE
    pairs = differ & drawn[:, None] & drawn[None] & (label[:, None] == label[None])[..., None]
    missed = F.softplus(height[None] - height[:, None]).where(pairs, 0.0)
    return missed.sum() / pairs.sum().clamp_min(1)
