"""What a method is, and the registry of methods.

A method owns the backbone and its head and answers three questions: which logits, which training step, which map. A
method that only reads maps out differently overrides :meth:`Method.cam`; one with another head overrides
:meth:`Method.logits` too; one that changes training (two branches, mixed images, dropped areas) overrides
:meth:`Method.training_step`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float, Int64
from torch import Tensor, nn

from fer_data.errors import UserInputError, unknown_name
from fer_data.loader import Batch
from fer_models.backbones import Backbone
from fer_models.losses import LossTerms, Objective


@dataclass(frozen=True)
class Prediction:
    """A forward pass: logits ``(B, K)`` and the feature maps ``(B, C, h, w)`` of every layer, deepest last."""

    logits: Tensor
    features: tuple[Tensor, ...]


class Method(nn.Module, ABC):
    """A classifier with a map: backbone, head, training step, read-out. Subclasses take ``(backbone, n_classes)``."""

    def __init__(self, backbone: Backbone, n_classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.n_classes = n_classes

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Prediction:
        """Logits and features of normalised images."""
        features: tuple[Tensor, ...] = self.backbone(images)
        return Prediction(self.logits(features), features)

    def training_step(self, batch: Batch, objective: Objective) -> LossTerms:
        """Loss terms of a batch; called in training mode inside autocast."""
        prediction: Prediction = self(batch.image)
        return objective(prediction.logits, prediction.features, batch.label, batch.au_map, batch.has_map)

    @abstractmethod
    def logits(self, features: tuple[Tensor, ...]) -> Float[Tensor, "b k"]:
        """Class scores from the feature maps."""

    @abstractmethod
    def cam(self, features: tuple[Tensor, ...], class_index: Int64[Tensor, "b"]) -> Float[Tensor, "b h w"]:
        """The map of the given class of each sample, signed, at its native resolution."""


METHODS: dict[str, type[Method]] = {}


def register(name: str) -> Callable[[type[Method]], type[Method]]:
    """Class decorator: make a method known as ``name``. Raises ``ValueError`` when the name is taken."""

    def add(method: type[Method]) -> type[Method]:
        if name in METHODS:
            raise ValueError(f"the method {name!r} is registered twice: {METHODS[name].__name__}, {method.__name__}")
        METHODS[name] = method
        return method

    return add


def method_class(name: str) -> type[Method]:
    """The class registered as ``name``. Raises :class:`UserInputError` with what exists."""
    if name not in METHODS:
        raise UserInputError(unknown_name("method", name, sorted(METHODS)))
    return METHODS[name]


def create_method(name: str, backbone: Backbone, n_classes: int, **options: Any) -> Method:
    """Build a method on a backbone. Raises :class:`UserInputError` for an unknown name."""
    return method_class(name)(backbone, n_classes, **options)
