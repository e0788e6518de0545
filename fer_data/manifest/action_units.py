"""Action units that people or other programs coded: from a dataset's own files, or from a table beside it.

What cannot be read is listed and leaves its faces uncoded; nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from aupipe.fer_data.action_units.facs import FacsError, parse_facs
from aupipe.fer_data.manifest.problems import Place, Problem, ProblemReason
from aupipe.fer_data.manifest.unit_tables import UnitRow, read_unit_table
from aupipe.fer_data.types import Sample


@dataclass(frozen=True, slots=True)
class CodeSource:
    """Where a manifest's action units come from.

    Attributes:
        name: File name of the table; empty where they lie with the dataset.
        scale: What the numbers were: ``FACS``, ``OpenFace``, ``LibreFace``, ``probability`` (py-feat).
        samples: Number of samples that have codes.
        observed: The action units that were looked for; empty: all of FACS.
        sha256: SHA-256 of the table; empty where there is none.
    """

    name: str = ""
    scale: str = "FACS"
    samples: int = 0
    observed: tuple[int, ...] = ()
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class CodedSamples:
    """Samples with their action units, what could not be read, and sentences for the report."""

    samples: Sequence[Sample]
    source: CodeSource | None = None
    problems: Sequence[Problem] = ()
    notes: Sequence[str] = ()


def attach_codes(
    samples: Sequence[Sample], texts: Sequence[tuple[str, Place]], table: Path | None, others: Iterable[str] = ()
) -> CodedSamples:
    """Give samples the action units that lie with the dataset, or those of a table.

    Args:
        samples: The samples.
        texts: By sample, what the dataset itself says in FACS notation (empty: nothing), and where.
        table: A table to read instead; None: none.
        others: Ids of more samples of the same dataset, which the table may name.

    Raises:
        ManifestError: The table cannot be read, or names no face of this dataset.
    """
    if table is not None:
        return _from_table(samples, table, others)
    if not any(text for text, _ in texts):
        return CodedSamples(samples)
    coded, problems = list[Sample](), list[Problem]()
    for sample, (text, place) in zip(samples, texts, strict=True):
        try:
            coded.append(replace(sample, aus=parse_facs(text)))
        except FacsError as error:
            coded.append(sample)
            problems.append(_uncoded(place, sample.path, str(error)))
    return CodedSamples(coded, CodeSource(samples=count_coded(coded)), problems, _notes(coded, problems, "the dataset"))


def count_coded(samples: Sequence[Sample]) -> int:
    """Count the samples whose action units somebody coded."""
    return sum(sample.aus is not None for sample in samples)


def _from_table(samples: Sequence[Sample], path: Path, others: Iterable[str]) -> CodedSamples:
    table = read_unit_table(path, UnitRow.codes, samples)
    found, header = table.find(samples, others), table.header
    coded = [
        sample if key is None else replace(sample, aus=table.values[key])
        for sample, key in zip(samples, found, strict=True)
    ]
    problems = [_uncoded(Place(path.name, row.line), row.name, row.detail) for row in table.unread]
    notes = _notes(coded, problems, f"{path.name} ({header.scale}, by {header.key})")
    if unused := len(table.values.keys() - found):
        notes.append(f"{unused} of {len(table.values)} rows of {path.name} name no sample")
    notes += table.notes()
    source = CodeSource(path.name, header.scale, count_coded(coded), tuple(header.units), table.sha256)
    return CodedSamples(coded, source, problems, notes)


def _uncoded(place: Place, path: str, detail: str) -> Problem:
    return Problem(place, path, "", ProblemReason.NOT_CODED, detail)


def _notes(samples: Sequence[Sample], problems: Sequence[Problem], where: str) -> list[str]:
    notes = [f"{count_coded(samples)} of {len(samples)} samples have the action units that {where} names"]
    if problems:
        notes.append(f"action units of {len(problems)} rows cannot be read, such as {problems[0].detail}")
    return notes
