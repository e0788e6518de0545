"""CutMix (Yun et al., ICCV 2019): training on images with a patch of another one, and on both labels by area."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from aupipe.fer_data.loading.loader import Batch
from aupipe.fer_models.backbones import Backbone
from aupipe.fer_models.losses import LossTerms, Objective
from aupipe.fer_models.methods.base import Prediction, check_option, register
from aupipe.fer_models.methods.cam import CAM, HEADS
from aupipe.fer_models.targets import resize_maps


@register("cutmix")
class CutMix(CAM):
    """CAM's network, trained with probability ``prob`` on mixed batches (the paper: 1 for ImageNet, .5 for CIFAR).

    A step draws one share from Beta(``alpha``, ``alpha``), one box of that share of the image around a uniform centre,
    cut at the borders, and one partner for each sample. Inside the box a sample is its partner; the cross-entropies
    count by the pixels that are left and pasted. The AU map gets the same patch. Where the one that is shown has no map
    there is nothing to align: those pixels are left out of the alignment, and the others stay in it. What the
    augmentation erased stays erased, in its owner and pasted.
    """

    title = "CutMix"
    order = 8

    def __init__(
        self, backbone: Backbone, n_classes: int, *, alpha: float = 1.0, prob: float = 1.0, head: str = HEADS[0]
    ) -> None:
        check_option("alpha", alpha, 0 < alpha < float("inf"), "a positive number")
        check_option("prob", prob, 0 <= prob <= 1, "a probability, 0 to 1")
        super().__init__(backbone, n_classes, head=head)
        self.alpha, self.prob = alpha, prob

    def training_step(self, batch: Batch, objective: Objective) -> LossTerms:
        """Compute the mixed batch's loss terms; random numbers come from the CPU: a run is the same on every device."""
        if not torch.rand(()) < self.prob:
            return super().training_step(batch, objective)
        share = float(torch.distributions.Beta(self.alpha, self.alpha).sample())
        box = box_mask((batch.image.shape[2], batch.image.shape[3]), share).to(batch.image.device)
        partner = torch.randperm(len(batch)).to(batch.image.device)
        prediction: Prediction = self(torch.where(box, batch.image[partner], batch.image))
        pasted = box.float().mean()
        own = objective.classification(prediction.logits, batch.label)
        other = objective.classification(prediction.logits, batch.label[partner])
        known = batch.has_map.float()[:, None, None].expand_as(batch.au_map)
        known = known if batch.valid is None else known * batch.valid
        au_map, valid = mix_maps(batch.au_map, known, partner, box)
        ce = (1 - pasted) * own + pasted * other
        return objective.compose(ce, prediction.features, au_map, valid.flatten(1).any(1), valid)


def box_mask(size: tuple[int, int], share: float) -> Bool[Tensor, "h w"]:
    """Mark (True) a box with ``1 - share`` of the area around a uniform centre, cut at the borders (the paper's)."""
    sides = []
    for length in size:
        half = int(length * (1 - share) ** 0.5) // 2
        centre = int(torch.randint(length, ()))
        place = torch.arange(length)
        sides.append((place >= centre - half) & (place < centre + half))
    return sides[0][:, None] & sides[1][None]


def mix_maps(
    au_map: Float[Tensor, "b m m"],
    known: Float[Tensor, "b m m"],
    partner: Int64[Tensor, "b"],
    box: Bool[Tensor, "h w"],
) -> tuple[Float[Tensor, "b m m"], Float[Tensor, "b m m"]]:
    """Mix AU maps with the partner's patch; return too how much of each pixel shows someone who has a map.

    ``known``: 1 where a pixel of a sample's own map is meaningful; 0 all over for one without a map, and in erased
    areas. A pixel that the box's edge crosses is the mean of both maps by area, of those that are known.
    """
    inside = resize_maps(box.float()[None], (au_map.shape[1], au_map.shape[2]))
    own, other = (1 - inside) * known, inside * known[partner]
    valid = own + other
    return (own * au_map + other * au_map[partner]) / valid.where(valid > 0, 1.0), valid
