"""The page of a study: every map on one sheet, the tables, the trees, and what the figures do not say."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

from aupipe.fer_analysis.comparison import figures
from aupipe.fer_analysis.comparison.map_comparison import ExtraTable, MapComparison
from aupipe.fer_analysis.comparison.similarity import OVERALL
from aupipe.fer_data.files import write_text
from aupipe.fer_display.blocks import Block, Listing, Section, Table, Text, Wide
from aupipe.fer_display.figures import png_bytes
from aupipe.fer_display.pages import Picture, data_uri, render

PAGE = "index.html"
LIMITS = (
    "A mask says which parts of a face move in an expression; a network may use others and be right.",
    "An IoU at Otsu's threshold is read beside its controls: a map that is on everywhere, areas of the same size, and "
    "the masks of other expressions.",
    "Networks of one study share their faces and their seed: another seed would give other trees.",
)


def write_page(out: Path, comparison: MapComparison, sentence: str, failed: Mapping[str, str]) -> None:
    """Write ``index.html``."""
    tables = {table.name: table for table in comparison.tables}
    blocks: list[Block] = [
        Text(sentence, "read"),
        Section("Maps", [_maps(comparison)]),
        Section("What they recognise", [_table(tables["recognition"])]),
        Section("IoU with the masks", [_iou(comparison), *_controls(comparison)]),
        Section("How alike they are", [*_tree(comparison), _table(tables["clusters"])]),
        Section("Folds", [_table(tables["folds"])]),
        Section("Faces", [_table(tables["faces"])]),
    ]
    left = [(f"{one.what}, {one.expression}" if one.expression else one.what, one.reason)
            for one in comparison.maps.left_out]  # fmt: skip
    if failed or left:
        blocks.append(Section("Left out", [Listing([*failed.items(), *left])]))
    blocks.append(
        Section("How it was made", [Listing(list(comparison.source.items())), *map(Text, (*comparison.notes, *LIMITS))])
    )
    write_text(out / PAGE, render("report", title="Study of networks", blocks=blocks))


def _maps(comparison: MapComparison) -> Wide:
    rows, columns = comparison.maps.present.shape
    caption = "The mean explanation of each network and expression on the canonical face; the mask's outline in white."
    drawn = figures.draw_maps(comparison.maps, comparison.masks)
    return _chart(drawn, caption, f"{rows} networks by {columns} expressions: {caption}")


def _tree(comparison: MapComparison) -> list[Block]:
    trees = {tree.name: tree for tree in comparison.trees}
    if OVERALL not in trees:
        return []
    tree = trees[OVERALL]
    first, second = (", ".join(side) for side in tree.two_clusters())
    drawn = figures.draw_dendrogram(tree, max(float(tree.heights[-1]) * 1.05, 1e-3))
    caption = "Distance 1 - r of maps, mean over the expressions, average linkage."
    return [_chart(drawn, caption, f"Tree: {first} against {second}")]


def _chart(drawn: Figure, caption: str, alt: str) -> Wide:
    return Wide(Picture(data_uri(png_bytes(drawn), "png"), *drawn.canvas.get_width_height(), caption, alt), "chart")


def _iou(comparison: MapComparison) -> Block:
    if comparison.scoring is None:
        return Text("There are no masks.")
    rows = comparison.table(comparison.scoring.values["iou"], 3, "–")
    return Table(("network", *comparison.maps.expressions, "mean"), rows)


def _controls(comparison: MapComparison) -> list[Block]:
    if comparison.scoring is None or (found := comparison.scoring.controls) is None:
        return [Text("No network has a map for every expression, so there is no mean to compare with controls.")]
    return [
        Text(
            f"Mean of {found.networks} networks {found.mean_iou:.3f}{found.between(3)}. "
            f"A map that is on everywhere has {found.all_ones:.3f}, as many pixels as the mask has "
            f"{found.area_matched:.3f}, areas of these sizes by chance {found.chance:.3f}. Of all "
            f"{found.permutation.orders} ways to deal the masks to the expressions, {found.permutation.p:.0%} score at "
            "least as well as the true one."
        )
    ]


def _table(table: ExtraTable) -> Block:
    heads = [head.replace("_", " ") for head in table.header]
    return Table(heads, [[cell or "–" for cell in row] for row in table.rows], words=(0, 1))
