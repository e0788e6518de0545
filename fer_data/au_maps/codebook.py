"""Codebooks: which action units belong to an expression, and where on the face each unit acts.

A codebook is a TOML file (see ``fer_data/codebooks/default.toml`` for the annotated schema). ``regions = "default"``
takes the kind and every ``[[au]]`` of that built-in codebook; the file's own ``[[au]]`` entries then replace or add.
The digest, taken of the content after that, is stored in everything drawn with a codebook: figures from different
codebooks are not comparable.
"""

from __future__ import annotations

import math
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from aupipe.fer_data.errors import CodebookError, paragraph, unknown_name
from aupipe.fer_data.files import digest
from aupipe.fer_data.geometry import FLIP_68

SCHEMA = 1

Length = float | str | Mapping[str, Any]
"""Pixels, a fraction such as ``"h/10"``, or a landmark span such as ``{"span": [36, 39], "zero": 5, "plus": 10}``."""


@dataclass(frozen=True)
class Gaussian:
    """An anisotropic Gaussian: offset and sigmas in inter-ocular distance, along the face's own axes.

    ``out`` points away from the midline and ``up`` towards the forehead; written for the left half of the image
    when ``mirror`` is set, and then drawn on both sides.
    """

    points: tuple[int, ...]
    sigma: tuple[float, float]
    mirror: bool
    out: float = 0.0
    up: float = 0.0


@dataclass(frozen=True)
class Ellipse:
    """An axis-parallel filled ellipse in image pixels (the reference's geometry)."""

    x: tuple[int, ...]
    y: tuple[int, ...]
    half: tuple[Length, Length]
    shift: tuple[Length, Length] = (0, 0)


@dataclass(frozen=True)
class ActionUnit:
    """A FACS action unit and its region: Gaussians or ellipses, according to the codebook's kind."""

    number: int
    name: str
    gaussians: tuple[Gaussian, ...] = ()
    ellipses: tuple[Ellipse, ...] = ()


@dataclass(frozen=True)
class Codebook:
    """Expressions -> {AU number: weight}, AU number -> region.

    ``kind`` is ``gaussian`` or ``ellipse``. ``content`` is complete: what ``regions`` names is written out.
    """

    name: str
    kind: str
    description: str
    source: str
    action_units: Mapping[int, ActionUnit]
    expressions: Mapping[str, Mapping[int, float]]
    content: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """SHA-256 of the parsed content: comments and layout of the file do not matter."""
        return digest(self.content)

    def has_map(self, expression: str) -> bool:
        """Whether the expression has action units in this codebook (neutral has none)."""
        return bool(self.expressions.get(expression))

    def mapped_expressions(self) -> tuple[str, ...]:
        """Expressions that have a map, sorted."""
        return tuple(sorted(name for name in self.expressions if self.has_map(name)))


def builtin_codebooks() -> list[str]:
    """Names of the codebooks that ship with the package."""
    return sorted(
        entry.name.removesuffix(".toml")
        for entry in resources.files("aupipe.fer_data.au_maps").joinpath("codebooks").iterdir()
        if entry.name.endswith(".toml")
    )


def load_codebook(name_or_path: str | os.PathLike[str]) -> Codebook:
    """Load a codebook: which action units belong to an expression, and where on the face each acts.

    Args:
        name_or_path: ``default``, ``reference``, ``du2014``, ``emfacs``, or a TOML file.

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
    """The TOML text of a built-in codebook, or of a file whose name ends in ``.toml``.

    Raises :class:`CodebookError`.
    """
    if name_or_path.endswith(".toml"):
        path = Path(name_or_path)
        if not path.is_file():
            raise CodebookError(paragraph(f"The codebook file {path} does not exist."))
        try:
            return path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise CodebookError(paragraph("A codebook is not UTF-8 text.", where=path, got=error)) from error
    if name_or_path not in builtin_codebooks():
        raise CodebookError(unknown_name("codebook", name_or_path, [*builtin_codebooks(), "a path ending in .toml"]))
    return resources.files("aupipe.fer_data.au_maps").joinpath("codebooks", f"{name_or_path}.toml").read_text("utf-8")


def parse_codebook(text: str, where: str) -> Codebook:
    """Parse and check a codebook's TOML text.

    Raises :class:`CodebookError` naming ``where``.
    """
    return codebook_from_dict(parse_toml(text, where), where)


def parse_toml(text: str, where: str) -> dict[str, Any]:
    """The TOML text as a dictionary, ``regions`` written out.

    Raises :class:`CodebookError` naming ``where``.
    """
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise CodebookError(paragraph("A codebook is not valid TOML.", where=where, got=error)) from error
    return _with_regions(content, where)


def _with_regions(content: dict[str, Any], where: str) -> dict[str, Any]:
    """The content with the kind and the AUs of the codebook that ``regions`` names."""
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
    replaced = {entry.get("number") for entry in own}
    units = [*(entry for entry in shared["au"] if entry["number"] not in replaced), *own]
    rest = {key: value for key, value in content.items() if key != "regions"}
    return {**rest, "kind": shared["kind"], "au": units}


def codebook_from_dict(content: Mapping[str, Any], where: str) -> Codebook:
    """Build a codebook from its complete content (as stored in a store's index)."""
    try:
        if content["schema"] != SCHEMA:
            raise CodebookError(
                paragraph("A codebook has another schema.", where=where, expected=SCHEMA, got=content["schema"])
            )
        units = [parse_action_unit(entry, where) for entry in content["au"]]
        expressions = {name: parse_weights(aus) for name, aus in content["expressions"].items()}
        codebook = Codebook(
            name=content["name"],
            kind=content["kind"],
            description=content.get("description", ""),
            source=content.get("source", ""),
            action_units={unit.number: unit for unit in units},
            expressions=expressions,
            content=content,
        )
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, CodebookError):
            raise
        raise CodebookError(
            paragraph(
                "A codebook lacks a key or has one of the wrong type.",
                where=where,
                got=f"{type(error).__name__}: {error}",
                fix="Compare with `aupipe codebook show default`.",
            )
        ) from error
    _check(codebook, len(units), where)
    return codebook


def parse_weights(aus: Any) -> dict[int, float]:
    """AU number -> weight, from ``[6, 12]`` or ``{"6" = 0.51, "12" = 1.0}``."""
    pairs = aus.items() if isinstance(aus, Mapping) else ((au, 1.0) for au in aus)
    weights: dict[int, float] = {}
    for au, weight in pairs:
        if int(au) in weights:
            raise ValueError(f"AU {int(au)} is named twice")
        weights[int(au)] = float(weight)
    return weights


def parse_action_unit(entry: Mapping[str, Any], where: str) -> ActionUnit:
    """One ``[[au]]`` entry.

    Raises :class:`CodebookError` for an unknown key; KeyError, TypeError or ValueError for other slips.
    """
    known = {"number", "name", "gaussians", "ellipses"}
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
        number=int(entry["number"]),
        name=str(entry["name"]),
        gaussians=tuple(
            Gaussian(**{**shape, "points": tuple(shape["points"]), "sigma": tuple(shape["sigma"])})
            for shape in entry.get("gaussians", ())
        ),
        ellipses=tuple(
            Ellipse(tuple(shape["x"]), tuple(shape["y"]), tuple(shape["half"]), tuple(shape.get("shift", (0, 0))))
            for shape in entry.get("ellipses", ())
        ),
    )


def _check(codebook: Codebook, n_units: int, where: str) -> None:
    problems = [] if n_units == len(codebook.action_units) else ["an AU number appears twice"]
    problems += [problem for _, problem in contradictions(codebook)]
    if problems:
        raise CodebookError(paragraph("A codebook contradicts itself.", where=where, got="; ".join(problems)))


def contradictions(codebook: Codebook) -> list[tuple[str, str]]:
    """What is wrong with a codebook that could be read: pairs of place and problem."""
    found = []
    if codebook.kind not in ("gaussian", "ellipse"):
        found.append(("kind", f"kind is {codebook.kind!r}, not 'gaussian' or 'ellipse'"))
    for name, aus in codebook.expressions.items():
        place = f"[expressions] {name}"
        known = codebook.action_units
        found += [(place, f"{name} names AU {au}, which is not described") for au in aus if au not in known]
        found += [(place, f"{name}: weight of AU {au} is not in (0, 1]") for au, w in aus.items() if not 0 < w <= 1]
    for unit in codebook.action_units.values():
        place = f"[[au]] number = {unit.number}"
        if not (unit.gaussians if codebook.kind == "gaussian" else unit.ellipses):
            found.append((place, f"AU {unit.number} has no {codebook.kind}"))
        problems = [problem for shape in unit.gaussians for problem in _gaussian_problems(shape)]
        problems += [problem for shape in unit.ellipses for problem in _ellipse_problems(shape)]
        found += [(place, f"AU {unit.number}: {problem}") for problem in problems]
    return found


def _gaussian_problems(shape: Gaussian) -> list[str]:
    problems = []
    if not _are_landmarks(shape.points):
        problems.append(f"points {list(shape.points)} are not landmark numbers 0-67")
    elif not shape.mirror and ({int(FLIP_68[p]) for p in shape.points} != set(shape.points) or shape.out != 0):
        problems.append(f"points {list(shape.points)} are off the midline, so `mirror` must be true")
    if len(shape.sigma) != 2 or not all(0 < sigma < math.inf for sigma in shape.sigma):
        problems.append(f"sigma {list(shape.sigma)} is not two positive numbers")
    if not (math.isfinite(shape.out) and math.isfinite(shape.up)):
        problems.append(f"the offset out {shape.out}, up {shape.up} is not finite")
    return problems


def _ellipse_problems(shape: Ellipse) -> list[str]:
    problems = [
        f"{axis} {list(points)} are not landmark numbers 0-67"
        for axis, points in (("x", shape.x), ("y", shape.y))
        if not _are_landmarks(points)
    ]
    for key, lengths in (("half", shape.half), ("shift", shape.shift)):
        if len(lengths) != 2 or not all(_is_length(length) for length in lengths):
            problems.append(f"{key} {list(lengths)} is not two lengths (pixels, 'h/8' or a span)")
    return problems


def _are_landmarks(points: Sequence[Any]) -> bool:
    return bool(points) and all(isinstance(point, int) and 0 <= point < 68 for point in points)


def _is_length(length: Any) -> bool:
    if isinstance(length, str):
        return re.fullmatch(r"[wh]/[1-9][0-9]*", length) is not None
    if isinstance(length, Mapping):
        span, numbers = length.get("span", ()), [length.get("zero", 0), length.get("plus", 0)]
        known = set(length) <= {"span", "zero", "plus"}
        return known and len(span) == 2 and _are_landmarks(span) and all(_is_number(number) for number in numbers)
    return _is_number(length)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def describe(codebook: Codebook) -> list[str]:
    """The codebook as lines of text: expressions with their AUs, then every AU with its regions."""
    lines = [f"codebook {codebook.name} ({codebook.kind})  digest {codebook.digest[:16]}", codebook.description]
    lines += [f"source: {codebook.source}", ""]
    width = max(map(len, codebook.expressions), default=0) + 2
    for name, weights in codebook.expressions.items():
        units = "  ".join(f"AU{au}" + (f" ({weight:g})" if weight != 1 else "") for au, weight in weights.items())
        lines.append(f"  {name:<{width}}{units or 'none: no map'}")
    lines.append("")
    for unit in codebook.action_units.values():
        regions = [
            f"mean{list(shape.points)} out {shape.out:g} up {shape.up:g} sigma {shape.sigma[0]:g} x {shape.sigma[1]:g}"
            + (" and mirrored" if shape.mirror else "")
            for shape in unit.gaussians
        ] or [f"{len(unit.ellipses)} ellipse(s)"]
        lines.append(f"  AU{unit.number:<4}{unit.name:<24}{'; '.join(regions)}")
    return lines
