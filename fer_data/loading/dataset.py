"""The split as a plain map-style data set, for those who bring their own ``DataLoader``."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from aupipe.fer_data.loading import augment
from aupipe.fer_data.loading.augment import AugmentConfig
from aupipe.fer_data.loading.fetch import fill
from aupipe.fer_data.loading.targets import Targets
from aupipe.fer_data.shards import SplitReader


class TripletDataset(torch.utils.data.Dataset[dict[str, Tensor]]):
    """Samples by row, each the very one that the loader delivers for (seed, epoch, row).

    Can be pickled and forked: nothing is opened before the first sample. Call :meth:`set_epoch` before each epoch, as
    for a ``DistributedSampler``; workers that outlive an epoch (``persistent_workers``) do not see it.
    """

    def __init__(
        self,
        reader: SplitReader,
        config: AugmentConfig,
        seed: int,
        rows: int,
        choices: Mapping[str, Any],
        *,
        mean: Float32[Tensor, "3"],
        std: Float32[Tensor, "3"],
    ) -> None:
        """``choices``: of :class:`~aupipe.fer_data.loading.targets.Targets`, as the loader has them."""
        self.choices = dict(choices)
        self.reader, self.config, self.seed, self.rows, self.epoch = reader, config, seed, rows, 0
        self.mean, self.std = mean, std

    def __getstate__(self) -> dict[str, Any]:
        """Keep the settings; targets are made in the process that needs them."""
        return {name: value for name, value in vars(self).items() if name != "_targets"}

    @cached_property
    def _targets(self) -> Targets:
        return Targets(self.reader, torch.device("cpu"), seed=self.seed, **self.choices)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose augmentation the samples get."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        """Read the fields of a :class:`~aupipe.fer_data.loading.loader.Batch` of one row, but for ``aus``."""
        if not -self.rows <= row < self.rows:
            raise IndexError(f"row {row} of {self.rows}")
        rows, index = np.array([row % self.rows]), self.reader.store.index
        parameters = augment.sample_parameters(self.config, self.seed, self.epoch, rows, index.image_size)
        cuts = augment.pixel_cuts(self.config, parameters, index.image_size)
        side = index.image_size if cuts is None else self.config.crop_size
        images = np.empty((1, side, side, 3), np.uint8)
        maps = np.empty((1, index.map_size, index.map_size), np.uint8) if self._targets.reads_maps else None
        fill(self.reader, rows, images, maps, cuts)
        image = augment.apply_to_images(
            self.config, parameters, torch.from_numpy(images), self.mean, self.std, cut=cuts is not None
        )
        target = self._targets.maps(rows, None if maps is None else torch.from_numpy(maps).float() / 255)
        au_map = augment.apply_to_maps(self.config, parameters, target, index.image_size)
        points = augment.crop_landmarks(self.reader.landmarks[rows], parameters, self.config.crop_size)
        return {
            "image": image[0],
            "label": torch.tensor(int(self.reader.labels[rows[0]])),
            "au_map": au_map[0],
            "has_map": torch.from_numpy(self._targets.has_map(rows))[0],
            "landmarks": torch.from_numpy(points[0]),
            "index": torch.tensor(int(rows[0])),
            "valid": augment.valid_pixels(parameters, au_map.shape[-1], au_map.device)[0],
        }
