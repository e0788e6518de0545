"""PRM (Zhou et al., CVPR 2018): scores from the peaks of the class response maps, traced back through the network."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from aupipe.fer_data.errors import UserInputError, paragraph
from aupipe.fer_models.backbones import Backbone
from aupipe.fer_models.methods.base import (
    Method,
    Prediction,
    check_option,
    gradient_at,
    layer_number,
    register,
    select_class,
    unit_range,
)
from aupipe.fer_models.methods.excitation import Excitation

MAPS = ("peaks", "response")
"""The map of a class: where its peaks come from, or its response map, as in the column PRM of FG 2024."""


@register("prm")
class PRM(Method):
    """A 1 x 1 convolution to one response map a class, scored by its peaks: the mean over the local maxima of M.

    ``map`` (:data:`MAPS`) is the map of a class. ``response``: its response map, signed, at the last layer.
    ``peaks``: the sum of its peaks' response maps. A peak starts with probability 1 at its place in the
    class's map; :mod:`aupipe.fer_models.methods.excitation` traces back who has won it, down to the features of
    ``layer``, and what arrives is added up over the channels. What a peak's map sums to is therefore 1, less what ends
    at units that nothing excites. The paper goes down to the image; the default here is the first layer, the deepest
    trace whose values are features, not negative as the rule wants them, at half or a quarter of the image's size.
    """

    title = "PRM"
    order = 6

    @classmethod
    def check(cls, backbone: Backbone) -> None:
        """Refuse networks with attention between positions: the trace has no rule for it."""
        found = sorted({type(module).__name__ for module in backbone.modules() if hasattr(module, "qkv")})
        if found:
            raise UserInputError(
                paragraph(
                    f"The method prm cannot trace peaks back through the backbone {backbone.name!r}.",
                    expected="a network of convolutions",
                    got=f"attention between positions ({', '.join(found)})",
                    fix="Choose a backbone such as resnet18 or convnext_tiny, or another method.",
                )
            )

    def __init__(self, backbone: Backbone, n_classes: int, *, map: str = MAPS[0], layer: int = 1) -> None:
        check_option("map", map, map in MAPS, " or ".join(MAPS))
        super().__init__(backbone, n_classes)
        self.map, self.needs_graph = map, map == "peaks"
        self.layer = layer_number("layer", layer, backbone)
        if self.needs_graph:
            backbone.connect(self.layer)
        self.head = nn.Conv2d(backbone.channels[-1], n_classes, 1)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Prediction:
        """Compute logits, features and, as ``extra["responses"]``, the response map of each class ``(B, K, h, w)``."""
        features: tuple[Tensor, ...] = self.backbone(images)
        responses = self.head(features[-1]).float()
        return Prediction(peak_mean(responses), features, {"responses": responses})

    def read(self, images: Float[Tensor, "b 3 h w"]) -> Prediction:
        """Run a forward pass that keeps who excited whom, in float32: probabilities spread over a map are small.

        Response maps need no such pass.
        """
        if not self.needs_graph:
            return super().read(images)
        with Excitation(), torch.autocast(images.device.type, enabled=False):
            return super().read(images)

    def logits(self, features: tuple[Tensor, ...]) -> Float[Tensor, "b k"]:
        """Compute the mean over the peaks of each class's response map."""
        return peak_mean(self.head(features[-1]).float())

    def cam(self, prediction: Prediction, class_index: Int64[Tensor, "b"]) -> Float[Tensor, "b h w"]:
        """Return the class's response map or, traced back to ``layer``, the sum of its peaks' maps, not negative."""
        responses = prediction.extra["responses"]
        if not self.needs_graph:
            return select_class(responses, class_index)
        start = torch.zeros_like(responses)
        rows = torch.arange(len(start), device=start.device)
        start[rows, class_index] = select_class(peaks(responses.detach()).float(), class_index)
        won = gradient_at(prediction.features[self.layer - 1], responses, start)
        return won.sum(1).clamp_min(0)

    def published_cam(self, prediction: Prediction, class_index: Int64[Tensor, "b"]) -> Float[Tensor, "b h w"]:
        """Return the class's response map, shifted and scaled to [0, 1], whatever ``map`` says."""
        return unit_range(select_class(prediction.extra["responses"].detach(), class_index))


def peaks(maps: Float[Tensor, "b k h w"]) -> Bool[Tensor, "b k h w"]:
    """Mark local maxima: pixels that are the largest of their 3 x 3 window; of equal ones the first in reading order.

    Every map has one at least.
    """
    height, width = maps.shape[-2:]
    _, largest = F.max_pool2d(maps, 3, stride=1, padding=1, return_indices=True)
    return largest == torch.arange(height * width, device=maps.device).view(height, width)


def peak_mean(maps: Float[Tensor, "b k h w"]) -> Float[Tensor, "b k"]:
    """Average each map over its peaks (peak stimulation, equation 2); no other pixel gets a gradient."""
    found = peaks(maps.detach())
    return maps.where(found, 0.0).sum((2, 3)) / found.sum((2, 3))
