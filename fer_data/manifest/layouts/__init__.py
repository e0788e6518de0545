"""Layout readers, and the choice of the one that fits a folder.

To add a reader: a module here with a class that has ``recognises`` and ``read``, and one ``register_reader``
line. To add a dataset that an existing reader can read: a descriptor in ``manifests/``.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from aupipe.fer_data.errors import ManifestError, paragraph
from aupipe.fer_data.image_names import is_image_name
from aupipe.fer_data.manifest.descriptors import Descriptor, Form, get_descriptor, load_descriptors
from aupipe.fer_data.manifest.labels import Vocabulary, canonical_label, make_vocabulary, own_label
from aupipe.fer_data.manifest.layouts import arrays, folder, names, parquet, pixels, sequences, table, votes, yolo
from aupipe.fer_data.manifest.layouts.base import LayoutReader, describe_folder, first_images, get_reader
from aupipe.fer_data.manifest.layouts.table import list_tables
from aupipe.fer_data.manifest.layouts.text import beginning_matches, column_roles, table_rows
from aupipe.fer_data.manifest.layouts.walk import is_folder, scan, walk_files

__all__ = [
    "ChosenLayout",
    "arrays",
    "choose_layout",
    "folder",
    "names",
    "parquet",
    "pixels",
    "sequences",
    "table",
    "unread_tables",
    "votes",
    "yolo",
]

_PLACES = 50
_OTHER_TABLES = {
    ".xlsx": 'It is a workbook: save it as "CSV UTF-8".',
    ".xls": 'It is a workbook: save it as "CSV UTF-8".',
    ".ods": "It is a workbook: save it as CSV in UTF-8.",
    ".zip": "It is an archive: unpack it.",
    ".tar": "It is an archive: unpack it.",
    ".gz": "It is an archive: unpack it.",
    ".rar": "It is an archive: unpack it.",
    ".7z": "It is an archive: unpack it.",
    ".mat": "It is a MATLAB file: write its images as files, and their paths and labels as CSV.",
    ".arff": "It is a Weka file: save it as CSV.",
}


@dataclass(frozen=True, slots=True)
class ChosenLayout:
    """A layout that fits: its descriptor, the form of it that was found, and the folder below ROOT holding it."""

    descriptor: Descriptor
    form: Form
    base: str

    @property
    def title(self) -> str:
        """What the dataset is called."""
        return self.form.title or self.descriptor.title

    @property
    def reader(self) -> LayoutReader:
        """The reader of the form."""
        return get_reader(self.form.reader)


def choose_layout(
    layout: str, root: Path, aliases: Mapping[str, str], labels: Mapping[str, str] | None = None
) -> ChosenLayout:
    """Choose the descriptor and the form of it that fit a dataset.

    Args:
        layout: A layout's name, or ``auto`` to try all of them.
        root: The dataset's folder.
        aliases: The user's words for expressions.
        labels: The user's label map instead of the layout's own.

    Raises:
        ManifestError: ``root`` is missing or holds nothing, nothing fits, or ``auto`` finds several that fit.
    """
    named = None if layout == "auto" else get_descriptor(layout)
    root = root.resolve() if root.name in ("", "..") else root  # messages name the folder
    if not root.exists() or (root.is_dir() and not scan(root)):
        raise ManifestError(
            paragraph(
                f"No dataset in {root}.",
                expected="a folder (or CSV file) of labelled face images",
                got=describe_folder(root),
            )
        )
    if named is not None:
        return _form_of(named, root, aliases, labels)
    found = _all_fitting(root, aliases, labels)
    if len(found) == 1:
        return found[0]
    if not found:
        raise _nothing_known(root, aliases, labels)
    raise ManifestError(
        paragraph(
            f"Several dataset layouts fit {root}.",
            got=", ".join(f"{choice.descriptor.name} ({choice.form.looks_for})" for choice in found),
            fix=f"Say which one, as in: aupipe manifest build {found[0].descriptor.name} ROOT -o M.csv.",
        )
    )


def _all_fitting(root: Path, aliases: Mapping[str, str], labels: Mapping[str, str] | None) -> list[ChosenLayout]:
    known = load_descriptors().values()
    found = [choice for item in known for choice in _fitting(item, root, aliases, labels, auto=True)]
    # A folder of class folders or a table of labels may be all there is to say of a dataset; a known one says more.
    return [choice for choice in found if not choice.descriptor.generic] or found


def _form_of(
    descriptor: Descriptor, root: Path, aliases: Mapping[str, str], labels: Mapping[str, str] | None
) -> ChosenLayout:
    fitting = _fitting(descriptor, root, aliases, labels, auto=False)
    if fitting:
        return fitting[0]
    if len(descriptor.forms) == 1 or descriptor.generic:
        # The reader itself can say best what is missing, or list rows whose labels are all unknown.
        return ChosenLayout(descriptor, descriptor.forms[0], descriptor.forms[0].bases[0])
    wanted = "; ".join(form.looks_for for form in descriptor.forms)
    raise ManifestError(
        paragraph(f"No {descriptor.title} in {root}.", expected=wanted, got=describe_folder(root), fix=_seen(root))
    )


def _fitting(
    descriptor: Descriptor, root: Path, aliases: Mapping[str, str], labels: Mapping[str, str] | None, *, auto: bool
) -> list[ChosenLayout]:
    for form in descriptor.forms:
        # Numbers mean something only once the dataset is known: it is named, or its file names tell.
        codes = descriptor.labels if form.files or not auto else {}
        vocabulary = make_vocabulary(aliases, codes, labels=labels)
        for base in form.bases if form.auto or not auto else ():
            folder = root / base if base else root
            if _admits(folder, form, auto=auto) and get_reader(form.reader).recognises(folder, form, vocabulary):
                return [ChosenLayout(descriptor, form, base)]
    return []


def _admits(folder: Path, form: Form, *, auto: bool) -> bool:
    if not all((folder / name).exists() for name in form.requires):
        return False
    if not auto:
        return True
    if any((folder / name).exists() for name in form.excludes):
        return False
    if form.files and not any(re.search(form.files, path) for path in first_images(folder)):
        return False
    return not form.contains or any(beginning_matches(folder / name, form.contains) for name in form.tables)


def _nothing_known(root: Path, aliases: Mapping[str, str], labels: Mapping[str, str] | None) -> ManifestError:
    known = load_descriptors().values()
    advice = _seen(root) or _other_way(root, aliases, labels) or _no_images(root)
    names = f"one of {', '.join(item.name for item in known)}"
    forms = [f"{item.name}: {form.looks_for}" for item in known for form in item.forms if form.auto]
    return ManifestError(
        paragraph(
            " ".join(filter(None, (f"No known dataset layout in {root}.", advice or _class_advice(root)))),
            expected=names if advice else "; ".join(forms),
            got=describe_folder(root),
        )
    )


def _below(root: Path) -> list[Path]:
    """List folders one and two levels down, some of them where there are many."""
    folders = [Path(entry.path) for entry in scan(root) if is_folder(entry)] if root.is_dir() else []
    folders += [Path(entry.path) for place in folders for entry in scan(place) if is_folder(entry)]
    return folders[:_PLACES]


def _seen(root: Path) -> str | None:
    """Say of the tables in a folder, or one or two levels down, why they are not read."""
    for place in (root, *_below(root)):
        shown = "" if place == root else f"{place.relative_to(root).as_posix()}/"
        if unread := unread_tables(place):
            return " ".join(f"{shown}{name} was seen but not read: {why}" for name, why in unread.items())
        if len(tables := list_tables(place) if place.is_dir() else []) > 1:
            shown = ", ".join(map(str, tables))
            return f"Several tables were seen, {shown}: give the one that is meant in place of {root}."
    return None


def _other_way(root: Path, aliases: Mapping[str, str], labels: Mapping[str, str] | None) -> str | None:
    """Say which named layout reads a folder, or where below it a dataset lies."""
    classes = _classes(root, make_vocabulary(aliases, labels=labels))
    for descriptor in load_descriptors().values():
        codes = make_vocabulary(aliases, descriptor.labels, labels=labels)
        named = any(form.reader == "folder" and form.counts for form in descriptor.forms)
        if named and classes and all(map(codes.knows, classes)):
            build = f"aupipe manifest build {descriptor.name} {root} -o M.csv"
            return f"If its class folders are those of {descriptor.title}, say so: {build}."
    inner = next((place for place in _below(root) if _all_fitting(place, aliases, labels)), None)
    return f"There is a dataset in {inner}: aupipe manifest build auto {inner} -o M.csv." if inner is not None else None


def _no_images(root: Path) -> str | None:
    """Say what lies there in place of images that a layout reads."""
    if yolo.has_label_files(root):
        return "Its images have label files in YOLO form, but no data.yaml (names: [...]) names the classes."
    names = [] if first_images(root) or not root.is_dir() else list(islice(walk_files(root), _PLACES))
    endings = ", ".join(sorted({Path(name).suffix or "no suffix" for name in names}))
    if names:
        return f"No file in it is named like an image ({endings}); of videos give frames as images."
    return None


def _classes(root: Path, vocabulary: Vocabulary) -> set[str]:
    return {folder.class_and_split(path, {}, vocabulary)[0] or "" for path in first_images(root)}


def _class_advice(root: Path) -> str | None:
    classes = _classes(root, Vocabulary())
    if classes == {""}:
        return (
            "Its images lie in no class folder: give the folder above, or a CSV file that names them with their labels."
        )
    meant = {name: guess for name in sorted(classes) if (guess := make_vocabulary().guess(name))}
    if classes and len(meant) == len(classes):
        options = " ".join(f"--alias {shlex.quote(f'{name}={canonical_label(meant[name])}')}" for name in meant)
        return f"If its class folders mean {', '.join(meant.values())}: {options}."
    if classes and all(map(own_label, classes)):
        build = f"aupipe manifest build folder {root} -o M.csv"
        return f"Class folders with other names need --alias NAME=LABEL; as classes of their own: {build}."
    return "Class folders with other names need --alias NAME=LABEL." if classes else None


def unread_tables(root: Path) -> dict[str, str]:
    """Say of each table in a folder (or of a file) that cannot be read why not, by name; none of those that can."""
    tables = list_tables(root) if root.is_dir() else [root]
    found = {table.name: why for table in tables if (why := _why_unread(table))}
    others = ((entry.name, Path(entry.name).suffix.lower()) for entry in (scan(root) if root.is_dir() else ()))
    for name, suffix in others:
        if suffix == ".parquet":
            found[name] = parquet.why_unread(root / name)
        elif suffix in _OTHER_TABLES:
            found[name] = _OTHER_TABLES[suffix]
    return found


def _why_unread(path: Path) -> str:
    try:
        header = next(rows := table_rows(path), (0, []))[1]
        for _ in rows:
            pass
    except ManifestError as error:
        return str(error)
    missing = [role for role in ("path", "label") if role not in column_roles(header)]
    if any(map(is_image_name, header)):
        return f"Line 1 is a row already: write the names of the columns above it, such as path,label ({header[0]})."
    if path.name == votes.VOTES_TABLE:
        return "It holds the votes of FERPlus, and the table of the images, fer2013.csv, does not lie beside it."
    words = {
        "path": "the images' paths (path, image, file_name ...)",
        "label": "the labels (label, emotion, class ...)",
    }
    shown = ",".join(header)[:200] or "nothing"
    return f"Line 1 names {shown}, and no column for {' or '.join(words[role] for role in missing)}." if missing else ""
