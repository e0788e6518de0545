"""``faithfulness.csv``: what was measured, face by face, so that each mean and interval can be computed again.

Columns: ``sample_id, group`` (the person, or else the sample's id), ``label, predicted, has_map, probability`` (of the
prediction), ``probability_baseline`` (of the same class on the baseline alone), ``deletion_MAP`` and ``insertion_MAP``
(areas under the curves), ``region_share``, ``in_face``, ``fall_inside, fall_outside_face, fall_outside_anywhere`` and
``correct_..``. Six decimals; empty where a figure means nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from aupipe.fer_analysis.faithfulness.measuring import PerturbedFaces
from aupipe.fer_analysis.faithfulness.regions import REMOVALS
from aupipe.fer_analysis.faithfulness.summary import CURVES
from aupipe.fer_data.files import sha256_bytes
from aupipe.fer_data.recorded import write_recorded
from aupipe.fer_display.tables import csv_of_columns, number_cells

TABLE = "faithfulness.csv"


def write_faces(path: Path, faces: PerturbedFaces, classes: Sequence[str]) -> str:
    """Write the table atomically, and return its SHA-256."""
    data = csv_of_columns(_columns(faces, classes)).encode()
    write_recorded(path, data)
    return sha256_bytes(data)


def _columns(faces: PerturbedFaces, classes: Sequence[str]) -> Iterator[tuple[str, Sequence[str]]]:
    everywhere = np.ones(len(faces.label), bool)
    yield "sample_id", faces.sample_id
    yield "group", faces.group
    yield "label", [classes[number] for number in faces.label]
    yield "predicted", [classes[number] for number in faces.predicted]
    yield "has_map", ["1" if value else "0" for value in faces.has_map]
    yield "probability", number_cells(faces.whole, everywhere)
    yield "probability_baseline", number_cells(faces.empty, everywhere)
    for kind in faces.curves:
        for number, curve in enumerate(CURVES):
            yield f"{curve}_{kind}", number_cells(faces.areas(kind)[:, number], faces.rows(kind))
    yield "region_share", number_cells(faces.region_share, faces.removable)
    yield "in_face", number_cells(faces.in_face, faces.removable)
    for kind in REMOVALS:
        yield f"fall_{kind}", number_cells(faces.fall[kind], faces.removable)
    for kind in REMOVALS:
        yield f"correct_{kind}", number_cells(faces.correct[kind], faces.removable)
