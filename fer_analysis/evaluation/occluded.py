"""Evaluation with a part of every face hidden: how much of what a network knows does it read off the eyes, the mouth?

A part is hidden by a box of the mean colour, like the boxes that training erases. The box holds the part's landmarks
and a margin of :data:`MARGIN` of the inter-ocular distance. As a control, a box of the same size hides a place of
the same picture that is drawn at random and may overlap the part: what that costs, hiding so many pixels costs anyway.

``occluded.csv`` holds every face: ``sample_id, group, label, has_map, correct`` (of the whole face), and for every part
``predicted_PART, correct_PART, hidden_PART`` (share of the picture), for its control ``PART_elsewhere``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64
from torch import Tensor

from aupipe.fer_analysis.evaluation.measuring import Samples, memory_message
from aupipe.fer_analysis.evaluation.predictions import flag_cells
from aupipe.fer_data.errors import RunError
from aupipe.fer_data.files import sha256_bytes
from aupipe.fer_data.geometry import inter_ocular
from aupipe.fer_data.loading import augment
from aupipe.fer_data.loading.augment import AugmentConfig
from aupipe.fer_data.loading.counters import counter_hash
from aupipe.fer_data.loading.loader import Batch, TripletLoader
from aupipe.fer_data.recorded import write_recorded
from aupipe.fer_data.types import Progress
from aupipe.fer_display.tables import csv_of_columns, number_cells
from aupipe.fer_models.methods import Method
from aupipe.fer_models.metrics import resampling

TABLE = "occluded.csv"

PARTS: Mapping[str, Sequence[int]] = {
    "eyes": (*range(17, 27), *range(36, 48)),
    "mouth": range(48, 68),
}
"""The parts that are hidden, with their iBUG-68 landmarks: eyes and brows, and the lips."""

MARGIN = 0.15
"""Margin of a box around its landmarks, in inter-ocular distances."""

ELSEWHERE = "_elsewhere"
"""Ending of a part's control: a box of its size at another place."""


@dataclass(frozen=True)
class Hidden:
    """What a network says of faces, a part of which is hidden.

    ``predicted``: index of the class. ``share``: of the picture that is hidden.
    """

    predicted: Int64[np.ndarray, "n"]
    share: Float64[np.ndarray, "n"]


def part_boxes(points: Float32[np.ndarray, "n 68 2"], part: str, crop: int) -> Float64[np.ndarray, "n 4"]:
    """Find the box around a part of each face.

    Args:
        points: In pixels of the crop.
        part: One of :data:`PARTS`.
        crop: Side of the crop in pixels.

    Returns:
        ``x0 y0 x1 y1`` in shares of the crop, inside of it; empty where the part lies outside.
    """
    chosen = np.asarray(points, np.float64)[:, list(PARTS[part])]
    margin = MARGIN * np.asarray(inter_ocular(points), np.float64)[:, None]
    corners = np.concatenate([chosen.min(1) - margin, chosen.max(1) + margin], 1)
    return np.clip((corners + 0.5) / crop, 0, 1)


def elsewhere(boxes: Float64[np.ndarray, "n 4"], row: Int64[np.ndarray, "n"]) -> Float64[np.ndarray, "n 4"]:
    """Move each box to a place drawn at random for its row, inside the crop."""
    size = boxes[:, 2:] - boxes[:, :2]
    drawn = (counter_hash(resampling.SEED, 0, row, 2) >> np.uint64(11)).astype(np.float64) * 2.0**-53
    start = drawn * (1 - size)
    return np.concatenate([start, start + size], 1)


@torch.no_grad()
def measure_occluded(
    model: Method, loader: TripletLoader, config: AugmentConfig, progress: Progress
) -> dict[str, Hidden]:
    """Ask a network for the class of every face, with each part and its control hidden.

    Args:
        model: The trained network.
        loader: The rows, in their order and without augmentation.
        config: The centre crop that the loader cuts.
        progress: Told how many images are done.

    Returns:
        By part, and by ``PART_elsewhere``.

    Raises:
        RunError: A batch does not fit into memory.
    """
    done: list[dict[str, Hidden]] = []
    progress.start("evaluate with parts hidden", loader.rows, "images")
    try:
        with contextlib.closing(loader.epoch(0)) as batches:
            for batch in batches:
                done.append({name: _hide(model, batch, boxes) for name, boxes in _boxes(batch, loader, config)})
                progress.advance(len(batch))
    except torch.OutOfMemoryError as error:
        raise RunError(memory_message(loader)) from error
    finally:
        progress.finish()
    return {
        name: Hidden(
            np.concatenate([one[name].predicted for one in done]), np.concatenate([one[name].share for one in done])
        )
        for name in done[0]
    }


def _boxes(
    batch: Batch, loader: TripletLoader, config: AugmentConfig
) -> Iterator[tuple[str, Float64[np.ndarray, "b 4"]]]:
    rows = batch.index.cpu().numpy()
    parameters = augment.sample_parameters(config, 0, 0, rows, loader.reader.store.index.image_size)
    points = augment.crop_landmarks(loader.reader.landmarks[rows], parameters, config.crop_size)
    for part in PARTS:
        boxes = part_boxes(points, part, config.crop_size)
        yield part, boxes
        yield part + ELSEWHERE, elsewhere(boxes, rows)


def _hide(model: Method, batch: Batch, boxes: Float64[np.ndarray, "b 4"]) -> Hidden:
    """Predict the classes of the batch with the boxes in the mean colour, which is 0 in normalised images."""
    covered = augment.erased(boxes, batch.image.shape[-1], batch.image.device)
    logits: Tensor = model.read(batch.image.masked_fill(covered[:, None], 0.0)).logits
    return Hidden(
        np.asarray(logits.detach().argmax(1).cpu().numpy(), np.int64),
        covered.double().mean((1, 2)).cpu().numpy(),
    )


def summarise_occluded(samples: Samples, hidden: Mapping[str, Hidden]) -> dict[str, Any]:
    """Summarise what hiding each part costs, beside what hiding as much elsewhere costs.

    Returns:
        By part: ``hidden`` (mean share of the picture), ``accuracy`` and ``elsewhere`` (the control's), ``lost``
        (accuracy of the whole faces less that) and ``lost_more`` (the control's less that), with intervals that are
        paired, over persons.
    """
    return {part: _part(samples, hidden[part], hidden[part + ELSEWHERE]) for part in PARTS}


def _part(samples: Samples, part: Hidden, control: Hidden) -> dict[str, Any]:
    whole, right, other = (
        (predicted == samples.label).astype(np.float64)
        for predicted in (samples.predicted, part.predicted, control.predicted)
    )

    def interval(values: Float64[np.ndarray, "n"]) -> list[float] | None:
        found = resampling.bootstrap_interval(values, samples.label, "samples", group=samples.group_number)
        return None if found is None else list(found)

    return {
        "hidden": float(part.share.mean()),
        "accuracy": float(right.mean()),
        "accuracy_ci95": interval(right),
        "elsewhere": float(other.mean()),
        "lost": float((whole - right).mean()),
        "lost_ci95": interval(whole - right),
        "lost_more": float((other - right).mean()),
        "lost_more_ci95": interval(other - right),
    }


def write_occluded(path: Path, samples: Samples, hidden: Mapping[str, Hidden], classes: Sequence[str]) -> str:
    """Write ``occluded.csv`` and return its SHA-256."""
    data = csv_of_columns(_columns(samples, hidden, classes)).encode()
    write_recorded(path, data)
    return sha256_bytes(data)


def _columns(
    samples: Samples, hidden: Mapping[str, Hidden], classes: Sequence[str]
) -> Iterator[tuple[str, Sequence[str]]]:
    yield "sample_id", samples.sample_id
    yield "group", samples.group
    yield "label", [classes[number] for number in samples.label]
    yield "has_map", flag_cells(samples.has_map)
    yield "correct", flag_cells(samples.correct)
    for name, one in hidden.items():
        yield f"predicted_{name}", [classes[number] for number in one.predicted]
        yield f"correct_{name}", flag_cells(np.asarray(one.predicted == samples.label))
        yield f"hidden_{name}", number_cells(one.share, np.ones(len(one.share), bool))
