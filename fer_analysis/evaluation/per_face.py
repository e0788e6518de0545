"""The table of figures that every map is given; to add one is to add an entry to :data:`FIGURES`.

A :class:`FaceFigure` is measured face by face and averaged over groups of faces; a :class:`DerivedFigure` is computed
from such averages. Whatever measures, averages, prints or writes figures walks over the table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from jaxtyping import Bool, Float, Float32, Float64, Int64
from numpy import ndarray
from torch import Tensor

from aupipe.fer_models import metrics
from aupipe.fer_models.metrics import localisation
from aupipe.fer_models.targets import cosine, directions

Needs = Literal["map", "region", "predicted_map"]
"""What a face must have for a figure: an AU map, a region in it, an AU map of the predicted expression."""


@dataclass(frozen=True)
class BatchFaces:
    """A batch of faces, as far as maps of every kind are measured against the same of it.

    ``others``: AU maps of the other expressions on the same face, its own slot empty. ``predicted_map``: AU map of the
    predicted expression on the face.
    """

    au_map: Float32[Tensor, "b m m"]
    others: Float32[Tensor, "b o m m"]
    predicted_map: Float32[Tensor, "b m m"]

    @cached_property
    def region(self) -> Bool[Tensor, "b m m"]:
        """The region of the AU map."""
        return localisation.au_region(self.au_map)

    @cached_property
    def n_others(self) -> Int64[Tensor, "b"]:
        """Number of the other expressions that have a map on the face."""
        return (self.others.amax((2, 3)) > 0).sum(1)

    @cached_property
    def au_direction(self) -> Float32[Tensor, "b n"]:
        """The AU map as a vector of length 1."""
        return directions(self.au_map)

    @cached_property
    def other_directions(self) -> Float32[Tensor, "b o n"]:
        """The others' maps as vectors of length 1."""
        return directions(self.others)


@dataclass(frozen=True)
class MapsOnFaces:
    """Maps of one kind on a batch of faces, at the size of the AU maps, and what they are measured against.

    ``native``: (height, width) that the network gave the maps; None: a control, which has no size of its own.
    ``published``: the maps by the conventions of the published tables
    (:mod:`~aupipe.fer_analysis.evaluation.as_published`); None for kinds that these do not have.
    """

    maps: Float32[Tensor, "b m m"]
    native: tuple[int, int] | None
    faces: BatchFaces
    published: Float32[Tensor, "b m m"] | None

    @cached_property
    def direction(self) -> Float32[Tensor, "b n"]:
        """The maps as vectors of length 1."""
        return directions(self.maps)

    @cached_property
    def with_others(self) -> Float32[Tensor, "b o"]:
        """Cosine with each of the others; 0 in its own slot, as a cosine with an empty map is."""
        return (self.direction[:, None] @ self.faces.other_directions.transpose(1, 2))[:, 0]


@dataclass(frozen=True)
class Shown:
    """The places where a figure appears besides ``metrics.json``.

    ``heading``: of its column in the printed table and the report, where it has one. ``benchmark``: whether a
    benchmark compares methods by it.
    """

    heading: str = ""
    benchmark: bool = False


@dataclass(frozen=True)
class FaceFigure:
    """A figure of one map on one face.

    ``column``: its name in ``predictions.csv``, behind that of the map. ``measure``: its values (b), or None where the
    batch or the kind of map has none. ``chance``: what a map that knows nothing scores on each face, from the region's
    share of the pixels; None: where only the controls can tell. ``only``: the one kind of map that has it; empty: all.
    """

    column: str
    measure: Callable[[MapsOnFaces], Float[Tensor, "b"] | None]
    needs: Needs = "map"
    chance: Callable[[Float64[ndarray, "n"]], Float64[ndarray, "n"]] | None = None
    only: str = ""
    shown: Shown = Shown()


Means = Callable[..., float | None]
"""``mean(name, owner)``: average of the face figure ``name`` over a group of faces, of the map in question or, where
one is named, of the map ``owner``; None where no face stands behind it."""


@dataclass(frozen=True)
class DerivedFigure:
    """A figure of one map over a group of faces."""

    derive: Callable[[Means], float | None]
    shown: Shown = Shown()


def _mean_over_others(of: MapsOnFaces) -> Float[Tensor, "b"] | None:
    """Average the cosine with the other expressions' maps; None where the codebook has a single expression."""
    if of.faces.others.shape[1] < 2:
        return None
    return of.with_others.sum(1) / of.faces.n_others.clamp_min(1)


def _nearest_other(of: MapsOnFaces) -> Float[Tensor, "b"] | None:
    """Take the cosine with that of the other expressions' maps which comes closest."""
    return None if of.faces.others.shape[1] < 2 else of.with_others.amax(1)


def _ceiling(of: MapsOnFaces) -> Float64[Tensor, "b"] | None:
    return None if of.native is None else torch.from_numpy(metrics.ceilings(of.faces.au_map.cpu().numpy(), *of.native))


def _less(wrong: str) -> Callable[[Means], float | None]:
    def derive(mean: Means) -> float | None:
        own, other = mean("cosine"), mean(wrong)
        return None if own is None or other is None else own - other

    return derive


def _above(floor: str) -> Callable[[Means], float | None]:
    return lambda mean: metrics.normalised(mean("cosine"), mean("cosine", floor), mean("ceiling"))


def _share(region_share: Float64[ndarray, "n"]) -> Float64[ndarray, "n"]:
    return region_share


FIGURES: dict[str, FaceFigure | DerivedFigure] = {
    "cosine": FaceFigure("cos", lambda of: (of.direction * of.faces.au_direction).sum(1), shown=Shown("cosine")),
    "cosine_wrong": FaceFigure("cos_wrong", _mean_over_others),
    "cosine_nearest": FaceFigure("cos_nearest", _nearest_other),
    "normalised": DerivedFigure(_above("uniform"), Shown("normalised", benchmark=True)),
    "normalised_over_mean_map": DerivedFigure(_above("mean_map")),
    "specificity": DerivedFigure(_less("cosine_wrong"), Shown("specificity", benchmark=True)),
    "specificity_nearest": DerivedFigure(_less("cosine_nearest"), Shown("nearest")),
    "pointing": FaceFigure(
        "pointing",
        lambda of: localisation.pointing(of.maps, of.faces.region),
        needs="region",
        chance=_share,
        shown=Shown("pointing", benchmark=True),
    ),
    "energy": FaceFigure(
        "energy",
        lambda of: localisation.energy(of.maps, of.faces.region),
        needs="region",
        chance=_share,
        shown=Shown("energy"),
    ),
    "pixel_ap": FaceFigure(
        "pixel_ap",
        lambda of: localisation.pixel_ap(of.maps, of.faces.region),
        needs="region",
        chance=_share,
        shown=Shown("pixel AP"),
    ),
    "empty": FaceFigure("empty", lambda of: (of.maps.amax((1, 2)) <= 0).double()),
    "cosine_predicted": FaceFigure(
        "cos_predicted", lambda of: cosine(of.maps, of.faces.predicted_map), needs="predicted_map", only="cam_predicted"
    ),
    "ceiling": FaceFigure("ceiling", _ceiling),
    "cos_paper": FaceFigure(
        "cos_paper", lambda of: None if of.published is None else cosine(of.published, of.faces.au_map)
    ),
}
"""All figures by their name in ``metrics.json``, in the order of the printed columns and of ``predictions.csv``."""


def face_figures() -> Iterator[tuple[str, FaceFigure]]:
    """Yield the figures that are measured face by face, with their names."""
    return ((name, figure) for name, figure in FIGURES.items() if isinstance(figure, FaceFigure))


def headings() -> dict[str, str]:
    """Map the figures of the printed table to their headings."""
    return {name: figure.shown.heading for name, figure in FIGURES.items() if figure.shown.heading}
