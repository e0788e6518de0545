"""LIME for images (Ribeiro et al. 2016) as the study uses it: superpixels switched off, a weighted ridge regression."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Float64, Int64, UInt8
from skimage.segmentation import slic
from torch import Tensor

SEGMENTS, COMPACTNESS = 30, 20.0
KERNEL_WIDTH, RIDGE = 0.25, 1.0


def superpixels(image: UInt8[np.ndarray, "h w 3"]) -> Int64[np.ndarray, "h w"]:
    """Cut an image into SLIC segments (about :data:`SEGMENTS`), numbered from 0 without gaps."""
    found = slic(image, n_segments=SEGMENTS, compactness=COMPACTNESS, start_label=0)
    return np.unique(found, return_inverse=True)[1].reshape(found.shape).astype(np.int64)


def draw_samples(n: int, k: int, rng: np.random.Generator) -> UInt8[np.ndarray, "n k"]:
    """Draw which of k segments are on in each of n pictures: even odds, the first all on."""
    samples = rng.integers(0, 2, (n, k), dtype=np.uint8)
    samples[0] = 1
    return samples


def compose(
    image: Float[Tensor, "3 h w"], segments: Int64[Tensor, "h w"], samples: UInt8[Tensor, "n k"]
) -> Float[Tensor, "n 3 h w"]:
    """Compose the pictures, on the device of their inputs: segments that are off are black."""
    return image[None] * samples[:, segments][:, None].to(image.dtype)


def kernel(samples: UInt8[np.ndarray, "n k"]) -> Float64[np.ndarray, "n"]:
    """Weigh samples by ``sqrt(exp(-d^2 / .25^2))``.

    d is the cosine distance to all-ones (1 for a picture with nothing on).
    """
    distance = 1 - np.sqrt(samples.mean(1, dtype=np.float64))
    return np.asarray(np.sqrt(np.exp(-(distance**2) / KERNEL_WIDTH**2)))


@dataclass(frozen=True)
class LinearFit:
    """A linear fit: coefficient of each segment, intercept, and the weighted R² (0 for a constant answer)."""

    coefficients: Float64[np.ndarray, "k"]
    intercept: float
    r2: float


def fit_ridge(
    samples: UInt8[np.ndarray, "n k"], answers: Float64[np.ndarray, "n"], weights: Float64[np.ndarray, "n"]
) -> LinearFit:
    """Fit a weighted ridge regression in closed form; the intercept is not penalised."""
    x, share = samples.astype(np.float64), weights / weights.sum()
    x_mean, y_mean = share @ x, float(share @ answers)
    xc, yc = x - x_mean, answers - y_mean
    gram = xc.T @ (weights[:, None] * xc) + RIDGE * np.eye(x.shape[1])
    coefficients = np.linalg.solve(gram, xc.T @ (weights * yc))
    left, total = weights @ (yc - xc @ coefficients) ** 2, weights @ yc**2
    r2 = 1 - float(left / total) if total > 1e-20 else 0.0
    return LinearFit(coefficients, y_mean - float(x_mean @ coefficients), r2)


def paint(segments: Int64[np.ndarray, "h w"], coefficients: Float64[np.ndarray, "k"]) -> Float32[np.ndarray, "h w"]:
    """Paint each pixel with its segment's coefficient, negative ones 0."""
    return np.asarray(np.maximum(coefficients, 0)[segments], np.float32)
