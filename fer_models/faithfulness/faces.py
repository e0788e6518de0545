"""``faithfulness.csv``: what was measured, face by face, so that each mean and interval can be computed again.

Columns: ``sample_id, true, predicted, probability`` (of the prediction), ``probability_baseline`` (of the same class on
the baseline alone), ``deletion_MAP`` and ``insertion_MAP`` (areas under the curves), ``region_share``, ``in_face``,
``fall_inside, fall_outside_face, fall_outside_anywhere`` and ``correct_..``. Six decimals; empty where a figure means
nothing.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float64

from fer_data.files import sha256_file, write_text
from fer_models.faithfulness.measuring import Faces
from fer_models.faithfulness.regions import REMOVALS
from fer_models.faithfulness.summary import CURVES

TABLE = "faithfulness.csv"


def write_faces(path: Path, faces: Faces, classes: Sequence[str]) -> str:
    """Write the table atomically; returns its SHA-256."""
    columns = dict(_columns(faces, classes))
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    write_text(path, table.getvalue())
    return sha256_file(path)


def _columns(faces: Faces, classes: Sequence[str]) -> Iterator[tuple[str, Sequence[str]]]:
    everywhere = np.ones(len(faces.label), bool)
    yield "sample_id", faces.sample_id
    yield "true", [classes[number] for number in faces.label]
    yield "predicted", [classes[number] for number in faces.predicted]
    yield "probability", _numbers(faces.whole, everywhere)
    yield "probability_baseline", _numbers(faces.empty, everywhere)
    for kind in faces.curves:
        for number, curve in enumerate(CURVES):
            yield f"{curve}_{kind}", _numbers(faces.areas(kind)[:, number], faces.rows(kind))
    yield "region_share", _numbers(faces.region_share, faces.removable)
    yield "in_face", _numbers(faces.in_face, faces.removable)
    for kind in REMOVALS:
        yield f"fall_{kind}", _numbers(faces.fall[kind], faces.removable)
    for kind in REMOVALS:
        yield f"correct_{kind}", _numbers(faces.correct[kind], faces.removable)


def _numbers(values: Float64[np.ndarray, "n"], shown: Bool[np.ndarray, "n"]) -> list[str]:
    return [f"{value:.6f}" if there else "" for value, there in zip(values, shown, strict=True)]
