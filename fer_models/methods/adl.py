"""ADL (Choe and Shim, CVPR 2019): training that hides the most attended area in some steps, stresses it in others."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from aupipe.fer_models.backbones import Backbone
from aupipe.fer_models.methods.base import check_option, register
from aupipe.fer_models.methods.cam import CAM, HEADS


@register("adl")
class ADL(CAM):
    """CAM's network with an attention-based dropout layer after each of the last ``stages`` layers.

    In training, each such layer multiplies its features, at random per step and for the whole batch, either by the drop
    mask (share ``drop_rate`` of the steps): 0 where the self-attention is at least ``gamma`` times its maximum over the
    image, else 1; or by the importance map: the sigmoid of the self-attention. The self-attention is the mean over the
    channels, the very map that is aligned with the AU map. Nothing has parameters, and evaluation leaves the features
    as they are.

    The features of a prediction, and so the alignment, are those **before** the mask: the alignment shapes the
    self-attention that the mask is made of. After the mask a dropped area would count as a place where attention is
    missing, and the two terms would pull against each other.
    """

    title = "ADL"
    order = 7

    def __init__(
        self,
        backbone: Backbone,
        n_classes: int,
        *,
        drop_rate: float = 0.75,
        gamma: float = 0.8,
        stages: int = 2,
        head: str = HEADS[0],
    ) -> None:
        check_option("drop_rate", drop_rate, 0 <= drop_rate <= 1, "a share of the steps, 0 to 1")
        check_option("gamma", gamma, 0 < gamma <= 1, "a share of the maximum, above 0 and at most 1")
        last = backbone.n_layers
        check_option("stages", stages, 1 <= stages <= last, f"1 to {last} layers of {backbone.name}")
        super().__init__(backbone, n_classes, head=head)
        self.drop_rate, self.gamma = drop_rate, gamma
        for layer in range(last - stages + 1, last):
            backbone.transform(layer, self.mask)

    def logits(self, features: tuple[Tensor, ...]) -> Float[Tensor, "b k"]:
        """Compute CAM's scores of the last features, masked in training."""
        return super().logits((*features[:-1], self.mask(features[-1])))

    def mask(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Apply the attention-based dropout layer; in evaluation the features themselves."""
        if not self.training:
            return features
        attention = features.float().mean(1, keepdim=True)
        # Drawn on the CPU, so that a run is the same on every device.
        if torch.rand(()) < self.drop_rate:
            factor = (attention < self.gamma * attention.amax((2, 3), keepdim=True)).to(features.dtype)
        else:
            factor = attention.sigmoid().to(features.dtype)
        return features * factor
