"""Differences between two codebooks: AUs, weights and regions, and what they do to the maps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from aupipe.fer_data.au_maps.codebook import Codebook
from aupipe.fer_data.au_maps.codebook_check import SIZE, cosine
from aupipe.fer_data.au_maps.heatmaps import render_aus
from aupipe.fer_data.au_maps.mean_face import mean_face


@dataclass(frozen=True, slots=True)
class ExpressionDiff:
    """One expression in two codebooks; ``cosine`` compares its maps on the mean face, None where one has no map."""

    expression: str
    only_a: tuple[int, ...]
    only_b: tuple[int, ...]
    weights: Mapping[int, tuple[float, float]]
    regions: tuple[int, ...]
    cosine: float | None


@dataclass(frozen=True, slots=True)
class CodebookDiff:
    """Two books compared. ``only_a``, ``only_b``: expressions of one; ``regions``: AUs drawn otherwise -> cosine."""

    a: str
    b: str
    same: bool
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    expressions: tuple[ExpressionDiff, ...]
    regions: Mapping[int, float]

    def as_json(self) -> dict[str, Any]:
        """Return the object that ``--json`` prints."""
        return asdict(self)

    def lines(self) -> list[str]:
        """Format the comparison as text."""
        if self.same:
            return [f"{self.a} and {self.b} have the same content"]
        lines = [f"A = {self.a}   B = {self.b}   cosine: between the two maps on the mean face", ""]
        lines += [_expression_line(expression) for expression in self.expressions]
        for name, only in (("A", self.only_a), ("B", self.only_b)):
            if only:
                lines.append(f"  only in {name}: {', '.join(only)}")
        if self.regions:
            lines += ["", "AUs drawn in another place or shape:"]
            lines += [f"  AU{au:<4} cosine {value:.2f}" for au, value in self.regions.items()]
        return lines


def diff_codebooks(a: Codebook, b: Codebook) -> CodebookDiff:
    """Compare two codebooks, expression by expression and AU by AU."""
    shared = [number for number in a.action_units if number in b.action_units]
    changed = [number for number in shared if a.kind != b.kind or a.action_units[number] != b.action_units[number]]
    regions = {number: _cosine(a, b, {number: 1.0}, {number: 1.0}) for number in changed}
    moved = {number: value for number, value in regions.items() if value is not None and value < 1 - 1e-9}
    return CodebookDiff(
        a=a.name,
        b=b.name,
        same=a.content == b.content,
        only_a=tuple(name for name in a.expressions if name not in b.expressions),
        only_b=tuple(name for name in b.expressions if name not in a.expressions),
        expressions=tuple(_diff_expression(a, b, name, moved) for name in a.expressions if name in b.expressions),
        regions=moved,
    )


def _diff_expression(a: Codebook, b: Codebook, name: str, moved: Mapping[int, float]) -> ExpressionDiff:
    first, second = a.expressions[name], b.expressions[name]
    both = [au for au in first if au in second]
    return ExpressionDiff(
        expression=name,
        only_a=tuple(au for au in first if au not in second),
        only_b=tuple(au for au in second if au not in first),
        weights={au: (first[au], second[au]) for au in both if first[au] != second[au]},
        regions=tuple(au for au in both if au in moved),
        cosine=_cosine(a, b, first, second),
    )


def _cosine(a: Codebook, b: Codebook, first: Mapping[int, float], second: Mapping[int, float]) -> float | None:
    if not (first and second):
        return None
    face = mean_face(SIZE)
    return cosine(render_aus(face, first, a, SIZE, SIZE), render_aus(face, second, b, SIZE, SIZE))


def _expression_line(diff: ExpressionDiff) -> str:
    parts = [f"only {book}: {_au_list(aus)}" for book, aus in (("A", diff.only_a), ("B", diff.only_b)) if aus]
    if diff.weights:
        changes = " ".join(f"AU{au} {first:g} -> {second:g}" for au, (first, second) in diff.weights.items())
        parts.append(f"weights: {changes}")
    if diff.regions:
        parts.append(f"other regions: {_au_list(diff.regions)}")
    value = "no map    " if diff.cosine is None else f"cosine {diff.cosine:.2f}"
    return f"  {diff.expression:<22}{value:<13}{'; '.join(parts) or 'the same AUs'}"


def _au_list(numbers: tuple[int, ...]) -> str:
    return " ".join(f"AU{number}" for number in numbers)
