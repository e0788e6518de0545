"""Action units of faces that a store holds, by sample id: whichever source tells them.

A manifest tells them by its ``sample_id`` and ``aus``; a table beside the dataset is joined as ``manifest build
--aus-from`` joins it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from aupipe.fer_data.action_units.facs import FacsCode
from aupipe.fer_data.errors import ManifestError, paragraph
from aupipe.fer_data.manifest.action_units import CodeSource, attach_codes
from aupipe.fer_data.manifest.model import read_manifest
from aupipe.fer_data.types import Sample
from aupipe.fer_data.wrong_path import is_manifest


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


def read_face_codes(
    path: Path,
    sample_ids: Sequence[str],
    persons: Sequence[str],
    labels: Sequence[str] = (),
    others: Iterable[str] = (),
) -> FaceCodes:
    """Read the action units of some faces from a manifest, or from a table that names faces.

    Args:
        path: A manifest with the column ``aus``, or a table as ``manifest build --aus-from`` takes it.
        sample_ids: The faces.
        persons: The person of each, or else its sample id.
        labels: The expression of each, so that a sequence's neutral onset is not given its peak's codes. Empty: not
            known.
        others: Ids of more faces of the same dataset, which the table may name.

    Raises:
        ManifestError: It cannot be read, says two things of one face, or none of these faces is coded in it.
    """
    if path.is_file() and is_manifest(path):
        return _of_manifest(path, sample_ids)
    samples = faces_of_store(sample_ids, persons, labels)
    joined = attach_codes(samples, (), path, others)
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


def faces_of_store(sample_ids: Sequence[str], persons: Sequence[str], labels: Sequence[str] = ()) -> list[Sample]:
    """Make samples of a store's faces, whose files are not known, to look them up in a table."""
    return [
        Sample(sample, sample, label, "", "", subject="" if person == sample else person)
        for sample, person, label in zip(sample_ids, persons, labels or [""] * len(sample_ids), strict=True)
    ]
