"""Whether file names tell persons: photos of one person must not part across splits."""

from __future__ import annotations

import posixpath
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from aupipe.fer_data.manifest.labels import canonical_label
from aupipe.fer_data.manifest.layouts.base import canonical_split
from aupipe.fer_data.types import Sample

PATTERNS = (
    r"^([A-Za-z]{1,8}\d{1,4})[_.-]",  # S005_001_00000011, sub01-happy
    r"^[AB]([FM]\d{2})[A-Z]{2}",  # AF01ANS
    r"^([A-Z]{2})[._-][A-Z]{2}\d",  # KA.AN1.39
    r"^\d\d(?:-\d\d){5}-(\d\d)$",  # 01-01-03-01-01-01-12
    r"(?:^|/)((?i:s|subj?|subject|person|p|participant|actor|id|user|video|clip)[ _-]?\d{1,4})/",  # subject01/happy/1
    r"^(\D+?)[ _-]?\d+$",  # Ann_Lee_0001
)
"""How file names (or folders) in use tell the person, most telling first; the last is only proposed, never applied."""

NO_PERSONS = frozenset(("nan", "none", "null", "n/a", "<na>", "unknown", "?", "-1"))
"""What tables write, in some case, where they know no person: not one person of that name. ``NA`` is one of JAFFE's."""

_LOOKED_AT = 50  # before all names are


@dataclass(frozen=True, slots=True)
class PersonsInNames:
    """A pattern by which all file names may tell a person; ``of`` gives the person of each sample."""

    pattern: str
    example: str
    of: Sequence[str]

    def advice(self) -> str:
        """Write how to use the pattern, a whole sentence without its full stop."""
        return f"if {self.of[0]} in {self.example} is a person, build with --subject '{self.pattern}'"


def take_persons(samples: Sequence[Sample]) -> tuple[list[Sample], str]:
    """Take what telling file names begin with as the persons, where none is known and no split is named.

    Returns the samples, and a sentence that says so; empty where nothing was done.
    """
    found = None
    if not any(sample.subject or sample.split for sample in samples):
        found = persons_in_names(samples, PATTERNS[:-1])
    if found is None:
        return list(samples), ""
    said = f"taken as persons, so that nobody is in two splits: {len(set(found.of))} names like {found.of[0]} in"
    way = f"--subject '{found.pattern}' says the same, --subject '()' that these are none"
    taken = [replace(sample, subject=person) for sample, person in zip(samples, found.of, strict=True)]
    return taken, f"{said} {found.example}; {way}"


def persons_in_names(samples: Sequence[Sample], patterns: Sequence[str] = PATTERNS) -> PersonsInNames | None:
    """Find the first pattern that fits all names, with several persons and several images of each on average.

    None when there is no such, for example because what names begin with is their class or split.
    """
    labels = {sample.source_label.casefold() for sample in samples}
    for pattern in map(re.compile, patterns):
        if not all(person_of(sample.path, pattern) for sample in samples[:_LOOKED_AT]):
            continue
        found = [person_of(sample.path, pattern) for sample in samples]
        persons = set(found)
        if "" in persons or not 3 <= len(persons) <= len(samples) / 2:
            continue
        if not any(person.casefold() in labels or _no_person(person) for person in persons):
            return PersonsInNames(pattern.pattern, posixpath.splitext(_shown(samples[0].path, found[0]))[0], found)
    return None


def _shown(path: str, person: str) -> str:
    name = posixpath.basename(path)
    return name if person in name else path


def person_of(path: str, pattern: re.Pattern[str]) -> str:
    """Read the person off a file's name without suffix or, where that does not tell, off its whole path; else empty."""
    match = pattern.search(posixpath.splitext(posixpath.basename(path))[0]) or pattern.search(path)
    return (match[1] or "") if match is not None else ""


def _no_person(word: str) -> bool:
    return canonical_label(word) is not None or canonical_split(word, {}) is not None


def torn_persons(persons: Iterable[str], splits: Iterable[str]) -> dict[str, list[str]]:
    """Return the persons found in several splits, each with these."""
    seen = defaultdict[str, dict[str, None]](dict)
    for person, split in zip(persons, splits, strict=True):
        seen[person][split] = None
    return {person: list(found) for person, found in seen.items() if len(found) > 1}
