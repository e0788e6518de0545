"""Maps by the conventions of FG 2024 (arXiv 2402.00281), so that a cosine can stand beside its published ones.

Attention: the channel mean of a layer's features, grown with both ``align_corners`` and ``antialias``, as the program
behind those figures calls PyTorch (which displaces the map by half a cell then), and shifted up by its minimum where
that is negative. CAM: of the label, scaled from its minimum to its maximum before it is grown; of each method the map
that its tables measured (:meth:`~aupipe.fer_models.methods.Method.published_cam`). Everywhere else here the positive
part is measured, unshifted: see :mod:`aupipe.fer_models.metrics.cosines`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float32, Int64
from torch import Tensor

from aupipe.fer_models.methods import Method, Prediction
from aupipe.fer_models.targets import attention, resize_maps


def published_maps(
    model: Method, out: Prediction, class_index: Int64[Tensor, "b"]
) -> dict[str, Float32[Tensor, "b h w"]]:
    """Read out the maps at native resolution: ``"1"`` .. each layer's attention, and ``"cam"`` where there is one."""
    layers = enumerate(model.published_features(out.features), 1)
    maps = {str(number): attention(layer.detach().float()) for number, layer in layers}
    if model.has_cam:
        with torch.set_grad_enabled(model.needs_graph):
            maps["cam"] = model.published_cam(out, class_index).detach().float()
    return maps


def grow_published(name: str, maps: Float32[Tensor, "b h w"], size: int) -> Float32[Tensor, "b m m"]:
    """Bring maps named as by :func:`published_maps` to the AU maps' size; none has a negative value."""
    if not name.isdecimal():
        return resize_maps(maps, (size, size))
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    grown = F.interpolate(maps[:, None], (size, size), mode="bilinear", align_corners=True, antialias=True)[:, 0]
    return grown.clamp(low, high) - low.clamp_max(0)
