"""Resizing images by matrices: ``rows @ image @ columns.T``, the same in NumPy and in torch."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from jaxtyping import Float64


@lru_cache(maxsize=32)
def bilinear_matrix(n_out: int, n_in: int) -> Float64[np.ndarray, "o i"]:
    """Make the matrix of bilinear resizing along one axis.

    Pixel centres are aligned as usual, without antialiasing; rows sum to 1.
    """
    at = np.clip((np.arange(n_out) + 0.5) * n_in / n_out - 0.5, 0, n_in - 1)
    low = np.minimum(np.floor(at).astype(int), max(n_in - 2, 0))
    matrix = np.zeros((n_out, n_in))
    matrix[np.arange(n_out), low] = 1 - (at - low)
    matrix[np.arange(n_out), np.minimum(low + 1, n_in - 1)] += at - low
    return matrix


@lru_cache(maxsize=32)
def area_matrix(n_out: int, n_in: int) -> Float64[np.ndarray, "o i"]:
    """Make the matrix of area-average resizing along one axis; rows sum to 1; the identity when the sizes agree."""
    edges = np.arange(n_out + 1) * n_in / n_out
    cells = np.arange(n_in)
    overlap = np.minimum(edges[1:, None], cells + 1) - np.maximum(edges[:-1, None], cells)
    return np.asarray(np.clip(overlap, 0, None) * n_out / n_in)
