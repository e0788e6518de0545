"""Layout readers, and the choice of the one that fits a folder.

To add a reader: a module here with a class that has ``recognises`` and ``read``, and one ``register_reader``
line. To add a dataset that an existing reader can read: a descriptor in ``manifests/``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aupipe.fer_data.errors import ManifestError, paragraph
from aupipe.fer_data.manifest.descriptors import Descriptor, Form, get_descriptor, load_descriptors
from aupipe.fer_data.manifest.labels import make_vocabulary
from aupipe.fer_data.manifest.layouts import arrays, folder, names, pixels, sequences, table, votes
from aupipe.fer_data.manifest.layouts.base import LayoutReader, describe_folder, get_reader
from aupipe.fer_data.manifest.layouts.text import beginning_matches
from aupipe.fer_data.manifest.layouts.walk import scan

__all__ = ["ChosenLayout", "arrays", "choose_layout", "folder", "names", "pixels", "sequences", "table", "votes"]


@dataclass(frozen=True, slots=True)
class ChosenLayout:
    """A layout that fits: its descriptor, the form of it that was found, and the folder below ROOT holding it."""

    descriptor: Descriptor
    form: Form
    base: str

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
    known = list(load_descriptors().values())
    found = [choice for item in known for choice in _fitting(item, root, aliases, labels, auto=True)]
    # A folder of class folders or a table of labels may be all there is to say of a dataset; a known one says more.
    found = [choice for choice in found if not choice.descriptor.generic] or found
    if len(found) == 1:
        return found[0]
    if not found:
        raise _nothing_fits("No known dataset layout", known, root)
    raise ManifestError(
        paragraph(
            f"Several dataset layouts fit {root}.",
            got=", ".join(f"{choice.descriptor.name} ({choice.form.looks_for})" for choice in found),
            fix=f"Say which one, as in: aupipe manifest build {found[0].descriptor.name} ROOT -o M.csv.",
        )
    )


def _form_of(
    descriptor: Descriptor, root: Path, aliases: Mapping[str, str], labels: Mapping[str, str] | None
) -> ChosenLayout:
    fitting = _fitting(descriptor, root, aliases, labels, auto=False)
    if fitting:
        return fitting[0]
    if len(descriptor.forms) == 1:
        # The reader itself can say best what is missing, or list rows whose labels are all unknown.
        return ChosenLayout(descriptor, descriptor.forms[0], descriptor.forms[0].bases[0])
    raise _nothing_fits(f"No {descriptor.title}", [descriptor], root)


def _fitting(
    descriptor: Descriptor, root: Path, aliases: Mapping[str, str], labels: Mapping[str, str] | None, *, auto: bool
) -> list[ChosenLayout]:
    vocabulary = make_vocabulary(aliases, {} if auto else descriptor.labels, labels=labels)
    for form in descriptor.forms:
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
    return not form.contains or any(beginning_matches(folder / name, form.contains) for name in form.tables)


def _nothing_fits(what: str, tried: list[Descriptor], root: Path) -> ManifestError:
    wanted = [(item, form) for item in tried for form in item.forms if form.auto or len(tried) == 1]
    return ManifestError(
        paragraph(
            f"{what} in {root}.",
            expected="; ".join(f"{item.name}: {form.looks_for}" for item, form in wanted),
            got=describe_folder(root),
            fix="Class folders with other names need --alias NAME=LABEL." if len(tried) > 1 else None,
        )
    )
