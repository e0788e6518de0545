"""Images whose names say everything: label, person, sometimes the split, by a regular expression."""

from __future__ import annotations

import re
from itertools import islice
from pathlib import Path

from aupipe.fer_data.errors import printable
from aupipe.fer_data.image_names import is_image_name
from aupipe.fer_data.manifest.descriptors import Form, compile_name_pattern
from aupipe.fer_data.manifest.labels import Vocabulary
from aupipe.fer_data.manifest.layouts.base import (
    DatasetListing,
    Gathering,
    RawRow,
    ReadRequest,
    canonical_split,
    choose_variant,
    register_reader,
)
from aupipe.fer_data.manifest.layouts.walk import walk_files
from aupipe.fer_data.manifest.problems import NOT_PLAIN, Place, Problem, ProblemReason, is_plain

_PROBED = 5000


class NamesReader:
    """Images anywhere below the folder; the pattern's groups ``label``, ``subject`` and ``split`` tell the rest.

    The pattern is searched in the path relative to the folder. An image that only another variant's pattern fits is a
    row that was not chosen.
    """

    def recognises(self, folder: Path, form: Form, vocabulary: Vocabulary) -> bool:
        """Return whether at least half of the images among the first files fit some pattern."""
        patterns = _patterns(form)
        images = list(filter(is_image_name, islice(walk_files(folder), _PROBED))) if folder.is_dir() else []
        fitting = [path for path in images if any(pattern.search(path) for pattern in patterns)]
        return bool(images) and 2 * len(fitting) >= len(images)

    def read(self, request: ReadRequest) -> DatasetListing:
        """List every image as a row or a problem. Raises :class:`ManifestError` when there is no folder."""
        folder, form, found = request.folder, request.form, Gathering()
        if not folder.is_dir():
            raise request.not_there()
        chosen, others = compile_name_pattern(choose_variant(form, request.variant), "the layout"), _patterns(form)
        persons = dict[str, str]()
        for path in filter(is_image_name, walk_files(folder, found)):
            match = chosen.search(path)
            found.add(_row(match, path, request, persons) if match is not None else _left_out(path, others))
        return found.listing(folder)


def _patterns(form: Form) -> list[re.Pattern[str]]:
    return [compile_name_pattern(text, "the layout") for text in form.variants.values() or [form.pattern]]


def _row(match: re.Match[str], path: str, request: ReadRequest, persons: dict[str, str]) -> RawRow | Problem:
    groups = {name: text or "" for name, text in match.groupdict().items()}
    split = canonical_split(groups["split"], request.splits) if groups.get("split") else ""
    detail = "" if is_plain(path) else NOT_PLAIN
    if split is None:
        detail = f"unknown split {groups['split']!r}"
    if detail or split is None:
        return Problem(Place(printable(path)), path, groups["label"], ProblemReason.BAD_ROW, detail)
    subject = groups.get("subject", "")
    # Case does not matter in the patterns: AF01 and af01 are one person, spelt as first seen.
    return RawRow(path, groups["label"], Place(path), split, persons.setdefault(subject.casefold(), subject))


def _left_out(path: str, patterns: list[re.Pattern[str]]) -> Problem:
    place = Place(printable(path))
    match = next(filter(None, (pattern.search(path) for pattern in patterns)), None)
    if match is None:
        return Problem(place, path, "", ProblemReason.UNLISTED_FILE, "the name does not tell a label")
    return Problem(place, path, match["label"], ProblemReason.NOT_CHOSEN, "belongs to another variant")


register_reader("names", NamesReader())
