"""A backbone: the feature maps of an image as a tuple, deepest last."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from aupipe.fer_data.errors import UserInputError, paragraph
from aupipe.fer_models.backbones.pretrained import WeightsOrigin


class Backbone(nn.Module):
    """Feature maps of an image, layer by layer.

    Layers are numbered 1 .. ``n_layers`` from the stem (ResNet: 1-5).

    Attributes:
        channels: Number of channels of each layer.
        reductions: Input pixels per feature pixel of each layer.
        grids: (height, width) of each layer for images of ``image_size`` pixels, measured; empty without a size.
        input_size: Side to which images are scaled before anything else; None: they are taken as they are.
        origin: Where its first weights came from.

    Raises:
        UserInputError: Images of ``image_size`` do not fit.
    """

    def __init__(
        self, name: str, body: nn.Module, image_size: int | None = None, origin: WeightsOrigin | None = None
    ) -> None:
        super().__init__()
        self.name = name
        self.body = body
        self.origin = origin or WeightsOrigin()
        self.input_size: int | None = None
        info: Any = body.feature_info
        self.channels: tuple[int, ...] = tuple(int(value) for value in info.channels())
        self.reductions: tuple[int, ...] = tuple(int(value) for value in info.reduction())
        self._channels_last = "NHWC" in str(getattr(body, "output_fmt", ""))
        self._seen: dict[int, tuple[Tensor, Tensor, Tensor]] = {}
        self.grids: tuple[tuple[int, int], ...] = () if image_size is None else self._measure(image_size)

    @property
    def n_layers(self) -> int:
        """Number of layers."""
        return len(self.channels)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> tuple[Float[Tensor, "b _ _ _"], ...]:
        """Compute feature maps ``(B, C, h, w)`` of every layer, deepest last."""
        outputs = list(self.body(scale_images(images, self.input_size)))[: self.n_layers]
        features = [self._planes(value) for value in outputs]
        seen, self._seen = self._seen, {}
        for layer, (before, given, after) in seen.items():
            if outputs[layer - 1] is not given and outputs[layer - 1] is not after:
                raise UserInputError(_no_transform(self.name, layer))
            features[layer - 1] = before
        return tuple(features)

    @property
    def has_head(self) -> bool:
        """True where the network's own paper puts another head on the last maps than a pooling one."""
        return hasattr(self.body, "make_head")

    def make_head(self, n_classes: int) -> nn.Module | None:
        """Make the head that the network's own paper puts on its last maps; None where that is a pooling."""
        body: Any = self.body
        return body.make_head(n_classes) if self.has_head else None

    def transform(self, layer: int, function: Callable[[Tensor], Tensor]) -> None:
        """Let the layers after ``layer`` see ``function(F)`` of its feature maps F ``(B, C, h, w)``, of the same shape.

        :meth:`forward` still returns F, from which all later layers are computed. No parameter and no name in the state
        changes.

        Raises:
            UserInputError: The layer is not the output of a module; found here or in the first forward pass.
        """
        name = str(self.body.feature_info.module_name()[layer - 1])  # type: ignore[union-attr,operator]
        modules = dict(self.body.named_modules())
        found = [modules[key] for key in (name, name.replace(".", "_"), f"body.{name}") if key in modules]
        if not found:
            raise UserInputError(_no_transform(self.name, layer))
        # A partial of a method, unlike a closure, follows the network when it is copied.
        found[0].register_forward_hook(partial(self._transform, layer, function))

    def connect(self, layer: int) -> None:
        """Make sure that the maps :meth:`forward` returns for a layer are those that later layers are computed from.

        They are, unless they were rearranged. Gradients with respect to them need it.
        """
        if self._channels_last:
            self.transform(layer, _unchanged)

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

    def keep_layers(self, count: int) -> None:
        """Forget the layers after the first ``count``, and what only they need where the body is a chain of modules."""
        self.channels, self.reductions = self.channels[:count], self.reductions[:count]
        self.grids = self.grids[:count]
        body: Any = self.body
        if taps := list(getattr(body, "return_layers", {})):
            names = list(body)
            for name in names[names.index(taps[count - 1]) + 1 :]:
                del body[name]
        elif hasattr(body, "keep_layers"):
            body.keep_layers(count)

    def _measure(self, image_size: int) -> tuple[tuple[int, int], ...]:
        training = self.training
        self.eval()
        try:
            with torch.no_grad():
                features = self(torch.zeros(1, 3, image_size, image_size))
        except (AssertionError, RuntimeError, ValueError, IndexError) as error:
            raise UserInputError(crop_message(self.name, image_size, error)) from error
        finally:
            self.train(training)
        return tuple((int(value.shape[2]), int(value.shape[3])) for value in features)


def scale_images(images: Float[Tensor, "b 3 h w"], side: int | None) -> Float[Tensor, "b 3 _ _"]:
    """Scale images to a square of ``side`` pixels, bilinear, without aliasing; None: leave them as they are."""
    if side is None or images.shape[2:] == (side, side):
        return images
    return F.interpolate(images, (side, side), mode="bilinear", align_corners=False, antialias=True)


def _unchanged(features: Tensor) -> Tensor:
    return features


def crop_message(name: str, image_size: int, error: Exception) -> str:
    """Explain that images of a size cannot be used."""
    return paragraph(
        f"{name} cannot take images of {image_size} x {image_size} pixels.",
        expected="a size of whole patches and windows (a multiple of the patch), and not too small for its layers",
        got=(str(error).strip() or type(error).__name__).splitlines()[0],
        fix="Change --crop-size.",
    )


def _no_transform(name: str, layer: int) -> str:
    return paragraph(
        f"Layer {layer} of the backbone {name!r} cannot be reached inside the network.",
        expected="a layer that is the output of one of the network's modules",
        fix="Choose another layer, or a convolutional backbone such as resnet18 or convnext_tiny.",
    )
