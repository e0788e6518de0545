"""Backbones: networks that give feature maps layer by layer. The only room that imports timm."""

from fer_models.backbones.base import Backbone
from fer_models.backbones.create import create_backbone, library_versions
from fer_models.backbones.tokens import TokenBackbone

__all__ = ["Backbone", "TokenBackbone", "create_backbone", "library_versions"]
