"""Cosines, and the controls they are read against (NumPy).

**How a cosine is computed, for attention and CAM alike.** The map - attention T_l (mean over the channels of layer l)
or the CAM of the sample's *label* - keeps its own resolution, its negative values are set to 0, it is brought to the
size of the AU map A (bilinear; mean for layers finer than A), and compared with A as a vector: ``sum(T A) /
(|T| |A|)``. Nothing is shifted or normalised to a range.

Why the positive part: it is what a map says *for* the class and what overlays show. Behind a ReLU the attention is its
own positive part, so the training loss (which compares T_l as it is) and this metric agree; elsewhere the loss's cosine
is a lower bound of the positive part's, because A has no negative values. It is taken before up-sampling, so no map can
beat :func:`ceilings`.

The CAM uses class weights whose mean over the classes was taken out (see :mod:`aupipe.fer_models.methods.cam`): a part
common to all classes would change the map but not one prediction.

Every cosine is reported as a macro mean: over the samples of an expression, then over the expressions that have a map.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

from aupipe.fer_data.au_maps.resizing import area_matrix, bilinear_matrix

CENTRE_SIGMA = 0.25
"""Sigma of the centred Gaussian control, as a share of the map's side."""


def cosines(a: Float[np.ndarray, "n h w"], b: Float[np.ndarray, "... h w"]) -> Float64[np.ndarray, "n"]:
    """Compute the cosine of each pair of maps; 0 when one of them is zero. ``b`` may also be a single map."""
    x = np.asarray(a, np.float64).reshape(len(a), -1)
    y = np.asarray(b, np.float64).reshape(-1, x.shape[1])
    norms = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    return np.asarray(np.divide((x * y).sum(1), norms, out=np.zeros(len(x)), where=norms > 0))


def per_class_mean(
    values: Float[np.ndarray, "n"], label: Int64[np.ndarray, "n"], has_map: Bool[np.ndarray, "n"], k: int
) -> list[float | None]:
    """Average ``values`` over the samples with a map of each class; None for a class that has none."""
    rows = [has_map & (label == number) for number in range(k)]
    return [float(values[chosen].mean()) if chosen.any() else None for chosen in rows]


def macro_mean(
    values: Float[np.ndarray, "n"], label: Int64[np.ndarray, "n"], has_map: Bool[np.ndarray, "n"], k: int
) -> float | None:
    """Average :func:`per_class_mean` over the expressions that have a map; None when there is none."""
    means = [value for value in per_class_mean(values, label, has_map, k) if value is not None]
    return float(np.mean(means)) if means else None


def uniform_map(size: int) -> Float64[np.ndarray, "m m"]:
    """Make a control: a map that says nothing."""
    return np.ones((size, size))


def centre_map(size: int) -> Float64[np.ndarray, "m m"]:
    """Make a control: a Gaussian in the middle of the crop, sigma :data:`CENTRE_SIGMA` of the side."""
    at = (np.arange(size) + 0.5) / size - 0.5
    line = np.exp(-0.5 * (at / CENTRE_SIGMA) ** 2)
    return np.asarray(line[:, None] * line[None, :])


def ceilings(maps: Float[np.ndarray, "n m m"], height: int, width: int) -> Float64[np.ndarray, "n"]:
    """Compute the best cosine with each map that any ``height x width`` map can reach once resized to the map's size.

    The closest map in the span of the resizing is the orthogonal projection ``P A Q``, and the cosine with it is
    ``|P A Q| / |A|``, of which the norm is that of the coordinates in the span. 0 for zero maps.
    """
    size, whole = maps.shape[-1], np.asarray(maps, np.float64)
    coordinates = _basis(size, height).T @ whole @ _basis(size, width)
    norms, reached = (np.linalg.norm(values.reshape(len(maps), -1), axis=1) for values in (whole, coordinates))
    return np.asarray(np.divide(reached, norms, out=np.zeros(len(maps)), where=norms > 0))


@lru_cache(maxsize=64)
def _basis(size: int, source: int) -> Float64[np.ndarray, "m r"]:
    """Orthonormal basis of what one axis of ``source`` values can become at ``size``."""
    resize = area_matrix(size, source) if source >= size else bilinear_matrix(size, source)
    left, strength, _ = np.linalg.svd(resize, full_matrices=False)
    return np.asarray(left[:, strength > 1e-9])


def normalised(cosine: float | None, floor: float | None, ceiling: float | None) -> float | None:
    """Compute ``(cosine - floor) / (ceiling - floor)``: 0 for a map as good as the floor, 1 for the best of that size.

    Negative below the floor. None where a figure is missing or where the floor reaches the ceiling, so that nothing
    could be told from it (a layer of one pixel, for example, can only be uniform).
    """
    if cosine is None or floor is None or ceiling is None or ceiling - floor < 1e-3:
        return None
    return (cosine - floor) / (ceiling - floor)
