"""Backbones: any timm model with feature maps, as a tuple, deepest last. The only module that imports timm."""

from __future__ import annotations

import difflib
import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fer_data.errors import RunError, UserInputError, paragraph
from fer_models._torchvision import ensure_torchvision

ensure_torchvision()

import timm  # noqa: E402  (only importable once torchvision is)


class Backbone(nn.Module):
    """Feature maps of an image, layer by layer.

    Layers are numbered 1 .. ``n_layers`` from the stem (ResNet: 1-5). ``channels`` and ``reductions`` (input pixels per
    feature pixel) hold one number per layer.
    """

    def __init__(self, name: str, body: nn.Module) -> None:
        super().__init__()
        self.name = name
        self.body = body
        info: Any = body.feature_info
        self.channels: tuple[int, ...] = tuple(int(value) for value in info.channels())
        self.reductions: tuple[int, ...] = tuple(int(value) for value in info.reduction())
        self._channels_last = "NHWC" in str(getattr(body, "output_fmt", ""))
        self._seen: dict[int, tuple[Tensor, Tensor, Tensor]] = {}

    @property
    def n_layers(self) -> int:
        """Number of layers."""
        return len(self.channels)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> tuple[Float[Tensor, "b _ _ _"], ...]:
        """Feature maps ``(B, C, h, w)`` of every layer, deepest last."""
        outputs = list(self.body(images))
        features = [self._planes(value) for value in outputs]
        seen, self._seen = self._seen, {}
        for layer, (before, given, after) in seen.items():
            if outputs[layer - 1] is not given and outputs[layer - 1] is not after:
                raise UserInputError(_no_transform(self.name, layer))
            features[layer - 1] = before
        return tuple(features)

    def transform(self, layer: int, function: Callable[[Tensor], Tensor]) -> None:
        """Let the layers after ``layer`` see ``function(F)`` of its feature maps F ``(B, C, h, w)``, of the same shape.

        :meth:`forward` still returns F, and F lies on the way to all later layers, so gradients with respect to it
        are those of the whole network. No parameter and no name in the state changes. Raises :class:`UserInputError`,
        here or in the first forward pass, for a backbone whose layer is not the output of one of its modules.
        """
        name = str(self.body.feature_info.module_name(layer - 1))  # type: ignore[union-attr,operator]
        modules = dict(self.body.named_modules())
        found = [modules[key] for key in (name, name.replace(".", "_"), f"body.{name}") if key in modules]
        if not found:
            raise UserInputError(_no_transform(self.name, layer))
        # A partial of a method, unlike a closure, follows the network when it is copied.
        found[0].register_forward_hook(partial(self._transform, layer, function))

    def _transform(
        self, layer: int, function: Callable[[Tensor], Tensor], _module: nn.Module, _inputs: Any, output: Tensor
    ) -> Tensor:
        before = self._planes(output)
        changed = function(before)
        after = changed.permute(0, 2, 3, 1) if self._channels_last else changed
        self._seen[layer] = (before, output, after)
        return after

    def _planes(self, value: Tensor) -> Tensor:
        return value.permute(0, 3, 1, 2) if self._channels_last else value


def create_backbone(name: str, *, pretrained: bool = False, weights: Path | None = None) -> Backbone:
    """A timm model by name; ``pretrained``: timm's own weights, ``weights``: a safetensors or weights-only torch file.

    Raises :class:`UserInputError` for an unknown name or one without feature maps, :class:`RunError` when weights
    cannot be had.
    """
    if not timm.is_model(name):
        close = difflib.get_close_matches(name, timm.list_models(), n=3, cutoff=0.5)
        raise UserInputError(
            paragraph(
                f"Unknown backbone {name!r}.",
                expected="the name of a timm model, for example resnet18, resnet50, convnext_tiny",
                fix=f"Did you mean {' or '.join(close)}?" if close else None,
            )
        )
    options: dict[str, Any] = {"pretrained": pretrained or weights is not None}
    if weights is not None:
        if not weights.is_file():
            raise RunError(paragraph(f"The weights file {weights} does not exist.", fix="Mend --weights."))
        options["pretrained_cfg_overlay"] = {"file": str(weights)}
    try:
        body = _create_seeded(name, options) if weights is not None else _create(name, options)
    except (OSError, KeyError, pickle.UnpicklingError) as error:
        raise RunError(_weights_message(name, weights, error)) from error
    except (RuntimeError, AttributeError) as error:
        if options["pretrained"]:
            raise RunError(_weights_message(name, weights, error)) from error
        raise UserInputError(
            paragraph(
                f"The model {name!r} cannot give feature maps.",
                got=error,
                fix="Choose a convolutional model such as resnet18 or convnext_tiny.",
            )
        ) from error
    if weights is not None and (absent := _left_random(name, body)):
        raise RunError(
            _weights_message(name, weights, f"it lacks {len(absent)} tensors, among them {', '.join(absent[:3])}")
        )
    return Backbone(name, body)


def _create(name: str, options: dict[str, Any]) -> nn.Module:
    body: nn.Module = timm.create_model(name, features_only=True, **options)
    return body


def _create_seeded(name: str, options: dict[str, Any]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return _create(name, options)


def _left_random(name: str, body: nn.Module) -> list[str]:
    """Weights that a file did not fill: timm renames tensors of many formats, and accepts a file that fits nothing.

    A random tensor never comes twice, so a weight that the file filled cannot keep its seeded start.
    """
    seeded = _create_seeded(name, {"pretrained": False}).state_dict()
    return [key for key, value in body.state_dict().items() if value.ndim > 1 and torch.equal(value, seeded[key])]


def _weights_message(name: str, weights: Path | None, error: Exception | str) -> str:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    if weights is not None:
        return paragraph(
            f"The weights in {weights} do not fit {name!r}, or the file cannot be read.",
            got=reason,
            fix="Use weights of this very model, saved as safetensors or as a plain torch state dict.",
        )
    return paragraph(
        f"The pretrained weights of {name!r} could not be had: they come from the network on first use.",
        got=reason,
        fix="Without a network, leave out --pretrained, or download them elsewhere and give them with --weights FILE.",
    )


def _no_transform(name: str, layer: int) -> str:
    return paragraph(
        f"Layer {layer} of the backbone {name!r} cannot be reached inside the network.",
        expected="a layer that is the output of one of the network's modules",
        fix="Choose another layer, or a convolutional backbone such as resnet18 or convnext_tiny.",
    )


def library_versions() -> dict[str, str]:
    """Versions that a run records."""
    return {"torch": str(torch.__version__), "timm": str(timm.__version__)}
