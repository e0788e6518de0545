"""TS-CAM (Gao et al., ICCV 2021): the class token's attention times the tokens' evidence for the class."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from aupipe.fer_data.errors import UserInputError, paragraph
from aupipe.fer_models.backbones import Backbone, TokenBackbone
from aupipe.fer_models.methods.base import Method, Prediction, register, select_class


@register("tscam")
class TSCAM(Method):
    """Token semantic coupled attention map of a vision transformer.

    Semantic re-allocation: the last patch tokens, as a grid, go through a 3x3 convolution to one semantic map S_c per
    class, and the logit of class c is the mean of S_c. Semantic-attention coupling: its map is ``A * S_c``, where A is
    the sum over all blocks of the attention of the class token to the patches, averaged over the heads (a mean over the
    blocks would differ by a constant factor only). ``extra``: ``semantic`` ``(B, K, h, w)`` and, from :meth:`read`,
    ``attention`` ``(B, blocks, h, w)``.
    """

    title = "TS-CAM"
    order = 10
    backbone: TokenBackbone

    @classmethod
    def check(cls, backbone: Backbone) -> None:
        """Raise :class:`UserInputError` for a backbone without a class token whose attention can be read."""
        if not isinstance(backbone, TokenBackbone) or not backbone.attention_readable:
            raise UserInputError(
                paragraph(
                    f"The method tscam cannot use {backbone.name}.",
                    expected="a plain vision transformer: a class token, and standard attention in each block",
                    fix="Choose a backbone such as deit_tiny_patch16_224, deit_small_patch16_224 or "
                    "vit_small_patch16_224.",
                )
            )

    def __init__(self, backbone: Backbone, n_classes: int) -> None:
        super().__init__(backbone, n_classes)
        self.head = nn.Conv2d(backbone.channels[-1], n_classes, 3, padding=1)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Prediction:
        """Compute logits, the layers' token grids and the semantic maps; without attention: training needs none."""
        features = self.backbone(images)
        semantic = self.semantic(features)
        return Prediction(semantic.mean((2, 3)), features, {"semantic": semantic})

    def read(self, images: Float[Tensor, "b 3 h w"]) -> Prediction:
        """Run a forward pass that also reads the attention of each block."""
        with torch.no_grad(), self.backbone.class_attention() as rows:
            plain = self(images)
        attention = torch.stack(rows, 1).reshape(images.shape[0], -1, *plain.features[-1].shape[2:])
        return Prediction(plain.logits, plain.features, {**plain.extra, "attention": attention})

    def semantic(self, features: tuple[Tensor, ...]) -> Float[Tensor, "b k h w"]:
        """Compute S, one map per class, from the last tokens after the network's own norm."""
        maps: Tensor = self.head(self.backbone.normalised(features[-1]))
        return maps

    def logits(self, features: tuple[Tensor, ...]) -> Float[Tensor, "b k"]:
        """Compute the mean of each semantic map."""
        return self.semantic(features).mean((2, 3))

    def published_features(self, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return the layers, the last one after the network's own norm."""
        return (*features[:-1], self.backbone.normalised(features[-1]))

    def cam(self, prediction: Prediction, class_index: Int64[Tensor, "b"]) -> Float[Tensor, "b h w"]:
        """Multiply the summed attention and the semantic map of the class."""
        chosen = select_class(prediction.extra["semantic"].float(), class_index)
        return prediction.extra["attention"].float().sum(1) * chosen
