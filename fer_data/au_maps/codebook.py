"""Codebooks: the action units of each expression, and the place on the face where each unit acts.

A codebook is a TOML file (see ``fer_data/codebooks/default.toml`` for the annotated schema). ``regions = "default"``
takes the kind and every ``[[au]]`` of that built-in codebook; the file's own ``[[au]]`` entries then replace or add.
The digest, taken of the content after that, is stored in everything drawn with a codebook: figures from different
codebooks are not comparable.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from aupipe.fer_data import typed
from aupipe.fer_data.action_units.modes import WIDTH
from aupipe.fer_data.au_maps.shapes import SHAPES, Region, Shape
from aupipe.fer_data.errors import CodebookError, paragraph, unknown_name
from aupipe.fer_data.files import digest
from aupipe.fer_data.typed import UnreadableTextError
from aupipe.fer_display.tables import aligned

SCHEMA = 1
MALFORMED = (KeyError, TypeError, ValueError, AttributeError, OverflowError)
"""What comes of values that are not of the declared kind."""
_TEXTS = ("name", "kind", "description", "source")


@dataclass(frozen=True)
class ActionUnit:
    """A FACS action unit and the shapes that its region is made of."""

    number: int
    name: str
    shapes: tuple[Shape, ...] = ()

    def of_kind(self, kind: str) -> tuple[Shape, ...]:
        """Return its shapes of one kind: those that a codebook of this kind draws."""
        return tuple(shape for shape in self.shapes if shape.kind == kind)


@dataclass(frozen=True)
class Codebook:
    """Expressions -> {AU number: weight}, AU number -> region.

    ``kind`` names what regions are made of (:mod:`aupipe.fer_data.au_maps.shapes`): ``gaussian`` or ``ellipse``.
    ``content`` is complete: what ``regions`` names is written out. ``version`` counts the changes of a codebook.
    """

    name: str
    kind: str
    description: str
    source: str
    action_units: Mapping[int, ActionUnit]
    expressions: Mapping[str, Mapping[int, float]]
    content: Mapping[str, Any]
    version: int = 1

    @property
    def digest(self) -> str:
        """SHA-256 of the parsed content: comments and layout of the file do not matter."""
        return digest(self.content)

    def regions(self, weights: Mapping[int, float]) -> tuple[Region, ...]:
        """List the shapes of the given AUs, with the AUs' weights."""
        return tuple(
            Region(shape, row, weight)
            for row, (number, weight) in enumerate(weights.items())
            for shape in self.action_units[number].of_kind(self.kind)
        )

    def has_map(self, expression: str) -> bool:
        """Tell whether the expression has action units in this codebook (neutral has none)."""
        return bool(self.expressions.get(expression))

    def mapped_expressions(self) -> tuple[str, ...]:
        """List the expressions that have a map, sorted."""
        return tuple(sorted(name for name in self.expressions if self.has_map(name)))


def builtin_codebooks() -> list[str]:
    """List the names of the codebooks that ship with the package."""
    return sorted(
        entry.name.removesuffix(".toml")
        for entry in resources.files("aupipe.fer_data.au_maps").joinpath("codebooks").iterdir()
        if entry.name.endswith(".toml")
    )


def load_codebook(name_or_path: str | os.PathLike[str]) -> Codebook:
    """Load a codebook: the action units of each expression, and the place on the face where each acts.

    Args:
        name_or_path: ``default``, ``closed_anger``, ``ckplus``, ``du2014``, ``emfacs``, ``reference``, or a TOML file.

    Returns:
        The codebook, checked and complete.

    Raises:
        CodebookError: There is none of that name, or the file is malformed.

    Example:
        >>> codebook = aupipe.load_codebook("default")
        >>> dict(codebook.expressions["happiness"])
        {6: 1.0, 12: 1.0, 25: 1.0}
    """
    name = os.fspath(name_or_path)
    return parse_codebook(codebook_text(name), name)


def codebook_text(name_or_path: str) -> str:
    """Return the TOML text of a built-in codebook, or of a file whose name ends in ``.toml``.

    Raises :class:`CodebookError`.
    """
    if name_or_path.endswith(".toml"):
        path = Path(name_or_path)
        if not path.is_file():
            raise CodebookError(paragraph(f"The codebook file {path} does not exist."))
        try:
            return path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            got = f"the byte {error.object[error.start]:#x} in place {error.start + 1}"
            fix = "Save it as UTF-8."
            raise CodebookError(paragraph("A codebook is not UTF-8 text.", where=path, got=got, fix=fix)) from error
    if name_or_path not in builtin_codebooks():
        raise CodebookError(unknown_name("codebook", name_or_path, [*builtin_codebooks(), "a path ending in .toml"]))
    return resources.files("aupipe.fer_data.au_maps").joinpath("codebooks", f"{name_or_path}.toml").read_text("utf-8")


def parse_codebook(text: str, where: str) -> Codebook:
    """Parse and check a codebook's TOML text.

    Raises :class:`CodebookError` naming ``where``.
    """
    codebook = codebook_from_dict(parse_toml(text, where), where)
    if found := slips(codebook):
        raise CodebookError(paragraph("A codebook has a slip.", where=where, got="; ".join(what for _, what in found)))
    return codebook


def parse_toml(text: str, where: str) -> dict[str, Any]:
    """Parse TOML text to a dictionary, ``regions`` written out.

    Raises :class:`CodebookError` naming ``where``.
    """
    try:
        content = typed.parse_toml(text)
    except UnreadableTextError as error:
        fix = (
            "Texts stand in quotes, lists in [ ], weights in { }: `aupipe codebook check --help` shows six lines of it."
        )
        raise CodebookError(paragraph("A codebook is not valid TOML.", where=where, got=error, fix=fix)) from error
    return _with_regions(content, where)


def _with_regions(content: dict[str, Any], where: str) -> dict[str, Any]:
    """Return the content with the kind and the AUs of the codebook that ``regions`` names."""
    if "regions" not in content:
        return content
    base = content["regions"]
    if base not in builtin_codebooks():
        raise CodebookError(
            paragraph(unknown_name("codebook to take regions from", str(base), builtin_codebooks()), where=where)
        )
    shared = parse_toml(codebook_text(base), base)
    if content.get("kind", shared["kind"]) != shared["kind"]:
        raise CodebookError(
            paragraph(
                f"A codebook of another kind cannot take its regions from {base!r}.",
                where=where,
                expected=f"kind = {shared['kind']!r}, or no kind",
                got=content["kind"],
            )
        )
    own = content.get("au", [])
    if not (isinstance(own, list) and all(isinstance(entry, dict) for entry in own)):
        raise CodebookError(paragraph("A codebook's `au` is not a list of tables.", where=where, got=own))
    replaced = [_plain_number(entry.get("number")) for entry in own]
    action_units = [*(entry for entry in shared["au"] if entry["number"] not in replaced), *own]
    rest = {key: value for key, value in content.items() if key != "regions"}
    return {**rest, "kind": shared["kind"], "au": action_units}


def codebook_from_dict(content: Mapping[str, Any], where: str) -> Codebook:
    """Build a codebook from its complete content (as stored in a store's index)."""
    try:
        if content["schema"] != SCHEMA:
            raise CodebookError(
                paragraph("A codebook has another schema.", where=where, expected=SCHEMA, got=content["schema"])
            )
        header = typed.convert({key: content[key] for key in content if key in _TEXTS}, dict[str, str])
        action_units = [parse_action_unit(entry, where) for entry in content["au"]]
        expressions = {name: parse_weights(aus) for name, aus in content["expressions"].items()}
        codebook = Codebook(
            name=header["name"],
            kind=header["kind"],
            description=header.get("description", ""),
            source=header.get("source", ""),
            action_units={one.number: one for one in action_units},
            expressions=expressions,
            content=content,
            version=int(content.get("version", 1)),
        )
    except MALFORMED as error:
        if isinstance(error, CodebookError):
            raise
        raise CodebookError(
            paragraph(
                "A codebook lacks a key or has one of the wrong type.",
                where=where,
                got=f"no key {error}" if isinstance(error, KeyError) else error,
                fix="Compare with `aupipe codebook show default`.",
            )
        ) from error
    _check(codebook, len(action_units), where)
    try:
        digest(content)
    except (TypeError, ValueError) as error:  # a date or a NaN, in a key that nothing reads
        raise CodebookError(
            paragraph("A codebook holds a value that has no digest.", where=where, got=error)
        ) from error
    return codebook


def parse_weights(aus: Any) -> dict[int, float]:
    """Parse AU numbers and their weights: from ``[6, "AU12"]`` or ``{"6" = 0.51, AU12 = 1.0}``."""
    if not isinstance(aus, Mapping | list | tuple):
        raise TypeError(f"{aus!r} is no list of AUs, such as [6, 12], and no table of weights")
    pairs = aus.items() if isinstance(aus, Mapping) else ((au, 1.0) for au in aus)
    weights: dict[int, float] = {}
    for au, weight in pairs:
        number = _whole(au)
        if number in weights:
            raise ValueError(f"AU {number} is named twice")
        if isinstance(weight, bool) or not isinstance(weight, int | float):
            raise TypeError(f"the weight of AU {number} is {weight!r}, not a number above 0 and up to 1")
        weights[number] = float(weight)
    return weights


def _plain_number(number: Any) -> Any:
    """Read ``"6"`` and ``"AU6"`` as 6; anything else is left as it is."""
    said = isinstance(number, str) and re.fullmatch(r"(?:AU[ _]?)?(\d{1,3})", number.strip(), re.IGNORECASE)
    return int(said[1]) if said else number


def _whole(number: Any) -> int:
    """The number of an AU, which is no 6.7, date or truth value; ``6``, ``"6"`` and ``"AU6"`` are the same."""
    number = _plain_number(number)
    if isinstance(number, bool) or not isinstance(number, int):
        raise TypeError(f'{number!r} is not the number of an AU, such as 6, "6" or "AU6"')
    return number


def parse_action_unit(entry: Mapping[str, Any], where: str) -> ActionUnit:
    """Parse one ``[[au]]`` entry.

    Raises:
        CodebookError: A key is unknown.
        KeyError: A key is absent.
        TypeError: A value is of another type.
        ValueError: A value is impossible.
    """
    if not isinstance(entry, Mapping):
        raise TypeError(f"{entry!r} is no table")
    known = {"number", "name", *(shape.key for shape in SHAPES.values())}
    if unknown := set(entry) - known:
        raise CodebookError(
            paragraph(
                f"AU {entry.get('number')} has an unknown key.",
                where=where,
                expected=sorted(known),
                got=sorted(unknown),
            )
        )
    return ActionUnit(
        number=_whole(entry["number"]),
        name=str(entry["name"]),
        shapes=tuple(shape.parse(table) for shape in SHAPES.values() for table in entry.get(shape.key, ())),
    )


def _check(codebook: Codebook, described: int, where: str) -> None:
    problems = [] if described == len(codebook.action_units) else ["an AU number appears twice"]
    problems += [problem for _, problem in contradictions(codebook)]
    if problems:
        raise CodebookError(paragraph("A codebook contradicts itself.", where=where, got="; ".join(problems)))


def contradictions(codebook: Codebook) -> list[tuple[str, str]]:
    """List all that is wrong with a codebook that could be read: pairs of place and problem."""
    found = []
    known_kind = codebook.kind in list(SHAPES)
    if not known_kind:
        found.append(("kind", f"kind is {codebook.kind!r}. {unknown_name('kind', codebook.kind, sorted(SHAPES))}"))
    for name, aus in codebook.expressions.items():
        place = f"[expressions] {name}"
        known = codebook.action_units
        found += [(place, f"{name} names AU {au}, which is not described") for au in aus if au not in known]
        found += [(place, f"{name}: weight of AU {au} is not in (0, 1]") for au, w in aus.items() if not 0 < w <= 1]
    for action_unit in codebook.action_units.values():
        place = f"[[au]] number = {action_unit.number}"
        if not 0 <= action_unit.number < WIDTH:
            found.append((place, f"AU {action_unit.number} is no number of FACS, which end at {WIDTH - 1}"))
        if known_kind and not action_unit.of_kind(codebook.kind):
            found.append((place, f"AU {action_unit.number} has no {codebook.kind}"))
        found += [
            (place, f"AU {action_unit.number}: {problem}")
            for shape in action_unit.shapes
            for problem in shape.problems()
        ]
    return found


def slips(codebook: Codebook) -> list[tuple[str, str]]:
    """List what a codebook must not say any more, though stores were built with such: pairs of place and problem."""
    return [
        (f"[[au]] number = {action_unit.number}", f"AU {action_unit.number}: {slip}")
        for action_unit in codebook.action_units.values()
        for shape in action_unit.shapes
        for slip in shape.slips()
    ]


def describe(codebook: Codebook) -> list[str]:
    """Describe the codebook in lines of text: expressions with their AUs, then every AU with its regions."""
    title = f"codebook {codebook.name} ({codebook.kind})  version {codebook.version}"
    lines = [f"{title}  digest {codebook.digest[:16]}", codebook.description]
    lines += [f"source: {codebook.source}", ""]
    rows = []
    for name, weights in codebook.expressions.items():
        units = "  ".join(f"AU{au}" + (f" ({weight:g})" if weight != 1 else "") for au, weight in weights.items())
        rows.append((name, units or "none: no map"))
    lines += aligned(rows, indent=2)
    lines.append("")
    for action_unit in codebook.action_units.values():
        region = SHAPES[codebook.kind].describe(action_unit.of_kind(codebook.kind))
        lines.append(f"  AU{action_unit.number:<4}{action_unit.name:<24}{region}")
    return lines
