"""From 68 landmarks and an expression to its AU map: pure NumPy, no image needed.

The codebook's kind says what is drawn (:mod:`aupipe.fer_data.au_maps.shapes`): ``gaussian`` (ours: sub-pixel, tied to
the face) or ``ellipse`` (the FG 2024 reference's drawing, for comparison). A map is ``(m, m)`` float32 in [0, 1]; its
pixel centres are those of the image resized to m x m.

A face's map does not depend on the faces drawn with it, to the last few units of float32 rounding.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64

from aupipe.fer_data.au_maps.codebook import Codebook
from aupipe.fer_data.au_maps.shapes import shape_class
from aupipe.fer_data.errors import UserInputError, paragraph
from aupipe.fer_data.manifest.labels import is_basic


def render_maps(
    points: Float[np.ndarray, "n 68 2"],
    expressions: Sequence[str],
    codebook: Codebook,
    image_size: int = 256,
    map_size: int = 64,
) -> Float32[np.ndarray, "n m m"]:
    """Draw the AU map of each face; many at once are several times faster than one by one.

    Args:
        points: ``(n, 68, 2)`` iBUG points, ``(x, y)`` in pixels of the square crop.
        expressions: The expression of each face.
        codebook: What :func:`load_codebook` gives.
        image_size: Side of the crop in pixels.
        map_size: Side of the maps in pixels.

    Returns:
        Maps ``(n, map_size, map_size)`` float32 in [0, 1]; zero for an expression without AUs (neutral).

    Raises:
        UserInputError: One of the canonical expressions that the codebook does not know. A class of another name gets
            an empty map.

    Example:
        >>> from aupipe.fer_demo.portrait import portrait_faces
        >>> points = next(portrait_faces("happiness", 1, seed=0, size=256)).landmarks
        >>> maps = aupipe.render_maps(points[None], ["happiness"], aupipe.load_codebook("default"))
        >>> maps.shape, float(maps.max())
        ((1, 64, 64), 1.0)
    """
    maps = np.zeros((len(points), map_size, map_size), np.float32)
    for expression in dict.fromkeys(expressions):
        weights = aus_of(codebook, expression)
        rows = np.flatnonzero([name == expression for name in expressions])
        if len(rows) == len(points):
            _render(points, weights, codebook, image_size, maps)
        else:
            drawn = np.zeros((len(rows), map_size, map_size), np.float32)
            _render(points[rows], weights, codebook, image_size, drawn)
            maps[rows] = drawn
    return maps


def render_faces(
    points: Float[np.ndarray, "n 68 2"],
    weights: Float[np.ndarray, "n a 2"],
    codebook: Codebook,
    image_size: int = 256,
    map_size: int = 64,
) -> Float32[np.ndarray, "n m m"]:
    """Draw the map of each face's own action units.

    Args:
        points: ``(n, 68, 2)`` iBUG points, ``(x, y)`` in pixels of the square crop.
        weights: In [0, 1], by FACS number (the index) and side (the person's left, right). What the codebook does not
            describe is not drawn.
        codebook: Where each action unit acts.
        image_size: Side of the crop in pixels.
        map_size: Side of the maps in pixels.

    Returns:
        Maps ``(n, map_size, map_size)`` float32 in [0, 1], each scaled to its peak; zero for a face without AUs.
    """
    maps = np.zeros((len(points), map_size, map_size), np.float32)
    drawn, table = place_faces(points, weights, codebook, image_size, map_size)
    if drawn.any():
        some = np.zeros((len(table), map_size, map_size), np.float32)
        shape_class(codebook.kind).draw(table, image_size, some)
        maps[drawn] = some
    return maps


def place_faces(
    points: Float[np.ndarray, "n 68 2"],
    weights: Float[np.ndarray, "n a 2"],
    codebook: Codebook,
    image_size: int,
    map_size: int,
) -> tuple[Bool[np.ndarray, "n"], Float64[np.ndarray, "k r c"]]:
    """Find the faces that have anything to draw, and place the regions of their AUs, each by the face's own weight."""
    shown = np.asarray(weights.any((0, 2)))
    numbers = [number for number in codebook.action_units if number < len(shown) and shown[number]]
    regions = codebook.regions(dict.fromkeys(numbers, 1.0))
    own = np.asarray(weights[:, [numbers[region.row] for region in regions]], np.float64)
    drawn = np.asarray(own.any((1, 2)))
    if not drawn.any():
        return drawn, np.zeros((0, 0, 0))
    shape = shape_class(codebook.kind)
    return drawn, shape.weigh(shape.place(regions, points[drawn], image_size, map_size), regions, own[drawn])


def known_or_blank(codebook: Codebook, names: Iterable[str]) -> list[str]:
    """Replace the names of expressions that the codebook lacks by "", whose maps are empty."""
    return [name if name in codebook.expressions else "" for name in names]


def aus_of(codebook: Codebook, expression: str) -> Mapping[int, float]:
    """Return the weighted AUs of an expression; none where the codebook does not know a class of the user's own.

    Raises :class:`UserInputError` when it lacks one of the canonical expressions.
    """
    if expression not in codebook.expressions and is_basic(expression):
        raise UserInputError(
            paragraph(
                f"The codebook {codebook.name!r} does not say which AUs belong to {expression!r}.",
                expected=f"one of {', '.join(sorted(codebook.expressions))}",
                fix="Choose another --codebook, or add the expression to your own codebook file.",
            )
        )
    return codebook.expressions.get(expression, {})


def render_aus(
    points: Float[np.ndarray, "68 2"],
    weights: Mapping[int, float],
    codebook: Codebook,
    image_size: int,
    map_size: int,
) -> Float32[np.ndarray, "m m"]:
    """Draw one map of the given AUs: per AU a peak of its weight, merged by maximum, scaled to [0, 1]."""
    maps = np.zeros((1, map_size, map_size), np.float32)
    _render(points[None], weights, codebook, image_size, maps)
    return np.asarray(maps[0])


def _render(
    points: Float[np.ndarray, "n 68 2"],
    weights: Mapping[int, float],
    codebook: Codebook,
    image_size: int,
    maps: Float32[np.ndarray, "n m m"],
) -> None:
    """Draw the given AUs on each face, into maps of zeros."""
    if not weights or not len(points):
        return
    shape = shape_class(codebook.kind)
    shape.draw(shape.place(codebook.regions(weights), points, image_size, maps.shape[1]), image_size, maps)
