"""Grad-CAM++ (Chattopadhay et al., WACV 2018): positive gradients, weighted by how much each pixel alone explains."""

from __future__ import annotations

from jaxtyping import Float, Int64
from torch import Tensor

from aupipe.fer_models.methods.base import Prediction, register, unit_range
from aupipe.fer_models.methods.cam import weighted_sum
from aupipe.fer_models.methods.gradcam import GradCAM
from aupipe.fer_models.targets import positive_part


@register("gradcampp")
class GradCAMPlusPlus(GradCAM):
    """``w_c = sum_ij alpha_ij relu(dY/dA_ij)`` with ``Y = exp(S)``, and the map ``sum_c w_c A_c``.

    For a network that is piecewise linear, as the paper takes it to be, the second and third derivatives of Y are
    ``exp(S) g^2`` and ``exp(S) g^3`` with ``g = dS/dA``, and the paper's weights are
    ``alpha_ij = g_ij^2 / (2 g_ij^2 + sum_ab A_ab g_ij^3)`` (its equation 19). Divided by ``g^2`` that is
    ``1 / (2 + g_ij sum_ab A_ab)``, needed where g is positive only. The factor exp(S) that is left in ``w_c`` scales a
    sample's whole map and is left out. The sum over A counts as 0 where it is negative, which rectified features, the
    paper's, never are: the divisor is then at least 2.
    """

    title = "GradCAM++"
    order = 4

    def combine(self, features: Float[Tensor, "b c h w"], gradient: Float[Tensor, "b c h w"]) -> Float[Tensor, "b h w"]:
        """Add up the channels, weighted by the sum of their positive gradients times alpha."""
        positive = gradient.clamp_min(0)
        total = features.sum((2, 3), keepdim=True).clamp_min(0)
        return weighted_sum(features, (positive / (2 + positive * total)).sum((2, 3)))

    def published_cam(self, prediction: Prediction, class_index: Int64[Tensor, "b"]) -> Float[Tensor, "b h w"]:
        """Return the map, scaled to [0, 1], with the sums of cubed positive gradients as weights.

        That is what alpha comes to without its divisor, as there.
        """
        features = prediction.features[self.layer - 1].detach().float()
        weights = self.gradient(prediction, class_index).clamp_min(0).pow(3).sum((2, 3))
        return unit_range(positive_part(weighted_sum(features, weights)))
