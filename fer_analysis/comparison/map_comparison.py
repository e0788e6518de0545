"""One comparison: maps scored against masks, networks compared with one another, and the controls for both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64

from aupipe.fer_analysis.comparison.controls import Controls, assignment_test, measure_controls
from aupipe.fer_analysis.comparison.map_files import MapSet, MaskSet, match
from aupipe.fer_analysis.comparison.scores import SCORES, count_levels, otsu_iou
from aupipe.fer_analysis.comparison.similarity import Tree, grow_trees
from aupipe.fer_data.types import lines_repr
from aupipe.fer_display.tables import text_table


@dataclass(frozen=True)
class Scoring:
    """Scores of each network and expression, meaningless where the map is absent; ``chance`` beside each.

    ``in_face``: IoU where only pixels of the face count (Otsu's threshold too), None without a known face.
    ``p_values``: per network with every expression, of the test with permuted masks.
    """

    values: Mapping[str, Float64[np.ndarray, "n e"]]
    chance: Mapping[str, Float64[np.ndarray, "n e"]]
    in_face: Float64[np.ndarray, "n e"] | None
    controls: Controls | None
    p_values: Mapping[str, float]


@dataclass(frozen=True)
class ExtraTable:
    """One more table of a report: ``NAME.csv`` and a section of the page."""

    name: str
    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class MapComparison:
    """A comparison with everything that a report shows; ``scoring`` and ``masks`` are None when there were no masks.

    ``source``: what the maps and masks are, in words by topic. ``notes``: what a reader must know, and can do.
    """

    maps: MapSet
    masks: MaskSet | None
    scoring: Scoring | None
    trees: tuple[Tree, ...]
    source: Mapping[str, str] = field(default_factory=dict)
    tables: tuple[ExtraTable, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def complete(self) -> Bool[np.ndarray, "n"]:
        """Networks that have a map for every expression: only their means can be compared."""
        return np.asarray(self.maps.present.all(1))

    def mean(self, values: Float64[np.ndarray, "n e"], network: int) -> float | None:
        """Average over the expressions for a network that has them all, else None."""
        return float(values[network].mean()) if self.complete[network] else None

    def table(self, values: Float64[np.ndarray, "n e"], digits: int, missing: str) -> list[list[str]]:
        """Format a score: a row a network with its name, the score of each expression, and their mean."""
        rows = []
        for row, network in enumerate(self.maps.networks):
            there = zip(values[row], self.maps.present[row], strict=True)
            cells = [f"{value:.{digits}f}" if present else missing for value, present in there]
            mean = self.mean(values, row)
            rows.append([network, *cells, missing if mean is None else f"{mean:.{digits}f}"])
        return rows

    __repr__ = lines_repr

    def lines(self) -> list[str]:
        """Return the summary for people."""
        networks, expressions = self.maps.networks, self.maps.expressions
        lines = [f"{len(networks)} networks, {len(expressions)} expressions: {', '.join(expressions)}"]
        if self.scoring is not None:
            rows = self.table(self.scoring.values["iou"], 4, "-")
            lines += ["", *text_table([("IoU", *expressions, "mean"), *rows]), *self._empty_cells(), ""]
            if (c := self.scoring.controls) is not None:
                lines.append(
                    f"mean IoU {c.mean_iou:.4f}{c.between(4)}; beside it: all-ones map "
                    f"{c.all_ones:.4f}, fixed threshold {c.fixed_threshold:.3f}, area-matched {c.area_matched:.3f}, "
                    f"chance {c.chance:.3f}; the true masks among all {c.permutation.orders} orders: "
                    f"p = {c.permutation.p:.2f}"
                )
        for tree in self.trees:
            lines.append(f"merge heights {tree.name}: {' '.join(f'{height:.3f}' for height in tree.heights)}")
        if self.maps.left_out:
            lines.append(f"left out: {len(self.maps.left_out)} (see results.md)")
        return [*lines, *self.notes]

    def _empty_cells(self) -> list[str]:
        """Say why cells of the table are empty."""
        if self.maps.present.all():
            return []
        reasons: dict[str, list[str]] = {}
        for one in self.maps.left_out:
            if one.what in self.maps.networks and one.expression in self.maps.expressions:
                reasons.setdefault(one.reason, []).append(f"{one.what} {one.expression}")
        said = [f"-: {reason} ({', '.join(cells)})" for reason, cells in reasons.items()]
        return [*said, "-: a mean is only that of a network with every expression"]

    def as_json(self) -> dict[str, Any]:
        """Return the object that ``--json`` prints and ``comparison.json`` holds."""
        return {
            "networks": list(self.maps.networks),
            "expressions": list(self.maps.expressions),
            "source": dict(self.source),
            "scores": _scores_json(self),
            "controls": _controls_json(self.scoring.controls) if self.scoring and self.scoring.controls else None,
            "permutation_p": dict(self.scoring.p_values) if self.scoring else {},
            "merge_heights": {tree.name: tree.heights.tolist() for tree in self.trees},
            "two_clusters": {tree.name: [list(side) for side in tree.two_clusters()] for tree in self.trees},
            **{table.name: [dict(zip(table.header, row, strict=True)) for row in table.rows] for table in self.tables},
            "left_out": [
                {"what": one.what, "expression": one.expression, "reason": one.reason} for one in self.maps.left_out
            ],
        }


def _scores_json(comparison: MapComparison) -> dict[str, Any]:
    if comparison.scoring is None:
        return {}
    tables = {**comparison.scoring.values, **{f"{k}_chance": v for k, v in comparison.scoring.chance.items()}}
    if comparison.scoring.in_face is not None:
        tables["iou_in_face"] = comparison.scoring.in_face
    names, present = comparison.maps.expressions, comparison.maps.present
    return {
        network: {
            score: {name: float(table[row, at]) for at, name in enumerate(names) if present[row, at]}
            for score, table in tables.items()
        }
        for row, network in enumerate(comparison.maps.networks)
    }


def _controls_json(controls: Controls) -> dict[str, Any]:
    content = {name: value for name, value in vars(controls).items() if name != "permutation"}
    ends = None if controls.interval is None else list(controls.interval)
    return {**content, "interval": ends, "permutation": vars(controls.permutation)}


def compare_maps(
    maps: MapSet,
    masks: MaskSet | None,
    face: Bool[np.ndarray, "h w"] | None = None,
    source: Mapping[str, str] | None = None,
    tables: tuple[ExtraTable, ...] = (),
) -> MapComparison:
    """Score and compare maps.

    Args:
        maps: The maps.
        masks: What to score them against. None: they are only compared with one another.
        face: The pixels of the canonical face, for the in-face variant.
        source: What the maps and masks are, in words by topic.
        tables: More tables for the report.

    Returns:
        The comparison, restricted to the expressions that maps and masks share.

    Raises:
        UserInputError: Maps and masks do not fit each other.
    """
    scoring = None
    if masks is not None:
        maps, masks = match(maps, masks)
        scoring = score_maps(maps, masks, face)
    return MapComparison(maps, masks, scoring, grow_trees(maps), source or {}, tables)


def score_maps(maps: MapSet, masks: MaskSet, face: Bool[np.ndarray, "h w"] | None = None) -> Scoring:
    """Score every map against the mask of its expression, by every score."""
    levels = _levels(maps, masks)
    diagonal = np.arange(len(maps.expressions))
    own, present = levels[:, diagonal, diagonal], maps.present
    complete = present.all(1)
    tables = otsu_iou(levels[complete])
    return Scoring(
        values={name: _spread(score.value(own[present]), present) for name, score in SCORES.items()},
        chance={name: _spread(score.chance(own[present]), present) for name, score in SCORES.items()},
        in_face=_in_face(maps, masks, face) if face is not None else None,
        controls=measure_controls(levels[complete]) if complete.any() else None,
        p_values={
            maps.networks[row]: assignment_test(np.asarray(table)).p
            for row, table in zip(np.flatnonzero(complete), tables, strict=True)
        },
    )


def _levels(maps: MapSet, masks: MaskSet) -> Int64[np.ndarray, "n e e 2 256"]:
    counts = [count_levels(network, masks.masks) for network in maps.maps]
    return np.stack(counts)


def _in_face(maps: MapSet, masks: MaskSet, face: Bool[np.ndarray, "h w"]) -> Float64[np.ndarray, "n e"]:
    values = np.zeros(maps.present.shape)
    for row, column in np.argwhere(maps.present):
        levels = count_levels(maps.maps[row, [column]], masks.masks[[column]], face)
        values[row, column] = otsu_iou(levels)[0, 0]
    return values


def _spread(values: Float64[np.ndarray, "k"], present: Bool[np.ndarray, "n e"]) -> Float64[np.ndarray, "n e"]:
    table = np.zeros(present.shape)
    table[present] = values
    return table
