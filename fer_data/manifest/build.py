"""Building a manifest: choose the layout, read its rows, screen them, fill in splits, write three files."""

from __future__ import annotations

import os
import posixpath
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from aupipe.fer_data.errors import ManifestError, UserInputError, paragraph, unknown_name
from aupipe.fer_data.files import sha256_file
from aupipe.fer_data.manifest.action_units import CodedSamples, attach_codes
from aupipe.fer_data.manifest.advice import (
    class_warnings,
    label_warnings,
    lost_classes,
    own_class_notes,
    person_notes,
    split_notes,
    validation_warnings,
)
from aupipe.fer_data.manifest.descriptors import compile_pattern
from aupipe.fer_data.manifest.labels import Vocabulary, make_vocabulary, normal_label, own_label
from aupipe.fer_data.manifest.layouts import ChosenLayout, choose_layout, unread_tables
from aupipe.fer_data.manifest.layouts.base import DatasetListing, ReadRequest, choose_variant, describe_folder
from aupipe.fer_data.manifest.layouts.cells import BOX_FORMATS
from aupipe.fer_data.manifest.model import box_cells, companion_path, recorded_digest, write_manifest
from aupipe.fer_data.manifest.persons import NO_PERSONS, person_of, take_persons
from aupipe.fer_data.manifest.points import attach_points
from aupipe.fer_data.manifest.problems import Problem, count_problems, write_problems
from aupipe.fer_data.manifest.reorder import refuse_reordered
from aupipe.fer_data.manifest.report import BuildReport, PublishedCount, compare_counts
from aupipe.fer_data.manifest.screen import LabelledRow, ScreenedRows, screen_rows
from aupipe.fer_data.manifest.split import assign_splits, check_fractions
from aupipe.fer_data.types import Sample
from aupipe.fer_data.wrong_path import is_manifest, is_ours, wrong_path


def build_manifest(
    layout: str,
    root: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    seed: int = 0,
    val_fraction: float = 0.1,
    test_fraction: float = 0.2,
    aliases: Mapping[str, str] | None = None,
    variant: str | None = None,
    subject_pattern: str | None = None,
    labels: Mapping[str, str] | None = None,
    overwrite: bool = False,
    box_format: str | None = None,
    aus_from: str | os.PathLike[str] | None = None,
) -> BuildReport:
    """Build a manifest: read a dataset's labels and splits, and write them as one CSV.

    Writes ``M.csv``, ``M.meta.json``, ``M.problems.csv``, and ``M.landmarks.npy`` where landmarks ship with the
    dataset. Rows that cannot be used stay out and are listed; that is no error.

    Args:
        layout: ``auto``, or a name of :func:`aupipe.fer_data.manifest.layout_names`.
        root: The dataset's folder.
        out: The manifest to write, ``M.csv``.
        seed: Of the cuts.
        val_fraction: Share of train cut off for validation.
        test_fraction: Share of everything cut off for test where there are no splits.
        aliases: The dataset's words to expressions (or to ``drop``), beside the layout's own label map.
        variant: Which of a layout's image sets (``original`` for ``rafdb``). None: the first.
        subject_pattern: Regular expression whose group 1, found in the file name without its suffix, else in the whole
            path, names the person. None: the layout's own.
        labels: Replaces the layout's label map, for a copy that numbers its labels otherwise.
        overwrite: Replace a manifest that was edited by hand.
        box_format: What the four numbers of a table's boxes are: ``xyxy``, ``xywh``, ``yxyx``, ``cxcywh``, or ``yolo``
            (centre and size as shares of the image). None: what the column names tell, else found over the whole table.
        aus_from: A table of the faces' action units: FACS codes, or what OpenFace, LibreFace or py-feat wrote. None:
            those that lie with the dataset, if any.

    Returns:
        What was read, kept and left out.

    Raises:
        ManifestError: The layout does not fit, the class sizes show that the labels are numbered in another order than
            the layout's, or not one usable image is found.
        UserInputError: An option that cannot be used, or ``out`` is a manifest that was edited, or no manifest.

    Example:
        >>> from pathlib import Path
        >>> from aupipe.fer_demo.portrait import write_portrait_dataset
        >>> write_portrait_dataset(Path("faces"), train=5, test=1, size=128)
        >>> report = aupipe.build_manifest("folder", "faces", "faces.csv")
        >>> report.samples, report.problems
        (42, {})
    """
    root, out = Path(root), Path(out)
    aliases = dict(aliases or {})
    check_fractions(val_fraction, test_fraction)
    if box_format not in (None, *BOX_FORMATS):
        raise UserInputError(unknown_name("box format", str(box_format), list(BOX_FORMATS)))
    _check_output(out, root, overwrite)
    if is_ours(root):
        raise ManifestError(wrong_path(root, "images"))
    choice = choose_layout(layout, root, aliases, labels)
    _check_options(choice, root, variant, box_format)
    pattern = _subject_pattern(choice, subject_pattern)
    descriptor = choice.descriptor
    vocabulary = make_vocabulary(aliases, descriptor.labels, descriptor.dropped, labels)
    request = ReadRequest(
        root,
        choice.form,
        choice.base,
        companion_path(out, "_images"),
        descriptor.splits,
        variant,
        vocabulary,
        box_format,
    )
    listing = choice.reader.read(request)
    if descriptor.generic:
        vocabulary = replace(vocabulary, own=_own_classes(listing, vocabulary))
    published = choice.form.published(variant)
    if labels is None and published:
        refuse_reordered(published, ((row.split, row.source_label) for row in listing.rows), vocabulary, root)
    screened = screen_rows(listing, vocabulary)
    if not screened.kept:
        raise _nothing_usable(root, choice, listing, screened)
    samples, persons = make_samples(screened.kept, pattern), ""
    if descriptor.generic and pattern is None:
        samples, persons = take_persons(samples)
    given = samples
    samples = assign_splits(given, seed=seed, val_fraction=val_fraction, test_fraction=test_fraction)
    coded = attach_codes(
        samples, [(item.row.aus, item.row.place) for item in screened.kept], Path(aus_from) if aus_from else None
    )
    listing = replace(listing, notes=(*listing.notes, *((persons,) if persons else ()), *coded.notes))
    options = {
        "seed": seed,
        "val_fraction": val_fraction,
        "test_fraction": test_fraction,
        "aliases": aliases,
        "variant": variant,
        "subject_pattern": subject_pattern,
        **({"box_format": box_format} if box_format is not None else {}),
        **({"labels": dict(labels)} if labels is not None else {}),
        **({"aus_from": os.fspath(aus_from)} if aus_from is not None else {}),
    }
    counts = compare_counts(published, screened.usable_counts)
    warnings = (
        *label_warnings(screened.problems, vocabulary),
        *class_warnings(samples),
        *validation_warnings(samples, given, seed, test_fraction),
    )
    return _write(out, coded, choice, listing, screened, options, counts, vocabulary, warnings)


def _check_options(choice: ChosenLayout, root: Path, variant: str | None, box_format: str | None) -> None:
    """Refuse options that the reader of this form would pass over. Raises :class:`UserInputError`."""
    choose_variant(choice.form, variant)
    if box_format is not None and choice.form.reader != "table":
        raise UserInputError(
            paragraph(
                f"--box-format says what the boxes of a table are, and this is none: {choice.title}.",
                where=root,
                fix="Leave it out, or name the layout of the table: csv.",
            )
        )


def _own_classes(listing: DatasetListing, vocabulary: Vocabulary) -> dict[str, str]:
    """Take labels of more than one row as classes of their own, unless they look like a known word misspelt."""
    counts = Counter(normal_label(row.source_label) for row in listing.rows)
    names = {label: own_label(label) for label, count in counts.items() if count > 1 and not vocabulary.knows(label)}
    return {label: name for label, name in names.items() if name is not None}


def _write(
    out: Path,
    coded: CodedSamples,
    choice: ChosenLayout,
    listing: DatasetListing,
    screened: ScreenedRows,
    options: Mapping[str, Any],
    published: tuple[PublishedCount, ...],
    vocabulary: Vocabulary,
    warnings: tuple[str, ...],
) -> BuildReport:
    samples, points, unusable = attach_points(coded.samples, [item.row.points for item in screened.kept])
    problems = count_problems(screened.problems)
    problems_file = companion_path(out, ".problems.csv")
    write_problems(problems_file, [*screened.problems, *coded.problems])
    name = choice.descriptor.name
    manifest = write_manifest(
        out,
        samples,
        root=listing.root,
        layout=name,
        options=options,
        problems=problems,
        landmarks=points,
        codes=coded.source,
    )
    return BuildReport(
        manifest=out,
        problems_file=problems_file,
        layout=name,
        title=choice.title,
        rows_read=_rows_read(listing),
        samples=len(samples),
        counts=manifest.counts(),
        problems=problems,
        published=published,
        digest=manifest.digest,
        notes=(
            *((choice.form.note,) if choice.form.note else ()),
            *listing.notes,
            *_passed_over(choice, listing),
            *split_notes({item.row.split for item in screened.kept}, manifest.counts().keys()),
            *person_notes(samples),
            *own_class_notes(samples),
            *_point_notes(len(points), len(samples), unusable),
        ),
        warnings=warnings,
        lost_classes=lost_classes(screened.problems, samples, vocabulary),
    )


def _passed_over(choice: ChosenLayout, listing: DatasetListing) -> Iterator[str]:
    if listing.passed_over:
        yield f"{listing.passed_over} system files (such as ._*, .DS_Store, Thumbs.db) were passed over"
    if choice.form.reader == "folder" and choice.descriptor.generic:
        for name, why in unread_tables(listing.root).items():
            yield f"{name} lies beside the class folders and was not read: {why}"


def make_samples(kept: Sequence[LabelledRow], pattern: re.Pattern[str] | None) -> list[Sample]:
    """Make the samples of screened rows; ``split`` stays empty where the dataset names none.

    The sample_id is the path without suffix, with it where two paths would otherwise share one, and with the
    box where one image holds several faces.
    """
    paths = {item.row.path for item in kept}
    # A stem that is another file's whole name (a.png.jpg beside a.png) counts as shared too.
    taken = Counter([*map(_stem, paths), *paths])
    names = [path if taken[_stem(path)] > 1 else _stem(path) for path in (item.row.path for item in kept)]
    faces = Counter(names)
    samples = []
    for item, name in zip(kept, names, strict=True):
        row, sample_id = item.row, name
        if faces[name] > 1 and row.box is not None:
            sample_id = f"{name}@{','.join(box_cells(row.box))}"
        told = "" if row.subject.casefold() in NO_PERSONS else row.subject
        told = told or (person_of(row.path, pattern) if pattern is not None else "")
        subject = unicodedata.normalize("NFC", told)
        samples.append(Sample(sample_id, row.path, item.label, row.source_label, row.split, subject, row.box))
    return samples


def _stem(path: str) -> str:
    return posixpath.splitext(path)[0]


def _subject_pattern(choice: ChosenLayout, given: str | None) -> re.Pattern[str] | None:
    if given is None:
        return compile_pattern(choice.form.subject_pattern, choice.descriptor.name)
    try:
        return compile_pattern(given, "the subject pattern")
    except ManifestError as error:
        raise UserInputError(str(error)) from error


def _check_output(out: Path, root: Path, overwrite: bool) -> None:
    if out.suffix != ".csv" or out.is_dir():
        raise UserInputError(paragraph("A manifest is a CSV file.", expected="a name ending in .csv", got=out))
    # An existing file is replaced only when it is a manifest, lest a dataset's own table be lost.
    if out.exists() and (not is_manifest(out) or (root.exists() and out.samefile(root))):
        raise UserInputError(
            paragraph(f"{out} exists and is not a manifest built before.", fix="Choose another name for the manifest.")
        )
    if out.exists() and not overwrite and recorded_digest(out) != sha256_file(out):
        raise UserInputError(
            paragraph(
                f"{out} was edited since it was built, or was not built here: it is kept.",
                where=companion_path(out, ".meta.json"),
                fix="Choose another name for the manifest, or pass --overwrite (overwrite=True) to lose the edits.",
            )
        )


def _rows_read(listing: DatasetListing) -> int:
    return len(listing.rows) + sum(not problem.reason.concerns_a_file for problem in listing.problems)


def _point_notes(usable: int, samples: int, unusable: int) -> list[str]:
    notes = [f"{usable} of {samples} samples come with 68 landmarks"] if usable or unusable else []
    if unusable:
        notes.append(f"the landmarks of {unusable} samples cannot be used (not 136 finite numbers, or no face's shape)")
    return notes


def _nothing_usable(root: Path, choice: ChosenLayout, listing: DatasetListing, screened: ScreenedRows) -> ManifestError:
    first: Problem | None = min(screened.problems, default=None)
    reasons = ", ".join(f"{reason} {n}" for reason, n in count_problems(screened.problems).items())
    example = f"{reasons}; the first: {first.place}: {first.detail}" if first is not None else ""
    return ManifestError(
        paragraph(
            f"Not one usable image in {root}.",
            expected=choice.form.looks_for,
            got=f"{_rows_read(listing)} rows ({example})" if example else describe_folder(root),
            fix=" ".join(listing.notes) or None,
        )
    )
