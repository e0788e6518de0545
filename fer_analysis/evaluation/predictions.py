"""``predictions.csv``: everything that was measured, face by face, so that each figure can be computed again.

Columns: ``sample_id, group`` (the person, or else the sample's id), ``label, predicted, correct, confidence`` (of the
prediction), ``p_CLASS`` of every class, ``has_map, predicted_has_map, region_share``, then the figures of each map as
``MAP_FIGURE``, for example ``att5_cos`` (:mod:`~aupipe.fer_analysis.evaluation.per_face` says what they are). Six
decimals; empty where a figure means nothing.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64

from aupipe.fer_analysis.evaluation.measuring import Samples
from aupipe.fer_analysis.evaluation.per_face import face_figures
from aupipe.fer_analysis.evaluation.schema import MetricsJson, check_shapes
from aupipe.fer_data.errors import RunError, paragraph
from aupipe.fer_data.files import sha256_bytes
from aupipe.fer_data.recorded import read_declared, write_recorded
from aupipe.fer_display.tables import csv_of_columns, csv_records, number_cells

EVALUATION = "evaluation"
"""First word of the folders of results that are not the run's own: of another split, or of some of its rows."""

METRICS = "metrics.json"
PREDICTIONS = "predictions.csv"


def column_name(owner: str, figure: str) -> str:
    """Name a column: ``"5", "cos"`` -> ``att5_cos``; ``"cam", "cos"`` -> ``cam_cos``."""
    return f"att{owner}_{figure}" if owner.isdecimal() else f"{owner}_{figure}"


def write_predictions(path: Path, samples: Samples, classes: Sequence[str]) -> str:
    """Write the table atomically, and return its SHA-256."""
    data = csv_of_columns(_columns(samples, classes)).encode()
    write_recorded(path, data)
    return sha256_bytes(data)


def _columns(samples: Samples, classes: Sequence[str]) -> Iterator[tuple[str, Sequence[str]]]:
    everywhere = np.ones(len(samples.label), bool)
    yield "sample_id", samples.sample_id
    yield "group", samples.group
    yield "label", [classes[number] for number in samples.label]
    yield "predicted", [classes[number] for number in samples.predicted]
    yield "correct", flag_cells(samples.correct)
    yield "confidence", number_cells(samples.probability.max(1), everywhere)
    for number, name in enumerate(classes):
        yield f"p_{name}", number_cells(samples.probability[:, number], everywhere)
    yield "has_map", flag_cells(samples.has_map)
    yield "predicted_has_map", flag_cells(samples.predicted_has_map)
    yield "region_share", number_cells(samples.region_share, samples.has_map)
    needs = {figure.column: figure.needs for _, figure in face_figures()}
    for owner, columns in samples.figures.items():
        for column, values in columns.items():
            yield column_name(owner, column), number_cells(values, samples.having(needs[column]))


def flag_cells(values: Bool[np.ndarray, "n"]) -> list[str]:
    """Write booleans as 1 and 0."""
    return ["1" if value else "0" for value in values]


_FORMER_COLUMNS = {METRICS: {"true": "label", "probability": "confidence"}}
"""Columns by the names that older tables have, by the file of their figures."""


@dataclass(frozen=True)
class PredictionTable:
    """``predictions.csv``, read back: its rows' ids and labels, and any of its columns as numbers."""

    path: Path
    rows: tuple[dict[str, str], ...]

    @property
    def identity(self) -> list[tuple[str, str, str]]:
        """(sample id, true class, has_map) of each row: what two evaluations must share to be compared."""
        return [(row["sample_id"], row["label"], row["has_map"]) for row in self.rows]

    @cached_property
    def group(self) -> Int64[np.ndarray, "n"]:
        """Number of the person of each row."""
        return np.asarray(np.unique([row["group"] for row in self.rows], return_inverse=True)[1], np.int64)

    @cached_property
    def label(self) -> Int64[np.ndarray, "n"]:
        """Number of the class of each row, among those of the table."""
        return np.asarray(np.unique([row["label"] for row in self.rows], return_inverse=True)[1], np.int64)

    def flags(self, name: str) -> Bool[np.ndarray, "n"]:
        """Return a 0/1 column as booleans."""
        return np.array([row[name] == "1" for row in self.rows], bool)

    def numbers(self, name: str, rows: Bool[np.ndarray, "n"]) -> Float64[np.ndarray, "m"]:
        """Return a column of numbers in the chosen rows, all of which must have one."""
        return np.array([float(row[name]) for row, chosen in zip(self.rows, rows, strict=True) if chosen], np.float64)

    def has(self, name: str) -> bool:
        """Tell whether the column exists."""
        return name in self.rows[0]


def read_predictions(path: Path, sha256: str, figures: str = METRICS, command: str = "evaluate") -> PredictionTable:
    """Read a table of faces whose digest the file ``figures`` gives; the ``command`` makes both.

    Raises:
        RunError: It is missing or another one.
    """
    data = path.read_bytes() if path.is_file() else b""
    if sha256_bytes(data) != sha256:
        raise RunError(
            paragraph(
                f"{path} is missing or does not belong to the {figures} beside it.",
                fix=f"Run `aupipe {command}` on that run again.",
            )
        )
    rows, names = csv_records(io.StringIO(data.decode(), newline="")), _FORMER_COLUMNS.get(figures, {"true": "label"})
    return PredictionTable(path, tuple({names.get(name, name): cell for name, cell in row.items()} for row in rows))


def load_metrics(folder: Path, run: Path | None = None) -> dict[str, Any]:
    """Load ``metrics.json`` of a folder.

    Args:
        folder: Where it lies.
        run: The run that it is about, where that is another folder.

    Raises:
        RunError: It is missing, damaged or of an older version.
    """
    path = folder / METRICS
    fix = f"Run `aupipe evaluate {run or folder}` again, with the same --split and --limit."
    if not path.is_file():
        raise RunError(paragraph(f"{run or folder} was not evaluated.", where=path, fix=fix.replace("again", "first")))
    return read_declared(path, MetricsJson, check_shapes, "figures", fix)
