"""Landmarks as one table, a row a sample: CSV for every program, Parquet (extra ``aupipe[parquet]``) for large sets.

Rows keep the parts' order (hash order of the sample ids), failed samples included: their cells are empty (null in
Parquet). ``x0, y0 ... x67, y67`` are source pixels, ``yaw, pitch, roll`` degrees; ``profile`` is 1 where
the yaw is above 45 degrees to either side; ``score`` flags failures, it is no ranking; blendshapes have MediaPipe's
names. ``AU01 ...`` are probabilities estimated from them (:mod:`aupipe.fer_data.action_units.estimator`), of the action
units that they tell.
The CSV, placed in the dataset's root, is itself a table of ``aupipe manifest build csv`` that ships its landmarks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32

from aupipe.fer_data.action_units.blendshapes import BLENDSHAPES
from aupipe.fer_data.action_units.estimator import load_estimator
from aupipe.fer_data.errors import UserInputError, unknown_name
from aupipe.fer_data.files import atomic_path, canonical_json
from aupipe.fer_data.landmark_parts import LandmarkPart
from aupipe.fer_data.parquet_library import load_pyarrow
from aupipe.fer_data.types import Reason, Sample
from aupipe.fer_display.tables import csv_lines
from aupipe.pipeline.landmarks.work import FinishedWork, open_work

EXPORT_FORMS = ("csv", "parquet")

TEXTS = ("sample_id", "path", "split", "label", "reason")
POINTS = tuple(f"{axis}{number}" for number in range(68) for axis in "xy")
MEASURES = ("yaw", "pitch", "roll", "score")
FLAG = "profile"
COUNTS = ("rung", "faces_seen", "source_height", "source_width")
ACTION_UNITS = tuple(f"AU{load_estimator().numbers[at]:02}" for at in load_estimator().told)
COLUMNS = (*TEXTS, *POINTS, *MEASURES, FLAG, *COUNTS, "source_sha256", *BLENDSHAPES, *ACTION_UNITS)
"""The table's columns."""

_ROWS_PER_GROUP = 4096  # with meshes about 25 MB of memory
_PLACED = ",".join(["%.4f"] * (len(POINTS) + 3) + ["%.6f", "%d"])
_UNPLACED = [""] * (len(POINTS) + len(MEASURES) + 1)
_SHAPED = ",".join(["%.6f"] * (len(BLENDSHAPES) + len(ACTION_UNITS)))


def export_landmarks(work: Path, out: Path, form: str, *, mesh: bool = False) -> Path:
    """Write the landmarks of a finished WORK as one table; the same landmarks give the same bytes.

    Args:
        work: A finished WORK folder.
        out: The file, or a folder for ``landmarks.csv`` or ``landmarks.parquet``.
        form: ``csv`` or ``parquet``.
        mesh: Add a column ``mesh`` to Parquet: 478 x (x, y, z) in one list, source pixels.

    Returns:
        The file's path.

    Raises:
        StoreError: The stage is not finished.
        UserInputError: The form is unknown, a mesh is asked for in CSV, or Parquet's library is not installed.
    """
    if form not in EXPORT_FORMS:
        raise UserInputError(unknown_name("table form", form, list(EXPORT_FORMS)))
    if mesh and form == "csv":
        raise UserInputError("The face mesh (1434 numbers a row) is exported to Parquet only, not to CSV.")
    path = out if out.suffix == f".{form}" and not out.is_dir() else out / f"landmarks.{form}"
    finished = open_work(work)
    if form == "csv":
        _write_csv(finished, path)
    else:
        _write_parquet(finished, path, mesh)
    return path


def _write_csv(work: FinishedWork, path: Path) -> None:
    rows = (row for part in work.parts(mesh=True) for row in _csv_rows(part, work))
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        file.writelines(csv_lines(COLUMNS, rows))


def _csv_rows(part: LandmarkPart, work: FinishedWork) -> Iterator[list[str]]:
    placed, shaped, profile = _placed(part), _shaped(part), part.profile
    for at, sample_id in enumerate(part.sample_ids):
        found, seen = part.reasons[at] is Reason.OK, part.source_size[at].all()
        yield [
            *_texts(work.samples[sample_id], part.reasons[at]),
            *((_PLACED % (*placed[at].tolist(), profile[at])).split(",") if found else _UNPLACED),
            *([str(int(column[at])) for column in _counts(part)] if seen else [""] * len(COUNTS)),
            part.source_sha256[at],
            *(
                (_SHAPED % tuple(shaped[at].tolist())).split(",")
                if part.has_mesh[at]
                else [""] * (len(BLENDSHAPES) + len(ACTION_UNITS))
            ),
        ]


def _texts(sample: Sample, reason: Reason) -> tuple[str, ...]:
    return (sample.sample_id, sample.path, sample.split, sample.label, reason.key)


def _placed(part: LandmarkPart) -> Float32[np.ndarray, "n 140"]:
    """Points, pose and score side by side."""
    return np.concatenate([part.landmarks.reshape(-1, len(POINTS)), part.pose, part.score[:, None]], 1)


def _shaped(part: LandmarkPart) -> Float32[np.ndarray, "n c"]:
    """Blendshapes and the action units that they tell side by side."""
    estimator = load_estimator()
    told = estimator.probabilities(part.blendshapes)[:, estimator.told]
    return np.concatenate([part.blendshapes, told], 1, dtype=np.float32)


def _counts(part: LandmarkPart) -> tuple[np.ndarray, ...]:
    return (part.rung, part.faces_seen, part.source_size[:, 0], part.source_size[:, 1])


def _write_parquet(work: FinishedWork, path: Path, mesh: bool) -> None:
    pyarrow = load_pyarrow("CSV needs nothing")
    schema = _schema(pyarrow, work, mesh)
    waiting: list[Any] = []
    with atomic_path(path) as temporary, pyarrow.parquet.ParquetWriter(temporary, schema) as writer:
        for part in work.parts(mesh=True):
            waiting.append(_batch(pyarrow, schema, part, work))
            if sum(batch.num_rows for batch in waiting) >= _ROWS_PER_GROUP:
                writer.write_table(pyarrow.Table.from_batches(waiting, schema))
                waiting = []
        if waiting:
            writer.write_table(pyarrow.Table.from_batches(waiting, schema))


def _schema(arrow: Any, work: FinishedWork, mesh: bool) -> Any:
    kinds = [
        *((name, arrow.string()) for name in TEXTS),
        *((name, arrow.float32()) for name in (*POINTS, *MEASURES)),
        *((name, arrow.int32()) for name in (FLAG, *COUNTS)),
        ("source_sha256", arrow.string()),
        *((name, arrow.float32()) for name in (*BLENDSHAPES, *ACTION_UNITS)),
        *([("mesh", arrow.list_(arrow.float32(), 478 * 3))] if mesh else []),
    ]
    about = {"config": canonical_json(work.config), "manifest_digest": work.manifest_digest}
    return arrow.schema(kinds, metadata=about)


def _batch(arrow: Any, schema: Any, part: LandmarkPart, work: FinishedWork) -> Any:
    found = np.array([reason is Reason.OK for reason in part.reasons], bool)
    seen, shaped = np.asarray(part.source_size.all(1)), part.has_mesh.astype(bool)
    texts = [_texts(work.samples[key], reason) for key, reason in zip(part.sample_ids, part.reasons, strict=True)]
    columns = [
        *(arrow.array([row[at] for row in texts]) for at in range(len(TEXTS))),
        *_masked(arrow, _placed(part).T, found),
        *_masked(arrow, [part.profile.astype(np.int32)], found),
        *_masked(arrow, [column.astype(np.int32) for column in _counts(part)], seen),
        arrow.array([value or None for value in part.source_sha256], arrow.string()),
        *_masked(arrow, _shaped(part).T, shaped),
    ]
    if "mesh" in schema.names:
        flat = arrow.array(part.mesh.reshape(-1))
        columns.append(arrow.FixedSizeListArray.from_arrays(flat, 478 * 3, mask=arrow.array(~shaped)))
    return arrow.RecordBatch.from_arrays(columns, schema=schema)


def _masked(arrow: Any, columns: Sequence[np.ndarray] | np.ndarray, valid: Bool[np.ndarray, "n"]) -> Iterator[Any]:
    for column in columns:
        yield arrow.array(np.ascontiguousarray(column), mask=~valid)
