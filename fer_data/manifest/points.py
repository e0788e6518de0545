"""The 68 points that ship with some datasets, kept beside a manifest as ``M.landmarks.npy``.

The file holds float32 ``(k, 68, 2)``: x and y in pixels of the image, as the dataset gives them. A sample's
``landmarks_row`` says which of the k rows is its own.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32

from aupipe.fer_data.errors import ManifestError, paragraph
from aupipe.fer_data.files import atomic_path, sha256_file
from aupipe.fer_data.types import Sample

LANDMARKS_SUFFIX = ".landmarks.npy"
_REPAIR = "Build the manifest again, or put the file back that was built with it."


def usable_points(points: Float32[np.ndarray, "k 68 2"]) -> Bool[np.ndarray, "k"]:
    """Tell which of k sets can be points of a face: all finite, of some extent, not all left of or above the image."""
    finite = np.isfinite(points).all(axis=(1, 2))
    high, low = points.max(axis=1), points.min(axis=1)
    return np.asarray(finite & (high > low).all(axis=1) & (high >= 0).all(axis=1))


def attach_points(
    samples: Sequence[Sample], points: Sequence[Float32[np.ndarray, "68 2"] | None]
) -> tuple[list[Sample], Float32[np.ndarray, "k 68 2"], int]:
    """Give samples the rows of their landmarks. Pure.

    Args:
        samples: Samples in any order.
        points: The points of each, float32 ``(68, 2)`` in pixels; None where the dataset has none.

    Returns:
        The samples in the given order with their ``landmarks_row``; the array it refers to, float32 ``(k, 68, 2)``, in
        the order of the samples' ids; and how many sets of points could not be used.
    """
    order = sorted(range(len(samples)), key=lambda at: samples[at].sample_id)
    given = [(at, found) for at in order if (found := points[at]) is not None]
    if not given:
        return list(samples), np.empty((0, 68, 2), np.float32), 0
    array = np.stack([found for _, found in given])
    good = usable_points(array)
    out = list(samples)
    for row, at in enumerate(at for (at, _), usable in zip(given, good, strict=True) if usable):
        out[at] = replace(out[at], landmarks_row=row)
    return out, array[good], int((~good).sum())


def write_points(path: Path, points: np.ndarray | Path, rows: int, *, replaces: bool = False) -> str:
    """Write the landmarks file ``path`` from an array or another such file, and return its SHA-256.

    Args:
        path: The file to write.
        points: Points ``(k, 68, 2)`` in pixels, or a file that holds them.
        rows: Number of rows that the samples refer to.
        replaces: A file of that name is a former manifest's.

    Raises:
        ManifestError: There are fewer rows, the points are of another shape, or another file is there already.
    """
    if isinstance(points, Path):
        read_points(points, rows)
        if not (path.exists() and path.samefile(points)):
            with atomic_path(path) as temporary:
                shutil.copyfile(points, temporary)
                _check_replaced(path, temporary, replaces)
    else:
        _check_shape(points, rows, path)
        with atomic_path(path) as temporary:
            with temporary.open("wb") as file:
                np.save(file, np.ascontiguousarray(points, "<f4"), allow_pickle=False)
            _check_replaced(path, temporary, replaces)
    return sha256_file(path)


def _check_replaced(path: Path, new: Path, allowed: bool) -> None:
    """Refuse to replace a file that no manifest wrote; the same bytes are left by a build that was killed."""
    if not allowed and path.exists() and sha256_file(path) != sha256_file(new):
        raise ManifestError(
            paragraph(
                "The points that ship with the dataset would replace a file that no manifest wrote.",
                where=path,
                fix="Choose another name for the manifest, or move that file away.",
            )
        )


def read_points(path: Path, rows: int, sha256: str = "") -> np.ndarray:
    """Open a landmarks file: its points are mapped and not loaded, float32 ``(k, 68, 2)`` with ``k >= rows``.

    Args:
        path: The file.
        rows: Number of rows that the samples refer to.
        sha256: The recorded digest; empty: not compared.

    Raises:
        ManifestError: The file is absent, no array of that shape, too short, or not the one that was recorded.
    """
    try:
        points: np.ndarray = np.lib.format.open_memmap(path, mode="r")  # no archives, no objects
    except FileNotFoundError as error:
        raise ManifestError(
            paragraph(f"The landmarks that a manifest refers to are missing: no {path}.", fix=_REPAIR)
        ) from error
    except Exception as error:  # NumPy's reader of headers raises nearly anything
        raise ManifestError(paragraph(f"A landmarks file cannot be read: {error}.", where=path, fix=_REPAIR)) from error
    _check_shape(points, rows, path)
    if points.dtype != np.dtype("<f4"):
        raise ManifestError(
            paragraph("A landmarks file has another type.", where=path, expected="float32", got=points.dtype)
        )
    if not np.isfinite(points).all():
        raise ManifestError(paragraph("A landmarks file holds numbers that are not finite.", where=path, fix=_REPAIR))
    if sha256 and sha256_file(path) != sha256:
        raise ManifestError(
            paragraph(
                "A landmarks file is not the one its manifest was built with; its points may be those of other faces.",
                where=path,
                expected=f"SHA-256 {sha256[:12]}... as in the manifest's .meta.json",
                fix=_REPAIR,
            )
        )
    return points


def _check_shape(points: np.ndarray, rows: int, path: Path) -> None:
    if points.ndim != 3 or points.shape[1:] != (68, 2):
        raise ManifestError(
            paragraph("Landmarks of another shape.", where=path, expected="(k, 68, 2)", got=points.shape, fix=_REPAIR)
        )
    if len(points) < rows:
        raise ManifestError(
            paragraph(
                "A landmarks file is too short for its manifest.",
                where=path,
                expected=f"at least {rows} rows",
                got=len(points),
                fix=_REPAIR,
            )
        )
