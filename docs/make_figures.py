"""Draw the README's picture from a finished demo: ``python docs/make_figures.py demo``."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from aupipe.fer_analysis.explanations import explain_batch
from aupipe.fer_data.shards import open_store
from aupipe.fer_demo.page import example_rows
from aupipe.fer_display.overlays import draw_points, enlarge, overlay

EXPRESSIONS = ("happiness", "surprise", "anger")
TILE = 224


def draw_overview(demo: Path, out: Path) -> None:
    """One row per expression: the photo's crop, landmarks, AU map, attention without and with AUs."""
    store = open_store(demo / "store")
    chosen = [store.index.classes.index(name) for name in EXPRESSIONS]
    rows = [example_rows(store, "test", 1)[label] for label in chosen]
    plain, guided = (explain_batch(demo / name, store, rows) for name in ("run-plain", "run-au"))
    titles = ("aligned face", "68 landmarks", "AU map", "attention without AUs", "attention with AUs")
    figure = Figure(figsize=(11, 6.9), dpi=100, layout="constrained")
    axes = figure.subplots(len(rows), len(titles))
    for number, expression in enumerate(EXPRESSIONS):
        face = enlarge(plain.images[number], TILE)
        points = (plain.landmarks[number] + 0.5) * TILE / plain.images.shape[1] - 0.5
        tiles = (
            face,
            draw_points(face, points),
            overlay(face, plain.au_maps[number]),
            overlay(face, plain.attention[number]),
            overlay(face, guided.attention[number]),
        )
        _draw_row(axes[number], tiles, titles if number == 0 else None, expression)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out)


def _draw_row(axes: np.ndarray, tiles: tuple[np.ndarray, ...], titles: tuple[str, ...] | None, label: str) -> None:
    for column, (axis, tile) in enumerate(zip(axes, tiles, strict=True)):
        axis.imshow(tile)
        axis.set_xticks([])
        axis.set_yticks([])
        axis.spines[:].set_visible(False)
        if titles is not None:
            axis.set_title(titles[column], fontsize=11)
    axes[0].set_ylabel(label, fontsize=12)


if __name__ == "__main__":
    draw_overview(Path(sys.argv[1]), Path(__file__).parent / "figures" / "overview.png")
