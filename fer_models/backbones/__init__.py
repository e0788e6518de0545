"""Backbones: networks that give feature maps layer by layer, most of them timm's."""

from aupipe.fer_models.backbones._torchvision import ensure_torchvision

ensure_torchvision()  # timm, which the modules below import, needs it

from aupipe.fer_models.backbones.base import Backbone  # noqa: E402
from aupipe.fer_models.backbones.create import create_backbone, library_versions  # noqa: E402
from aupipe.fer_models.backbones.tokens import TokenBackbone  # noqa: E402

__all__ = ["Backbone", "TokenBackbone", "create_backbone", "library_versions"]
