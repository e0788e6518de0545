"""Global maps, one per network and expression: explain many faces, bring each to the canonical face, average.

A pixel's mean is over the faces that have a value there; ``n`` says how many. The mean is scaled to [0, 1] by its own
smallest and largest value; pixels that no face reaches are 0 in the picture and False in ``valid``.
"""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Float64, Int32, Int64, UInt8

from aupipe.fer_analysis.comparison.canonical import HEIGHT, WIDTH, CanonicalFace
from aupipe.fer_analysis.comparison.classifiers import Classifier
from aupipe.fer_analysis.comparison.explainers import Explainer, to_tensor
from aupipe.fer_analysis.comparison.scores import count_levels, otsu_iou
from aupipe.fer_data.errors import RunError, paragraph
from aupipe.fer_data.files import atomic_path, write_bytes
from aupipe.fer_data.shards import SplitReader
from aupipe.fer_data.types import Progress
from aupipe.fer_models.metrics.resampling import draw_counts, percentile_interval

SELECTIONS = ("correct", "predicted", "labelled")
"""Faces of the class that are predicted as it; all faces predicted as it; all faces of the class."""

CHUNK = 20
"""Resampled means computed at once."""


@dataclass(frozen=True)
class GlobalMap:
    """The mean explanation of one expression on the canonical face, and what it stands on.

    mean, variance (of single faces, 0 below two), n: (275, 224). ``available``: faces that could have been explained,
    ``used``: those that were. ``fit``: mean weighted R² of the surrogates, ``interval``: 95 % of the IoU when persons
    are resampled; None where there is none.
    """

    mean: Float32[np.ndarray, "275 224"]
    variance: Float32[np.ndarray, "275 224"]
    n: Int32[np.ndarray, "275 224"]
    available: int
    used: int
    fit: float | None = None
    interval: tuple[float, float] | None = None

    @property
    def valid(self) -> Bool[np.ndarray, "275 224"]:
        """Mask of the pixels that at least one face reaches."""
        return self.n > 0

    @property
    def scaled(self) -> Float32[np.ndarray, "275 224"]:
        """The mean scaled to [0, 1] over the valid pixels; 0 elsewhere and for a constant mean."""
        return np.asarray(_scale(self.mean[None], self.valid[None])[0])

    @property
    def picture(self) -> UInt8[np.ndarray, "275 224"]:
        """The scaled mean as 8 bits."""
        return to_bytes(self.scaled)


def to_bytes(values: Float32[np.ndarray, "*s"]) -> UInt8[np.ndarray, "*s"]:
    """Convert values in [0, 1] to 8 bits, rounded."""
    return np.asarray(np.rint(values * 255), np.uint8)


def _scale(means: Float32[np.ndarray, "r h w"], valid: Bool[np.ndarray, "r h w"]) -> Float32[np.ndarray, "r h w"]:
    low = np.where(valid, means, np.inf).min((1, 2), keepdims=True)
    high = np.where(valid, means, -np.inf).max((1, 2), keepdims=True)
    span = np.where(high > low, high - low, np.inf)
    return np.asarray(np.where(valid, (means - np.where(valid, low, 0)) / span, 0), np.float32)


def cut_face(
    reader: SplitReader, row: int, crop: int
) -> tuple[UInt8[np.ndarray, "c c 3"], Float32[np.ndarray, "68 2"]]:
    """Cut the central crop that the classifier sees, and give the landmarks in its pixels."""
    offset = (reader.store.index.image_size - crop) // 2
    image = reader.image(row)[offset : offset + crop, offset : offset + crop]
    return np.ascontiguousarray(image), reader.landmarks[row] - np.float32(offset)


def predict(classifier: Classifier, reader: SplitReader, progress: Progress, batch: int = 64) -> Int64[np.ndarray, "n"]:
    """Predict the class of each face of the split."""
    import torch

    found = []
    progress.start(f"{classifier.name}: predictions", len(reader), "images")
    for start in range(0, len(reader), batch):
        rows = range(start, min(start + batch, len(reader)))
        faces = [to_tensor(cut_face(reader, row, classifier.crop)[0], classifier.device) for row in rows]
        probability = classifier.probabilities(torch.stack(faces))
        if not torch.isfinite(probability).all():
            raise _no_numbers(classifier, "probabilities", reader.sample_ids[start])
        found.append(probability.argmax(1).cpu().numpy())
        progress.advance(len(faces))
    progress.finish()
    return np.concatenate(found).astype(np.int64)


def _no_numbers(classifier: Classifier, what: str, sample_id: str) -> RunError:
    return RunError(
        paragraph(
            f"The network {classifier.name} does not answer in numbers: its {what} has NaN or infinite values.",
            where=f"the batch from {sample_id!r} on" if what == "probabilities" else sample_id,
            fix="Its training diverged, its weights are damaged, or its images are prepared in another way "
            "(--normalisation). Leave it out, or mend it.",
        )
    )


def choose_rows(
    reader: SplitReader, predicted: Int64[np.ndarray, "n"], target: int, select: str, limit: int, seed: int
) -> tuple[list[int], int]:
    """Choose the rows to explain, by the seed and the sample ids.

    Args:
        reader: The split.
        predicted: The predicted class of each row.
        target: The class to explain.
        select: One of :data:`SELECTIONS`.
        limit: Rows at most.
        seed: Another one chooses other rows.

    Returns:
        The rows in their order, and how many there were to choose from.
    """
    labelled, named = reader.labels == target, predicted == target
    rows = np.flatnonzero({"correct": labelled & named, "predicted": named, "labelled": labelled}[select]).tolist()
    order = sorted(rows, key=lambda row: hashlib.sha256(f"{seed}/{reader.sample_ids[row]}".encode()).digest())
    return sorted(order[:limit]), len(rows)


def explain_expression(
    classifier: Classifier,
    explainer: Explainer,
    reader: SplitReader,
    rows: Sequence[int],
    available: int,
    target: int,
    face: CanonicalFace,
    mask: Bool[np.ndarray, "275 224"],
    resamples: int,
    progress: Progress,
) -> GlobalMap:
    """Explain some rows for one class and average the maps on the canonical face.

    Args:
        classifier: Who predicts.
        explainer: Who explains it.
        reader: The split of the rows.
        rows: What to explain; at least one.
        available: How many rows could have been explained.
        target: The class to explain.
        face: The canonical face.
        mask: The expression's mask on it, for the interval of the IoU.
        resamples: How often the persons are drawn again for that interval. 0: no interval.
        progress: Told of each row.

    Returns:
        The mean map, and what it stands on.
    """
    maps, holds, fits = [], [], []
    for row in rows:
        image, points = cut_face(reader, row, classifier.crop)
        found = explainer.explain(classifier, image, target, reader.sample_ids[row])
        if not np.isfinite(found.values).all():
            raise _no_numbers(classifier, "map", reader.sample_ids[row])
        values, valid = face.normalise(found.values, points)
        maps.append(values)
        holds.append(valid)
        if found.fit is not None:
            fits.append(found.fit)
        progress.advance(1)
    values, valid = np.stack(maps), np.stack(holds)
    persons = np.unique([reader.groups[row] for row in rows], return_inverse=True)[1]
    n = valid.sum(0)
    mean = np.divide(values.sum(0, dtype=np.float64), n, out=np.zeros(n.shape), where=n > 0)
    squares = (np.where(valid, values - mean, 0).astype(np.float64) ** 2).sum(0)
    return GlobalMap(
        mean=mean.astype(np.float32),
        variance=np.divide(squares, n - 1, out=np.zeros(n.shape), where=n > 1).astype(np.float32),
        n=n.astype(np.int32),
        available=available,
        used=len(rows),
        fit=float(np.mean(fits)) if fits else None,
        interval=iou_interval(values, valid, mask, persons, resamples) if resamples else None,
    )


def iou_interval(
    values: Float32[np.ndarray, "n h w"],
    valid: Bool[np.ndarray, "n h w"],
    mask: Bool[np.ndarray, "h w"],
    persons: Int64[np.ndarray, "n"],
    resamples: int,
) -> tuple[float, float] | None:
    """Compute the 95 % percentile interval of the mean map's IoU when persons are drawn again, with all their faces.

    None of one person. ``persons``: the number of each face's.
    """
    n, shape = len(values), values.shape[1:]
    count = int(persons.max()) + 1
    if count == 1:
        return None
    draws = draw_counts(count, resamples)[:, persons].astype(np.float32)
    flat, holds = values.reshape(n, -1), valid.reshape(n, -1).astype(np.float32)
    scores: list[Float64[np.ndarray, "r"]] = []
    for start in range(0, resamples, CHUNK):
        part = draws[start : start + CHUNK]
        counts = part @ holds
        means = np.divide(part @ flat, counts, out=np.zeros_like(counts), where=counts > 0)
        pictures = to_bytes(_scale(means.reshape(-1, *shape), (counts > 0).reshape(-1, *shape)))
        scores.append(otsu_iou(count_levels(pictures, mask[None]))[:, 0])
    return percentile_interval(np.concatenate(scores))


def save_map(folder: Path, name: str, found: GlobalMap, key: str) -> None:
    """Write ``NAME.png`` (8 bits) and ``NAME.npz`` (everything, with the key of what it was made from)."""
    save_picture(folder, name, found)
    content: dict[str, Any] = {name: value for name, value in vars(found).items() if value is not None}
    with atomic_path(folder / f"{name}.npz") as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, scaled=found.scaled, valid=found.valid, key=np.array(key), **content)


def save_picture(folder: Path, name: str, found: GlobalMap) -> None:
    """Write ``NAME.png`` where it is not there as it should be."""
    folder.mkdir(parents=True, exist_ok=True)
    path, data = folder / f"{name}.png", cv2.imencode(".png", found.picture)[1].tobytes()
    if not path.is_file() or path.read_bytes() != data:
        write_bytes(path, data)


def load_map(folder: Path, name: str, key: str) -> GlobalMap | None:
    """Load the map that an earlier run of the same comparison left; None if there is none, or a damaged one."""
    try:
        with zipfile.ZipFile(folder / f"{name}.npz") as stored:
            if str(_array(stored, "key", "U", ())) != key:
                return None
            there = {member.removesuffix(".npy") for member in stored.namelist()}
            low_high = _array(stored, "interval", "f", (2,)) if "interval" in there else None
            found = GlobalMap(
                mean=_array(stored, "mean", "f4", (HEIGHT, WIDTH)),
                variance=_array(stored, "variance", "f4", (HEIGHT, WIDTH)),
                n=_array(stored, "n", "i4", (HEIGHT, WIDTH)),
                available=int(_array(stored, "available", "i", ())),
                used=int(_array(stored, "used", "i", ())),
                fit=float(_array(stored, "fit", "f", ())) if "fit" in there else None,
                interval=None if low_high is None else (float(low_high[0]), float(low_high[1])),
            )
    except (OSError, KeyError, ValueError, EOFError, RuntimeError, zlib.error, zipfile.BadZipFile):
        return None
    return found if np.isfinite(found.mean).all() and np.isfinite(found.variance).all() else None


def _array(stored: zipfile.ZipFile, name: str, kind: str, shape: tuple[int, ...]) -> np.ndarray:
    """Read an array of an ``.npz`` file whose header says what was expected: its memory is taken only then.

    ``kind``: a dtype, or its kind alone. Raises ``ValueError`` and what zipfile raises.
    """
    with stored.open(f"{name}.npy") as file:
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError("another version of the format")
        said, _, dtype = np.lib.format.read_array_header_1_0(file)
        if said != shape or (dtype.kind != kind and dtype != kind) or dtype.itemsize > 4096:
            raise ValueError(f"{name} of shape {said} and type {dtype}")
    with stored.open(f"{name}.npy") as file:
        return np.asarray(np.lib.format.read_array(file, allow_pickle=False))
