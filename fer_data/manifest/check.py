"""Checking a manifest that may have been edited by hand: everything that is odd, with line numbers."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aupipe.fer_data.errors import ManifestError
from aupipe.fer_data.files import sha256_bytes
from aupipe.fer_data.manifest.action_units import count_coded
from aupipe.fer_data.manifest.content import content_keys, file_sizes
from aupipe.fer_data.manifest.layouts.text import read_lines
from aupipe.fer_data.manifest.model import ManifestMeta, check_points, count_samples, parse_samples, read_meta
from aupipe.fer_data.manifest.persons import persons_in_names, torn_persons
from aupipe.fer_data.manifest.places import paths_outside
from aupipe.fer_data.manifest.problems import Place
from aupipe.fer_data.manifest.same_faces import group_faces
from aupipe.fer_data.types import Sample

_Lines = Sequence[tuple[int, Sample]]


class Level(enum.StrEnum):
    """Severity of a finding.

    ``error``: the pipeline refuses or fails on it; ``warning``: figures may be wrong; ``note``: good to know.
    """

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class ManifestFinding:
    """One thing that is odd. ``line`` is 0 when it concerns the whole file."""

    level: Level
    kind: str
    line: int
    message: str


@dataclass(frozen=True, slots=True)
class CheckReport:
    """Findings of a check, in the order of lines, and what the manifest holds."""

    manifest: Path
    samples: int
    counts: dict[str, dict[str, int]]
    findings: tuple[ManifestFinding, ...]

    @property
    def ok(self) -> bool:
        """True when there is no error; warnings and notes are allowed."""
        return not any(finding.level is Level.ERROR for finding in self.findings)

    def as_json(self) -> dict[str, Any]:
        """Return the object that ``--json`` prints."""
        return {
            "manifest": str(self.manifest),
            "ok": self.ok,
            "samples": self.samples,
            "counts": self.counts,
            "findings": [
                {"level": item.level.value, "kind": item.kind, "line": item.line, "message": item.message}
                for item in self.findings
            ],
        }

    def lines(self) -> list[str]:
        """Return a summary to print: one line per finding, then one in all."""
        out = [f"{item.level.value}: {Place(self.manifest.name, item.line)}: {item.message}" for item in self.findings]
        errors = sum(item.level is Level.ERROR for item in self.findings)
        warnings = sum(item.level is Level.WARNING for item in self.findings)
        return [*out, f"{self.samples} samples, {errors} errors, {warnings} warnings"]


def check_manifest(path: Path) -> CheckReport:
    """Check columns, labels, splits, files, landmarks, duplicates, and leakage of subjects or images across splits.

    Reads the images' sizes, and the content of those that share a size.

    Raises:
        ManifestError: There is no file at ``path``, or its meta data cannot be read. Everything else is a finding.
    """
    root, meta = read_meta(path)
    try:
        lines, faults = parse_samples(read_lines(path), path, meta.classes)
    except ManifestError as error:
        return CheckReport(path, 0, {}, (ManifestFinding(Level.ERROR, "not_a_manifest", 0, str(error)),))
    findings = [ManifestFinding(Level.ERROR, "bad_row", fault.line, fault.message) for fault in faults]
    if not lines and not faults:
        findings.append(ManifestFinding(Level.ERROR, "empty", 0, "A manifest has no samples."))
    findings += _check_files(lines, root)
    findings += _check_subjects(lines)
    findings += _check_landmarks(path, lines, meta)
    findings += _check_losses([sample for _, sample in lines], meta)
    findings += _check_codes([sample for _, sample in lines], meta)
    findings += _check_meta(meta, sha256_bytes(path.read_bytes()))
    counts = count_samples(sample for _, sample in lines)
    return CheckReport(path, len(lines), counts, tuple(sorted(findings, key=lambda item: (item.line, item.kind))))


def _check_files(lines: _Lines, root: Path) -> Iterator[ManifestFinding]:
    sizes, faults = file_sizes(root, (sample.path for _, sample in lines))
    for line, sample in lines:
        if sample.path in faults:
            yield ManifestFinding(Level.ERROR, "missing_file", line, f"{sample.path}: {faults[sample.path]}.")
    line_of = {sample.path: line for line, sample in reversed(lines)}
    for path, target in paths_outside(root, sizes):
        line = line_of[path]
        message = f"{path} is a link out of the root, to {target}: `aupipe landmarks` needs --follow-links."
        yield ManifestFinding(Level.WARNING, "outside_root", line, message)
    keys = content_keys(root, sizes)
    here = (((line, sample), keys[sample.path], sample.box) for line, sample in lines if sample.path in keys)
    for group in group_faces(here):
        first_line, first = group[0]
        for line, sample in group[1:]:
            yield from _compare(line, sample, first_line, first)


def _compare(line: int, sample: Sample, first_line: int, first: Sample) -> Iterator[ManifestFinding]:
    what = "the same image" if sample.path == first.path else f"the same bytes as {first.path}"
    repeat = f"{sample.path} is {what} (line {first_line})"
    if sample.label != first.label:
        message = f"{repeat}, labelled {sample.label} here and {first.label} there."
        yield ManifestFinding(Level.WARNING, "conflicting_label", line, message)
    if sample.split != first.split:
        message = f"{repeat}, in {sample.split} here and in {first.split} there: leakage."
        yield ManifestFinding(Level.WARNING, "image_in_two_splits", line, message)
    if sample.label == first.label and sample.split == first.split:
        yield ManifestFinding(Level.WARNING, "duplicate_image", line, f"{repeat}.")


def _check_subjects(lines: _Lines) -> Iterator[ManifestFinding]:
    first_seen: dict[str, dict[str, int]] = {}
    for line, sample in lines:
        if sample.subject:
            first_seen.setdefault(sample.subject, {}).setdefault(sample.split, line)
    for subject, splits in first_seen.items():
        if len(splits) > 1:
            where = ", ".join(f"{split} (line {line})" for split, line in splits.items())
            message = f"The subject {subject!r} is in several splits: {where}: leakage."
            yield ManifestFinding(Level.WARNING, "subject_in_two_splits", min(splits.values()), message)

    yield from _check_names(lines)


def _check_names(lines: _Lines) -> Iterator[ManifestFinding]:
    """Where no person is known, look whether the file names tell persons, and whether these are in several splits."""
    samples = [sample for _, sample in lines]
    found = None if any(sample.subject for sample in samples) else persons_in_names(samples)
    torn = torn_persons(found.of, (sample.split for sample in samples)) if found is not None else {}
    if found is not None and torn:
        person, splits = next(iter(torn.items()))
        message = (
            f"Persons are unknown, and the file names may tell them: {person}, with {len(torn) - 1} more, is in "
            f"{' and in '.join(splits)}; {found.advice()}."
        )
        yield ManifestFinding(Level.WARNING, "unknown_persons", 0, message)


def _check_losses(samples: Sequence[Sample], meta: ManifestMeta) -> Iterator[ManifestFinding]:
    """Compare with what was built: rows and persons that another program lost on the way."""
    built = sum(sum(row.values()) for row in meta.counts.values())
    if built > len(samples):
        message = f"The table shrank: {built} samples were built, {len(samples)} are here."
        yield ManifestFinding(Level.WARNING, "fewer_samples", 0, message)
    persons, unknown = len({sample.subject for sample in samples} - {""}), sum(not sample.subject for sample in samples)
    if meta.persons is not None and persons < meta.persons:
        message = (
            f"Persons were lost: {meta.persons} were built, {persons} are here, and {unknown} samples have none "
            "(pandas reads a person called NA as nothing: keep_default_na=False, dtype=str)."
        )
        yield ManifestFinding(Level.WARNING, "fewer_persons", 0, message)


def _check_codes(samples: Sequence[Sample], meta: ManifestMeta) -> Iterator[ManifestFinding]:
    coded = count_coded(samples)
    if meta.codes is not None and coded < meta.codes.samples:
        message = f"Action units were lost: {meta.codes.samples} samples were built with them, {coded} have them here."
        yield ManifestFinding(Level.WARNING, "fewer_codes", 0, message)


def _check_landmarks(path: Path, lines: _Lines, meta: ManifestMeta) -> Iterator[ManifestFinding]:
    try:
        check_points(path, (sample for _, sample in lines), meta)
    except ManifestError as error:
        yield ManifestFinding(Level.ERROR, "landmarks_file", 0, str(error))


def _check_meta(meta: ManifestMeta, digest: str) -> Iterator[ManifestFinding]:
    if meta == ManifestMeta(""):
        message = "There is no .meta.json beside it: paths are taken relative to the manifest's own folder."
        yield ManifestFinding(Level.NOTE, "no_meta", 0, message)
    elif meta.csv_sha256 != digest:
        message = "The CSV was edited after it was built (its SHA-256 is not the recorded one)."
        yield ManifestFinding(Level.NOTE, "edited", 0, message)
