"""APViT (Xue et al. 2022, arXiv 2212.05463): a CNN's feature pixels as tokens, of which only the attended stay.

"Vision Transformer with Attentive Pooling for Robust Facial Expression Recognition". The poolings have no parameters.
Where paper and program leave a choice, it is that of the authors' configuration for RAF-DB.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from timm.layers.attention import Attention
from timm.layers.mlp import Mlp
from timm.layers.pos_embed import resample_abs_pos_embed
from torch import Tensor, nn

from aupipe.fer_data.errors import UserInputError, paragraph
from aupipe.fer_models.backbones import Backbone
from aupipe.fer_models.backbones.tokens import class_logits
from aupipe.fer_models.methods.base import Method, Prediction, check_option, register
from aupipe.fer_models.targets import attention

GRID = 14
"""Side of the feature maps that become tokens: 196 of them in the paper."""

MLP_RATIO = 3
"""Width of the MLPs in token widths."""

EPSILON = 1e-6
"""Of the layer norms."""

SCORES = ("abs_sum", "mean")
"""What makes patch pooling keep a feature pixel: the sum of its absolute values after the projection; or its channel
mean before, which is the attention that is aligned with AU maps."""


class PoolingBlock(nn.Module):
    """A transformer block that passes on the class token and the patches it attends to most (attentive token pooling).

    ``keep``: share of the patches that stays, cut to a whole number; 1: all. The choice lies between attention and MLP.
    A patch's score is the sum over the heads of the class token's logits, before the softmax.
    """

    def __init__(self, dim: int, heads: int, keep: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, EPSILON)
        self.attn = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, EPSILON)
        self.mlp = Mlp(dim, MLP_RATIO * dim)
        self.keep = keep

    def forward(self, tokens: Float[Tensor, "b n c"]) -> Float[Tensor, "b m c"]:
        """Return the kept tokens after the block, in their order, the class token first."""
        normed = self.norm1(tokens)
        tokens = tokens + self.attn(normed)
        if self.keep < 1:
            scores = class_logits(self.attn, normed.detach()).sum(1)[:, 1:]
            kept = strongest(scores, max(1, int(int(scores.shape[1]) * self.keep))) + 1
            tokens = torch.cat([tokens[:, :1], take(tokens, kept)], 1)
        result: Tensor = tokens + self.mlp(self.norm2(tokens))
        return result


def strongest(values: Float[Tensor, "b n"], count: int) -> Int64[Tensor, "b m"]:
    """Find the places of the ``count`` largest values of each row, in ascending order of place."""
    return values.topk(count, 1).indices.sort(1).values


def take(tokens: Float[Tensor, "b n c"], places: Int64[Tensor, "b m"]) -> Float[Tensor, "b m c"]:
    """Select the tokens at the given places."""
    return tokens.gather(1, places[..., None].expand(-1, -1, tokens.shape[2]))


def nearest_layer(backbone: Backbone) -> int:
    """Find the layer (from 1) whose grid is closest to 14 x 14, the deeper of two equals.

    A backbone that was told no image size is taken to see 224 pixels.
    """
    sides = [grid[0] for grid in backbone.grids] or [224 // reduction for reduction in backbone.reductions]
    return min(range(1, len(sides) + 1), key=lambda number: (abs(sides[number - 1] - GRID), -number))


@register("apvit")
class APViT(Method):
    """CNN features, attentive patch pooling, a small vision transformer with attentive token pooling.

    The feature maps nearest to 14 x 14 are the deepest layer; what follows them in the backbone is not used. Patch
    pooling keeps the share ``keep`` (160 of 196) of the pixels with the largest ``score`` (:data:`SCORES`); of the
    ``depth`` blocks the second half keeps the share ``token_keep`` of its patches. The class token classifies. The
    paper defines no class activation map. The authors' tokens are 768 wide (preset ``apvit-rafdb``).
    """

    network_options = ("score", "keep", "depth", "heads", "dim", "token_keep")
    title = "APViT"
    order = 11
    has_cam = False
    changed = (
        "patch pooling scored by the channel mean, token pooling by the attention after the softmax, and layer norms "
        "had an epsilon of 1e-5"
    )

    @classmethod
    def check(cls, backbone: Backbone) -> None:
        """Raise :class:`UserInputError` for a backbone of one resolution, as transformers are themselves."""
        if len(set(backbone.reductions)) == 1:
            raise UserInputError(
                paragraph(
                    f"The method apvit cannot use {backbone.name}: all of its layers have one resolution.",
                    expected="a convolutional network whose maps become smaller, down to a few tokens",
                    fix="Choose ir50, or a network such as resnet18 or convnext_tiny.",
                )
            )

    def __init__(
        self,
        backbone: Backbone,
        n_classes: int,
        *,
        score: str = SCORES[0],
        keep: float = 160 / 196,
        depth: int = 8,
        heads: int = 8,
        dim: int = 256,
        token_keep: float = 0.9,
    ) -> None:
        super().__init__(backbone, n_classes)
        check_option("score", score, score in SCORES, f"one of {', '.join(SCORES)}")
        for option, share in (("keep", keep), ("token_keep", token_keep)):
            check_option(option, share, 0 < share <= 1, "more than 0, at most 1")
        for option, number in (("depth", depth), ("heads", heads)):
            check_option(option, number, number >= 1, "1 or more")
        check_option("dim", dim, dim >= 1 and dim % heads == 0, f"a multiple of heads, here of {heads}")
        backbone.keep_layers(nearest_layer(backbone))
        self.score, self.keep = score, keep
        self.grid = backbone.grids[-1] if backbone.grids else (GRID, GRID)
        self.project = nn.Conv2d(backbone.channels[-1], dim, 1)
        self.class_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.places = nn.Parameter(torch.zeros(1, 1 + self.grid[0] * self.grid[1], dim))
        shares = [1.0 if number < depth - depth // 2 else token_keep for number in range(depth)]
        self.blocks = nn.ModuleList(PoolingBlock(dim, heads, share) for share in shares)
        self.norm = nn.LayerNorm(dim, EPSILON)
        self.head = nn.Linear(dim, n_classes)
        for parameter in (self.class_token, self.places):
            nn.init.trunc_normal_(parameter, std=0.02)

    def logits(self, features: tuple[Tensor, ...]) -> Float[Tensor, "b k"]:
        """Compute the linear scores of the class token after the last block."""
        tokens = self.tokens(features[-1])
        for block in self.blocks:
            tokens = block(tokens)
        scores: Tensor = self.head(self.norm(tokens[:, 0]))
        return scores

    def tokens(self, last: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n d"]:
        """Return the class token and the projected feature pixels that patch pooling keeps, each with its place."""
        size = (last.shape[2], last.shape[3])
        places = resample_abs_pos_embed(self.places, list(size), list(self.grid), num_prefix_tokens=1)
        projected = self.project(last)
        patches = projected.flatten(2).transpose(1, 2) + places[:, 1:]
        scores = attention(last.detach()) if self.score == "mean" else projected.detach().abs().float().sum(1)
        kept = strongest(scores.flatten(1), max(1, round(int(patches.shape[1]) * self.keep)))
        first = (self.class_token + places[:, :1]).expand(patches.shape[0], -1, -1)
        return torch.cat([first, take(patches, kept)], 1)

    def cam(self, prediction: Prediction, class_index: Int64[Tensor, "b"]) -> Float[Tensor, "b h w"]:
        """Raise :class:`UserInputError`: there is no class activation map, only the attention of the layers."""
        raise UserInputError(
            paragraph("The method apvit has no class activation map.", fix="Use the attention of its layers.")
        )
