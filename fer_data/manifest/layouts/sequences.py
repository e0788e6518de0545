"""Image sequences from neutral to the peak of an expression, each labelled as a whole: CK+'s form."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from aupipe.fer_data.action_units.facs import intensity_letter
from aupipe.fer_data.errors import printable
from aupipe.fer_data.image_names import is_image_name
from aupipe.fer_data.manifest.descriptors import Form
from aupipe.fer_data.manifest.labels import Vocabulary
from aupipe.fer_data.manifest.layouts.base import (
    DatasetListing,
    Gathering,
    RawRow,
    ReadRequest,
    choose_variant,
    find_role_folder,
    register_reader,
)
from aupipe.fer_data.manifest.layouts.cells import parse_points
from aupipe.fer_data.manifest.layouts.walk import WalkLog, is_folder, scan
from aupipe.fer_data.manifest.problems import NOT_PLAIN, Place, Problem, ProblemReason, is_plain

_LABEL, _POINTS, _CODES = "_emotion.txt", "_landmarks.txt", "_facs.txt"


class SequencesReader:
    """``images/SUBJECT/SEQUENCE/*.png``, ``labels/SUBJECT/SEQUENCE/FRAME_emotion.txt``, ``points/...``, ``codes/...``.

    A variant says how many frames, counted back from the one that the label file names, get its label; with
    ``+ neutral`` the first frame of each labelled sequence is a neutral row.
    """

    def recognises(self, folder: Path, form: Form, vocabulary: Vocabulary) -> bool:
        """Return whether the folders of images and of labels are there."""
        return all(find_role_folder(folder, form, role) is not None for role in ("images", "labels"))

    def read(self, request: ReadRequest) -> DatasetListing:
        """List the rows of each sequence, or one problem that says why it gives none.

        Raises :class:`ManifestError` when the folders are not there.
        """
        root, form = request.folder, request.form
        images, labels, points, codes = (
            find_role_folder(root, form, role) for role in ("images", "labels", "points", "codes")
        )
        if images is None or labels is None:
            raise request.not_there("No sequences")
        peak, _, neutral = choose_variant(form, request.variant).partition("+")
        found = Gathering()
        names = {*_sequences(images, root, found), *_sequences(labels, root, found)}
        for name in sorted(names):
            parsed = _read_sequence(root, images / name, labels / name, int(peak), bool(neutral), found)
            if isinstance(parsed, Problem):
                found.add(parsed)
            else:
                aus = _read_codes(codes / name) if codes is not None else ""
                found.rows += [_with_points(row, points, name) for row in _with_codes(parsed, aus)]
        return found.listing(root)


def _sequences(folder: Path, root: Path, log: WalkLog) -> Iterator[str]:
    for subject in filter(is_folder, _scan(folder, root, log)):
        for sequence in filter(is_folder, _scan(Path(subject.path), root, log)):
            yield f"{subject.name}/{sequence.name}"


def _scan(folder: Path, root: Path, log: WalkLog) -> list[os.DirEntry[str]]:
    return scan(folder, log, folder.relative_to(root).as_posix())


def _read_sequence(
    root: Path, images: Path, labels: Path, peak: int, neutral: bool, log: WalkLog
) -> list[RawRow] | Problem:
    prefix = images.relative_to(root).as_posix() + "/"
    frames = [
        entry.name for entry in (_scan(images, root, log) if images.is_dir() else ()) if is_image_name(entry.name)
    ]
    marked = (entry.name for entry in (_scan(labels, root, log) if labels.is_dir() else ()))
    label_file = next((labels / name for name in marked if name.endswith(_LABEL)), None)
    if label_file is None:
        path = prefix + (frames[-1] if frames else "")
        return Problem(
            Place(printable(prefix[:-1])), path, "", ProblemReason.NO_LABEL, "the sequence has no label file"
        )
    place = Place(printable(label_file.relative_to(root).as_posix()))
    apex = label_file.name.removesuffix(_LABEL)
    stems = [Path(name).stem for name in frames]
    last = stems.index(apex) if apex in stems else -1
    label = _read_label(label_file)
    if label is None or not is_plain(prefix + apex):
        detail = "expected one whole number" if label is None else NOT_PLAIN
        return Problem(place, prefix + apex, "", ProblemReason.BAD_ROW, detail)
    subject = images.parent.name
    if last < 0:
        # The row stays, so that the missing frame is reported as a missing file.
        return [RawRow(f"{prefix}{apex}.png", label, place, subject=subject)]
    first = max(last + 1 - peak, 0)
    rows = [RawRow(prefix + name, label, place, subject=subject) for name in frames[first : last + 1]]
    if neutral and first > 0:
        rows.append(RawRow(prefix + frames[0], "neutral", Place(prefix + frames[0]), subject=subject))
    return rows


def _read_label(path: Path) -> str | None:
    try:
        number = float(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    return str(int(number)) if number.is_integer() else None


def _read_codes(folder: Path) -> str:
    """Read ``FRAME_facs.txt``: lines of an action unit and its intensity from 1 to 5, 0 where it was not judged."""
    file = next(iter(sorted(folder.glob("*" + _CODES))), None) if folder.is_dir() else None
    if file is None:
        return ""
    try:
        pairs = [[float(word) for word in line.split()] for line in file.read_text(encoding="ascii").splitlines()]
        return "+".join(f"{number:g}{intensity_letter(strength)}" for number, strength in filter(None, pairs)) or "0"
    except (OSError, ValueError):
        return f"{file.name}, which has other lines than an action unit and an intensity"


def _with_codes(rows: Sequence[RawRow], aus: str) -> Iterator[RawRow]:
    """Give the frames at the peak the action units that were coded there; the neutral frame was not coded."""
    for row in rows:
        yield row if row.source_label == "neutral" else replace(row, aus=aus)


def _with_points(row: RawRow, points: Path | None, sequence: str) -> RawRow:
    file = points / sequence / f"{Path(row.path).stem}{_POINTS}" if points is not None else None
    if file is None or not file.is_file():
        return row
    try:
        found = parse_points(file.read_text(encoding="ascii").split())
    except (OSError, ValueError):
        found = parse_points(())  # not usable: counted, and left out
    return replace(row, points=found)


register_reader("sequences", SequencesReader())
