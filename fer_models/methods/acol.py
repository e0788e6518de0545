"""ACoL (Zhang et al., CVPR 2018): a second classifier learns from what the first one does not look at."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from aupipe.fer_data.loading.loader import Batch
from aupipe.fer_models.backbones import Backbone
from aupipe.fer_models.losses import LossTerms, Objective
from aupipe.fer_models.methods.base import Method, Prediction, check_option, register, select_class, unit_range


@register("acol")
class ACoL(Method):
    """Two convolutional classifiers on the last features S; B sees S erased where A's map of the label is high.

    Each branch is two 3 x 3 convolutions to ``width`` channels with ReLU and a 1 x 1 convolution to one map a class,
    averaged to the class score. ``threshold``: pixels whose normalised A-map is above it are erased for B (the paper's
    delta; .6 did best there). Both branches are trained with cross-entropy, and ``ce`` is their sum. The map of a class
    is the pixelwise maximum of both branches' maps, each in units of its peak, B's with what A found for that class
    erased. (The paper scales from the minimum instead, which makes evidence against the class count for it.) A, which
    sees everything, classifies: the erasing needs a class before B can speak.
    """

    network_options = ("width",)
    title = "ACoL"
    order = 5

    def __init__(self, backbone: Backbone, n_classes: int, *, threshold: float = 0.6, width: int = 1024) -> None:
        check_option("threshold", threshold, 0 < threshold < 1, "a share of the map's range, between 0 and 1")
        check_option("width", width, width >= 1, "1 or more channels")
        super().__init__(backbone, n_classes)
        self.threshold = threshold
        self.branch_a = _branch(backbone.channels[-1], width, n_classes)
        self.branch_b = _branch(backbone.channels[-1], width, n_classes)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Prediction:
        """Compute logits of A, features and, as ``extra["maps"]``, A's map of each class ``(B, K, h, w)``."""
        features: tuple[Tensor, ...] = self.backbone(images)
        maps = self.branch_a(features[-1]).float()
        return Prediction(maps.mean((2, 3)), features, {"maps": maps})

    def logits(self, features: tuple[Tensor, ...]) -> Float[Tensor, "b k"]:
        """Compute the class scores of A."""
        return self.branch_a(features[-1]).float().mean((2, 3))  # type: ignore[no-any-return]

    def training_step(self, batch: Batch, objective: Objective) -> LossTerms:
        """Compute the cross-entropy of both branches, and the alignment."""
        prediction: Prediction = self(batch.image)
        ce_a = objective.classification(prediction.logits, batch.label)
        maps_b = self.complement(prediction, batch.label)
        ce_b = objective.classification(maps_b.mean((2, 3)), batch.label)
        return objective.compose(ce_a + ce_b, prediction.features, batch.au_map, batch.has_map, batch.valid)

    def complement(self, prediction: Prediction, class_index: Int64[Tensor, "b"]) -> Float[Tensor, "b k h w"]:
        """Compute B's maps of all classes, without the pixels where A found the given class."""
        found = unit_range(select_class(prediction.extra["maps"].detach(), class_index)) > self.threshold
        last = prediction.features[-1]
        return self.branch_b(last.masked_fill(found[:, None], 0)).float()  # type: ignore[no-any-return]

    def branch_maps(
        self, prediction: Prediction, class_index: Int64[Tensor, "b"]
    ) -> tuple[Float[Tensor, "b h w"], Float[Tensor, "b h w"]]:
        """Return the class's signed maps of A and of B."""
        complement = self.complement(prediction, class_index)
        return select_class(prediction.extra["maps"], class_index), select_class(complement, class_index)

    def cam(self, prediction: Prediction, class_index: Int64[Tensor, "b"]) -> Float[Tensor, "b h w"]:
        """Return the maximum of both branches' maps, each in units of its peak: at most 1, signed."""
        first, second = self.branch_maps(prediction, class_index)
        return torch.maximum(of_its_peak(first), of_its_peak(second))

    def published_cam(self, prediction: Prediction, class_index: Int64[Tensor, "b"]) -> Float[Tensor, "b h w"]:
        """Return the maximum of both branches' maps, each scaled from its minimum to its maximum."""
        first, second = self.branch_maps(prediction, class_index)
        return unit_range(torch.maximum(unit_range(first), unit_range(second)))


def of_its_peak(maps: Float[Tensor, "b h w"]) -> Float[Tensor, "b h w"]:
    """Scale each map to a maximum of 1; one without a positive value stays as it is."""
    peak = maps.amax((1, 2), keepdim=True)
    return maps / peak.where(peak > 0, 1.0)


def _branch(channels: int, width: int, n_classes: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, n_classes, 1),
    )
