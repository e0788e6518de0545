"""The manifest: one CSV row per sample, and a small JSON file beside it that says where the images are.

``M.csv`` has the columns ``sample_id,path,label,source_label,split``, then ``subject``, ``x0,y0,x1,y1``,
``landmarks_row`` and ``aus`` when some row has them; rows are sorted by ``sample_id``, paths are relative with forward
slashes, the text is UTF-8 with ``\\n``. ``M.meta.json`` gives the root relative to the manifest's folder, the layout,
classes, options, counts, numbers of problems, where the action units come from, and the SHA-256 of the CSV and of
``M.landmarks.npy``, which holds the landmarks that ship with the dataset, if any. Without it the root is the CSV's own
folder. The CSV may be edited by hand.
"""

from __future__ import annotations

import io
import os
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aupipe.fer_data.action_units.facs import FacsError, format_facs, parse_facs
from aupipe.fer_data.errors import ManifestError, paragraph
from aupipe.fer_data.files import sha256_bytes, write_json, write_text
from aupipe.fer_data.frames import csv_frame
from aupipe.fer_data.manifest.action_units import CodeSource
from aupipe.fer_data.manifest.labels import canonical_label, misspelt, order_classes, own_label
from aupipe.fer_data.manifest.layouts.base import relative_path
from aupipe.fer_data.manifest.layouts.cells import CORNERS, parse_box
from aupipe.fer_data.manifest.layouts.text import csv_rows, read_lines
from aupipe.fer_data.manifest.points import LANDMARKS_SUFFIX, read_points, write_points
from aupipe.fer_data.manifest.problems import is_plain
from aupipe.fer_data.typed import UnreadableTextError, read_json
from aupipe.fer_data.types import SPLITS, Box, Sample
from aupipe.fer_data.wrong_path import MANIFEST_COLUMNS, is_no_text, wrong_path
from aupipe.fer_display.tables import csv_lines, plain_cell

if TYPE_CHECKING:
    import pandas

_POINTS, _AUS = "landmarks_row", "aus"
_ANYWHERE = Path("/")
_FORMAT = "aupipe-manifest/1"


@dataclass(frozen=True, slots=True)
class Manifest:
    """A dataset ready for the pipeline: every image is ``manifest.root / sample.path``.

    Attributes:
        root: Folder of the images.
        samples: The samples, sorted by ``sample_id``.
        classes: The labels that occur, in canonical order.
        layout: Name of the layout it was read from.
        digest: SHA-256 of the CSV as it is now.
        options: Options of the build.
        recorded_digest: SHA-256 of the CSV as it was built, which tells a hand-edited manifest; empty when unknown.
        landmarks: The file of the points that ship with the dataset, float32 ``(k, 68, 2)``, to which each
            ``sample.landmarks_row`` refers; None without any.
        codes: Where the action units of ``sample.aus`` come from; None where no sample has any.
    """

    root: Path
    samples: tuple[Sample, ...]
    classes: tuple[str, ...]
    layout: str
    digest: str
    options: Mapping[str, Any] = field(default_factory=dict)
    recorded_digest: str = ""
    landmarks: Path | None = None
    codes: CodeSource | None = None

    def counts(self) -> dict[str, dict[str, int]]:
        """Count the samples by split and class."""
        return count_samples(self.samples)

    def to_pandas(self) -> pandas.DataFrame:
        """Make a table of the samples, with the columns of ``M.csv``.

        Raises :class:`UserInputError` when pandas is not installed.
        """
        return csv_frame(io.StringIO(render_csv(self.samples)), (*MANIFEST_COLUMNS, "subject", _AUS))

    def __repr__(self) -> str:
        splits = ", ".join(f"{split} {sum(row.values())}" for split, row in self.counts().items())
        classes = f"{len(self.classes)} classes"
        return f"Manifest ({self.layout}): {len(self.samples)} images ({splits}), {classes}, root {self.root}"


@dataclass(frozen=True, slots=True)
class ManifestMeta:
    """What is read of ``M.meta.json``; without one the root is the manifest's own folder."""

    root: str
    layout: str = "csv"
    options: Mapping[str, Any] = field(default_factory=dict)
    csv_sha256: str = ""
    landmarks_sha256: str = ""
    classes: tuple[str, ...] = ()
    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    persons: int | None = None
    codes: CodeSource | None = None


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault in one line of a manifest."""

    line: int
    message: str


def count_samples(samples: Iterable[Sample]) -> dict[str, dict[str, int]]:
    """Count samples by split and class, both in canonical order; absent ones are left out."""
    found = Counter((sample.split, sample.label) for sample in samples)
    splits = [split for split in SPLITS if any(key[0] == split for key in found)]
    return {
        split: {label: found[split, label] for label in order_classes({key[1] for key in found if key[0] == split})}
        for split in splits
    }


def companion_path(path: Path, suffix: str) -> Path:
    """Name a file or folder beside a manifest after it: ``M.csv`` -> ``M.meta.json``, ``M_images`` ..."""
    return path.with_name(path.stem + suffix)


def render_csv(samples: Iterable[Sample]) -> str:
    """Render the CSV text of a manifest."""
    return "".join(render_lines(samples))


def render_lines(samples: Iterable[Sample]) -> Iterator[str]:
    """Render the CSV text of a manifest line by line: the whole of a large one takes as much memory as its samples."""
    ordered = sorted(samples, key=lambda sample: sample.sample_id)
    subjects, boxes = any(item.subject for item in ordered), any(item.box for item in ordered)
    points = any(item.landmarks_row is not None for item in ordered)
    coded = any(item.aus is not None for item in ordered)
    optional = [*(["subject"] if subjects else []), *(CORNERS if boxes else ()), *([_POINTS] if points else [])]
    optional += [_AUS] if coded else []

    def cells_of(item: Sample) -> list[str]:
        cells = [item.sample_id, item.path, item.label, item.source_label, item.split]
        cells += [item.subject] if subjects else []
        cells += box_cells(item.box) if boxes else []
        cells += ["" if item.landmarks_row is None else str(item.landmarks_row)] if points else []
        return cells + ([format_facs(item.aus)] if coded else [])

    return csv_lines([*MANIFEST_COLUMNS, *optional], map(cells_of, ordered))


def box_cells(box: Box | None) -> list[str]:
    """Return the four cells of a box, exact; whole numbers without a point."""
    if box is None:
        return [""] * 4
    return [str(int(v)) if float(v).is_integer() else repr(v) for v in (box.x0, box.y0, box.x1, box.y1)]


def write_manifest(
    path: Path,
    samples: Sequence[Sample],
    *,
    root: Path,
    layout: str,
    options: Mapping[str, Any] | None = None,
    problems: Mapping[str, int] | None = None,
    landmarks: np.ndarray | Path | None = None,
    codes: CodeSource | None = None,
) -> Manifest:
    """Write a manifest and its ``.meta.json`` atomically. The same input gives the same bytes.

    Args:
        path: The manifest, ``M.csv``.
        samples: Its samples, in any order.
        root: The folder to which the samples' paths are relative.
        layout: Name of the layout it was read from.
        options: Options of the build, for the meta data.
        problems: Number of rows left out by reason, for the meta data.
        landmarks: The array ``(k, 68, 2)`` that the samples' ``landmarks_row`` refer to, or the file of another
            manifest that holds it. Needed when a sample has such a row and ignored otherwise.
        codes: Where the samples' action units come from.

    Returns:
        The manifest as :func:`read_manifest` would read it.

    Raises:
        ManifestError: The landmarks are missing, of another shape, or too few, or a file of their name is not one that
            a manifest of this name records.
    """
    points_file = companion_path(path, LANDMARKS_SUFFIX)
    rows = _rows_of_points(samples)
    if rows and landmarks is None:
        raise ManifestError(paragraph("Samples have a landmarks_row, but no landmarks were given.", where=path))
    former, points_digest = _recorded_points(path), ""
    if rows and landmarks is not None:
        points_digest = write_points(points_file, landmarks, rows, replaces=bool(former))
    text = render_csv(samples)
    ordered = tuple(sorted(samples, key=lambda sample: sample.sample_id))
    manifest = Manifest(
        root=root.resolve(),
        samples=ordered,
        classes=order_classes({sample.label for sample in ordered}),
        layout=layout,
        digest=sha256_bytes(text.encode()),
        options=dict(options or {}),
        recorded_digest=sha256_bytes(text.encode()),
        landmarks=points_file.resolve() if rows else None,
        codes=codes,
    )
    write_text(path, text)
    meta = {
        "format": _FORMAT,
        "root": Path(os.path.relpath(manifest.root, path.parent.resolve())).as_posix(),
        "layout": layout,
        "classes": list(manifest.classes),
        "options": manifest.options,
        "counts": manifest.counts(),
        "persons": len({sample.subject for sample in samples} - {""}),
        "problems": dict(problems or {}),
        "csv_sha256": manifest.digest,
        **({"landmarks_sha256": points_digest} if rows else {}),
        **({"codes": asdict(codes)} if codes is not None else {}),
    }
    write_json(companion_path(path, ".meta.json"), meta)
    if not rows and former:
        # Points of a former manifest of this name belong to nobody now.
        points_file.unlink(missing_ok=True)
    return manifest


def _recorded_points(path: Path) -> str:
    """Return the SHA-256 that a former manifest's meta data state of its landmarks; empty where they state none."""
    try:
        return read_json(companion_path(path, ".meta.json"), ManifestMeta).landmarks_sha256
    except (UnreadableTextError, OSError):
        return ""


def _rows_of_points(samples: Iterable[Sample]) -> int:
    return 1 + max((item.landmarks_row for item in samples if item.landmarks_row is not None), default=-1)


def check_points(path: Path, samples: Iterable[Sample], meta: ManifestMeta) -> Path | None:
    """Check the landmarks file of the manifest at ``path`` and return its path; None when no sample refers to it.

    Raises :class:`ManifestError` when it is absent, unreadable, too short, or not the recorded one.
    """
    rows = _rows_of_points(samples)
    if not rows:
        return None
    file = companion_path(path, LANDMARKS_SUFFIX).resolve()
    read_points(file, rows, meta.landmarks_sha256)
    return file


def read_manifest(path: str | os.PathLike[str]) -> Manifest:
    """Read a manifest; its images are not looked at.

    Args:
        path: The CSV file; ``M.meta.json`` and ``M.landmarks.npy`` lie beside it.

    Returns:
        The samples and where their images are; ``counts()`` by split and class, ``to_pandas()`` as a table.

    Raises:
        ManifestError: The file is absent or not a manifest, naming the line: a column missing, an unknown label or
            split, a sample twice, a path that is absolute or leaves the root, or landmarks that are not there.

    Example:
        >>> manifest = aupipe.read_manifest("faces.csv")
        >>> manifest.counts()["test"]["fear"], manifest.samples[0].path
        (1, 'test/anger/anger_0001.png')
    """
    path = Path(path)
    root, meta = read_meta(path)
    lines, faults = parse_samples(read_lines(path), path, meta.classes)
    if faults:
        more = f"There are {len(faults) - 1} more such lines: aupipe manifest check lists them." if faults[1:] else None
        raise ManifestError(paragraph(faults[0].message, where=f"{path}, line {faults[0].line}", fix=more))
    if not lines:
        raise ManifestError(paragraph("A manifest has no samples.", where=path))
    samples = tuple(sorted((sample for _, sample in lines), key=lambda sample: sample.sample_id))
    return Manifest(
        root=root,
        samples=samples,
        classes=order_classes({sample.label for sample in samples}),
        layout=meta.layout,
        digest=sha256_bytes(path.read_bytes()),
        options=meta.options,
        recorded_digest=meta.csv_sha256,
        landmarks=check_points(path, samples, meta),
        codes=meta.codes,
    )


def read_meta(path: Path) -> tuple[Path, ManifestMeta]:
    """Read the meta data of the manifest at ``path``, and the images' root. Raises :class:`ManifestError`."""
    if not path.is_file() or is_no_text(path):
        raise ManifestError(wrong_path(path, "manifest"))
    folder, beside = path.parent.resolve(), companion_path(path, ".meta.json")
    if not beside.is_file():
        return folder, ManifestMeta("")
    try:
        meta = read_json(beside, ManifestMeta)
        return (folder / meta.root).resolve(), meta
    except (UnreadableTextError, OSError, ValueError) as error:  # ValueError: a root with a NUL
        raise ManifestError(
            paragraph(
                "A manifest's meta data cannot be read.",
                where=beside,
                expected="JSON with the key 'root'",
                got=error,
                fix="Build the manifest again, or delete this file if the images lie beside the CSV.",
            )
        ) from error


def recorded_digest(path: Path) -> str:
    """Return the SHA-256 that a manifest's meta data record; empty where they do not, or cannot be read."""
    try:
        return read_meta(path)[1].csv_sha256
    except ManifestError:
        return ""


def parse_samples(
    table: Iterable[str], where: object, classes: Sequence[str] = ()
) -> tuple[list[tuple[int, Sample]], list[Fault]]:
    """Parse the lines of a manifest into samples with their line numbers, and faults of the other lines.

    ``classes``: those that were built; others must be known expressions, or look like none of them.

    Raises :class:`ManifestError` when the text is not CSV or a column is missing.
    """
    rows = csv_rows(table, where)
    _, header = next(rows, (0, []))
    names = [cell.strip() for cell in header]
    missing = [column for column in MANIFEST_COLUMNS if column not in names]
    if missing:
        raise ManifestError(
            paragraph(
                f"A manifest lacks the column {missing[0]!r}.",
                where=f"{where}, line 1",
                expected=",".join(MANIFEST_COLUMNS),
                got=",".join(names)[:200] or "an empty file",
            )
        )
    samples, faults, seen = list[tuple[int, Sample]](), list[Fault](), dict[str, int]()
    for line, cells in rows:
        parsed = _parse_sample(dict(zip(names, map(plain_cell, cells), strict=False)), classes)
        if isinstance(parsed, Sample) and parsed.sample_id in seen:
            parsed = f"The sample_id {parsed.sample_id!r} is on line {seen[parsed.sample_id]} already."
        if isinstance(parsed, str):
            faults.append(Fault(line, parsed))
        else:
            seen[parsed.sample_id] = line
            samples.append((line, parsed))
    return samples, faults


def _parse_sample(cells: Mapping[str, str], classes: Sequence[str]) -> Sample | str:
    if any(column not in cells for column in MANIFEST_COLUMNS):
        return f"A row has {len(cells)} cells, fewer than it needs."
    if not is_plain("".join(cells.values())):
        odd = next(name for name, cell in cells.items() if not is_plain(cell))
        return f"The cell {odd} holds control characters, or is not UTF-8: {cells[odd]!r}."
    sample_id, path, label, source_label, split = (cells[column] for column in MANIFEST_COLUMNS)
    if not sample_id.strip():
        return "A sample has no sample_id."
    if path.startswith("/") or relative_path(path, _ANYWHERE) is None:
        return f"The path {path!r} is not a relative path below the manifest's root."
    if label not in classes and label not in (canonical_label(label), own_label(label)):
        known = canonical_label(label) or misspelt(label)
        return f"The label {label!r} is not in the vocabulary." + (f" Write {known!r}." if known else "")
    if split not in SPLITS:
        return f"The split {split!r} is none of {', '.join(SPLITS)}."
    corners = [cells.get(corner, "") for corner in CORNERS]
    box = parse_box(corners) if any(corners) else None
    if any(corners) and box is None:
        return f"Not a box: {' '.join(corners)}; expected x0 y0 x1 y1 with x0 < x1 and y0 < y1."
    points, codes = _whole(cells.get(_POINTS, "")), _whole(cells.get(_AUS, ""))
    if points and not (points.isascii() and points.isdigit()):
        return f"Not a row of the landmarks file: {points!r}; expected a whole number from 0, or nothing."
    row = int(points) if points else None
    try:
        aus = parse_facs(codes) if codes else None
    except FacsError as error:
        return f"Not action units: {error}."
    # One object for each word, not for each row: a large manifest takes half of the memory.
    label, source_label, split, subject = map(sys.intern, (label, source_label, split, cells.get("subject", "")))
    return Sample(sample_id, path, label, source_label, split, subject, box, row, aus)


def _whole(text: str) -> str:
    """Read 2.0 as 2: so pandas writes whole numbers of a column that has empty cells."""
    return re.sub(r"[.,]0+$", "", text) if text else ""
