"""EfficientNets whose last layer is behind their last convolution, which timm leaves out of a network's feature maps.

Where a published network pools that convolution's maps, only they have its channels.
"""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from timm.models._features import FeatureInfo
from torch import Tensor, nn

NETWORKS = frozenset({"tf_efficientnetv2_b0"})
"""timm's networks that are built so: those of the comparison study. Others keep the layers that timm gives them."""


class LastConvolutionNet(nn.Module):
    """A whole EfficientNet of timm without its classifier: maps of its stages, the last after convolution and norm."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        stages = [{**entry, "module": f"model.{entry['module']}"} for entry in model.feature_info]
        stages[-1] = {**stages[-1], "num_chs": model.num_features, "module": "model.bn2"}
        self.feature_info = FeatureInfo(stages, tuple(range(len(stages))))
        self.whole = True

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> list[Float[Tensor, "b _ _ _"]]:
        """Compute the feature maps."""
        last, stages = self.model.forward_intermediates(images)
        return [*stages[:-1], last] if self.whole else list(stages)

    def keep_layers(self, count: int) -> None:
        """Remove what follows layer ``count``."""
        if count < len(self.feature_info):
            self.model.prune_intermediate_layers(list(range(count)))
            self.model.stage_ends = self.model.stage_ends[:count]
            self.whole = False
