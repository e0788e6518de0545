"""The files of a comparison: tables for programs (CSV, JSON), a page for people (Markdown), figures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from aupipe.fer_analysis.comparison import figures
from aupipe.fer_analysis.comparison.map_comparison import MapComparison, Scoring
from aupipe.fer_analysis.comparison.scores import FIXED, SCORES
from aupipe.fer_data.files import json_bytes, write_bytes
from aupipe.fer_display.figures import png_bytes
from aupipe.fer_display.tables import csv_text, markdown_table

METHOD = f"""\
Each network has one explanation map per expression. **IoU**: the 8-bit map is binarised at Otsu's threshold t of the
whole frame (a pixel is on when its value is > t) and compared with the mask of the expression. The mean of a network is
over expressions, and only of networks that have a map for each. **Similarity**: Pearson's r of two networks' maps over
all pixels; distance 1 - r; average linkage. The overall tree uses the mean distance over the expressions. All
dendrograms share one distance axis that starts at 0. Areas, ranks and the curves are defined in
`docs/compare.md`; the fixed threshold is {FIXED} of the full range."""

PASSING = ("iou.csv", "scores.csv", "faces.csv", "dendrogram_*.png", "correlation_*.png", "maps.png")
"""What not every comparison writes."""

_Rows = tuple[list[str], list[list[str]]]
"""The header of a table and its rows."""


def write_comparison(out: Path, comparison: MapComparison, *, pictures: bool = True) -> None:
    """Write every table and figure of a comparison, each atomically.

    Args:
        out: Folder to write to.
        comparison: What to write.
        pictures: False: the tables only.
    """
    out.mkdir(parents=True, exist_ok=True)
    written = set()
    for name, data in _files(comparison, pictures):
        write_bytes(out / name, data)
        written.add(name)
    for path in [path for pattern in PASSING for path in out.glob(pattern) if path.name not in written]:
        path.unlink()  # of an earlier comparison


def _files(comparison: MapComparison, pictures: bool) -> Iterator[tuple[str, bytes]]:
    if comparison.scoring is not None:
        yield "iou.csv", csv_text(*_iou_rows(comparison, comparison.scoring)).encode()
        yield "scores.csv", csv_text(*_score_rows(comparison, comparison.scoring)).encode()
    yield "merge_heights.csv", csv_text(*_height_rows(comparison)).encode()
    for table in comparison.tables:
        yield f"{table.name}.csv", csv_text(table.header, table.rows).encode()
    yield "results.md", markdown(comparison).encode()
    yield "comparison.json", json_bytes(comparison.as_json())
    if not pictures:
        return
    longest = max((float(tree.heights[-1]) for tree in comparison.trees), default=0.0)
    for tree in comparison.trees:
        drawn = figures.draw_dendrogram(tree, max(longest * 1.05, 1e-3))
        yield f"dendrogram_{tree.name}.png", png_bytes(drawn)
        yield f"correlation_{tree.name}.png", png_bytes(figures.draw_correlations(tree))
    yield "maps.png", png_bytes(figures.draw_maps(comparison.maps, comparison.masks))


def _iou_rows(comparison: MapComparison, scoring: Scoring) -> _Rows:
    return ["network", *comparison.maps.expressions, "mean"], comparison.table(scoring.values["iou"], 6, "")


def _score_rows(comparison: MapComparison, scoring: Scoring) -> _Rows:
    header = ["network", "expression", *(part for name in SCORES for part in (name, f"{name}_chance"))]
    header += ["iou_in_face"] if scoring.in_face is not None else []
    rows = []
    for row, column in np.argwhere(comparison.maps.present):
        cells = [table[name][row, column] for name in SCORES for table in (scoring.values, scoring.chance)]
        if scoring.in_face is not None:
            cells.append(scoring.in_face[row, column])
        names = [comparison.maps.networks[row], comparison.maps.expressions[column]]
        rows.append([*names, *(f"{value:.6f}" for value in cells)])
    return header, rows


def _height_rows(comparison: MapComparison) -> _Rows:
    most = max((len(tree.heights) for tree in comparison.trees), default=0)
    header = ["expression", *(f"merge_{number}" for number in range(1, most + 1))]
    return header, [[tree.name, *(f"{height:.6f}" for height in tree.heights)] for tree in comparison.trees]


def markdown(comparison: MapComparison) -> str:
    """Write ``results.md``: what was compared, how, the tables, the controls beside them, what was left out."""
    parts = ["# Comparison of networks", *_source(comparison), "## Method", METHOD]
    if comparison.scoring is not None:
        parts += ["## IoU with the masks", _iou_table(comparison, comparison.scoring)]
        parts += _control_parts(comparison.scoring)
        parts += ["## All scores, beside chance", _score_table(comparison, comparison.scoring)]
    parts += ["## Similarity of networks", *_tree_parts(comparison)]
    for table in comparison.tables:
        cells = [[cell or "-" for cell in row] for row in table.rows]
        parts += [f"## {table.title}", markdown_table(table.header, cells)]
    if comparison.maps.left_out:
        rows = [[one.what, one.expression or "-", one.reason] for one in comparison.maps.left_out]
        parts += ["## Left out", markdown_table(["what", "expression", "reason"], rows)]
    return "\n\n".join(parts) + "\n"


def _source(comparison: MapComparison) -> list[str]:
    lines = [f"- {topic}: {text}" for topic, text in comparison.source.items()]
    lines += [f"- note: {note}" for note in comparison.notes]
    return ["\n".join(lines)] if lines else []


def _iou_table(comparison: MapComparison, scoring: Scoring) -> str:
    maps, rows = comparison.maps, comparison.table(scoring.values["iou"], 4, "-")
    for row, cells in enumerate(rows):
        p = scoring.p_values.get(maps.networks[row])
        in_face = None if scoring.in_face is None else comparison.mean(scoring.in_face, row)
        cells += ["-" if value is None else f"{value:.{digits}f}" for value, digits in ((in_face, 4), (p, 2))]
    return markdown_table(["network", *maps.expressions, "mean", "mean in face", "p"], rows) + (
        "\n\np: share of all assignments of masks to expressions that score at least as well as the true one."
    )


def _control_parts(scoring: Scoring) -> list[str]:
    c = scoring.controls
    if c is None:
        return ["No network has a map for every expression, so there is no mean to compare with controls."]
    test = c.permutation
    rows = [
        ["mean IoU of the networks", f"{c.mean_iou:.4f}{c.between(4)}"],
        ["a map that is on everywhere", f"{c.all_ones:.4f}"],
        [f"fixed threshold {FIXED} in place of Otsu's", f"{c.fixed_threshold:.4f}"],
        ["as many pixels as the mask has", f"{c.area_matched:.4f}"],
        ["chance, areas of these sizes", f"{c.chance:.4f}"],
        ["masks of the other expressions", "-" if c.wrong_masks is None else f"{c.wrong_masks:.4f}"],
        [f"best of {test.orders:,} assignments of masks to expressions", f"{test.best:.4f}"],
        ["share of assignments as good as the true one (p)", f"{test.p:.2f}"],
    ]
    text = f"Means over {c.networks} networks with every expression; the interval resamples networks."
    return ["## Controls", text, markdown_table(["", "IoU"], rows)]


def _score_table(comparison: MapComparison, scoring: Scoring) -> str:
    if not comparison.maps.present.any():
        return ""
    rows = []
    for name, score in SCORES.items():
        mean, chance = (_present_mean(comparison, table[name]) for table in (scoring.values, scoring.chance))
        rows.append([f"`{name}`", f"{mean:.4f}", f"{chance:.4f}", score.text])
    return markdown_table(["score", "mean", "chance", "meaning"], rows)


def _present_mean(comparison: MapComparison, table: Float64[np.ndarray, "n e"]) -> float:
    return float(table[comparison.maps.present].mean())


def _tree_parts(comparison: MapComparison) -> list[str]:
    if not comparison.trees:
        return ["It takes two networks with maps of the same expression."]
    rows = []
    for tree in comparison.trees:
        clusters = " / ".join(", ".join(side) for side in tree.two_clusters())
        rows.append([tree.name, " ".join(f"{height:.3f}" for height in tree.heights), clusters])
    return [markdown_table(["expression", "merge heights", "two clusters"], rows)]
