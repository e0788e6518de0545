"""The protocol of layout readers, the values they take and give, and their registry."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from aupipe.fer_data.errors import FerError, ManifestError, UserInputError, paragraph, unknown_name
from aupipe.fer_data.image_names import is_image_name
from aupipe.fer_data.manifest.descriptors import Form
from aupipe.fer_data.manifest.labels import Vocabulary
from aupipe.fer_data.manifest.layouts.walk import WalkLog, is_folder, scan, walk_files
from aupipe.fer_data.manifest.problems import Place, Problem
from aupipe.fer_data.types import SPLITS, Box

_PROBED = 200
SPLIT_ALIASES: Mapping[str, str] = {
    "training": "train",
    "trainset": "train",
    "valid": "val",
    "validation": "val",
    "valset": "val",
    "dev": "val",
    "publictest": "val",
    "testing": "test",
    "testset": "test",
    "privatetest": "test",
}
"""Other words for splits, also as one of several: ``Train_Aligned_Faces``, ``val_set``."""


@dataclass(frozen=True, slots=True)
class RawRow:
    """One labelled image as the dataset states it. ``split`` is ``train``, ``val``, ``test`` or empty.

    ``points`` are the 68 landmarks that come with it, float32 ``(68, 2)`` in pixels, all NaN where what came is none.
    ``aus`` are its action units in FACS notation, as they stand there.
    """

    path: str
    source_label: str
    place: Place
    split: str = ""
    subject: str = ""
    box: Box | None = None
    points: np.ndarray | None = field(default=None, compare=False)
    aus: str = ""


@dataclass(frozen=True, slots=True)
class DatasetListing:
    """All that a reader found: rows in the dataset's own order, rows it could not read, files that are no row.

    ``passed_over``: system files. ``near``: by path of a row whose file is absent, the file that may be meant.
    ``notes``: sentences for the report.
    """

    root: Path
    rows: tuple[RawRow, ...]
    problems: tuple[Problem, ...] = ()
    passed_over: int = 0
    near: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class Gathering(WalkLog):
    """What a reader has found so far."""

    rows: list[RawRow] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, found: RawRow | Problem) -> None:
        """Take a row, or a problem in its place."""
        if isinstance(found, RawRow):
            self.rows.append(found)
        else:
            self.problems.append(found)

    def listing(self, root: Path, near: Mapping[str, str] | None = None) -> DatasetListing:
        """Return all that was found, with paths relative to ``root``."""
        passed_over = len(self.passed_over)
        return DatasetListing(root, tuple(self.rows), tuple(self.problems), passed_over, near or {}, tuple(self.notes))


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """A request to read a dataset. ``images_out`` is a folder for readers whose dataset holds no image files."""

    root: Path
    form: Form
    base: str
    images_out: Path
    splits: Mapping[str, str] = field(default_factory=dict)
    variant: str | None = None
    vocabulary: Vocabulary = field(default_factory=Vocabulary)
    box_format: str | None = None

    @property
    def folder(self) -> Path:
        """The folder (or CSV file) that holds the dataset."""
        return self.root / self.base if self.base else self.root

    def not_there(self, what: str = "No dataset") -> ManifestError:
        """Make the error for a layout that is not there."""
        got = describe_folder(self.folder)
        return ManifestError(paragraph(f"{what} in {self.root}.", expected=self.form.looks_for, got=got))


@runtime_checkable
class LayoutReader(Protocol):
    """A reader of one kind of layout."""

    def recognises(self, folder: Path, form: Form, vocabulary: Vocabulary) -> bool:
        """Return whether ``folder`` looks like this kind of layout; must not raise on odd content."""

    def read(self, request: ReadRequest) -> DatasetListing:
        """List the rows. Raises :class:`ManifestError` when the layout is not there."""


_READERS: dict[str, LayoutReader] = {}


def register_reader(name: str, reader: LayoutReader) -> None:
    """Make a reader known to descriptors. Raises :class:`ManifestError` when the name is taken."""
    if name in _READERS:
        raise ManifestError(paragraph(f"A layout reader named {name!r} is registered already."))
    _READERS[name] = reader


def get_reader(name: str) -> LayoutReader:
    """Return the reader called ``name``. Raises :class:`ManifestError` that lists what exists."""
    if name not in _READERS:
        raise ManifestError(unknown_name("layout reader", name, sorted(_READERS)))
    return _READERS[name]


def choose_variant(form: Form, variant: str | None) -> str:
    """Return the template or pattern of a form's variant, by default of the first.

    Raises :class:`UserInputError` for a variant that does not exist.
    """
    if variant is None:
        return next(iter(form.variants.values()), form.pattern or form.path)
    if variant not in form.variants:
        raise UserInputError(
            unknown_name("variant", variant, list(form.variants))
            if form.variants
            else paragraph(f"This layout has no variants, so {variant!r} cannot be chosen.")
        )
    return form.variants[variant]


def find_role_folder(folder: Path, form: Form, role: str) -> Path | None:
    """Find the folder that plays a role: the first of its possible names that exists."""
    return next((folder / name for name in form.folders.get(role, ()) if (folder / name).is_dir()), None)


def first_images(folder: Path) -> list[str]:
    """List some of the images below a folder, by their paths relative to it."""
    return list(islice(filter(is_image_name, walk_files(folder)), _PROBED)) if folder.is_dir() else []


@lru_cache(maxsize=4096)
def _common_split(name: str, whole: bool) -> str | None:
    words = re.split(r"[\W\d_]+", name)
    found = {SPLIT_ALIASES.get(word, word) for word in ("".join(words), *(() if whole else words))} & set(SPLITS)
    return found.pop() if len(found) == 1 else None


def canonical_split(text: str, splits: Mapping[str, str], whole: bool = False) -> str | None:
    """Translate a dataset's word into ``train``, ``val`` or ``test``, by ``splits`` or the aliases; None if unknown.

    With ``whole`` the text must be that word; without it other words may stand beside it.

    >>> canonical_split("Train_Aligned_Faces", {}), canonical_split("PublicTest", {"publictest": "test"})
    ('train', 'test')
    >>> canonical_split("train_and_val", {})
    >>> canonical_split("Val_Kilmer", {}, whole=True)
    """
    name = text.strip().casefold()
    return splits.get(name) or _common_split(name, whole)


def write_once(path: Path, data: bytes) -> None:
    """Write an image's file unless it is there already. Raises :class:`FerError` when the disk refuses."""
    try:
        # An image that is there already stays untouched: another manifest or store may be reading it.
        if path.is_file() and path.read_bytes() == data:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    except OSError as error:
        raise FerError(
            paragraph(f"Could not write {path}: {error.strerror or error}.", fix="Free some space and run it again.")
        ) from error


def is_file(path: Path) -> bool:
    """Return whether there is a file; also for names no file can have (too long), where ``Path.is_file`` raises."""
    try:
        return path.is_file()
    except OSError:
        return False


def relative_path(text: str, root: Path) -> str | None:
    """Normalise a path below ``root``, with forward slashes; None when it leaves ``root``."""
    text = text.strip().replace("\\", "/")
    if text.startswith("/"):
        text = os.path.relpath(text, root.absolute())
    path = posixpath.normpath(text) if text else ""
    return None if path in ("", ".", "..") or path.startswith("../") else path


def describe_folder(folder: Path) -> str:
    """Describe in a few words what a folder holds, for error messages."""
    if not folder.is_dir():
        return f"{folder.name}, which is a file" if folder.exists() else "no such folder"
    log = WalkLog()
    names = [entry.name + "/" * is_folder(entry) for entry in scan(folder, log)]
    if log.problems:
        return f"a folder that {log.problems[0].detail}"
    if not names:
        return "an empty folder"
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
