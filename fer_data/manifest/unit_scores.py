"""Estimates of action units that another program wrote in a table, for the faces of a store or of a manifest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from aupipe.fer_data.errors import ManifestError, paragraph
from aupipe.fer_data.manifest.face_codes import faces_of_store
from aupipe.fer_data.manifest.unit_tables import UnitRow, UnitTable, read_unit_table
from aupipe.fer_data.types import Sample

Scores = tuple[float | None, ...]
"""Of one face: a number an action unit, None where nothing is told."""


@dataclass(frozen=True, slots=True)
class EstimateSource:
    """Whose estimates these are, as a store records it.

    Attributes:
        scale: ``OpenFace``, ``LibreFace`` or ``probability``.
        sha256: SHA-256 of the table.
        numbers: The FACS numbers, in order.
        common: Mean probability of each over the faces of the manifest.
    """

    scale: str
    sha256: str
    numbers: tuple[int, ...]
    common: tuple[float, ...]

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


@dataclass(frozen=True)
class EstimateTable:
    """Probabilities of action units by sample id; a face of which the table says nothing is not there.

    ``notes``: sentences on whom it speaks of.
    """

    source: EstimateSource
    probabilities: Mapping[str, Scores]
    notes: tuple[str, ...] = ()


def read_estimates(path: Path, samples: Sequence[Sample]) -> EstimateTable:
    """Read the probability of each action unit of some faces.

    A presence counts as 0 or 1; where a program gives intensities alone, they count as shares of the largest.

    Args:
        path: A table as ``manifest build --aus-from`` takes it, but of numbers.
        samples: The faces.

    Raises:
        ManifestError: It cannot be read, holds FACS codes, or names none of these faces.
    """
    table = _read_numbers(path, UnitRow.probabilities, samples)
    numbers, told = tuple(table.header.units), dict[str, Scores]()
    for sample, key in zip(samples, table.find(samples), strict=True):
        row = table.values[key] if key is not None else ()
        if any(value is not None for value in row):
            told[sample.sample_id] = row
    if not told:
        raise ManifestError(
            paragraph("A table of estimated action units tells nothing of these faces.", where=path, got="empty cells")
        )
    known = np.array(list(told.values()), np.float64)
    common = [float(values[np.isfinite(values)].mean()) if np.isfinite(values).any() else 0.0 for values in known.T]
    source = EstimateSource(table.header.scale, table.sha256, numbers, tuple(round(v, 6) for v in common))
    notes = [f"{len(told)} of {len(samples)} samples are told by {path.name} ({source.scale}, by {table.header.key})"]
    return EstimateTable(source, told, (*notes, *table.notes()))


def read_unit_scores(
    path: Path,
    sample_ids: Sequence[str],
    persons: Sequence[str],
    numbers: Sequence[int],
    others: Iterable[str] = (),
) -> Float64[np.ndarray, "n k"]:
    """Read what another program says of each face's action units, in as many degrees as it tells: intensities first.

    Args:
        path: A table as ``manifest build --aus-from`` takes it, but of numbers, such as ``aupipe landmarks --export
            csv`` writes.
        sample_ids: The faces.
        persons: The person of each, or else its sample id.
        numbers: The action units.
        others: Ids of more faces of the same dataset, which the table may name.

    Returns:
        A row a face, a column an action unit; NaN where the table says nothing.

    Raises:
        ManifestError: It cannot be read, holds FACS codes, or names none of these faces.
    """
    faces = faces_of_store(sample_ids, persons)
    table = _read_numbers(path, UnitRow.scores, faces)
    keys = table.find(faces, others)
    column = {number: at for at, number in enumerate(table.header.units)}
    scores = np.full((len(sample_ids), len(numbers)), np.nan)
    for face, row in enumerate(table.values[key] if key is not None else None for key in keys):
        for unit, number in enumerate(numbers):
            if row is not None and number in column:
                scores[face, unit] = row[column[number]]
    return scores


def _read_numbers(path: Path, read: Callable[[UnitRow], Scores], samples: Sequence[Sample]) -> UnitTable[Scores]:
    table = read_unit_table(path, read, samples)
    if not table.header.units:
        raise ManifestError(
            paragraph(
                "A table holds codes in FACS notation, not estimates.",
                where=path,
                expected="columns such as AU01 (a probability), AU01_c and AU01_r (OpenFace), au_1 (LibreFace)",
                fix="Use it as codes: `aupipe manifest build --aus-from`, then --aus annotated.",
            )
        )
    if table.unread:
        first = table.unread[0]
        raise ManifestError(
            paragraph(
                f"{len(table.unread)} rows of a table of estimated action units cannot be read.",
                where=f"{path}, line {first.line} ({first.name})",
                got=first.detail,
                fix="Mend the cells; an empty one says that nothing is told.",
            )
        )
    return table
