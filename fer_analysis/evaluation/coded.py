"""Evaluation against coded action units: the faces are chosen before anything is computed, then measured, written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from aupipe.fer_analysis.evaluation.coded_faces import CodedFaces, coded_faces, stored_codes
from aupipe.fer_analysis.evaluation.coded_maps import TABLE, CodedMeasures, Networks, measure_coded, write_coded
from aupipe.fer_analysis.evaluation.coded_summary import summarise_coded, with_estimate
from aupipe.fer_data.files import write_bytes
from aupipe.fer_data.loading.loader import TripletLoader
from aupipe.fer_data.manifest.face_codes import FaceCodes, read_face_codes
from aupipe.fer_data.manifest.unit_scores import read_unit_scores
from aupipe.fer_data.shards import Store
from aupipe.fer_data.types import Progress

PICTURE = "coded.png"
ANNOTATED = "annotated"
"""In place of a file: the codes that the store itself carries."""

CODED_FILES = (TABLE, PICTURE)
"""What is written beside ``metrics.json``."""


@dataclass(frozen=True)
class CodedSplit:
    """The coded faces of a split with their codes and, where there is one, another program's estimate."""

    codes: FaceCodes
    faces: CodedFaces
    estimate: Float64[np.ndarray, "n k"] | None


def choose_coded(aus: Path | FaceCodes, estimate: Path | None, loader: TripletLoader) -> CodedSplit:
    """Find the coded ones among a loader's rows.

    Args:
        aus: The codes, or where they are: a file, or :data:`ANNOTATED`.
        estimate: A table of what another program says of the action units; None: none.
        loader: The rows.

    Raises:
        ManifestError: A file cannot be used, or names none of these faces.
        UserInputError: The store carries no codes, or its codebook draws none of the action units.
    """
    reader, rows = loader.reader, loader.rows
    splits = map(reader.store.split, reader.store.index.splits)
    others = [name for split in splits if split.split != reader.split for name in split.sample_ids]
    if isinstance(aus, FaceCodes):
        codes = aus
    elif str(aus) == ANNOTATED:
        codes = stored_codes(reader, rows)
    else:
        labels = [reader.store.index.classes[label] for label in reader.labels]
        # Of the whole split: which faces are onsets is told by the others of their sequence.
        codes = read_face_codes(aus, reader.sample_ids, reader.groups, labels, others)
    faces = coded_faces(codes, reader, rows, reader.store.codebook)
    scores = None
    if estimate is not None:
        others += set(reader.sample_ids) - set(faces.sample_id)
        scores = read_unit_scores(estimate, faces.sample_id, faces.group, faces.numbers, others)
    return CodedSplit(codes, faces, scores)


def measure_coded_split(
    coded: CodedSplit, networks: Networks, loader: TripletLoader, progress: Progress
) -> CodedMeasures:
    """Measure the coded faces.

    Raises:
        RunError: A batch does not fit into memory, or the output is not finite.
    """
    store = loader.reader.store
    return with_estimate(measure_coded(networks, loader, coded.faces, store.codebook, progress), coded.estimate)


def write_coded_split(coded: CodedSplit, measured: CodedMeasures, store: Store, out: Path) -> dict[str, Any]:
    """Write ``coded.csv`` and ``coded.png``; return the part ``coded`` of ``metrics.json``."""
    from aupipe.fer_analysis.evaluation.figures import draw_coded  # most evaluations draw none
    from aupipe.fer_display.figures import png_bytes

    content = summarise_coded(coded.faces, measured, store.index.classes, coded.codes, store.codebook)
    digest = write_coded(out / TABLE, coded.faces, measured, store.index.classes, coded.codes.codes)
    write_bytes(out / PICTURE, png_bytes(draw_coded(content)))
    return {**content, "table_sha256": digest}
