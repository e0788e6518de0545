"""Evaluation with a part of every face hidden: how much of what a network knows does it read off the eyes, the mouth?

A part is hidden by a box of the mean colour, like the boxes that training erases
(:mod:`~aupipe.fer_analysis.evaluation.face_parts`). The control hides as much of the same picture elsewhere: a box of
the same size at a place drawn at random that keeps off the part where there is room. In a tight crop it then covers
some of another part; how much is measured beside it.

``occluded.csv`` holds every face: ``sample_id, group, label, has_map, correct`` (of the whole face), and for every part
``predicted_PART, correct_PART, hidden_PART`` (share of the picture), for its control ``PART_elsewhere``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from aupipe.fer_analysis.evaluation.face_parts import MARGIN, PARTS, Boxes, covered_share, elsewhere, part_boxes
from aupipe.fer_analysis.evaluation.measuring import Samples, one_pass
from aupipe.fer_analysis.evaluation.predictions import flag_cells
from aupipe.fer_data.files import sha256_bytes
from aupipe.fer_data.loading import augment
from aupipe.fer_data.loading.augment import AugmentConfig
from aupipe.fer_data.loading.loader import Batch, TripletLoader
from aupipe.fer_data.recorded import write_recorded
from aupipe.fer_data.types import Progress
from aupipe.fer_display.tables import csv_of_columns, number_cells
from aupipe.fer_models.methods import Method
from aupipe.fer_models.metrics import resampling

TABLE = "occluded.csv"

ELSEWHERE = "_elsewhere"
"""Ending of a part's control."""


@dataclass(frozen=True)
class Hidden:
    """What a network says of faces, some of which is hidden.

    ``predicted``: index of the class. ``share``: of the picture that is hidden. ``covers``: share of each part's box.
    """

    predicted: Int64[np.ndarray, "n"]
    share: Float64[np.ndarray, "n"]
    covers: Mapping[str, Float64[np.ndarray, "n"]]


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
    with one_pass(loader, progress, "evaluate with parts hidden", loader.rows) as batches:
        for batch in batches:
            done.append(dict(_hide_all(model, batch, loader, config)))
            progress.advance(len(batch))
    return {name: _join([one[name] for one in done]) for name in done[0]}


def _join(batches: Sequence[Hidden]) -> Hidden:
    return Hidden(
        np.concatenate([one.predicted for one in batches]),
        np.concatenate([one.share for one in batches]),
        {part: np.concatenate([one.covers[part] for one in batches]) for part in PARTS},
    )


def _hide_all(
    model: Method, batch: Batch, loader: TripletLoader, config: AugmentConfig
) -> Iterator[tuple[str, Hidden]]:
    rows = batch.index.cpu().numpy()
    parameters = augment.sample_parameters(config, 0, 0, rows, loader.reader.store.index.image_size)
    points = augment.crop_landmarks(loader.reader.landmarks[rows], parameters, config.crop_size)
    parts = {part: part_boxes(points, part, config.crop_size) for part in PARTS}
    for part, boxes in parts.items():
        yield part, _hide(model, batch, boxes, parts)
        yield part + ELSEWHERE, _hide(model, batch, elsewhere(boxes, rows), parts)


def _hide(model: Method, batch: Batch, boxes: Boxes, parts: Mapping[str, Boxes]) -> Hidden:
    """Predict the classes of the batch with the boxes in the mean colour, which is 0 in normalised images."""
    covered = augment.erased(boxes, batch.image.shape[-1], batch.image.device)
    logits: Tensor = model.read(batch.image.masked_fill(covered[:, None], 0.0)).logits
    return Hidden(
        np.asarray(logits.detach().argmax(1).cpu().numpy(), np.int64),
        covered.double().mean((1, 2)).cpu().numpy(),
        {part: covered_share(its, boxes) for part, its in parts.items()},
    )


def summarise_occluded(samples: Samples, hidden: Mapping[str, Hidden]) -> dict[str, Any]:
    """Summarise what hiding each part costs, beside what hiding as much elsewhere costs.

    Returns:
        ``margin``, and by part: ``hidden`` (mean share of the picture), ``accuracy`` and ``elsewhere`` (the control's),
        ``lost`` (accuracy of the whole faces less that) and ``lost_more`` (the control's less that), with intervals
        that are paired, over persons; ``elsewhere_covers``: mean share of each part's box under the control.
    """
    return {
        "margin": MARGIN,
        "parts": {part: _part(samples, hidden[part], hidden[part + ELSEWHERE]) for part in PARTS},
    }


def _part(samples: Samples, part: Hidden, control: Hidden) -> dict[str, Any]:
    answers = (samples.predicted, part.predicted, control.predicted)
    whole, its, other = ((predicted == samples.label).astype(np.float64) for predicted in answers)

    def interval(values: Float64[np.ndarray, "n"]) -> list[float] | None:
        found = resampling.bootstrap_interval(values, samples.label, "samples", group=samples.group_number)
        return None if found is None else list(found)

    return {
        "hidden": float(part.share.mean()),
        "accuracy": float(its.mean()),
        "accuracy_ci95": list(resampling.accuracy_interval(its > 0, samples.label, samples.group_number)),
        "lost": float((whole - its).mean()),
        "lost_ci95": interval(whole - its),
        "elsewhere": float(other.mean()),
        "elsewhere_covers": {name: float(values.mean()) for name, values in control.covers.items()},
        "lost_more": float((other - its).mean()),
        "lost_more_ci95": interval(other - its),
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
