"""The check of a codebook file: all that is wrong or odd, each finding with its place.

Loading a codebook stops at what makes it unusable. Here one slip does not hide the next, and what can be used but was
hardly meant (two AUs in one place, a lop-sided region, a region outside the crop) is said too.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from aupipe.fer_data.au_maps.codebook import (
    MALFORMED,
    SCHEMA,
    ActionUnit,
    Codebook,
    codebook_text,
    contradictions,
    parse_action_unit,
    parse_toml,
    parse_weights,
    slips,
)
from aupipe.fer_data.au_maps.heatmaps import render_aus
from aupipe.fer_data.au_maps.mean_face import mean_face
from aupipe.fer_data.au_maps.shapes import SHAPES
from aupipe.fer_data.errors import CodebookError, unknown_name
from aupipe.fer_data.files import digest
from aupipe.fer_data.manifest.labels import COMPOUND_EXPRESSIONS, EXPRESSIONS, misspelt

ERROR, WARNING = "error", "warning"
SIZE = 224
"""Regions are looked at on the mean face in a crop of this size."""

SAME_PLACE = 0.99
"""Cosine from which two regions are one and the same for every practical purpose."""

SYMMETRIC = 0.99
"""Cosine of a region with its mirror image on the mean face, below which it is lop-sided."""

FACS_NUMBERS = frozenset([1, 2, *range(4, 29), *range(30, 40), *range(41, 47)])
"""Numbers of the facial action units and descriptors of FACS; head and eye movements (51 upwards) have no region."""


@dataclass(frozen=True, slots=True)
class CodebookFinding:
    """A finding: its ``level``, ``error`` or ``warning`` (it may be meant so); ``where`` names table and entry."""

    level: str
    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.level}: {self.where}: {self.message}"


_KINDS: tuple[tuple[str, type, str], ...] = (
    ("name", str, "text in quotes"),
    ("description", str, "text in quotes"),
    ("source", str, "text in quotes"),
    ("expressions", Mapping, "a table of expressions and their AUs"),
    ("au", list, "a list of tables"),
)
"""What the parts of a codebook are."""


def check_codebook(name_or_path: str) -> list[CodebookFinding]:
    """List all findings in a built-in codebook or a TOML file, errors first.

    Raises :class:`CodebookError` when there is no such codebook.
    """
    text = codebook_text(name_or_path)
    try:
        content = parse_toml(text, name_or_path)
    except CodebookError as error:
        return [CodebookFinding(ERROR, "file", str(error))]
    return check_content(content)


def check_content(content: Mapping[str, Any]) -> list[CodebookFinding]:
    """List all findings in a codebook's complete content, errors first."""
    findings = list(_header_findings(content))
    action_units = _parsed_action_units(content.get("au"), findings)
    expressions = _parsed_expressions(content.get("expressions"), findings)
    book = Codebook(
        name=str(content.get("name")),
        kind=str(content.get("kind", "gaussian")),
        description="",
        source="",
        action_units={action_unit.number: action_unit for action_unit in action_units},
        expressions=expressions,
        content=content,
    )
    findings += [CodebookFinding(ERROR, *found) for found in (*contradictions(book), *slips(book))]
    findings += _expression_findings(book)
    findings += _region_findings(book, {finding.where for finding in findings if finding.level == ERROR})
    return sorted(dict.fromkeys(findings), key=lambda finding: finding.level != ERROR)


def _header_findings(content: Mapping[str, Any]) -> Iterator[CodebookFinding]:
    for key in ("schema", "name", "kind", "expressions", "au"):
        if key not in content:
            yield CodebookFinding(ERROR, key, f"the key {key!r} is missing")
    if content.get("schema", SCHEMA) != SCHEMA:
        yield CodebookFinding(ERROR, "schema", f"schema is {content['schema']!r}, not {SCHEMA}")
    for key, kind, words in _KINDS:
        if key in content and not isinstance(content[key], kind):
            yield CodebookFinding(ERROR, key, f"{key} is {content[key]!r}, not {words}")
    try:
        int(content.get("version", 1))
    except MALFORMED:
        yield CodebookFinding(ERROR, "version", f"version is {content['version']!r}, not a whole number")
    try:
        digest(content)
    except (TypeError, ValueError) as error:  # a date or a NaN, perhaps in a key that nothing reads
        yield CodebookFinding(ERROR, "file", f"a value has no digest: {error}")
    known = {"schema", "version", "name", "kind", "description", "source", "expressions", "au"}
    for key in sorted(set(content) - known):
        yield CodebookFinding(WARNING, key, f"the key {key!r} has no meaning")


def _parsed_action_units(entries: Any, findings: list[CodebookFinding]) -> list[ActionUnit]:
    action_units = []
    for position, entry in enumerate(entries if isinstance(entries, list) else []):
        where = f"[[au]] {position + 1}"
        if isinstance(entry, Mapping) and "number" in entry:
            where = _au_place(entry["number"])
        action_unit = _attempt(partial(parse_action_unit, entry, where), where, findings)
        if action_unit is not None:
            action_units.append(action_unit)
            if action_unit.number not in FACS_NUMBERS:
                findings.append(
                    CodebookFinding(WARNING, where, f"AU {action_unit.number} is not an action unit of FACS")
                )
    for number, count in Counter(action_unit.number for action_unit in action_units).items():
        if count > 1:
            findings.append(CodebookFinding(ERROR, _au_place(number), f"AU {number} is described {count} times"))
    return action_units


def _parsed_expressions(table: Any, findings: list[CodebookFinding]) -> dict[str, dict[int, float]]:
    expressions = {}
    for name, aus in (table if isinstance(table, Mapping) else {}).items():
        where = _expression_place(name)
        weights = _attempt(partial(parse_weights, aus), where, findings)
        if weights is not None:
            expressions[name] = weights
    return expressions


def _attempt(parse: Callable[[], Any], where: str, findings: list[CodebookFinding]) -> Any:
    """Return the result of ``parse``; None, with a finding, where it fails."""
    try:
        return parse()
    except CodebookError as error:
        findings.append(CodebookFinding(ERROR, where, str(error)))
    except KeyError as error:
        findings.append(CodebookFinding(ERROR, where, f"the key {error} is missing"))
    except MALFORMED as error:
        findings.append(CodebookFinding(ERROR, where, f"cannot be read: {error}"))
    return None


def _expression_findings(book: Codebook) -> Iterator[CodebookFinding]:
    known = [*EXPRESSIONS, *COMPOUND_EXPRESSIONS]
    for name, weights in book.expressions.items():
        if name not in known and misspelt(name):  # others are classes of the user's own
            yield CodebookFinding(WARNING, _expression_place(name), unknown_name("expression", name, known))
        if not weights and name != "neutral":
            yield CodebookFinding(WARNING, _expression_place(name), f"{name} has no AUs, so its samples have no map")
    for (a, first), (b, second) in itertools.combinations(book.expressions.items(), 2):
        if first and first == second:
            yield CodebookFinding(WARNING, _expression_place(b), f"{b} has the same AUs and weights as {a}")


def _region_findings(book: Codebook, broken: set[str]) -> Iterator[CodebookFinding]:
    """Findings from the regions of the sound AUs, drawn on the mean face."""
    if book.kind not in list(SHAPES):
        return
    face = mean_face(SIZE)
    numbers = [number for number in book.action_units if _au_place(number) not in broken]
    maps = {number: render_aus(face, {number: 1.0}, book, SIZE, SIZE) for number in numbers}
    for number, drawn in maps.items():
        where = _au_place(number)
        outside = [centre for centre in _centres(book, number) if not ((centre >= -0.5) & (centre < SIZE - 0.5)).all()]
        if outside:
            yield CodebookFinding(ERROR, where, f"AU {number} lies outside the crop on the mean face")
        elif max(drawn[0].max(), drawn[-1].max(), drawn[:, 0].max(), drawn[:, -1].max()) > 0.5:
            yield CodebookFinding(WARNING, where, f"AU {number} is cut off by the edge of the crop on the mean face")
        mirrored = cosine(drawn, drawn[:, ::-1])
        if mirrored < SYMMETRIC:
            yield CodebookFinding(
                WARNING,
                where,
                f"AU {number} is lop-sided: cosine {mirrored:.2f} with its mirror image on the mean face",
            )
    for position, b in enumerate(maps):
        twin = next((a for a in list(maps)[:position] if cosine(maps[a], maps[b]) >= SAME_PLACE), None)
        if twin is not None:
            yield CodebookFinding(WARNING, _au_place(b), f"AU {b} covers the same region as AU {twin}")


def _centres(book: Codebook, number: int) -> np.ndarray:
    """Centres ``(x, y)`` of an AU's shapes on the mean face."""
    return SHAPES[book.kind].place(book.regions({number: 1.0}), mean_face(SIZE)[None], SIZE, SIZE)[0, :, :2]


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Compute the cosine of two maps; 0 where one of them is empty."""
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(np.vdot(a, b)) / norms if norms else 0.0


def _au_place(number: Any) -> str:
    return f"[[au]] number = {number}"


def _expression_place(name: str) -> str:
    return f"[expressions] {name}"
