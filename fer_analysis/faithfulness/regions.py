"""Removal of the AU regions of a face against removing as much of it elsewhere.

The region is where the face's AU map, grown to the crop, reaches one half. A fall of the probability alone says little:
any large hole hurts. So as many pixels are removed outside the region, twice:

- ``outside_face``: inside the convex hull of the landmarks, and beyond it only where the hull has no room left;
- ``outside_anywhere``: anywhere in the crop, background included, which is the easier control to beat.

Both take blobs about as large as those of AUs: the strongest pixels of a smooth random map, drawn :data:`DRAWS` times.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int64
from torch import Tensor

from aupipe.fer_analysis.faithfulness.perturbing import pixel_ranks, random_maps, replaced
from aupipe.fer_models.metrics import localisation
from aupipe.fer_models.targets import resize_maps

Answers = Callable[[Float32[Tensor, "b 3 c c"]], Float64[Tensor, "b k"]]
"""Probabilities that a model gives all classes on each picture."""

REMOVALS = ("inside", "outside_face", "outside_anywhere")
"""What is removed."""

CELLS = 8
"""Cells of the random map along the crop's side: one is about as wide as an AU's region (2.4 sigma)."""

DRAWS = 3
"""Random places a face, over which the controls are averaged."""


@dataclass(frozen=True)
class Removed:
    """Faces after the removal. ``probability``: of every class; ``strength``: root mean square change of the pixels.

    Both by the names of :data:`REMOVALS`, with the draws of the controls as their first axis. ``in_face``: share of the
    pixels of ``outside_face`` that found room in the hull.
    """

    probability: Mapping[str, Float64[np.ndarray, "d b k"]]
    strength: Mapping[str, Float64[np.ndarray, "d b"]]
    in_face: Float64[np.ndarray, "b"]


def region_of(au_map: Float32[Tensor, "b m m"], size: int) -> Bool[Tensor, "b c c"]:
    """Find the AU region in pixels of the crop."""
    return localisation.au_region(resize_maps(au_map, (size, size)))


def usable(region: Bool[Tensor, "b c c"]) -> Bool[Tensor, "b"]:
    """Tell which regions are neither empty nor more than half of the crop, which leaves as many pixels outside."""
    share = localisation.region_share(region)
    return (share > 0) & (share <= 0.5)


def face_hull(landmarks: Float32[Tensor, "b 68 2"], size: int) -> Bool[Tensor, "b c c"]:
    """Fill the convex hull of each face's landmarks (pixels of the crop)."""
    drawn = np.zeros((len(landmarks), size, size), np.uint8)
    for canvas, points in zip(drawn, landmarks.cpu().numpy(), strict=True):
        cv2.fillConvexPoly(canvas, np.rint(cv2.convexHull(points)).astype(np.int32), 1)
    return torch.from_numpy(drawn.astype(bool)).to(landmarks.device)


def elsewhere(
    region: Bool[Tensor, "b c c"], preferred: Bool[Tensor, "b c c"], field: Float32[Tensor, "b c c"]
) -> Bool[Tensor, "b c c"]:
    """Choose as many pixels as the region has, none of them in it: the strongest of ``field``, first those preferred.

    ``field`` in [0, 1]. The region must leave that many pixels.
    """
    score = (field + 2 * preferred).masked_fill(region, -1)
    return pixel_ranks(score, field) < region.sum((1, 2), keepdim=True)


def remove_regions(
    answers: Answers,
    images: Float32[Tensor, "b 3 c c"],
    baseline: Float32[Tensor, "b 3 c c"],
    region: Bool[Tensor, "b c c"],
    landmarks: Float32[Tensor, "b 68 2"],
    rows: Int64[np.ndarray, "b"],
    seed: int,
) -> Removed:
    """Replace the region, and as much elsewhere, by the baseline.

    Args:
        answers: Gives the probabilities of all classes on pictures.
        images: The faces; all must be :func:`usable`.
        baseline: What removed pixels are taken from.
        region: The AU region of each face.
        landmarks: In pixels of the crop.
        rows: Numbers of the faces in the split, from which the controls are drawn.
        seed: Of the controls.

    Returns:
        Probabilities after each removal, and how strongly it changed the pictures.
    """
    size = images.shape[-1]
    hull, anywhere = face_hull(landmarks, size), torch.ones_like(region)
    masks: dict[str, list[Tensor]] = {"inside": [region], "outside_face": [], "outside_anywhere": []}
    for draw in range(DRAWS):
        field = resize_maps(random_maps(rows, (CELLS, CELLS), seed, draw).to(images.device), (size, size))
        masks["outside_face"].append(elsewhere(region, hull, field))
        masks["outside_anywhere"].append(elsewhere(region, anywhere, field))
    change = ((images - baseline) ** 2).mean(1).double()
    pixels = region.sum((1, 2))
    found = torch.stack([(mask & hull).sum((1, 2)) for mask in masks["outside_face"]]).double().mean(0) / pixels
    return Removed(
        {name: _joined([answers(replaced(images, baseline, mask)) for mask in drawn]) for name, drawn in masks.items()},
        {name: _joined([((change * m).sum((1, 2)) / pixels).sqrt() for m in drawn]) for name, drawn in masks.items()},
        found.cpu().numpy(),
    )


def _joined(values: list[Tensor]) -> np.ndarray:
    return np.asarray(torch.stack(values).cpu().numpy())
