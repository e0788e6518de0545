"""Dataset descriptors: what a layout looks like on disk, as data (``manifests/*.toml``).

A descriptor states ``name``, ``title``, ``source``, ``licence``; ``[labels]`` (source label -> expression);
``[dropped]`` (source labels that are no expression -> what they mean); ``[splits]`` (source split -> train | val |
test); ``generic`` (whether ``auto`` prefers any other layout that fits too); and one or more ``[[forms]]`` the
dataset is handed on in:

=================  ====================================================================================
``reader``         which reader of :mod:`aupipe.fer_data.manifest.layouts` reads it
``looks_for``      what must be there, in words, for error messages
``bases``          folders below ROOT that may hold it, tried in order (``""`` is ROOT itself)
``requires``       paths below the base that must exist
``excludes``       paths below the base that must not exist, for ``auto``
``contains``       regular expression that must occur in the table's beginning, for ``auto``
``files``          regular expression that the path of some image must match, for ``auto``
``title``          what to call this form, if not by the descriptor's title
``tables``         names of the text file with the rows, alternatives (with ``*``: all that there are, the
                   folder's name tells the split); absent: the only table of the folder
``parts``          file (or folder) names -> split, where each split has its own; those that exist are read
``folders``        role -> names of the folder that plays it, alternatives
``columns``        column roles of a table without header
``delimiter``      what separates cells; absent: guessed, or white space where ``columns`` are given
``path``           template of the image's path from ``{name}``, ``{stem}``, ``{suffix}`` of the path column, and the
                   table's own folder ``{beside}``
``pattern``        regular expression for file names with the groups ``label``, ``subject``, ``split``
``variants``       named templates instead of ``path`` (or patterns instead of ``pattern``, or kinds of images
                   that the reader knows); the first is the default
``split_pattern``  regular expression whose group 1, found in the file name, is the source split
``subject_pattern``  regular expression whose group 1, matched on the file stem, is the subject
``auto``           whether ``auto`` may choose it (default true)
``counts``         published number of images by split (``all``: without splits) and expression
``variant_counts``  the same by variant, where that matters
``note``           a sentence for the report: what the reader decided that the user should know
=================  ====================================================================================
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import lru_cache
from importlib.resources import files

from aupipe.fer_data.errors import ManifestError, paragraph, unknown_name
from aupipe.fer_data.manifest.labels import COMPOUND_EXPRESSIONS, EXPRESSIONS
from aupipe.fer_data.typed import UnreadableTextError, convert, parse_toml
from aupipe.fer_data.types import SPLITS

ALL_SPLITS = "all"
"""The key of published counts that are not given by split."""

Counts = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class Form:
    """One way a dataset lies on disk; the fields are described in the module's documentation."""

    reader: str
    looks_for: str
    bases: tuple[str, ...] = ("",)
    requires: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()
    contains: str = ""
    files: str = ""
    title: str = ""
    tables: tuple[str, ...] = ()
    parts: Mapping[str, str] = field(default_factory=dict)
    folders: Mapping[str, Sequence[str]] = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    delimiter: str = ""
    path: str = "{name}"
    pattern: str = ""
    variants: Mapping[str, str] = field(default_factory=dict)
    split_pattern: str = ""
    subject_pattern: str = ""
    auto: bool = True
    counts: Counts = field(default_factory=dict)
    variant_counts: Mapping[str, Counts] = field(default_factory=dict)
    note: str = ""

    def published(self, variant: str | None) -> Counts:
        """Return the published counts of a variant (None: the default one)."""
        return self.variant_counts.get(variant or next(iter(self.variants), ""), self.counts)


@dataclass(frozen=True, slots=True)
class Descriptor:
    """One dataset layout."""

    name: str
    title: str
    source: str
    licence: str
    forms: tuple[Form, ...]
    labels: Mapping[str, str] = field(default_factory=dict)
    dropped: Mapping[str, str] = field(default_factory=dict)
    splits: Mapping[str, str] = field(default_factory=dict)
    generic: bool = False


def parse_descriptor(text: str, where: str) -> Descriptor:
    """Parse a descriptor's TOML text.

    Raises :class:`ManifestError` when it is malformed; ``where`` names it.
    """
    try:
        raw = parse_toml(text)
    except UnreadableTextError as error:
        raise ManifestError(paragraph(f"A dataset descriptor is not TOML: {error}.", where=where)) from error
    raw.setdefault("forms", [])
    try:
        descriptor = convert(raw, Descriptor)
    except UnreadableTextError as error:
        what = f"A dataset descriptor lacks a key or has one of another type: {error}."
        raise ManifestError(paragraph(what, where=where)) from error
    for kind, table in ((Descriptor, raw), *((Form, form) for form in raw["forms"])):
        known = [item.name for item in fields(kind)]
        for key in table:
            if key not in known:
                raise ManifestError(paragraph(unknown_name("key", key, known), where=where))
    _check(descriptor, where)
    return descriptor


def _check(descriptor: Descriptor, where: str) -> None:
    tables = [counts for form in descriptor.forms for counts in (form.counts, *form.variant_counts.values())]
    counted = [(split, label) for counts in tables for split, row in counts.items() for label in row]
    labels = [*descriptor.labels.values(), *(label for _, label in counted)]
    splits = [*descriptor.splits.values(), *(split for split, _ in counted if split != ALL_SPLITS)]
    splits += [split for form in descriptor.forms for split in form.parts.values()]
    for value, known, kind in [
        *((label, (*EXPRESSIONS, *COMPOUND_EXPRESSIONS), "expression") for label in labels),
        *((split, SPLITS, "split") for split in splits),
    ]:
        if value not in known:
            raise ManifestError(paragraph(unknown_name(kind, value, list(known)), where=where))
    if not descriptor.forms:
        raise ManifestError(paragraph("A dataset descriptor has no [[forms]].", where=where))
    for form in descriptor.forms:
        for pattern in (form.split_pattern, form.subject_pattern):
            compile_pattern(pattern, where)
        for pattern in (form.variants.values() or [form.pattern]) if form.reader == "names" else ():
            compile_name_pattern(pattern, where)
        for variant in form.variant_counts:
            if variant not in form.variants:
                raise ManifestError(paragraph(unknown_name("variant", variant, list(form.variants)), where=where))


def compile_pattern(pattern: str, where: str) -> re.Pattern[str] | None:
    """Compile a regular expression with one group; None for the empty one. Raises :class:`ManifestError`."""
    if not pattern:
        return None
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ManifestError(paragraph(f"{pattern!r} is not a regular expression: {error}.", where=where)) from error
    if compiled.groups < 1:
        raise ManifestError(paragraph(f"{pattern!r} has no group.", where=where, expected="one ( ) around the part"))
    return compiled


def compile_name_pattern(pattern: str, where: str) -> re.Pattern[str]:
    """Compile a regular expression for file names; case does not matter.

    Raises :class:`ManifestError` when it is none or has no group for the label.
    """
    compiled = compile_pattern(pattern, where)
    if compiled is None or "label" not in compiled.groupindex:
        raise ManifestError(
            paragraph(f"The name pattern {pattern!r} has no group for the label.", where=where, expected="(?P<label>)")
        )
    return re.compile(pattern, re.IGNORECASE)


def collect_descriptors(sources: Mapping[str, str]) -> dict[str, Descriptor]:
    """Parse descriptors, given as file name -> TOML text, and return them by name.

    Raises :class:`ManifestError` when a name comes twice.
    """
    found: dict[str, Descriptor] = {}
    for where in sorted(sources):
        descriptor = parse_descriptor(sources[where], where)
        if descriptor.name in found or descriptor.name == "auto":
            raise ManifestError(paragraph(f"The layout {descriptor.name!r} is described twice.", where=where))
        found[descriptor.name] = descriptor
    return found


@lru_cache(maxsize=1)
def load_descriptors() -> Mapping[str, Descriptor]:
    """Load the descriptors that come with aupipe, by name."""
    folder = files("aupipe.manifests")
    return collect_descriptors(
        {item.name: item.read_text(encoding="utf-8") for item in folder.iterdir() if item.name.endswith(".toml")}
    )


def layout_names() -> list[str]:
    """Return the names that ``aupipe manifest build`` accepts."""
    return ["auto", *load_descriptors()]


def get_descriptor(name: str) -> Descriptor:
    """Return the descriptor called ``name``. Raises :class:`ManifestError` that lists what exists."""
    known = load_descriptors()
    if name not in known:
        raise ManifestError(unknown_name("layout", name, layout_names()))
    return known[name]
