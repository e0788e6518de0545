"""From 68 landmarks and an expression to its AU map: pure NumPy, no image needed.

Two renderers, chosen by the codebook's kind: ``gaussian`` (ours: sub-pixel, tied to the face) and ``ellipse`` (the
FG 2024 reference's drawing, for comparison). A map is ``(m, m)`` float32 in [0, 1]; its pixel centres are those of
the image resized to m x m.

A face's map does not depend on the faces drawn with it, to the last few units of float32 rounding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Float32, Float64, Int64

from aupipe.fer_data import geometry
from aupipe.fer_data.au_maps.codebook import Codebook, Ellipse, Length
from aupipe.fer_data.au_maps.gaussians import LOG_FLOOR, Blobs, make_template, place
from aupipe.fer_data.errors import UserInputError, paragraph

BACKGROUND, INSIDE = 1e-4, 255.0
"""What the reference's canvas holds outside and inside an ellipse."""

COARSE = 28
"""The reference blurs each AU at this size."""

CACHE_BYTES = 1 << 19
"""Faces are drawn together while their maps fit in this much cache."""


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
        UserInputError: An expression that the codebook does not know.

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


def aus_of(codebook: Codebook, expression: str) -> Mapping[int, float]:
    """The weighted AUs of an expression.

    Raises :class:`UserInputError` when the codebook does not know it.
    """
    if expression not in codebook.expressions:
        raise UserInputError(
            paragraph(
                f"The codebook {codebook.name!r} does not say which AUs belong to {expression!r}.",
                expected=f"one of {', '.join(sorted(codebook.expressions))}",
                fix="Choose another --codebook, or add the expression to your own codebook file.",
            )
        )
    return codebook.expressions[expression]


def render_aus(
    points: Float[np.ndarray, "68 2"],
    weights: Mapping[int, float],
    codebook: Codebook,
    image_size: int,
    map_size: int,
) -> Float32[np.ndarray, "m m"]:
    """One map of the given AUs: per AU a peak of its weight, merged by maximum, scaled to [0, 1]."""
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
    if codebook.kind == "ellipse":
        table = place_ellipses(points, weights, codebook, image_size)
        for face in range(len(points)):
            maps[face] = _draw_ellipses(table, face, image_size, maps.shape[1])
        return
    scaled = geometry.rescale_points(np.asarray(points, np.float64), maps.shape[1] / image_size)
    _draw_blobs(place(make_template(codebook, weights), scaled), max(weights.values()), maps)


# --- Gaussians: the maximum is taken of their logarithms, quadratics that one small matrix product draws ---


def _draw_blobs(blobs: Blobs, strongest: float, maps: Float32[np.ndarray, "n m m"]) -> None:
    """Draw the Gaussians into maps of zeros, some faces at a time so that they stay in the processor's cache."""
    size = maps.shape[1]
    step = min(max(CACHE_BYTES // maps[0].nbytes, 1), len(maps))
    tops, bottoms = _spans(blobs, size, step)
    factors = _LogFactors(step, blobs.weight.shape[1], size)
    # Rows before faces: the rows that a Gaussian lies in are one piece of memory, which is several times faster.
    scratch = np.empty((2, size, step, size), np.float32)
    for number, start in enumerate(range(0, len(maps), step)):
        some = slice(start, min(start + step, len(maps)))
        first, last = int(tops[number].min(initial=size)), int(bottoms[number].max(initial=0))
        if first >= last:
            continue
        canvas, product = scratch[:, first:last, : some.stop - start]
        canvas.fill(LOG_FLOOR - 1)
        rows, columns = factors.of(blobs, some)
        for k, (top, bottom) in enumerate(zip(tops[number].tolist(), bottoms[number].tolist(), strict=True)):
            if top < bottom:
                drawn, span = product[: bottom - top], canvas[top - first : bottom - first]
                np.matmul(rows[:, k, top:bottom], columns[:, k], out=drawn.swapaxes(0, 1))
                np.maximum(span, drawn, out=span)
        # A row may also hold what lies outside a face's own windows: it depends on the other faces.
        above = canvas >= LOG_FLOOR
        _exponentiate(canvas, strongest)
        np.multiply(canvas, above, out=maps[some, first:last].swapaxes(0, 1))


def _spans(blobs: Blobs, size: int, step: int) -> tuple[Int64[np.ndarray, "s k"], Int64[np.ndarray, "s k"]]:
    """Per ``step`` faces and Gaussian the rows, from and to, in which it shows on some of these faces.

    Crops are aligned, so the same Gaussian lies at nearly the same place on every face.
    """
    low = np.clip(np.floor(blobs.centre - blobs.reach), 0, size).astype(np.int64)
    high = np.clip(np.ceil(blobs.centre + blobs.reach) + 1, 0, size).astype(np.int64)
    seen = (blobs.weight > 0) & (low < high).all(2)
    starts = np.arange(0, len(low), step)
    tops = np.minimum.reduceat(np.where(seen, low[..., 1], size), starts, axis=0)
    return tops, np.maximum.reduceat(np.where(seen, high[..., 1], 0), starts, axis=0)


class _LogFactors:
    """Factors whose matrix product is the logarithm of every Gaussian at every pixel; their buffers are used again."""

    def __init__(self, faces: int, gaussians: int, size: int) -> None:
        self._pixels = np.arange(size, dtype=np.float32)
        self._rows, self._columns = np.ones((2, faces, gaussians, 3, size), np.float32)

    def of(self, blobs: Blobs, faces: slice) -> tuple[Float32[np.ndarray, "n k m 3"], Float32[np.ndarray, "n k 3 m"]]:
        """Those of some faces, valid until the next call."""
        centre, form, log_weight = (
            values[faces, ..., None].astype(np.float32) for values in (blobs.centre, blobs.form, blobs.log_weight)
        )
        rows, columns = self._rows[: len(centre)], self._columns[: len(centre)]
        dx, dy, squares = columns[:, :, 2], rows[:, :, 2], rows[:, :, 0]
        np.subtract(self._pixels, centre[:, :, 1], out=dy)
        np.multiply(dy, dy, out=squares)
        squares *= form[:, :, 2]
        squares += log_weight
        dy *= form[:, :, 1]
        np.subtract(self._pixels, centre[:, :, 0], out=dx)
        np.multiply(dx, dx, out=columns[:, :, 1])
        columns[:, :, 1] *= form[:, :, 0]
        return rows.swapaxes(2, 3), columns


def _exponentiate(canvas: Float32[np.ndarray, "h n w"], strongest: float) -> None:
    """From logarithms to values in [0, 1], in place."""
    # Sampling misses a sub-pixel peak by a little; a face outside the frame must not be blown up to full range.
    peak = canvas.max(0).max(1)[:, None]
    canvas -= np.where(peak > np.log(0.5 * strongest), peak, np.float32(0))
    np.exp(canvas, out=canvas)


# --- ellipses: the reference's drawing at image size, then resampled to the map's size ---


@dataclass(frozen=True, slots=True)
class EllipseTable:
    """``e`` filled ellipses on each of ``n`` faces, in image pixels: centres and half axes ``(x, y)``.

    ``unit[e]`` is the row of the ellipse's AU in ``weight``.
    """

    centre: Float64[np.ndarray, "n e 2"]
    half: Float64[np.ndarray, "n e 2"]
    unit: np.ndarray
    weight: Float64[np.ndarray, "a"]


def place_ellipses(
    points: Float[np.ndarray, "n 68 2"], weights: Mapping[int, float], codebook: Codebook, size: int
) -> EllipseTable:
    """The ellipses of the given AUs on each face; ``points`` in pixels of the ``size`` crop."""
    shapes = [(row, shape) for row, au in enumerate(weights) for shape in codebook.action_units[au].ellipses]
    placed = [[_place_ellipse(shape, face, size) for _, shape in shapes] for face in points]
    table = np.array(placed, np.float64).reshape(len(points), len(shapes), 4)
    return EllipseTable(
        centre=table[..., :2],
        half=table[..., 2:],
        unit=np.array([row for row, _ in shapes], np.intp),
        weight=np.array(list(weights.values()), np.float64),
    )


def _place_ellipse(shape: Ellipse, points: Float[np.ndarray, "68 2"], size: int) -> tuple[float, float, float, float]:
    x = points[list(shape.x), 0].mean() + _length(shape.shift[0], points, 0, size)
    y = points[list(shape.y), 1].mean() + _length(shape.shift[1], points, 1, size)
    # A filled ellipse of half-axis r covers the centre pixel and r pixels to either side.
    half = [max(_length(length, points, axis, size), 0) + 0.5 for axis, length in enumerate(shape.half)]
    return round(x), round(y), half[0], half[1]


def _length(length: Length, points: Float[np.ndarray, "68 2"], axis: int, size: int) -> float:
    if isinstance(length, str):
        return float(round(size / int(length[2:])))
    if isinstance(length, Mapping):
        a, b = length["span"]
        half = round(abs(float(points[b, axis] - points[a, axis])) / 2)
        return float((half or length.get("zero", 0)) + length.get("plus", 0))
    return float(length)


@lru_cache(maxsize=8)
def coarse_matrices(
    size: int,
) -> tuple[np.ndarray, Float64[np.ndarray, "28 s"], Float64[np.ndarray, "size 28"]]:
    """Pixels that the reference's resizing to 28 reads, the matrix that resizes and blurs them, and the way back.

    Without antialiasing a large image is read at two pixels per output pixel, so only those need to be drawn.
    """
    shrink = bilinear_matrix(COARSE, size)
    read = np.flatnonzero(shrink.any(0))
    # 3 x 3 mean with mirrored borders (edge pixel not repeated), as OpenCV's default.
    padded = np.pad(np.eye(COARSE), ((1, 1), (0, 0)), mode="reflect")
    blur = (padded[:-2] + padded[1:-1] + padded[2:]) / 3
    return read, blur @ shrink[:, read], bilinear_matrix(size, COARSE)


def _draw_ellipses(table: EllipseTable, face: int, image_size: int, map_size: int) -> Float64[np.ndarray, "m m"]:
    read, shrink, grow = coarse_matrices(image_size)
    dx, dy = ((read - table.centre[face, :, axis, None]) / table.half[face, :, axis, None] for axis in (0, 1))
    inside = dx[:, None, :] ** 2 + dy[:, :, None] ** 2 <= 1
    merged = np.full((image_size, image_size), BACKGROUND)
    for row, weight in enumerate(table.weight):
        canvas = np.where(inside[table.unit == row].any(0), INSIDE, BACKGROUND)
        np.maximum(merged, weight * (grow @ (shrink @ canvas @ shrink.T) @ grow.T), out=merged)
    resize = area_matrix(map_size, image_size)
    merged = resize @ merged @ resize.T
    low, high = merged.min(), merged.max()
    return np.asarray((merged - low) / (high - low) if high > low else np.zeros_like(merged))


@lru_cache(maxsize=32)
def bilinear_matrix(n_out: int, n_in: int) -> Float64[np.ndarray, "o i"]:
    """Matrix of bilinear resizing along one axis, pixel centres aligned as usual, no antialiasing; rows sum to 1."""
    at = np.clip((np.arange(n_out) + 0.5) * n_in / n_out - 0.5, 0, n_in - 1)
    low = np.minimum(np.floor(at).astype(int), max(n_in - 2, 0))
    matrix = np.zeros((n_out, n_in))
    matrix[np.arange(n_out), low] = 1 - (at - low)
    matrix[np.arange(n_out), np.minimum(low + 1, n_in - 1)] += at - low
    return matrix


@lru_cache(maxsize=32)
def area_matrix(n_out: int, n_in: int) -> Float64[np.ndarray, "o i"]:
    """Matrix of area-average resizing along one axis; rows sum to 1; the identity when the sizes agree."""
    edges = np.arange(n_out + 1) * n_in / n_out
    cells = np.arange(n_in)
    overlap = np.minimum(edges[1:, None], cells + 1) - np.maximum(edges[:-1, None], cells)
    return np.asarray(np.clip(overlap, 0, None) * n_out / n_in)
