"""CAM (Zhou et al., CVPR 2016): global average pooling, one linear layer, class weights times the last features."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.functional import one_hot

from aupipe.fer_models.backbones import Backbone
from aupipe.fer_models.methods.base import Method, Prediction, check_option, gradient_at, register

HEADS = ("auto", "pooled")
"""What is put on the last features: the head of the network's own paper where it has one, or always a pooling one."""


@register("cam")
class CAM(Method):
    """GAP + linear. The map of class k is ``sum_c W[k, c] F_c`` over the last layer's features F, without the bias.

    W is the head's weight minus its mean over the classes. Adding one vector to the weights of all classes changes
    every map but no prediction, so without this the maps would hold an arbitrary part that the training never sees.

    A network whose paper has another head (AlexNet, SilNet, WeiNet, SongNet: layers on the flattened maps) keeps it,
    unless ``head=pooled``. Such a head weighs each place of a map by itself: the weights W are there the gradient
    ``dS/dF`` of the class score S, less its mean over the classes, times the number of places: HiResCAM (Draelos and
    Carin 2020), of which CAM is the case of GAP. Where the head is one linear layer, the map's mean is the score
    without the bias, as in CAM.
    """

    title = "CAM"
    order = 1
    network_options = ("head",)

    def __init__(self, backbone: Backbone, n_classes: int, *, head: str = HEADS[0]) -> None:
        check_option("head", head, head in HEADS, " or ".join(HEADS))
        super().__init__(backbone, n_classes)
        own = backbone.make_head(n_classes) if head == "auto" else None
        self.pooled = own is None
        self.head: Any = nn.Linear(backbone.channels[-1], n_classes) if own is None else own
        if not self.pooled:
            self.needs_graph = True
            backbone.connect(backbone.n_layers)

    @property
    def class_weights(self) -> Float[Tensor, "k c"]:
        """W of a pooling head: the weights of the classes, which sum to zero over the classes."""
        weight: Tensor = self.head.weight
        return weight - weight.mean(0)

    @property
    def keeps_head(self) -> bool:
        """True where the head is that of the network's own paper."""
        return not self.pooled

    def logits(self, features: tuple[Tensor, ...]) -> Float[Tensor, "b k"]:
        """Compute the linear scores of the pooled last features, or those of an own head, less their mean."""
        if self.pooled:
            return F.linear(features[-1].mean((2, 3)), self.class_weights, self.head.bias)
        scores: Tensor = self.head(features[-1])
        return scores - scores.mean(1, keepdim=True)

    def cam(self, prediction: Prediction, class_index: Int64[Tensor, "b"]) -> Float[Tensor, "b h w"]:
        """Multiply class weights and last features; the map's mean over pixels is the logit without the bias."""
        features = prediction.features[-1]
        if self.pooled:
            return weighted_sum(features.float(), self.class_weights.float()[class_index])
        gradient = self.score_gradient(prediction, self.backbone.n_layers, class_index)
        return (features.detach().float() * gradient).sum(1) * features[0, 0].numel()

    def score_gradient(
        self, prediction: Prediction, layer: int, class_index: Int64[Tensor, "b"]
    ) -> Float[Tensor, "b c h w"]:
        """Compute ``dS/dF`` of each sample's class score at a layer, through the graph."""
        # In evaluation mode no sample sees another one, so the gradient of all these scores is each sample's own.
        chosen = one_hot(class_index, self.n_classes).to(prediction.logits)
        return gradient_at(prediction.features[layer - 1], prediction.logits, chosen)


def weighted_sum(features: Float[Tensor, "b c h w"], weights: Float[Tensor, "b c"]) -> Float[Tensor, "b h w"]:
    """Add up feature maps over the channels, each with its weight, in the precision given, also under autocast."""
    return (features * weights[:, :, None, None]).sum(1)
