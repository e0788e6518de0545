"""Detection data in YOLO's form: one text file an image, with class numbers and boxes as shares of the image."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator
from pathlib import Path

from aupipe.fer_data.errors import printable
from aupipe.fer_data.image_names import is_image_name
from aupipe.fer_data.manifest.descriptors import Form
from aupipe.fer_data.manifest.labels import Vocabulary
from aupipe.fer_data.manifest.layouts.base import (
    DatasetListing,
    Gathering,
    RawRow,
    ReadRequest,
    canonical_split,
    first_images,
    register_reader,
)
from aupipe.fer_data.manifest.layouts.boxes import NO_SIZE, read_size
from aupipe.fer_data.manifest.layouts.cells import read_numbers, to_box
from aupipe.fer_data.manifest.layouts.walk import scan, walk_files
from aupipe.fer_data.manifest.problems import Place, Problem, ProblemReason
from aupipe.fer_data.typed import parse_yaml


class YoloReader:
    """``data.yaml`` (or ``classes.txt``) with the names of the classes, and for each image a text file.

    That of ``images/train/ID.jpg`` is ``labels/train/ID.txt``, that of another image lies beside it.
    """

    def recognises(self, folder: Path, form: Form, vocabulary: Vocabulary) -> bool:
        """Return whether the names are there, and the label file of some image."""
        return folder.is_dir() and bool(_class_names(folder)) and has_label_files(folder)

    def read(self, request: ReadRequest) -> DatasetListing:
        """List every line of a label file as a row or a problem. Raises :class:`ManifestError` without names."""
        root, found = request.folder, Gathering()
        names = _class_names(root) if root.is_dir() else {}
        if not names:
            raise request.not_there()
        files = dict.fromkeys(walk_files(root, found))
        for path in filter(is_image_name, files):
            text = _label_file(path)
            if text in files:
                for item in _read_labels(root, text, path, names):
                    found.add(item)
            else:
                detail = "no label file belongs to it"
                found.add(Problem(Place(printable(path)), path, "", ProblemReason.UNLISTED_FILE, detail))
        return found.listing(root)


def has_label_files(folder: Path) -> bool:
    """Return whether the text file of one of the first images holds a class number and four shares."""
    texts = (folder / _label_file(path) for path in first_images(folder))
    lines = (_lines(text)[:1] for text in texts if text.is_file())
    return any(len(read_numbers(line.split())) == 5 for found in lines for line in found)


def _label_file(path: str) -> str:
    head, images, tail = f"/{posixpath.splitext(path)[0]}.txt".rpartition("/images/")
    return f"{head}/labels/{tail}"[1:] if images else tail[1:]


def _class_names(folder: Path) -> dict[str, str]:
    for file in (Path(entry.path) for entry in scan(folder) if entry.name.endswith((".yaml", ".yml"))):
        try:
            given = parse_yaml(file.read_text(encoding="utf-8-sig"))["names"]
            pairs = given.items() if isinstance(given, dict) else enumerate(given)
            return {str(number): str(label) for number, label in pairs}
        except (OSError, ValueError, TypeError, KeyError):
            continue
    lists = (folder / name for name in ("classes.txt", "labels/classes.txt", "obj.names"))
    return {str(number): name for file in lists if file.is_file() for number, name in enumerate(_lines(file))}


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError):
        return []


def _read_labels(root: Path, text: str, path: str, names: dict[str, str]) -> Iterator[RawRow | Problem]:
    split = _split(path.split("/")[:-1])
    place, lines = Place(printable(text)), _lines(root / text)
    for number, line in enumerate(lines, start=1):
        code, *parts = line.split() or [""]
        size = read_size(root / path)
        box = to_box(read_numbers(parts), "yolo", size)
        if box is not None and code in names:
            yield RawRow(path, names[code], Place(place.file, number), split, box=box)
        elif code:
            detail = "expected the number of a class and four shares of the image" if size else NO_SIZE
            yield Problem(Place(place.file, number), path, code, ProblemReason.BAD_ROW, detail)
    if not any(map(str.strip, lines)):
        yield Problem(place, path, "", ProblemReason.NO_LABEL, "the label file is empty, or not text")


def _split(folders: Iterable[str]) -> str:
    return next(filter(None, (canonical_split(name, {}) for name in folders)), "")


register_reader("yolo", YoloReader())
