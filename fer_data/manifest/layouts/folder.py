"""Images in one folder per class, with or without split folders around (or inside) them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from aupipe.fer_data.errors import ManifestError, paragraph, printable
from aupipe.fer_data.manifest.descriptors import Form
from aupipe.fer_data.manifest.labels import Vocabulary
from aupipe.fer_data.manifest.layouts.base import (
    DatasetListing,
    RawRow,
    ReadRequest,
    canonical_split,
    describe_folder,
    is_image_name,
    register_reader,
)
from aupipe.fer_data.manifest.layouts.walk import list_unreadable, walk_files
from aupipe.fer_data.manifest.problems import NOT_PLAIN, Place, Problem, ProblemReason, is_plain


class FolderReader:
    """``ROOT/[SPLIT/]CLASS/...`` or ``ROOT/CLASS/SPLIT/...``; deeper folders belong to the class."""

    def recognises(self, folder: Path, form: Form, vocabulary: Vocabulary) -> bool:
        """Return whether at least one class folder bears a known expression and holds an image."""
        if not folder.is_dir():
            return False
        for path in walk_files(folder):
            label = class_and_split(path, {})[0]
            if is_image_name(path) and label is not None and vocabulary.canonical(label):
                return True
        return False

    def read(self, request: ReadRequest) -> DatasetListing:
        """List every image below a class folder as a row, other files as problems."""
        folder, rows, problems = request.folder, list[RawRow](), list[Problem]()
        if not folder.is_dir():
            raise ManifestError(
                paragraph(
                    f"{folder} is not a folder of class folders.",
                    expected=request.form.looks_for,
                    got=describe_folder(folder),
                )
            )
        for path in walk_files(folder, list_unreadable(problems)):
            label, split = class_and_split(path, request.splits)
            if label is not None and is_image_name(path) and is_plain(path):
                rows.append(RawRow(path, label, Place(path), split))
            elif label is not None:
                problems.append(_odd_file(path, label))
            elif is_image_name(path):
                detail = "lies in no class folder"
                problems.append(Problem(Place(printable(path)), path, "", ProblemReason.UNLISTED_FILE, detail))
        return DatasetListing(folder, tuple(rows), tuple(problems))


def class_and_split(path: str, splits: Mapping[str, str]) -> tuple[str | None, str]:
    """Read the class folder (None when there is none) and the split off a relative file path.

    >>> class_and_split("train/happy/1.png", {}), class_and_split("happy/1.png", {})
    (('happy', 'train'), ('happy', ''))
    >>> class_and_split("1.png", {})
    (None, '')
    """
    folders = path.split("/")[:-1]
    for position, name in enumerate(folders[:2]):
        split = canonical_split(name, splits)
        if split is not None:
            rest = folders[:position] + folders[position + 1 :]
            return (rest[0] if rest else None), split
    return (folders[0] if folders else None), ""


def _odd_file(path: str, label: str) -> Problem:
    detail = "not an image suffix" if is_plain(path) else NOT_PLAIN
    return Problem(Place(printable(path)), path, label, ProblemReason.NOT_AN_IMAGE_NAME, detail)


register_reader("folder", FolderReader())
