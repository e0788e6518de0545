"""LayerCAM (Jiang et al., TIP 2021): every pixel of every channel weighted by its own positive gradient."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from aupipe.fer_models.methods.base import register
from aupipe.fer_models.methods.gradcam import GradCAM


@register("layercam")
class LayerCAM(GradCAM):
    """``sum_c relu(dS/dA_c) A_c``, pixel by pixel (equations 5 and 6; the outer ReLU is the reader's).

    At the last layer the gradient is the same everywhere, so the map is CAM with the positive class weights only; its
    fine detail comes from earlier layers, for example ``layer=4``.
    """

    title = "LayerCAM"
    order = 9

    def combine(self, features: Float[Tensor, "b c h w"], gradient: Float[Tensor, "b c h w"]) -> Float[Tensor, "b h w"]:
        """Multiply features and their own positive gradients, summed over the channels."""
        return (features * gradient.clamp_min(0)).sum(1)
