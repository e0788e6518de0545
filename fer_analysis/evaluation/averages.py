"""Average maps of each class: where attention and CAM look on average, beside the average AU map and face.

Faces are aligned crops, so pixels correspond. Each map is brought to the AU map's size and scaled to its own maximum
before it is added, as overlays show it: otherwise a few faces with large activations would be the average. Sums are
divided by the number of faces of that very class.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from aupipe.fer_data.errors import RunError, paragraph
from aupipe.fer_data.loading.loader import Batch
from aupipe.fer_data.recorded import read_recorded, recorded_path
from aupipe.fer_models.targets import EPSILON

AVERAGES = "average_maps.npz"


@dataclass(frozen=True)
class AverageMaps:
    """Averages by class over the faces of that true class, right and wrong predictions alike.

    maps: by name (``"1"`` .. the layers' attention, ``"cam"`` of the label, ``"cam_predicted"``), (k, m, m) in [0, 1];
    au_map: (k, m, m), over the faces that have one; face: (k, c, c, 3) RGB in [0, 1]. count, count_with_map: faces
    behind each; where a count is 0 the average is 0.
    """

    count: Int64[np.ndarray, "k"]
    count_with_map: Int64[np.ndarray, "k"]
    face: Float32[np.ndarray, "k c c 3"]
    au_map: Float32[np.ndarray, "k m m"]
    maps: Mapping[str, Float32[np.ndarray, "k m m"]]

    @property
    def attention(self) -> Float32[np.ndarray, "k m m"]:
        """The attention of the deepest layer."""
        return self.maps[max(filter(str.isdecimal, self.maps), key=int)]


class Accumulator:
    """Sums over the batches of a split."""

    def __init__(self, n_classes: int, mean: Float[Tensor, "3"], std: Float[Tensor, "3"]) -> None:
        self.k, self.mean, self.std = n_classes, mean, std
        self.sums: dict[str, Tensor] = {}
        self.count = torch.zeros(n_classes, dtype=torch.int64)
        self.count_with_map = torch.zeros(n_classes, dtype=torch.int64)

    def add(self, batch: Batch, maps: Mapping[str, Tensor]) -> None:
        """Add one batch and the model's maps of it, at the size of the AU maps."""
        self.count += batch.label.bincount(minlength=self.k).cpu()
        self.count_with_map += batch.label[batch.has_map].bincount(minlength=self.k).cpu()
        of_class = F.one_hot(batch.label, self.k).T.float()
        pixels = torch.tensordot(of_class, batch.image, 1) * self.std[:, None, None]
        self._add("face", pixels + of_class.sum(1)[:, None, None, None] * self.mean[:, None, None])
        self._add("au_map", torch.tensordot(of_class, batch.au_map, 1))
        for name, value in maps.items():
            scale = 1 / value.amax((1, 2)).clamp_min(EPSILON)
            self._add(f"maps/{name}", torch.tensordot(of_class * scale, value, 1))

    def _add(self, name: str, batch_sum: Float32[Tensor, "k ..."]) -> None:
        """Add the sum of a batch, made in single precision, to the whole in double."""
        if name not in self.sums:
            self.sums[name] = torch.zeros_like(batch_sum, dtype=torch.float64)
        self.sums[name] += batch_sum

    def averages(self) -> AverageMaps:
        """Divide the sums by each class's own count. Call it after at least one batch."""
        maps = {name[5:]: self._mean(name, self.count) for name in self.sums if name.startswith("maps/")}
        face = self._mean("face", self.count).transpose(0, 2, 3, 1).clip(0, 1)
        au_map = self._mean("au_map", self.count_with_map)
        return AverageMaps(self.count.numpy(), self.count_with_map.numpy(), face, au_map, maps)

    def _mean(self, name: str, count: Int64[Tensor, "k"]) -> Float32[np.ndarray, "k ..."]:
        total = self.sums[name].cpu()
        divisor = count.clamp_min(1).reshape(-1, *[1] * (total.ndim - 1))
        return np.asarray((total / divisor).numpy(), np.float32)


def save_averages(path: Path, averages: AverageMaps, classes: Sequence[str]) -> None:
    """Write ``average_maps.npz``.

    It holds ``classes (k), count (k), count_with_map (k), face (k c c 3), au_map (k m m)``, ``attention (l k m m)`` by
    layer, and ``cam, cam_predicted (k m m)`` where the method has a CAM.
    """
    layers = sorted((name for name in averages.maps if name.isdecimal()), key=int)
    cams: dict[str, Any] = {name: value for name, value in averages.maps.items() if not name.isdecimal()}
    with recorded_path(path) as temporary, temporary.open("wb") as file:
        content: dict[str, Any] = {
            "classes": np.array(classes),
            "count": averages.count,
            "count_with_map": averages.count_with_map,
            "face": averages.face,
            "au_map": averages.au_map,
            "attention": np.stack([averages.maps[name] for name in layers]),
        }
        np.savez(file, **content, **cams)


def read_averages(path: Path, classes: Sequence[str]) -> AverageMaps:
    """Read ``average_maps.npz`` back.

    Args:
        path: The file.
        classes: The classes that it must be of.

    Raises:
        RunError: It is missing, damaged, or of other classes.
    """
    fix = "Run `aupipe evaluate` on that run again."
    data = read_recorded(path, fix)
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as content:
            arrays = {name: np.asarray(content[name]) for name in content.files}  # bytes, where a member is no array
        return _checked(arrays, classes)
    except (OSError, EOFError, ValueError, KeyError, IndexError, NotImplementedError, zipfile.BadZipFile) as error:
        raise RunError(paragraph("The average maps are damaged.", where=path, got=error, fix=fix)) from error


def _checked(arrays: Mapping[str, np.ndarray], classes: Sequence[str]) -> AverageMaps:
    """Check shapes and values; raises ``KeyError`` and ``ValueError``."""
    if arrays["classes"].tolist() != list(classes):
        raise ValueError(f"they are of the classes {arrays['classes'].tolist()}")
    k, side, crop = len(classes), arrays["au_map"].shape[-1], arrays["face"].shape[2]
    layers = len(arrays["attention"])
    shapes = {
        "count": (k,), "count_with_map": (k,), "face": (k, crop, crop, 3), "au_map": (k, side, side),
        "attention": (layers, k, side, side), "cam": (k, side, side), "cam_predicted": (k, side, side),
    }  # fmt: skip
    for name, shape in shapes.items():
        if name.startswith("cam") and name not in arrays:
            continue
        kind, array = np.integer if name.startswith("count") else np.floating, arrays[name]
        if array.shape != shape or not np.issubdtype(array.dtype, kind) or not array.size > 0:
            raise ValueError(f"{name} is {array.dtype} {array.shape}, where {shape} was expected")
        if not np.isfinite(array).all() or array.min() < 0 or (kind is np.floating and array.max() > 1):
            raise ValueError(f"{name} has values outside of what can be")
    maps = {str(number): values for number, values in enumerate(arrays["attention"], 1)}
    maps |= {name: arrays[name] for name in ("cam", "cam_predicted") if name in arrays}
    return AverageMaps(arrays["count"], arrays["count_with_map"], arrays["face"], arrays["au_map"], maps)
