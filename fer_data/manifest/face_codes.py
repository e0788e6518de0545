"""Action units of faces that a store holds, by sample id: whichever source tells them.

A manifest tells them by its ``sample_id`` and ``aus``; a table beside the dataset is joined as ``manifest build
--aus-from`` joins it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from aupipe.fer_data.action_units.facs import FacsCode
from aupipe.fer_data.errors import ManifestError, paragraph
from aupipe.fer_data.manifest.action_units import CodeSource, attach_codes
from aupipe.fer_data.manifest.layouts.cells import plain_word
from aupipe.fer_data.manifest.layouts.text import table_rows
from aupipe.fer_data.manifest.model import read_manifest
from aupipe.fer_data.types import Sample
from aupipe.fer_data.wrong_path import is_manifest
from aupipe.fer_display.tables import plain_cell

_SCORE = re.compile(r"au_?0*(\d+)(_r|_intensity)?", re.IGNORECASE)
"""Columns of probabilities (our export, py-feat) and of intensities (OpenFace, LibreFace)."""


@dataclass(frozen=True, slots=True)
class FaceCodes:
    """What somebody coded on faces.

    Attributes:
        codes: By sample id; a face that is not there was not coded.
        source: Where they come from; ``samples`` counts them.
        notes: Sentences on what could not be read or joined.
    """

    codes: Mapping[str, tuple[FacsCode, ...]]
    source: CodeSource
    notes: tuple[str, ...] = ()


def read_face_codes(path: Path, sample_ids: Sequence[str], persons: Sequence[str]) -> FaceCodes:
    """Read the action units of some faces from a manifest, or from a table that names faces.

    Args:
        path: A manifest with the column ``aus``, or a table as ``manifest build --aus-from`` takes it.
        sample_ids: The faces.
        persons: The person of each, or else its sample id.

    Raises:
        ManifestError: It cannot be read, says two things of one face, or none of these faces is coded in it.
    """
    if path.is_file() and is_manifest(path):
        return _of_manifest(path, sample_ids)
    samples = [
        Sample(sample, sample, "", "", "", subject="" if person == sample else person)
        for sample, person in zip(sample_ids, persons, strict=True)
    ]
    joined = attach_codes(samples, (), path)
    codes = {sample.sample_id: sample.aus for sample in joined.samples if sample.aus is not None}
    if not codes or joined.source is None:
        raise _none_coded(path, f"{len(samples)} faces, all without codes")
    return FaceCodes(codes, joined.source, tuple(joined.notes))


def _of_manifest(path: Path, sample_ids: Sequence[str]) -> FaceCodes:
    manifest, wanted = read_manifest(path), set(sample_ids)
    here = [sample for sample in manifest.samples if sample.sample_id in wanted]
    if not here:
        raise ManifestError(
            paragraph(
                "A manifest names none of these faces: it is of another dataset.",
                where=path,
                expected=f"sample ids such as {sample_ids[0]}",
                got=manifest.samples[0].sample_id,
                fix="Give the manifest that the store was built from, with its column aus.",
            )
        )
    codes = {sample.sample_id: sample.aus for sample in here if sample.aus is not None}
    if not codes:
        raise _none_coded(path, f"{len(here)} faces, all without codes")
    source = replace(manifest.codes or CodeSource(), name=path.name, samples=len(codes), sha256=manifest.digest)
    return FaceCodes(codes, source)


def _none_coded(path: Path, got: str) -> ManifestError:
    return ManifestError(
        paragraph(
            "None of these faces has coded action units.",
            where=path,
            expected="FACS codes such as 1+2+5B+25 in a column aus; 0 where a face shows none",
            got=got,
            fix="Build the manifest with --aus-from FILE, or measure the split whose faces are coded.",
        )
    )


def read_unit_scores(path: Path, sample_ids: Sequence[str], numbers: Sequence[int]) -> Float64[np.ndarray, "n k"]:
    """Read what another program says of each face's action units: probabilities or intensities.

    Args:
        path: A table with ``sample_id`` and a column an action unit (``AU01``, ``AU01_r``, ``au_1_intensity``), such as
            ``aupipe landmarks --export csv`` writes.
        sample_ids: The faces.
        numbers: The action units.

    Returns:
        A row a face, a column an action unit; NaN where the table says nothing.

    Raises:
        ManifestError: It cannot be read, lacks a column, or names none of these faces, or one twice.
    """
    rows = table_rows(path)
    header = next(rows, (0, []))[1]
    names = [plain_word(name) for name in header]
    matches = {at: match for at, name in enumerate(header) if (match := _SCORE.fullmatch(name.strip()))}
    columns = {int(match[1]): at for at, match in matches.items()}
    if "sampleid" not in names or not columns:
        raise ManifestError(
            paragraph(
                "A table of estimated action units lacks a column.",
                where=f"{path}, line 1",
                expected="sample_id and an action unit's AU01, as `aupipe landmarks --export csv` writes them",
                got=", ".join(header)[:200] or "an empty file",
            )
        )
    place, lines = {sample: at for at, sample in enumerate(sample_ids)}, dict[str, int]()
    scores = np.full((len(sample_ids), len(numbers)), np.nan)
    for line, given in rows:
        cells = [*given, *[""] * (len(header) - len(given))]
        sample = plain_cell(cells[names.index("sampleid")])
        if sample not in place:
            continue
        if sample in lines:
            where = f"{path}, lines {lines[sample]} and {line}"
            raise ManifestError(paragraph("A table of estimated action units names a face twice.", where=where))
        lines[sample] = line
        for unit, number in enumerate(numbers):
            if number in columns:
                scores[place[sample], unit] = _score(cells[columns[number]], f"{path}, line {line}")
    if not lines:
        raise ManifestError(
            paragraph(
                "A table of estimated action units names none of these faces.",
                where=path,
                expected=f"sample ids such as {sample_ids[0]}",
            )
        )
    return scores


def _score(text: str, where: str) -> float:
    """Read a cell; NaN where it is empty."""
    try:
        value = float(text) if text.strip() else float("nan")
    except ValueError:
        value = float("inf")
    if np.isinf(value):
        raise ManifestError(paragraph("An estimate is no number.", where=where, got=repr(text)))
    return value
