"""CAM (Zhou et al., CVPR 2016): global average pooling, one linear layer, class weights times the last features."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from aupipe.fer_models.backbones import Backbone
from aupipe.fer_models.methods.base import Method, Prediction, register


@register("cam")
class CAM(Method):
    """GAP + linear. The map of class k is ``sum_c W[k, c] F_c`` over the last layer's features F, without the bias.

    W is the head's weight minus its mean over the classes. Adding one vector to the weights of all classes changes
    every map but no prediction, so without this the maps would hold an arbitrary part that the training never sees.
    """

    title = "CAM"
    order = 1

    def __init__(self, backbone: Backbone, n_classes: int) -> None:
        super().__init__(backbone, n_classes)
        self.head = nn.Linear(backbone.channels[-1], n_classes)

    @property
    def class_weights(self) -> Float[Tensor, "k c"]:
        """W: the weights of the classes, which sum to zero over the classes."""
        return self.head.weight - self.head.weight.mean(0)

    def logits(self, features: tuple[Tensor, ...]) -> Float[Tensor, "b k"]:
        """Compute the linear scores of the pooled last features."""
        return F.linear(features[-1].mean((2, 3)), self.class_weights, self.head.bias)

    def cam(self, prediction: Prediction, class_index: Int64[Tensor, "b"]) -> Float[Tensor, "b h w"]:
        """Multiply class weights and last features; the map's mean over pixels is the logit without the bias."""
        weights = self.class_weights.float()[class_index]
        return weighted_sum(prediction.features[-1].float(), weights)


def weighted_sum(features: Float[Tensor, "b c h w"], weights: Float[Tensor, "b c"]) -> Float[Tensor, "b h w"]:
    """Add up feature maps over the channels, each with its weight, in the precision given, also under autocast."""
    return (features * weights[:, :, None, None]).sum(1)
