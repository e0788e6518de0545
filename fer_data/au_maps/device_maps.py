"""AU maps drawn by torch from a batch's landmarks, on their device: exact after any crop, flip or rotation.

What is drawn comes from the same tables as the stored maps (:mod:`aupipe.fer_data.au_maps.gaussians`,
:func:`aupipe.fer_data.au_maps.heatmaps.place_ellipses`), computed on the CPU: 68 points a face are too few to be worth
a device. Only the pixels are drawn here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from aupipe.fer_data import geometry
from aupipe.fer_data.au_maps.codebook import Codebook
from aupipe.fer_data.au_maps.gaussians import LOG_FLOOR, NOTHING, Template, make_template, place
from aupipe.fer_data.au_maps.heatmaps import BACKGROUND, INSIDE, area_matrix, aus_of, coarse_matrices, place_ellipses


@dataclass(frozen=True, slots=True)
class DevicePlan:
    """What does not change between batches: per class its AUs, and their Gaussians in a ``gaussian`` codebook."""

    codebook: Codebook
    image_size: int
    weights: tuple[Mapping[int, float], ...]
    templates: tuple[Template, ...]


def make_plan(codebook: Codebook, classes: Sequence[str], image_size: int) -> DevicePlan:
    """Prepare drawing for labels that index ``classes``, with landmarks in pixels of the ``image_size`` crop.

    Raises :class:`~aupipe.fer_data.errors.UserInputError` for a class that the codebook does not know.
    """
    weights = tuple(aus_of(codebook, name) for name in classes)
    templates = tuple(make_template(codebook, aus) for aus in weights) if codebook.kind == "gaussian" else ()
    return DevicePlan(codebook, image_size, weights, templates)


@torch.no_grad()
def render_on_device(
    landmarks: Float[Tensor, "b 68 2"], labels: Int[Tensor, " b"], plan: DevicePlan, size: int
) -> Float[Tensor, "b size size"]:
    """The AU map of each face, float32 in [0, 1] on the landmarks' device.

    Equal to :func:`aupipe.fer_data.au_maps.heatmaps.render_maps` at the same ``size`` within 1/255; zero for a class
    without AUs.
    """
    points = landmarks.detach().to("cpu", torch.float64).numpy()
    rows = labels.detach().cpu().numpy()
    # The products of the ellipse drawing need full precision.
    with torch.autocast(landmarks.device.type, enabled=False):
        if plan.codebook.kind == "ellipse":
            return _render_ellipses(points, rows, plan, size, landmarks.device)
        return _render_blobs(points, rows, plan, size, landmarks.device)


def _render_blobs(points: np.ndarray, labels: np.ndarray, plan: DevicePlan, size: int, device: torch.device) -> Tensor:
    scaled = geometry.rescale_points(points, size / plan.image_size)
    table, strongest = _blob_table(scaled, labels, plan)
    x, y, a, b, c, log_weight = torch.from_numpy(table).to(device).unbind(-1)
    grid = torch.arange(size, device=device, dtype=torch.float32)
    canvas = torch.full((len(points), size, size), NOTHING, device=device)
    for k in range(table.shape[1]):
        dx, dy = grid - x[:, k, None], grid - y[:, k, None]
        row = c[:, k, None] * dy * dy + log_weight[:, k, None]
        outer = row[:, :, None] + (a[:, k, None] * dx * dx)[:, None, :]
        torch.maximum(canvas, outer.addcmul_((b[:, k, None] * dy)[:, :, None], dx[:, None, :]), out=canvas)
    above = canvas >= LOG_FLOOR
    peak = canvas.amax((1, 2), keepdim=True)
    enough = torch.from_numpy(np.log(0.5 * strongest)).to(device)[:, None, None]
    return (canvas - torch.where(peak > enough, peak, torch.zeros_like(peak))).exp_().mul_(above)


def _blob_table(points: np.ndarray, labels: np.ndarray, plan: DevicePlan) -> tuple[np.ndarray, np.ndarray]:
    """Per face its Gaussians ``(x, y, a, b, c, log weight)``, padded with nothing, and its strongest weight."""
    most = max((len(plan.templates[label].weight) for label in np.unique(labels)), default=0)
    table = np.zeros((len(points), most, 6), np.float32)
    table[..., 5] = NOTHING
    strongest = np.ones(len(points), np.float32)
    for label in np.unique(labels):
        if not plan.weights[label]:
            continue
        rows = np.flatnonzero(labels == label)
        blobs = place(plan.templates[label], points[rows])
        filled = np.concatenate([blobs.centre, blobs.form, blobs.log_weight[..., None]], -1)
        table[rows, : filled.shape[1]] = filled
        strongest[rows] = max(plan.weights[label].values())
    return table, strongest


def _render_ellipses(
    points: np.ndarray, labels: np.ndarray, plan: DevicePlan, size: int, device: torch.device
) -> Tensor:
    ellipses, member, weight = (
        torch.from_numpy(array).to(device) for array in _ellipse_table(points, labels, plan, device)
    )
    read, *matrices = coarse_matrices(plan.image_size)
    shrink, grow, resize = (
        torch.from_numpy(matrix).to(device, torch.float32) for matrix in (*matrices, area_matrix(size, plan.image_size))
    )
    at = torch.from_numpy(read).to(device, ellipses.dtype)
    dx, dy = ((at - ellipses[:, :, axis, None]) / ellipses[:, :, axis + 2, None] for axis in (0, 1))
    inside = dx[:, :, None, :] ** 2 + dy[:, :, :, None] ** 2 <= 1
    covered = torch.einsum("bae,behw->bahw", member, inside.float()) > 0
    canvas = torch.where(covered, INSIDE, BACKGROUND)
    coarse = weight[:, :, None, None] * (shrink @ canvas @ shrink.T)
    merged = torch.full((len(points), plan.image_size, plan.image_size), BACKGROUND, device=device)
    for unit in coarse.unbind(1):
        torch.maximum(merged, grow @ unit @ grow.T, out=merged)
    merged = resize @ merged @ resize.T
    low, high = merged.amin((1, 2), keepdim=True), merged.amax((1, 2), keepdim=True)
    drawn = torch.from_numpy(np.array([bool(plan.weights[label]) for label in labels], bool)).to(device)[:, None, None]
    spread = torch.where(drawn & (high > low), high - low, torch.full_like(low, torch.inf))
    return (merged - low) / spread


def _ellipse_table(
    points: np.ndarray, labels: np.ndarray, plan: DevicePlan, device: torch.device
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ellipses ``(x, y, half width, half height)``, which AU each belongs to, and the AUs' weights, padded."""
    units = [len(aus) for aus in plan.weights]
    shapes = [sum(len(plan.codebook.action_units[au].ellipses) for au in aus) for aus in plan.weights]
    # Pixels on an ellipse's rim are counted as the stored maps count them; some devices have no double precision.
    ellipses = np.ones((len(points), max(shapes), 4), np.float32 if device.type == "mps" else np.float64)
    member = np.zeros((len(points), max(units), max(shapes)), np.float32)
    weight = np.zeros((len(points), max(units)), np.float32)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        table = place_ellipses(points[rows], plan.weights[label], plan.codebook, plan.image_size)
        count = len(table.unit)
        ellipses[rows, :count] = np.concatenate([table.centre, table.half], -1)
        member[rows[:, None], table.unit, np.arange(count)] = 1
        weight[rows, : len(table.weight)] = table.weight
    return ellipses, member, weight
