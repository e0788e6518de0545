"""Images in one folder per class, with or without split folders around (or inside) them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from aupipe.fer_data.errors import printable
from aupipe.fer_data.image_names import is_image, is_image_name
from aupipe.fer_data.manifest.descriptors import Form
from aupipe.fer_data.manifest.labels import Vocabulary
from aupipe.fer_data.manifest.layouts.base import (
    DatasetListing,
    Gathering,
    RawRow,
    ReadRequest,
    canonical_split,
    register_reader,
)
from aupipe.fer_data.manifest.layouts.walk import walk_files
from aupipe.fer_data.manifest.problems import NOT_PLAIN, Place, Problem, ProblemReason, is_plain


class FolderReader:
    """``ROOT/[.../][SPLIT/]CLASS/...`` or ``ROOT/CLASS/SPLIT/...``; deeper folders belong to the class."""

    def recognises(self, folder: Path, form: Form, vocabulary: Vocabulary) -> bool:
        """Return whether at least one class folder bears a known expression and holds an image."""
        if not folder.is_dir():
            return False
        for path in walk_files(folder):
            label = class_and_split(path, {}, vocabulary)[0]
            if label is not None and vocabulary.canonical(label) and is_image(folder, path):
                return True
        return False

    def read(self, request: ReadRequest) -> DatasetListing:
        """List every image below a class folder as a row, other files as problems."""
        folder, found = request.folder, Gathering()
        if not folder.is_dir():
            raise request.not_there("No class folders")
        paths = list(walk_files(folder, found))
        places = dict.fromkeys(path.rpartition("/")[0] for path in paths)
        depth = class_depth(places, request.vocabulary)
        seen = {
            place: class_and_split(f"{place}/" if place else "", request.splits, request.vocabulary, depth)
            for place in places
        }
        for path in paths:
            label, split = seen[path.rpartition("/")[0]]
            if label is not None:
                known = is_plain(path) and is_image(folder, path)
                found.add(RawRow(path, label, Place(path), split) if known else _odd_file(path, label))
            elif is_image_name(path):
                detail = "lies in no class folder"
                found.add(Problem(Place(printable(path)), path, "", ProblemReason.UNLISTED_FILE, detail))
        return found.listing(folder)


def class_depth(places: Iterable[str], vocabulary: Vocabulary) -> int | None:
    """Find below how many folders most classes lie that the vocabulary knows; None where it knows none.

    >>> class_depth(["images/train/happy", "images/train/sad", "images/train/boredom"], Vocabulary())
    2
    """
    depths = Counter(at for place in places if (at := _known_folder(place.split("/"), vocabulary)) is not None)
    return min(depths, key=lambda at: (-depths[at], at), default=None)


def _known_folder(folders: Iterable[str], vocabulary: Vocabulary) -> int | None:
    return next((at for at, name in enumerate(folders) if vocabulary.knows(name)), None)


def class_and_split(
    path: str, splits: Mapping[str, str], vocabulary: Vocabulary | None = None, depth: int | None = None
) -> tuple[str | None, str]:
    """Read the class folder (None when there is none) and the split off a relative file path.

    The class is the first folder that the vocabulary knows, else the one at the ``depth`` of those that it knows, else
    the first that names no split; folders around the classes may have any name, so that a dataset is found below them.

    >>> class_and_split("train/happy/1.png", {}), class_and_split("happy/1.png", {})
    (('happy', 'train'), ('happy', ''))
    >>> class_and_split("1.png", {})
    (None, '')
    >>> class_and_split("images/Val_Set/sad/test/1.png", {}, Vocabulary())
    ('sad', 'val')
    >>> class_and_split("images/train/boredom/1.png", {}, Vocabulary(), 2)
    ('boredom', 'train')
    """
    folders = path.split("/")[:-1]
    known = None if vocabulary is None else _known_folder(folders, vocabulary)
    if known is None and depth is not None and depth < len(folders) and not canonical_split(folders[depth], splits):
        known = depth
    around = [at for at in range(len(folders[: 2 if known is None else known + 2])) if at != known]
    found = ((at, canonical_split(folders[at], splits)) for at in around)
    place, split = next((item for item in found if item[1]), (None, None))
    first = next((name for at, name in enumerate(folders) if at != place), None)
    return first if known is None else folders[known], split or ""


def _odd_file(path: str, label: str) -> Problem:
    detail = "not an image suffix" if is_plain(path) else NOT_PLAIN
    return Problem(Place(printable(path)), path, label, ProblemReason.NOT_AN_IMAGE_NAME, detail)


register_reader("folder", FolderReader())
