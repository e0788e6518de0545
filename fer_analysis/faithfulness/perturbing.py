"""Pictures with pixels removed: what they are replaced with, in which order, and deletion and insertion curves.

Deletion and insertion follow Petsiuk et al. 2018 (RISE, BMVC): pixels go (or come) in the order of a map, and the
probability of the class is followed. A map that names what the decision rests on makes it fall early and rise early.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int64
from torch import Tensor

from aupipe.fer_data.errors import UserInputError, unknown_name

Baseline = Literal["blur", "mean"]
BASELINES: tuple[str, ...] = get_args(Baseline)

BLUR_SIGMA = 1 / 8
"""Sigma of the blur as a share of the crop's side: two to three times that of an AU's blob, so that eyes, brows and
mouth melt away while skin and background keep their colour."""

Answer = Callable[[Float32[Tensor, "b 3 c c"]], Float64[Tensor, "b"]]
"""Probability that a model gives the class in question on each picture."""


def make_baseline(kind: str, images: Float32[Tensor, "b 3 c c"]) -> Float32[Tensor, "b 3 c c"]:
    """Make the pictures that removed pixels are taken from.

    Args:
        kind: ``blur``, the picture itself without detail, or ``mean``, the mean colour.
        images: Normalised with the store's channel means, so that the mean colour is 0.

    Returns:
        A picture for each image, normalised too.

    Raises:
        UserInputError: Another kind.
    """
    if kind not in BASELINES:
        raise UserInputError(unknown_name("baseline", kind, list(BASELINES)))
    if kind == "mean":
        return torch.zeros_like(images)
    at = torch.arange(images.shape[-1], device=images.device, dtype=torch.float32)
    weights = torch.exp(-0.5 * ((at[:, None] - at) / (BLUR_SIGMA * len(at))) ** 2)
    weights = weights / weights.sum(1, keepdim=True)  # at the borders over what is there
    return weights @ images @ weights.T


def replaced(
    images: Float32[Tensor, "b 3 c c"], baseline: Float32[Tensor, "b 3 c c"], mask: Bool[Tensor, "b c c"]
) -> Float32[Tensor, "b 3 c c"]:
    """Replace the images by the baseline inside the mask."""
    return torch.where(mask[:, None], baseline, images)


FINEST_GRID = 16
"""Most cells along a side of a random map."""


def random_grid(maps: Float32[Tensor, "b h w"]) -> tuple[int, int]:
    """Choose the grid of the random maps that these are compared with: their own, up to :data:`FINEST_GRID`."""
    return min(int(maps.shape[1]), FINEST_GRID), min(int(maps.shape[2]), FINEST_GRID)


def random_maps(
    rows: Int64[np.ndarray, "b"], grid: tuple[int, int], seed: int, draw: int = 0
) -> Float32[Tensor, "b h w"]:
    """Draw maps that know nothing, in [0, 1): uniform numbers on a coarse grid, the same for a row, seed and draw.

    The grid is chosen by :func:`random_grid`. Noise by the pixel would thin the picture out everywhere
    at once, which hurts a network in another way than taking away whole parts, as any map of a coarse layer does. Grids
    of one cell are taken as two: one number orders nothing.
    """
    size = (max(grid[0], 2), max(grid[1], 2))
    values = [np.random.default_rng([seed, draw, int(row)]).random(size, np.float32) for row in rows]
    return torch.from_numpy(np.stack(values))


def pixel_ranks(maps: Float32[Tensor, "b c c"], tie_breaker: Float32[Tensor, "b c c"]) -> Int64[Tensor, "b c c"]:
    """Rank each pixel by its place, from 0, when pixels go from the strongest to the weakest.

    Equal values (all that a positive part cut off, above all) go in the order of ``tie_breaker``, and where that is
    equal too row by row. With a random map as tie breaker a map that says nothing is as good as chance, not as good as
    going from the top of the picture to its bottom.
    """
    ties = tie_breaker.flatten(1).argsort(dim=1, descending=True, stable=True)
    order = ties.gather(1, maps.flatten(1).gather(1, ties).argsort(dim=1, descending=True, stable=True))
    ranks: Tensor = order.argsort(dim=1)
    return ranks.view(maps.shape)


def removal_counts(pixels: int, steps: int) -> list[int]:
    """Count the pixels removed after each step: from none to all, ``steps + 1`` numbers.

    >>> removal_counts(10, 4)
    [0, 2, 5, 8, 10]
    """
    return [round(pixels * step / steps) for step in range(steps + 1)]


def curves(
    answer: Answer,
    images: Float32[Tensor, "b 3 c c"],
    baseline: Float32[Tensor, "b 3 c c"],
    ranks: Int64[Tensor, "b c c"],
    steps: int,
) -> Float64[np.ndarray, "b 2 s"]:
    """Compute the probability after each step of deletion and of insertion.

    Args:
        answer: Gives the probability of the followed class on pictures.
        images: Where deletion begins and insertion ends.
        baseline: Where deletion ends and insertion begins.
        ranks: Order of the pixels, from :func:`pixel_ranks`.
        steps: Number of steps.

    Returns:
        Deletion and insertion, ``steps + 1`` points each, at the shares of :func:`removal_counts`. The ends are the
        very same pictures for every map and are asked for once.
    """
    whole, empty = answer(images), answer(baseline)
    deletion, insertion = [whole], [empty]
    for count in removal_counts(ranks[0].numel(), steps)[1:-1]:
        first = ranks < count
        deletion.append(answer(replaced(images, baseline, first)))
        insertion.append(answer(replaced(baseline, images, first)))
    both = torch.stack([torch.stack([*deletion, empty], 1), torch.stack([*insertion, whole], 1)], 1)
    return np.asarray(both.cpu().numpy())


def area_under(curve: Float64[np.ndarray, "... s"], pixels: int) -> Float64[np.ndarray, "..."]:
    """Compute the area under curves over the share of pixels removed, by trapezoids: 0 to 1, the mean probability."""
    counts = removal_counts(pixels, curve.shape[-1] - 1)
    return np.asarray(np.trapezoid(curve, np.array(counts) / pixels, axis=-1))
