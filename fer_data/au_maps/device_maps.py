"""AU maps drawn by torch from a batch's landmarks, on their device: exact after any crop, flip or rotation.

The regions are placed on the faces on the CPU, by the code that places them for the stored maps: 68 points a face are
too few to be worth a device. Only the pixels are drawn here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from aupipe.fer_data.au_maps.codebook import Codebook
from aupipe.fer_data.au_maps.heatmaps import aus_of, place_faces
from aupipe.fer_data.au_maps.shapes import Region, Shape, shape_class


@dataclass(frozen=True, slots=True)
class DevicePlan:
    """The part that all batches share: what draws, and the regions of each class, none for one without AUs."""

    shape: type[Shape]
    image_size: int
    regions: tuple[tuple[Region, ...], ...]


def make_plan(codebook: Codebook, classes: Sequence[str], image_size: int) -> DevicePlan:
    """Prepare drawing for labels that index ``classes``, with landmarks in pixels of the ``image_size`` crop.

    Raises :class:`~aupipe.fer_data.errors.UserInputError` for a class that the codebook does not know.
    """
    regions = tuple(codebook.regions(aus_of(codebook, name)) for name in classes)
    return DevicePlan(shape_class(codebook.kind), image_size, regions)


@torch.no_grad()
def render_on_device(
    landmarks: Float[Tensor, "b 68 2"], labels: Int[Tensor, " b"], plan: DevicePlan, size: int
) -> Float[Tensor, "b size size"]:
    """Draw the AU map of each face, float32 in [0, 1] on the landmarks' device.

    Equal to :func:`aupipe.fer_data.au_maps.heatmaps.render_maps` at the same ``size`` within 1/255; zero for a class
    without AUs.
    """
    points = landmarks.detach().to("cpu", torch.float64).numpy()
    placed = _place(points, labels.detach().cpu().numpy(), plan, size)
    if placed is None:
        return torch.zeros((len(points), size, size), device=landmarks.device)
    return _draw(plan.shape, placed, landmarks.device, plan.image_size, size)


@torch.no_grad()
def render_faces_on_device(
    landmarks: Float[Tensor, "b 68 2"],
    weights: Float[np.ndarray, "b a 2"],
    codebook: Codebook,
    image_size: int,
    size: int,
) -> Float[Tensor, "b size size"]:
    """Draw the map of each face's own action units, as :func:`aupipe.fer_data.au_maps.heatmaps.render_faces` does."""
    maps = torch.zeros((len(landmarks), size, size), device=landmarks.device)
    points = landmarks.detach().to("cpu", torch.float64).numpy()
    drawn, table = place_faces(points, weights, codebook, image_size, size)
    if drawn.any():
        found = _draw(shape_class(codebook.kind), table, landmarks.device, image_size, size)
        maps[torch.from_numpy(drawn).to(landmarks.device)] = found
    return maps


@torch.no_grad()
def render_regions_on_device(
    landmarks: Float[Tensor, "b 68 2"], numbers: Sequence[int], codebook: Codebook, image_size: int, size: int
) -> Float[Tensor, "b a size size"]:
    """Draw the region of each action unit alone, peak 1; zero for one that the codebook does not describe."""
    points = landmarks.detach().to("cpu", torch.float64).numpy()
    shape = shape_class(codebook.kind)
    maps = torch.zeros((len(points), len(numbers), size, size), device=landmarks.device)
    for at, number in enumerate(numbers):
        if number in codebook.action_units:
            table = shape.place(codebook.regions({number: 1.0}), points, image_size, size)
            maps[:, at] = _draw(shape, table, landmarks.device, image_size, size)
    return maps


def _draw(shape: type[Shape], table: np.ndarray, device: torch.device, image_size: int, size: int) -> Tensor:
    """Draw what is placed; the products of the ellipse drawing need full precision."""
    with torch.autocast(device.type, enabled=False):
        return shape.draw_on_device(torch.from_numpy(table).to(device), image_size, size)


def _place(points: np.ndarray, labels: np.ndarray, plan: DevicePlan, size: int) -> np.ndarray | None:
    """One table of all faces, padded with rows of zeros; None where no face has a region."""
    tables: Mapping[int, np.ndarray] = {
        label: plan.shape.place(plan.regions[label], points[labels == label], plan.image_size, size)
        for label in np.unique(labels)
        if plan.regions[label]
    }
    if not tables:
        return None
    most, columns = max(table.shape[1] for table in tables.values()), next(iter(tables.values())).shape[2]
    whole = np.zeros((len(points), most, columns))
    for label, table in tables.items():
        whole[labels == label, : table.shape[1]] = table
    return whole
