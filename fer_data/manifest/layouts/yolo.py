"""Detection data in YOLO's form: one text file an image, with class numbers and boxes as shares of the image."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from aupipe.fer_data.errors import printable
from aupipe.fer_data.manifest.descriptors import Form
from aupipe.fer_data.manifest.labels import Vocabulary
from aupipe.fer_data.manifest.layouts.base import (
    DatasetListing,
    Gathering,
    RawRow,
    ReadRequest,
    canonical_split,
    is_image_name,
    register_reader,
)
from aupipe.fer_data.manifest.layouts.boxes import read_size
from aupipe.fer_data.manifest.layouts.cells import read_numbers, to_box
from aupipe.fer_data.manifest.layouts.walk import WalkLog, is_folder, scan
from aupipe.fer_data.manifest.problems import Place, Problem, ProblemReason
from aupipe.fer_data.typed import parse_yaml

_NAMES = ("data.yaml", "data.yml", "dataset.yaml")


class YoloReader:
    """``data.yaml`` with the names of the classes; ``SPLIT/images/`` and ``SPLIT/labels/ID.txt``, or the other way."""

    def recognises(self, folder: Path, form: Form, vocabulary: Vocabulary) -> bool:
        """Return whether the names are there and some split."""
        return folder.is_dir() and bool(_class_names(folder)) and any(_parts(folder, WalkLog()))

    def read(self, request: ReadRequest) -> DatasetListing:
        """List every line of a label file as a row or a problem. Raises :class:`ManifestError` without names."""
        root, found = request.folder, Gathering()
        names = _class_names(root)
        if not names:
            raise request.not_there()
        for images, labels, split in _parts(root, found):
            prefix = f"{images.relative_to(root).as_posix()}/"
            texts = {entry.name for entry in scan(labels, found, prefix)}
            for entry in scan(images, found, prefix):
                file = f"{PurePosixPath(entry.name).stem}.txt"
                path = prefix + entry.name
                if is_image_name(entry.name) and file not in texts:
                    detail = "no label file belongs to it"
                    found.add(Problem(Place(printable(path)), path, "", ProblemReason.UNLISTED_FILE, detail))
                elif is_image_name(entry.name):
                    place = (labels / file).relative_to(root).as_posix()
                    for item in _read_labels(labels / file, place, root / path, path, names, split):
                        found.add(item)
        return found.listing(root)


def _class_names(folder: Path) -> dict[str, str]:
    for name in _NAMES:
        try:
            content = parse_yaml((folder / name).read_text(encoding="utf-8-sig"))
            given = content["names"]
            pairs = given.items() if isinstance(given, dict) else enumerate(given)
            return {str(number): str(label) for number, label in pairs}
        except (OSError, ValueError, TypeError, KeyError):
            continue
    return {}


def _parts(folder: Path, log: WalkLog) -> Iterator[tuple[Path, Path, str]]:
    """Yield the folders of the images and of the labels of each split, and the split."""
    for entry in filter(is_folder, scan(folder, log)):
        split, place = canonical_split(entry.name, {}), Path(entry.path)
        if split is not None and (place / "images").is_dir() and (place / "labels").is_dir():
            yield place / "images", place / "labels", split
        elif entry.name == "images":
            for inner in filter(is_folder, scan(place, log, entry.name)):
                split = canonical_split(inner.name, {})
                if split is not None and (folder / "labels" / inner.name).is_dir():
                    yield Path(inner.path), folder / "labels" / inner.name, split


def _read_labels(
    file: Path, place: str, image: Path, path: str, names: dict[str, str], split: str
) -> Iterator[RawRow | Problem]:
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        yield Problem(Place(place), path, "", ProblemReason.BAD_ROW, f"not a label file: {error}")
        return
    for number, line in enumerate(lines, start=1):
        code, *parts = line.split() or [""]
        box = to_box(read_numbers(parts), "yolo", read_size(image))
        if box is not None and code in names:
            yield RawRow(path, names[code], Place(place, number), split, box=box)
        elif code:
            detail = "expected the number of a class in data.yaml and four shares of the image"
            yield Problem(Place(place, number), path, code, ProblemReason.BAD_ROW, detail)
    if not any(map(str.strip, lines)):
        yield Problem(Place(place), path, "", ProblemReason.NO_LABEL, "the label file is empty")


register_reader("yolo", YoloReader())
