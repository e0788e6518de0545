"""Controls that guidance has to beat: maps that know nothing about the sample, and other expressions' AU maps."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from aupipe.fer_data.au_maps.heatmaps import known_or_blank, render_maps
from aupipe.fer_data.loading import augment
from aupipe.fer_data.loading.augment import AugmentConfig
from aupipe.fer_data.loading.loader import Batch
from aupipe.fer_data.loading.targets import mean_map
from aupipe.fer_data.shards import SplitReader, Store
from aupipe.fer_models import metrics


class ControlMaps:
    """The control maps at the size of the AU maps that the model is compared with.

    ``maps``: by name, ``uniform``, ``centre`` and, where the store's train split has maps, ``mean_map``.
    ``expressions``: the classes that have an AU map in the store's codebook.
    """

    def __init__(self, store: Store, reader: SplitReader, config: AugmentConfig) -> None:
        self.store, self.reader, self.config = store, reader, config
        index = store.index
        self.size = augment.cropped_map_size(config.crop_size, index.image_size, index.map_size)
        book = store.codebook
        self.expressions = [name for name in index.classes if name in book.expressions and book.has_map(name)]
        fixed = {"uniform": metrics.uniform_map(self.size), "centre": metrics.centre_map(self.size)}
        template = mean_map(store)
        if template.any():
            fixed["mean_map"] = self._crop(template[None])[0].numpy()
        self.maps: Mapping[str, Tensor] = {
            name: torch.from_numpy(np.asarray(value, np.float32)) for name, value in fixed.items()
        }

    def _crop(self, maps: Float[np.ndarray, "n m m"]) -> Float32[Tensor, "n s s"]:
        """Cut the evaluation's centre crop out of full maps."""
        index = self.store.index
        rows = np.arange(len(maps), dtype=np.int64)
        parameters = augment.sample_parameters(self.config, 0, 0, rows, index.image_size)
        values = torch.from_numpy(np.asarray(maps, np.float32))[:, None]
        return augment.crop_values(values, parameters, self.config.crop_size, index.image_size, self.size)[:, 0]

    def label_maps(self, batch: Batch) -> Float32[Tensor, "b s s"]:
        """Return each face's AU map of its label: the store's own, or drawn where the store's shows the face's AUs."""
        index = self.store.index
        if index.aus == "class":
            return batch.au_map
        names = [index.classes[label] for label in batch.label.tolist()]
        known = known_or_blank(self.store.codebook, names)
        points = self.reader.landmarks[batch.index.cpu().numpy()]
        maps = render_maps(points, known, self.store.codebook, index.image_size, index.map_size)
        return self._crop(maps).to(batch.au_map.device)

    def other_maps(self, batch: Batch) -> Float32[Tensor, "b o s s"]:
        """Draw every other expression on each face; its own slot is empty, as are faces without a map."""
        index, rows = self.store.index, batch.index.cpu().numpy()
        labels, mapped = batch.label.cpu().numpy(), batch.has_map.cpu().numpy()
        full = np.zeros((len(rows), len(self.expressions), index.map_size, index.map_size), np.float32)
        for place, name in enumerate(self.expressions):
            others = np.flatnonzero(mapped & (labels != index.classes.index(name)))
            points = self.reader.landmarks[rows[others]]
            full[others, place] = render_maps(
                points, [name] * len(others), self.store.codebook, index.image_size, index.map_size
            )
        cropped = self._crop(full.reshape(-1, index.map_size, index.map_size)) if full.size else torch.zeros(0)
        return cropped.reshape(len(rows), len(self.expressions), self.size, self.size).to(batch.au_map.device)
