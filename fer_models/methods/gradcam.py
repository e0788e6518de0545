"""Grad-CAM (Selvaraju et al., ICCV 2017): the layer's channels weighted by the mean gradient of the class score."""

from __future__ import annotations

from jaxtyping import Float, Int64
from torch import Tensor

from aupipe.fer_models.backbones import Backbone
from aupipe.fer_models.methods.base import Prediction, layer_number, register, unit_range
from aupipe.fer_models.methods.cam import CAM, HEADS, weighted_sum
from aupipe.fer_models.targets import positive_part


@register("gradcam")
class GradCAM(CAM):
    """CAM's network, read out by the gradient of the class score S (the logit) at a layer A (0: the last).

    The map is ``sum_c w_c A_c`` with ``w_c`` the gradient ``dS/dA_c`` averaged over the pixels (equations 1 and 2; the
    paper's ReLU is the reader's: maps are signed). After global average pooling and a linear layer the gradient at the
    last layer is ``W[k, c] / (h w)`` everywhere, which needs no backward pass: there Grad-CAM is CAM divided by
    ``h w``. Both take CAM's W, centred over the classes, through which the gradient flows. Networks with a head of
    their own keep it, as in CAM.
    """

    title = "GradCAM"
    order = 3
    trains_as = "cam"

    def __init__(self, backbone: Backbone, n_classes: int, *, layer: int = 0, head: str = HEADS[0]) -> None:
        super().__init__(backbone, n_classes, head=head)
        self.layer = layer_number("layer", layer, backbone)
        self.needs_graph = not self.pooled or self.layer < backbone.n_layers
        if self.needs_graph:
            backbone.connect(self.layer)

    def cam(self, prediction: Prediction, class_index: Int64[Tensor, "b"]) -> Float[Tensor, "b h w"]:
        """Combine the layer's maps by :meth:`combine`."""
        features = prediction.features[self.layer - 1].detach().float()
        return self.combine(features, self.gradient(prediction, class_index))

    def published_cam(self, prediction: Prediction, class_index: Int64[Tensor, "b"]) -> Float[Tensor, "b h w"]:
        """Return the map's positive part, scaled to [0, 1]: there, maps by gradients are rectified first."""
        return unit_range(positive_part(self.cam(prediction, class_index)))

    def gradient(self, prediction: Prediction, class_index: Int64[Tensor, "b"]) -> Float[Tensor, "b c h w"]:
        """Compute ``dS/dA`` of each sample's class: in closed form at the last layer, else through the graph."""
        features = prediction.features[self.layer - 1]
        if not self.needs_graph:
            weights = self.class_weights.detach().float()[class_index] / features[0, 0].numel()
            return weights[:, :, None, None].expand(features.shape)
        return self.score_gradient(prediction, self.layer, class_index)

    def combine(self, features: Float[Tensor, "b c h w"], gradient: Float[Tensor, "b c h w"]) -> Float[Tensor, "b h w"]:
        """Compute the method's map from a layer's features and the gradient there."""
        return weighted_sum(features, gradient.mean((2, 3)))
