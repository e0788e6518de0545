"""IR-50, the face recognition network whose first three stages feed APViT (Xue et al. 2022).

The improved residual unit is that of ArcFace (Deng et al., CVPR 2019): BN - 3x3 - PReLU - 3x3 - BN. Modules carry the
names of the widely shared IR-50 checkpoints, so that face recognition weights load with ``--weights``.
"""

from __future__ import annotations

from jaxtyping import Float
from timm.models._features import FeatureInfo
from torch import Tensor, nn

NAME = "ir50"

STAGES = ((64, 3), (128, 4), (256, 14))
"""(channels, units) of the stages kept; each halves the resolution. The fourth, (512, 3), is not part of APViT."""

SPARE = ("output_layer.", "body.21.", "body.22.", "body.23.")
"""Beginnings of names in a whole IR-50's checkpoint that the three stages do without."""


class IRUnit(nn.Module):
    """Residual unit; the first of a stage has stride 2 and may widen."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        if inputs == outputs:
            self.shortcut_layer: nn.Module = nn.MaxPool2d(1, stride)
        else:
            self.shortcut_layer = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(inputs),
            nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False),
            nn.PReLU(outputs),
            nn.Conv2d(outputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d y x"]:
        """Add the residual to the shortcut."""
        result: Tensor = self.res_layer(x) + self.shortcut_layer(x)
        return result


class IR50(nn.Module):
    """IR-50's stem and three stages: 64, 64, 128, 256 channels at 1/1, 1/2, 1/4, 1/8; 14 x 14 x 256 at 112 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.input_layer = nn.Sequential(nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.PReLU(64))
        units: list[nn.Module] = []
        self.ends: list[int] = []
        inputs = 64
        for channels, count in STAGES:
            units += [IRUnit(inputs if k == 0 else channels, channels, 2 if k == 0 else 1) for k in range(count)]
            self.ends.append(len(units) - 1)
            inputs = channels
        self.body = nn.Sequential(*units)
        layers = [(64, 1, "input_layer"), *((c, 2 << k, f"body.{self.ends[k]}") for k, (c, _) in enumerate(STAGES))]
        entries = [{"num_chs": c, "reduction": reduction, "module": module} for c, reduction, module in layers]
        self.feature_info = FeatureInfo(entries, tuple(range(len(entries))))

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> list[Float[Tensor, "b _ _ _"]]:
        """Compute the feature maps of the stem and the stages."""
        x = self.input_layer(images)
        features = [x]
        for number, unit in enumerate(self.body):
            x = unit(x)
            if number in self.ends:
                features.append(x)
        return features

    def keep_layers(self, count: int) -> None:
        """Remove the units after layer ``count``, the stem being layer 1."""
        del self.body[self.ends[count - 2] + 1 if count > 1 else 0 :]
