"""The action units a map looks at: shares of its mass in each unit's region, beside what chance would give.

For a map T >= 0 over the crop and the region A_u in [0, 1] of action unit u, drawn on this face's own landmarks,
``share(u) = sum(T A_u) / sum(T)``. An even map has ``chance(u) = mean(A_u)``, the region's share of the crop.
``lift = share / chance``. Regions overlap (AU 23, 24, 25 and 26 all lie on the mouth), so shares do not add up to 1.

A network that was trained with a map of each action unit has them read by name: ``own(u)`` is the mean of u's own map
where A_u is at least one half, as ``aupipe evaluate --aus`` measures it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32

from aupipe.fer_data import geometry
from aupipe.fer_data.action_units.modes import DRAWN_AUS
from aupipe.fer_data.au_maps.codebook import Codebook
from aupipe.fer_data.au_maps.heatmaps import render_aus
from aupipe.fer_data.au_maps.places import shared_places
from aupipe.fer_data.loading import augment
from aupipe.fer_data.loading.augment import AugmentConfig, AugmentParameters
from aupipe.fer_models.metrics.localisation import REGION_THRESHOLD
from aupipe.fer_models.targets import cosine, resize_maps

BRIDGE, CHIN = 27, 8
"""Landmarks on the face's own midline."""

MIN_PEAK = REGION_THRESHOLD
"""A region belongs to the crop when the crop shows at least this much of its peak, which is 1."""


@dataclass(frozen=True)
class MapShare:
    """A map's mass in one region; ``left`` and ``right`` of the midline of the upright face, add up to
    ``share``."""

    share: float
    left: float
    right: float


@dataclass(frozen=True)
class ActionUnitRow:
    """One action unit on one face. ``expected``: its weight for the predicted expression, 0 where it does not belong
    to it. ``cam`` is None for methods without a class map. ``own``: how high the network's own map of the action unit
    is in its region, in [0, 1]; None where it has none."""

    number: int
    name: str
    expected: float
    chance: float
    attention: MapShare
    cam: MapShare | None
    own: float | None

    @property
    def lift(self) -> float:
        """The attention's share as a multiple of chance; 0 where chance is 0."""
        return self.attention.share / self.chance if self.chance > 0 else 0.0


@dataclass(frozen=True)
class ActionUnitCard:
    """The AU card of one face.

    Attributes:
        expression: The predicted expression.
        action_units: Those whose region shows in the crop, by FACS number.
        expected: AUs that the codebook gives the expression.
        missed: Those of them that get no more attention than chance, as far as the network saw them.
        elsewhere: Other AUs with at least :data:`UNEXPECTED_LIFT` times chance, and as many times what the
            expression's own map would give them.
        outside: AUs, expected or not, that lie outside of what the network saw: nothing is known about them.
        shared: Groups of AUs that share a place; attention there may mean any of them.
        asymmetry: (right - left) / (right + left) of all the attention, in [-1, 1], the face seen upright.
        cosine: Cosine of the attention and the expression's AU map; None where it has no map.
        cosine_uniform: The same of an even map.
    """

    expression: str
    action_units: tuple[ActionUnitRow, ...]
    expected: tuple[int, ...]
    missed: tuple[int, ...]
    elsewhere: tuple[int, ...]
    outside: tuple[int, ...]
    shared: tuple[tuple[int, ...], ...]
    asymmetry: float
    cosine: float | None
    cosine_uniform: float | None


def named(units: Sequence[int]) -> str:
    """Name AUs for people."""
    return ", ".join(f"AU {number}" for number in units)


def highest_own(card: ActionUnitCard) -> list[tuple[int, float]]:
    """List AUs with the height of the network's own map of each, the highest first; none where it has no such maps."""
    own = [(unit.number, unit.own) for unit in card.action_units if unit.own is not None]
    return sorted(own, key=lambda one: -one[1])


def unseen_sentences(card: ActionUnitCard) -> list[str]:
    """Say which expected AUs the network could not see, if there are any."""
    unseen = [au for au in card.expected if au in card.outside]
    if not unseen:
        return []
    return [f"Expected too, but outside of what the network saw: {named(unseen)}. Nothing is known about them."]


UNEXPECTED_LIFT = 1.5
"""Attention at an AU that is not expected is worth naming from this many times what place alone would give it."""


@dataclass(frozen=True)
class Regions:
    """The maps that the codebook draws on one face for one expression, at the crop's map size ``m``.

    Attributes:
        expression: The expression.
        maps: Every AU's region in [0, 1], as far as the crop shows it.
        outside: The other AUs.
        shared: Groups of AUs that share a place.
        target: The expression's AU map, in [0, 1]; None where it has none.
        right: True right of the midline of the upright face.
    """

    expression: str
    maps: Mapping[int, Float32[np.ndarray, "m m"]]
    outside: tuple[int, ...]
    shared: tuple[tuple[int, ...], ...]
    target: Float32[np.ndarray, "m m"] | None
    right: Bool[np.ndarray, "m m"]


@dataclass(frozen=True)
class Canvas:
    """The place where regions are drawn: the aligned image and the map that covers it, then the centre crop of both."""

    codebook: Codebook
    crop: AugmentConfig
    placement: AugmentParameters
    image_size: int
    map_size: int

    @property
    def size(self) -> int:
        """Side of a cropped map."""
        return augment.cropped_map_size(self.crop.crop_size, self.image_size, self.map_size)

    @cached_property
    def shared(self) -> tuple[tuple[int, ...], ...]:
        """Groups of the codebook's AUs that share a place."""
        return shared_places(self.codebook)

    def draw(self, landmarks: Float[np.ndarray, "68 2"], weights: Mapping[int, float]) -> Float32[np.ndarray, "m m"]:
        """Draw the centre crop of the AUs' map as the evaluation does; ``landmarks`` ``(x, y)`` in aligned pixels."""
        drawn = render_aus(landmarks, weights, self.codebook, self.image_size, self.map_size)
        return augment.apply_to_maps(self.crop, self.placement, torch.from_numpy(drawn)[None], self.image_size)[
            0
        ].numpy()


def face_regions(landmarks: Float[np.ndarray, "68 2"], canvas: Canvas, expression: str) -> Regions:
    """Draw every AU of the codebook on a face, and the expression's map.

    AUs whose core lies outside of the centre crop are only named. ``landmarks``: ``(x, y)`` in aligned pixels.
    """
    drawn = {au: canvas.draw(landmarks, {au: 1.0}) for au in sorted(canvas.codebook.action_units)}
    weights = canvas.codebook.expressions.get(expression, {})
    points = augment.crop_landmarks(np.asarray(landmarks, np.float32)[None], canvas.placement, canvas.crop.crop_size)[0]
    points = geometry.rescale_points(points, canvas.size / canvas.crop.crop_size)
    return Regions(
        expression=expression,
        maps={au: values for au, values in drawn.items() if values.max() >= MIN_PEAK},
        outside=tuple(au for au, values in drawn.items() if values.max() < MIN_PEAK),
        shared=canvas.shared,
        target=canvas.draw(landmarks, weights) if weights else None,
        right=right_of_midline(points, canvas.size),
    )


def right_of_midline(points: Float[np.ndarray, "68 2"], size: int) -> Bool[np.ndarray, "m m"]:
    """Mark the pixels right of the line from nose bridge to chin, which turns with the face."""
    (x0, y0), (x1, y1) = points[BRIDGE], points[CHIN]
    y, x = np.mgrid[:size, :size]
    return np.asarray((x - x0) * (y1 - y0) - (y - y0) * (x1 - x0) > 0)


def action_unit_card(
    regions: Regions,
    codebook: Codebook,
    attention: Float[np.ndarray, "h w"],
    cam: Float[np.ndarray, "_ _"] | None = None,
    au_maps: Float[np.ndarray, "a _ _"] | None = None,
) -> ActionUnitCard:
    """Make the card of one face.

    Args:
        regions: The AUs' regions on this face, from :func:`face_regions`.
        codebook: The codebook they were drawn from.
        attention: Positive map over the centre crop, at any resolution.
        cam: The same of the predicted class; None for methods without a class map.
        au_maps: The network's own map of each of :data:`~aupipe.fer_data.action_units.modes.DRAWN_AUS`, likewise.
    """
    weights = codebook.expressions.get(regions.expression, {})
    size = len(regions.right)
    attended, activated = resize_to_regions(attention, size), None if cam is None else resize_to_regions(cam, size)
    units = tuple(
        ActionUnitRow(
            number=au,
            name=codebook.action_units[au].name,
            expected=float(weights.get(au, 0.0)),
            chance=float(region.mean()),
            attention=_share(attended, region, regions.right),
            cam=None if activated is None else _share(activated, region, regions.right),
            own=_own_height(au_maps, au, region),
        )
        for au, region in regions.maps.items()
    )
    whole = _share(attended, np.ones_like(attended), regions.right)
    target = regions.target
    return ActionUnitCard(
        expression=regions.expression,
        action_units=units,
        expected=tuple(sorted(weights)),
        missed=tuple(unit.number for unit in units if unit.expected and unit.lift <= 1),
        elsewhere=tuple(unit.number for unit in units if _is_elsewhere(unit, regions)),
        outside=regions.outside,
        shared=regions.shared,
        asymmetry=whole.right - whole.left,
        cosine=None if target is None else _cosine(attended, target),
        cosine_uniform=None if target is None else _cosine(np.ones_like(target), target),
    )


def resize_to_regions(values: Float[np.ndarray, "h w"], size: int) -> Float32[np.ndarray, "m m"]:
    """Bring a map to the regions' size as the evaluation does it."""
    return resize_maps(torch.from_numpy(np.ascontiguousarray(values, np.float32))[None], (size, size))[0].numpy()


def _share(
    values: Float32[np.ndarray, "m m"], region: Float32[np.ndarray, "m m"], right: Bool[np.ndarray, "m m"]
) -> MapShare:
    inside, total = values.astype(np.float64) * region, float(values.sum(dtype=np.float64))
    if total <= 0:
        return MapShare(0.0, 0.0, 0.0)
    on_right = float(inside[right].sum()) / total
    share = float(inside.sum()) / total
    return MapShare(share, share - on_right, on_right)


def _own_height(
    au_maps: Float[np.ndarray, "a _ _"] | None, number: int, region: Float32[np.ndarray, "m m"]
) -> float | None:
    if au_maps is None or number not in DRAWN_AUS:
        return None
    return float(resize_to_regions(au_maps[DRAWN_AUS.index(number)], len(region))[region >= REGION_THRESHOLD].mean())


def _is_elsewhere(unit: ActionUnitRow, regions: Regions) -> bool:
    """Return whether an AU that is not expected gets clearly more attention than chance and the expected AUs explain.

    Neighbours share their place, so the expected ones' own map gives some of it.
    """
    owed = 1.0
    if regions.target is not None and unit.chance > 0:
        owed = max(owed, _share(regions.target, regions.maps[unit.number], regions.right).share / unit.chance)
    return not unit.expected and unit.lift >= UNEXPECTED_LIFT * owed


def _cosine(a: Float32[np.ndarray, "m m"], b: Float32[np.ndarray, "m m"]) -> float:
    return float(cosine(torch.from_numpy(a)[None], torch.from_numpy(b)[None])[0])
