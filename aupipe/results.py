"""Results of asking a run about images: faces, predictions and maps, one entry an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64, UInt8

from aupipe.fer_data.frames import load_pandas, masked_column
from aupipe.fer_data.types import Reason

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, repr=False)
class Faces:
    """One face of each image, as the network's store cuts it; where none was found, zeros and a reason.

    crop: ``(n, s, s, 3)`` uint8 RGB. to_image: ``(n, 2, 3)``, pixels of the crop to pixels of the image. sizes: height
    and width of each image. reasons: ``ok``, or why there is no face (``no_face``, ``face_too_small`` ...).
    """

    crop: UInt8[np.ndarray, "n s s 3"]
    to_image: Float64[np.ndarray, "n 2 3"]
    sizes: tuple[tuple[int, int], ...]
    reasons: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.reasons)

    @property
    def found(self) -> Bool[np.ndarray, "n"]:
        """Mask of the images with a face."""
        return np.array([reason == Reason.OK.key for reason in self.reasons], bool)

    def __repr__(self) -> str:
        return f"{self.found.sum()} faces in {len(self)} images{_absences(self.reasons)}"


@dataclass(frozen=True, repr=False)
class Predictions:
    """A run's predictions for n images; where there was no face, ``found`` is False and all else is zero.

    probability: ``(n, k)`` float64, sums to 1, calibrated on the store's validation split where that is possible.
    label: ``(n,)`` int64, the most probable class. reasons: ``ok``, or why there is no prediction.
    """

    classes: tuple[str, ...]
    probability: Float64[np.ndarray, "n k"]
    label: Int64[np.ndarray, "n"]
    found: Bool[np.ndarray, "n"]
    reasons: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.label)

    @property
    def expression(self) -> list[str | None]:
        """Name of the most probable class; None without a face."""
        return [self.classes[at] if there else None for at, there in zip(self.label, self.found, strict=True)]

    def to_pandas(self) -> pandas.DataFrame:
        """Make a table with the columns ``expression, confidence, reason`` and ``p_CLASS`` of every class.

        Raises :class:`UserInputError` when pandas is not installed.
        """
        library = load_pandas()
        columns = {
            "expression": library.array(self.expression, dtype="string"),
            "confidence": masked_column(self.probability.max(1), self.found),
            "reason": library.array(self.reasons, dtype="string"),
        }
        for number, name in enumerate(self.classes):
            columns[f"p_{name}"] = masked_column(self.probability[:, number], self.found)
        return library.DataFrame(columns)

    def __repr__(self) -> str:
        said = [
            f"{name} {row.max():.0%}"
            for name, row in zip(self.expression, self.probability, strict=True)
            if name is not None
        ]
        more = ", ..." if len(said) > 8 else ""
        return f"{len(self)} predictions: {', '.join(said[:8])}{more}{_absences(self.reasons)}"


@dataclass(frozen=True, repr=False)
class Maps:
    """One map an image; where there was no face, ``found`` is False and the map is zero.

    grid: ``(n, h, w)`` float32, 0 or more, at the network's own resolution over its window, the centre of the crop.
    on_crop: ``(n, s, s)`` float32 in [0, 1], on the pixels of the aligned crop. on_image: a ``(height, width)`` float32
    array in [0, 1] for each image, on its own pixels. Both are the grid divided by its largest value, and 0 outside the
    window. labels: the class that a CAM is of; empty for attention. reasons: ``ok``, or why there is no map.
    """

    grid: Float32[np.ndarray, "n h w"]
    on_crop: Float32[np.ndarray, "n s s"]
    on_image: tuple[np.ndarray, ...]
    labels: tuple[str, ...]
    found: Bool[np.ndarray, "n"]
    reasons: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.reasons)

    def __repr__(self) -> str:
        height, width = self.grid.shape[1:]
        what = "CAMs" if self.labels else "attention maps"
        return f"{len(self)} {what} of {height} x {width}{_absences(self.reasons)}"


def _absences(reasons: Sequence[str]) -> str:
    absent = [reason for reason in reasons if reason != Reason.OK.key]
    counts = ", ".join(f"{absent.count(reason)} {reason}" for reason in dict.fromkeys(absent))
    return f"; absent: {counts}" if absent else ""
