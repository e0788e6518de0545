"""One global map of all folds: exactly the mean and variance over their faces, as if all had been averaged at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aupipe.fer_analysis.comparison.global_maps import GlobalMap


def merge_maps(parts: Sequence[GlobalMap]) -> GlobalMap:
    """Merge the maps of folds, one at least (Chan et al. 1979 for the variance).

    The interval over faces is lost: it needs the faces' own maps.
    """
    n = np.sum([part.n for part in parts], 0)
    total = np.sum([part.n * part.mean.astype(np.float64) for part in parts], 0)
    mean = np.divide(total, n, out=np.zeros(n.shape), where=n > 0)
    squares = np.sum(
        [np.maximum(part.n - 1, 0) * part.variance + part.n * (part.mean - mean) ** 2 for part in parts], 0
    )
    fits = [(part.fit, part.used) for part in parts if part.fit is not None]
    used = sum(count for _, count in fits)
    return GlobalMap(
        mean=mean.astype(np.float32),
        variance=np.divide(squares, n - 1, out=np.zeros(n.shape), where=n > 1).astype(np.float32),
        n=n.astype(np.int32),
        available=sum(part.available for part in parts),
        used=sum(part.used for part in parts),
        fit=sum(fit * count for fit, count in fits) / used if used else None,
    )
