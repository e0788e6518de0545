"""Images in one folder per class, with or without split folders around (or inside) them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
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
        known_places = KnownPlaces.among(places, request.vocabulary)
        seen = _classes_and_splits(places, request, known_places, loose=True)
        told = {split for label, split in seen.values() if label is not None}
        if "" in told or "train" not in told:  # a word below a class may be part of a person's name
            seen = _classes_and_splits(places, request, known_places, loose=False)
        for path in paths:
            label, split = seen[path.rpartition("/")[0]]
            if label is not None:
                known = is_plain(path) and is_image(folder, path)
                found.add(RawRow(path, label, Place(path), split) if known else _odd_file(path, label))
            elif is_image_name(path):
                detail = "lies in no class folder"
                found.add(Problem(Place(printable(path)), path, "", ProblemReason.UNLISTED_FILE, detail))
        return found.listing(folder)


@dataclass(frozen=True, slots=True)
class KnownPlaces:
    """Where in a dataset class folders lie that the vocabulary knows.

    ``above``: the folders that hold them. ``depth``: of how many folders most of these paths are; None of none.
    """

    above: Set[tuple[str, ...]] = frozenset()
    depth: int | None = None

    @classmethod
    def among(cls, places: Iterable[str], vocabulary: Vocabulary) -> KnownPlaces:
        """Find them.

        >>> KnownPlaces.among(["images/train/happy/deep", "images/train/boredom"], Vocabulary())
        KnownPlaces(above={('images', 'train')}, depth=2)
        """
        folders = [tuple(place.split("/")) for place in places]
        known = ((one, _known_folder(one, vocabulary)) for one in folders)
        above = {one[:at] for one, at in known if at is not None}
        depths = Counter(map(len, above))
        return cls(above, min(depths, key=lambda at: (-depths[at], at), default=None))

    def beside(self, folders: Sequence[str]) -> int | None:
        """Return which of ``folders`` lies beside known classes, or as deep as they mostly lie; None: none does."""
        found = max((at for at in range(len(folders)) if tuple(folders[:at]) in self.above), default=self.depth)
        return found if found is not None and found < len(folders) else None


def _known_folder(folders: Iterable[str], vocabulary: Vocabulary) -> int | None:
    return next((at for at, name in enumerate(folders) if vocabulary.knows(name)), None)


def _classes_and_splits(
    places: Iterable[str], request: ReadRequest, known_places: KnownPlaces, *, loose: bool
) -> dict[str, tuple[str | None, str]]:
    return {
        place: class_and_split(
            f"{place}/" if place else "", request.splits, request.vocabulary, known_places, loose=loose
        )
        for place in places
    }


def class_and_split(
    path: str,
    splits: Mapping[str, str],
    vocabulary: Vocabulary | None = None,
    known_places: KnownPlaces = KnownPlaces(),
    loose: bool = False,
) -> tuple[str | None, str]:
    """Read the class folder (None when there is none) and the split off a relative file path.

    The class is the first folder that the vocabulary knows, else the one beside the ``known_places``, else the first
    that names no split; folders around the classes may have any name, so that a dataset is found below them. Below a
    class, where persons are, only a folder whose whole name is a split's is one, unless ``loose``.

    >>> class_and_split("train/happy/1.png", {}), class_and_split("happy/1.png", {})
    (('happy', 'train'), ('happy', ''))
    >>> class_and_split("1.png", {})
    (None, '')
    >>> class_and_split("images/Val_Set/sad/test/1.png", {}, Vocabulary())
    ('sad', 'val')
    >>> class_and_split("sad/Val_Kilmer/1.png", {}, Vocabulary())
    ('sad', '')
    >>> class_and_split("images/train/boredom/1.png", {}, Vocabulary(), KnownPlaces({("images", "train")}, 2))
    ('boredom', 'train')
    """
    folders = path.split("/")[:-1]
    known = None if vocabulary is None else _known_folder(folders, vocabulary)
    if known is None and (beside := known_places.beside(folders)) is not None:
        known = None if canonical_split(folders[beside], splits) else beside
    around = [at for at in range(len(folders[: 2 if known is None else known + 2])) if at != known]
    found = (
        (at, canonical_split(folders[at], splits, not loose and known is not None and at > known)) for at in around
    )
    place, split = next((item for item in found if item[1]), (None, None))
    first = next((name for at, name in enumerate(folders) if at != place), None)
    return first if known is None else folders[known], split or ""


def _odd_file(path: str, label: str) -> Problem:
    detail = "not an image suffix" if is_plain(path) else NOT_PLAIN
    return Problem(Place(printable(path)), path, label, ProblemReason.NOT_AN_IMAGE_NAME, detail)


register_reader("folder", FolderReader())
