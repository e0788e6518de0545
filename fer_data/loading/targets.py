"""The target that attention is guided to: the class's AU map, or one of the controls that tell guidance from chance.

A target covers the whole image and takes the way of every map from there: crop, mirror image, rotation and erasing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int64, UInt8
from torch import Tensor

from aupipe.fer_data.action_units.modes import DRAWN_AUS
from aupipe.fer_data.au_maps.codebook import ActionUnit, Codebook
from aupipe.fer_data.au_maps.device_maps import (
    make_plan,
    render_faces_on_device,
    render_on_device,
    render_regions_on_device,
)
from aupipe.fer_data.au_maps.shapes.gaussian import Gaussian
from aupipe.fer_data.errors import UserInputError, paragraph, unknown_name
from aupipe.fer_data.loading.counters import counter_hash
from aupipe.fer_data.shards import SplitReader, Store

MapSource = Literal["stored", "rendered"]
Target = Literal["class", "mean", "shuffled", "landmarks", "other_face"]
Neutral = Literal["skip", "uniform"]

LANDMARK_SIGMA = 0.06
"""Width of a landmark's Gaussian in inter-ocular distances (36-45): neighbouring points just melt into lines."""

MAPS_AT_A_TIME = 1024
"""Maps that are averaged are read so many at a time."""


@dataclass(frozen=True)
class FaceAus:
    """The action units of a batch of faces, in the order of :data:`DRAWN_AUS`.

    Attributes:
        regions: The place of each, peak 1; zero for one that the codebook does not describe.
        weights: Of each, in [0, 1]: the larger of left and right.
        known: False for faces of which nothing is known.
    """

    regions: Float32[Tensor, "b a m m"]
    weights: Float32[Tensor, "b a"]
    known: Bool[Tensor, "b"]


class Targets:
    """The targets of a split's rows.

    Args:
        reader: The split.
        device: Where maps are drawn.
        seed: Of the shuffled codebook.
        target: ``class`` is the store's AU map, of the label or, by ``build-maps --aus``, of the face; ``mean`` the
            class-agnostic :func:`mean_map`; ``shuffled`` the AU map of another expression, always the same one
            (:func:`other_expression`); ``landmarks`` a Gaussian at each of the 68 points; ``other_face`` the action
            units of another face of the same class, always the same one (:func:`other_face`).
        neutral: Faces of classes without AUs that have no map of their own get no target (``skip``) or a ``uniform``
            one.
        maps: Source of a class's map, see :class:`~aupipe.fer_data.loading.loader.TripletLoader`.
        learned: The faces of :func:`mean_map`; None: the reader's of the train split, else the whole train split.

    Raises:
        UserInputError: Another choice.
    """

    def __init__(
        self,
        reader: SplitReader,
        device: torch.device,
        *,
        target: Target = "class",
        neutral: Neutral = "skip",
        maps: MapSource = "stored",
        seed: int = 0,
        learned: SplitReader | None = None,
    ) -> None:
        choices = {"target": (target, Target), "neutral": (neutral, Neutral), "maps": (maps, MapSource)}
        for name, (value, known) in choices.items():
            if value not in get_args(known):
                raise UserInputError(unknown_name(f"value of {name}", value, list(get_args(known))))
        store = reader.store
        self.reader, self.device, self.target = reader, device, target
        self.reads_maps = target == "class" and maps == "stored"
        self.map_size = store.index.map_size
        self._mapped = mapped_classes(store)
        self._blank = ~self._mapped if neutral == "uniform" else np.zeros_like(self._mapped)
        self._drawn_label = np.arange(len(self._mapped))
        self._template: Tensor | None = None
        self._weights: UInt8[np.ndarray, "n 99 2"] | None = None
        own = store.index.aus != "class"
        if target == "shuffled":
            self._drawn_label = other_expression(self._mapped, seed)
        if target == "mean":
            learned = learned or (reader if reader.split == "train" else None)  # which may be a few of its faces
            if learned is None and "train" not in store.index.splits:
                raise _no_faces_to_average(store)
            self._template = torch.from_numpy(mean_map(store, learned).astype(np.float32)).to(device)
        elif target == "landmarks":
            self._plan = make_plan(landmark_codebook(), ["face"], store.index.image_size)
            self._drawn_label[:] = 0
        elif target == "other_face":
            if reader.au_weight is None or not own:
                raise _no_faces_own(store)
            self._weights = reader.au_weight[other_face(reader.labels, reader.has_map, seed)]
        elif own and target == "class" and not self.reads_maps:
            self._weights = reader.au_weight
        elif not self.reads_maps:
            self._plan = make_plan(store.codebook, store.index.classes, store.index.image_size)

    def maps(self, rows: Int64[np.ndarray, "b"], stored: Float32[Tensor, "b m m"] | None) -> Float32[Tensor, "b m m"]:
        """Make whole targets of some rows in [0, 1]; zero where :meth:`has_map` is False. ``stored``: what was read."""
        drawn = self._draw(rows) if stored is None else stored
        mapped = self._has_own(rows)
        drawn = drawn * self._put(mapped.astype(np.float32))[:, None, None]
        blank = self._blank[self.reader.labels[rows]] & ~mapped
        return drawn.masked_fill(self._put(blank)[:, None, None], 1.0) if blank.any() else drawn

    def has_map(self, rows: Int64[np.ndarray, "b"]) -> Bool[np.ndarray, "b"]:
        """Tell which rows have a target."""
        return np.asarray(self._has_own(rows) | self._blank[self.reader.labels[rows]])

    def _has_own(self, rows: Int64[np.ndarray, "b"]) -> Bool[np.ndarray, "b"]:
        """Tell which rows have a target that is not uniform: a face's own map counts, whatever its class."""
        mapped = self.reader.has_map[rows] > 0
        if self.target == "shuffled":  # drawn by the label, which may have no map where the face has
            mapped &= self._mapped[self.reader.labels[rows]]
        return np.asarray(mapped)

    def action_units(
        self, rows: Int64[np.ndarray, "b"], points: Float32[np.ndarray, "b 68 2"], crop: int, size: int
    ) -> FaceAus:
        """Draw the regions of :data:`DRAWN_AUS` on faces whose ``points`` lie in a crop, with the faces' weights."""
        reader = self.reader
        stored = reader.au_weight if self._weights is None else self._weights
        if stored is None or reader.au_source is None:
            raise _no_weights(reader.store)
        return FaceAus(
            regions=render_regions_on_device(self._put(points), DRAWN_AUS, reader.store.codebook, crop, size),
            weights=self._put(stored[rows][:, list(DRAWN_AUS)].max(-1) / np.float32(255)),
            known=self._put(reader.au_source[rows] > 0),
        )

    def _draw(self, rows: Int64[np.ndarray, "b"]) -> Float32[Tensor, "b m m"]:
        if self._template is not None:
            return self._template.expand(len(rows), -1, -1)
        landmarks, index = self._put(self.reader.landmarks[rows]), self.reader.store.index
        if self._weights is not None:
            weights = self._weights[rows] / np.float32(255)
            return render_faces_on_device(
                landmarks, weights, self.reader.store.codebook, index.image_size, self.map_size
            )
        labels = self._put(self._drawn_label[self.reader.labels[rows]])
        return render_on_device(landmarks, labels, self._plan, self.map_size)

    def _put(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self.device)


def mapped_classes(store: Store) -> Bool[np.ndarray, "k"]:
    """Tell for each of the store's classes whether it has AUs in its codebook."""
    return np.array([store.codebook.has_map(name) for name in store.index.classes], bool)


def other_expression(mapped: Bool[np.ndarray, "k"], seed: int) -> Int64[np.ndarray, "k"]:
    """Shuffle a codebook: give each class the AUs of another one, never its own; classes without AUs keep theirs.

    The expressions form one random circle and each gets the next one's AUs.

    Raises:
        UserInputError: There are fewer than two expressions to exchange.
    """
    rows = np.flatnonzero(mapped)
    if len(rows) < 2:
        raise UserInputError(
            paragraph(
                "AUs cannot be exchanged between expressions.",
                expected="a store with two or more expressions that have AUs",
                got=f"{len(rows)}",
                fix="Use --align-target mean or landmarks.",
            )
        )
    others = np.arange(len(mapped))
    _exchange(others, rows, seed)
    return others


def other_face(labels: UInt8[np.ndarray, "n"], has_map: UInt8[np.ndarray, "n"], seed: int) -> Int64[np.ndarray, "n"]:
    """Give each row with a map another such row of the same class: within a class they form one random circle."""
    others = np.arange(len(labels))
    for label in np.unique(labels):
        _exchange(others, np.flatnonzero((labels == label) & (has_map > 0)), seed)
    return others


def _exchange(others: Int64[np.ndarray, "n"], rows: Int64[np.ndarray, "k"], seed: int) -> None:
    """Let the given rows form one random circle, and give each the next one."""
    circle = rows[np.argsort(counter_hash(seed, 0, rows, 1)[:, 0])]
    others[circle] = np.roll(circle, -1)


def _no_faces_own(store: Store) -> UserInputError:
    return UserInputError(
        paragraph(
            "Every face of a class has the same action units in this store: there are no other face's to guide by.",
            where=store.folder,
            expected="a store built with `aupipe build-maps --aus fused`, `estimated` or `annotated`",
            got="maps of the label's action units",
        )
    )


def _no_weights(store: Store) -> UserInputError:
    return UserInputError(
        paragraph(
            "The store does not say which action units its faces have, so none can have a map of its own.",
            where=store.folder,
            expected="a store of format 1.4, 2.3 or later",
            got=store.index.schema_version,
            fix="Build it again with `aupipe build-maps`, best with --aus fused.",
        )
    )


def _no_faces_to_average(store: Store) -> UserInputError:
    return UserInputError(
        paragraph(
            "The target `mean` is the mean map of the faces that were learned from, and the store has no train split.",
            where=store.place,
            fix="Give these faces: learned=open_store(...).split('train').",
        )
    )


def landmark_codebook(sigma: float = LANDMARK_SIGMA) -> Codebook:
    """Make a codebook whose only expression, ``face``, is a round Gaussian at each of the 68 points."""
    points = {n: ActionUnit(n, f"point {n}", (Gaussian((n,), (sigma, sigma), mirror=False),)) for n in range(68)}
    weights: dict[int, float] = dict.fromkeys(points, 1.0)
    return Codebook("landmarks", "gaussian", "Every landmark alike.", "a control", points, {"face": weights}, {})


def mean_map(store: Store, reader: SplitReader | None = None) -> Float64[np.ndarray, "m m"]:
    """Average the expressions' mean maps: one template for all classes (zero without maps).

    Args:
        store: The store.
        reader: The faces; None: those of train.
    """
    index = store.index
    sums = np.zeros((len(index.classes), index.map_size, index.map_size))
    if reader is None and "train" not in index.splits:
        return np.asarray(sums[0])
    reader = reader or store.split("train")
    mapped = np.flatnonzero(reader.has_map)
    counts = np.bincount(reader.labels[mapped], minlength=len(index.classes))
    for start in range(0, len(mapped), MAPS_AT_A_TIME):
        rows = mapped[start : start + MAPS_AT_A_TIME]
        maps, labels = reader.stored_maps(rows), reader.labels[rows]
        for label in np.unique(labels):
            sums[label] += maps[labels == label].sum(0, dtype=np.int64)
    present = counts > 0
    if not present.any():
        return np.asarray(sums[0])
    return np.asarray((sums[present] / (255 * counts[present, None, None])).mean(0))


def absent_classes(reader: SplitReader) -> Sequence[str]:
    """List the classes of the store that have no row in the split."""
    counts = np.bincount(reader.labels, minlength=len(reader.store.index.classes))
    return [name for name, count in zip(reader.store.index.classes, counts, strict=True) if not count]
