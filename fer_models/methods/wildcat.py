"""WILDCAT (Durand et al., CVPR 2017): several maps a class, pooled over their highest and lowest pixels."""

from __future__ import annotations

from jaxtyping import Float, Int64
from torch import Tensor, nn

from aupipe.fer_models.backbones import Backbone
from aupipe.fer_models.methods.base import Method, Prediction, check_option, register, select_class


@register("wildcat")
class Wildcat(Method):
    """A 1 x 1 convolution to ``maps`` maps a class, their mean, and the pooling of :func:`spatial_pool`.

    ``kmax``, ``kmin``: shares of the pixels pooled at either end (``kmin=0``: none). ``alpha``: weight of the lowest,
    the negative evidence. The map of a class is the mean of its maps, with the bias, as in the paper.
    """

    network_options = ("maps", "kmax", "kmin", "alpha")
    title = "WILDCAT"
    order = 2

    def __init__(
        self,
        backbone: Backbone,
        n_classes: int,
        *,
        maps: int = 5,
        kmax: float = 0.5,
        kmin: float = 0.1,
        alpha: float = 0.6,
    ) -> None:
        check_option("maps", maps, maps >= 1, "1 or more maps a class")
        check_option("kmax", kmax, 0 < kmax <= 1, "a share of the pixels, above 0 and at most 1")
        check_option("kmin", kmin, 0 <= kmin <= 1, "a share of the pixels, 0 to 1")
        check_option("alpha", alpha, 0 <= alpha <= 1, "a weight, 0 to 1")
        super().__init__(backbone, n_classes)
        self.maps, self.kmax, self.kmin, self.alpha = maps, kmax, kmin, alpha
        self.head = nn.Conv2d(backbone.channels[-1], n_classes * maps, 1)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Prediction:
        """Compute logits, features and, as ``extra["maps"]``, the map of each class ``(B, K, h, w)``."""
        features: tuple[Tensor, ...] = self.backbone(images)
        maps = self.class_maps(features[-1])
        return Prediction(self._pool(maps), features, {"maps": maps})

    def class_maps(self, last: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k h w"]:
        """Pool class by class: the mean of a class's maps, in float32."""
        maps: Tensor = self.head(last).float()
        return maps.view(maps.shape[0], self.n_classes, self.maps, *maps.shape[2:]).mean(2)

    def logits(self, features: tuple[Tensor, ...]) -> Float[Tensor, "b k"]:
        """Pool the maps."""
        return self._pool(self.class_maps(features[-1]))

    def _pool(self, maps: Float[Tensor, "b k h w"]) -> Float[Tensor, "b k"]:
        return spatial_pool(maps, self.kmax, self.kmin, self.alpha)

    def cam(self, prediction: Prediction, class_index: Int64[Tensor, "b"]) -> Float[Tensor, "b h w"]:
        """Return the class's map."""
        return select_class(prediction.extra["maps"], class_index)


def spatial_pool(maps: Float[Tensor, "b k h w"], kmax: float, kmin: float, alpha: float) -> Float[Tensor, "b k"]:
    """Add the mean of the ``kmax`` highest pixels plus ``alpha`` times the mean of the ``kmin`` lowest (equation 2).

    Shares are rounded to whole pixels, one at least unless the share is 0.
    """
    pixels = maps.flatten(2)
    high, low = (max(1, round(share * int(pixels.shape[2]))) for share in (kmax, kmin))
    score = pixels.topk(high, dim=2).values.mean(2)
    if kmin == 0:
        return score
    return score + alpha * pixels.topk(low, dim=2, largest=False).values.mean(2)
