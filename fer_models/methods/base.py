"""The base class of methods, and their registry.

A method owns the backbone and its head and answers three questions: which logits, which training step, which map. A
method that only reads maps out differently overrides :meth:`Method.cam`; one with another head overrides
:meth:`Method.logits` too, or :meth:`Method.forward` where its map needs more than logits and features; one that changes
training (two branches, mixed images, dropped areas) overrides :meth:`Method.training_step`. Its own settings are the
keyword-only arguments of its constructor, and ``--method-options`` sets them by name.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from aupipe.fer_data.errors import UserInputError, paragraph, unknown_name
from aupipe.fer_data.loading.loader import Batch
from aupipe.fer_data.spelling import registered_name
from aupipe.fer_models.au_maps import AuMaps, guidance_loss
from aupipe.fer_models.backbones import Backbone
from aupipe.fer_models.losses import LossTerms, Objective


@dataclass(frozen=True)
class Prediction:
    """A forward pass: logits ``(B, K)`` and the feature maps ``(B, C, h, w)`` of every layer, deepest last.

    ``extra``: what else the method's own map is made of (response maps, attention of the tokens), by name.
    """

    logits: Tensor
    features: tuple[Tensor, ...]
    extra: Mapping[str, Tensor] = field(default_factory=dict)


class Method(nn.Module, ABC):
    """A classifier with a map: backbone, head, training step, read-out. Subclasses take ``(backbone, n_classes)``.

    Attributes:
        needs_graph: True where :meth:`cam` differentiates through the forward pass, which must then run with gradients
            on (see :meth:`read`).
        has_cam: True where the method has a class map at all, besides the attention of its layers.
        trains_as: The method whose network and training this one shares to the bit, where it only reads another map out
            of them; such runs are trained once (see :func:`training_name`).
        title: The method's name in tables and figures; not inherited: without it ``name`` is written
            (see :func:`method_title`).
        order: Its row in the paper's table; not inherited: methods without it follow the others
            (see :func:`method_names`).
        network_options: Those of its settings that decide which weights the network has, or what it answers by them.
        changed: What the method does otherwise than when runs did not yet record its settings; such runs are refused.
    """

    title: ClassVar[str]
    order: ClassVar[int]
    needs_graph: bool = False
    has_cam: ClassVar[bool] = True
    trains_as: ClassVar[str | None] = None
    network_options: ClassVar[tuple[str, ...]] = ()
    changed: ClassVar[str] = ""

    @classmethod
    def check(cls, backbone: Backbone) -> None:
        """Raise :class:`UserInputError` when the method cannot use this backbone. Called before the constructor."""

    def __init__(self, backbone: Backbone, n_classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.n_classes = n_classes
        self.au_maps: AuMaps | None = None
        self.contrasts_aus = False

    def add_au_maps(self, *, contrast: bool = False) -> None:
        """Add a map for each action unit, trained where batches bring their faces' action units.

        ``contrast``: also by comparing faces of one class.

        Raises :class:`UserInputError` for a method with a training step of its own, which takes no such term.
        """
        if type(self).training_step is not Method.training_step:
            raise UserInputError(
                paragraph(
                    f"{type(self).__name__} has a training step of its own, without maps of single action units.",
                    expected="another --method, such as cam",
                    fix="Or use --guidance merged.",
                )
            )
        self.au_maps = AuMaps(self.backbone.channels[-1])
        self.contrasts_aus = contrast

    @property
    def keeps_head(self) -> bool:
        """True where the backbone keeps the head of its own paper, and the method adds none."""
        return False

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Prediction:
        """Compute logits and features of normalised images."""
        features: tuple[Tensor, ...] = self.backbone(images)
        return Prediction(self.logits(features), features)

    def read(self, images: Float[Tensor, "b 3 h w"]) -> Prediction:
        """Run a forward pass whose :meth:`cam` may be asked for: with gradients on where the map needs them."""
        if self.needs_graph:
            images = images.detach().requires_grad_()  # a graph from the start, even where all weights are frozen
        with torch.set_grad_enabled(self.needs_graph):
            prediction: Prediction = self(images)
        return prediction

    def read_au_maps(self, prediction: Prediction) -> Float[Tensor, "b a h w"] | None:
        """Read the map of each of :data:`~aupipe.fer_data.action_units.modes.DRAWN_AUS`; None where there are none."""
        return None if self.au_maps is None else self.au_maps(prediction.features[-1].detach()).detach()

    def training_step(self, batch: Batch, objective: Objective) -> LossTerms:
        """Compute the loss terms of a batch; called in training mode inside autocast."""
        prediction: Prediction = self(batch.image)
        aligned = (batch.au_map, batch.has_map, batch.valid)
        terms = objective(prediction.logits, prediction.features, batch.label, *aligned)
        if self.au_maps is None or batch.aus is None:
            return terms
        logits = self.au_maps.logits(prediction.features[-1])
        extra = guidance_loss(logits, batch.aus, batch.label, batch.valid, contrast=self.contrasts_aus)
        return terms.plus(objective.align_weight * extra)

    @abstractmethod
    def logits(self, features: tuple[Tensor, ...]) -> Float[Tensor, "b k"]:
        """Compute class scores from the feature maps."""

    @abstractmethod
    def cam(self, prediction: Prediction, class_index: Int64[Tensor, "b"]) -> Float[Tensor, "b h w"]:
        """Return the map of the given class of each sample, signed, at its native resolution.

        ``prediction`` comes from :meth:`read`. May be called more than once on it, with other classes. What speaks for
        the class is the map's positive part: no map is shifted by its minimum.
        """

    def published_features(self, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return the feature maps whose attention the tables of FG 2024 (arXiv 2402.00281) measured."""
        return features

    def published_cam(self, prediction: Prediction, class_index: Int64[Tensor, "b"]) -> Float[Tensor, "b h w"]:
        """Return the class's map as the tables of FG 2024 measured it: shifted and scaled to [0, 1]."""
        return unit_range(self.cam(prediction, class_index))


METHODS: dict[str, type[Method]] = {}


def register(name: str) -> Callable[[type[Method]], type[Method]]:
    """Make a method known as ``name`` (class decorator). Raises ``ValueError`` when the name is taken."""

    def add(method: type[Method]) -> type[Method]:
        if name in METHODS:
            raise ValueError(f"the method {name!r} is registered twice: {METHODS[name].__name__}, {method.__name__}")
        METHODS[name] = method
        return method

    return add


def method_name(name: str) -> str:
    """Return the registered name of a method as people write it (``Grad-CAM++``); an unknown one stays as it is."""
    return registered_name(name, METHODS)


def method_class(name: str) -> type[Method]:
    """Find the class registered as ``name``, see :func:`method_name`.

    Raises :class:`UserInputError` with what exists.
    """
    registered = method_name(name)
    if registered not in METHODS:
        raise UserInputError(unknown_name("method", name, sorted(METHODS)))
    return METHODS[registered]


def method_names() -> tuple[str, ...]:
    """List every method's name: the paper's rows in its order, then the others by name."""
    last = len(METHODS) + 1
    return tuple(sorted(METHODS, key=lambda name: (vars(METHODS[name]).get("order", last), name)))


def method_title(name: str) -> str:
    """Say how a method is written in tables and figures. An unknown one is written by its name."""
    return str(vars(METHODS[name]).get("title", name)) if name in METHODS else name


def training_name(name: str) -> str:
    """Return the method that runs of ``name`` are trained as: another one for a method that is only a read-out of it.

    Raises :class:`UserInputError` for an unknown name.
    """
    return method_class(name).trains_as or method_name(name)


def create_method(name: str, backbone: Backbone, n_classes: int, **options: Any) -> Method:
    """Build a method on a backbone.

    Args:
        name: One of :func:`method_names`.
        backbone: The network; it becomes part of the method.
        n_classes: Number of expressions.
        options: The method's own settings, see :func:`option_defaults`.

    Raises:
        UserInputError: The name or an option is unknown, or the method cannot use the backbone.
    """
    chosen = method_class(name)
    known = option_defaults(name)
    for option in options:
        if option not in known:
            raise UserInputError(_unknown_option(name, option))
    chosen.check(backbone)
    return chosen(backbone, n_classes, **options)


def option_defaults(name: str) -> dict[str, Any]:
    """List a method's own settings and their defaults: the keyword-only arguments of its constructor."""
    parameters = inspect.signature(method_class(name).__init__).parameters.values()
    return {one.name: one.default for one in parameters if one.kind is inspect.Parameter.KEYWORD_ONLY}


def parse_options(name: str, text: str) -> dict[str, Any]:
    """Parse ``kmax=0.5,alpha=0.6`` to the method's options, each of its default's type.

    Raises :class:`UserInputError` for an unknown option or a value of another type.
    """
    known, options = option_defaults(name), {}
    for part in filter(None, (one.strip() for one in text.split(","))):
        option, _, value = (piece.strip() for piece in part.partition("="))
        if option not in known:
            raise UserInputError(_unknown_option(name, option))
        kind = type(known[option])
        try:
            options[option] = {"true": True, "false": False}[value.lower()] if kind is bool else kind(value)
        except (ValueError, KeyError) as error:
            raise UserInputError(
                paragraph(
                    f"The value of {option} in --method-options cannot be read.",
                    expected={bool: "true or false", int: "a whole number", float: "a number"}.get(kind, kind.__name__),
                    got=part,
                )
            ) from error
    return options


def check_option(option: str, value: object, valid: bool, expected: str) -> None:
    """Raise :class:`UserInputError` unless an option's value is ``valid``; ``expected`` says which ones are."""
    if not valid:
        raise UserInputError(
            paragraph(
                f"The method's option {option} cannot have this value.",
                expected=expected,
                got=value,
                fix="Mend --method-options.",
            )
        )


def gradient_at(features: Tensor, output: Tensor, start: Tensor) -> Tensor:
    """Compute the gradient of ``output``, weighted by ``start``, with respect to a prediction's features.

    Repeatable, and at work where gradients are off too: ``output`` must be one of the prediction's own tensors.

    Raises :class:`UserInputError` where the output is not computed from these very features.
    """
    (gradient,) = torch.autograd.grad(output, features, start, retain_graph=True, allow_unused=True)
    if gradient is None:
        raise UserInputError(
            paragraph(
                "No gradient reaches this layer: the backbone hands its features out as a copy.",
                fix="Choose the last layer in --method-options, or another backbone.",
            )
        )
    return gradient.float()


def layer_number(option: str, value: int, backbone: Backbone) -> int:
    """Return the layer an option names, 1 .. ``n_layers``; 0 is the last. Raises :class:`UserInputError` for others."""
    last = backbone.n_layers
    check_option(option, value, 0 <= value <= last, f"a layer of {backbone.name}, 1 to {last}, or 0 for the last")
    return value or last


def select_class(maps: Float[Tensor, "b k h w"], class_index: Int64[Tensor, "b"]) -> Float[Tensor, "b h w"]:
    """Select each sample's map of its class."""
    return maps[torch.arange(maps.shape[0], device=maps.device), class_index]  # len() would fix an exported batch


def unit_range(maps: Float[Tensor, "b h w"]) -> Float[Tensor, "b h w"]:
    """Shift and scale each map to [0, 1]; a flat one becomes 0."""
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    span = high - low
    return (maps - low) / span.where(span > 0, 1.0)


def _unknown_option(name: str, option: str) -> str:
    return unknown_name(f"option of the method {name}", option, sorted(option_defaults(name)) or ["none: it has none"])
