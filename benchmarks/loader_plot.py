"""The figure of what ``loader.py`` measured and saved: bars of each way's best setting, raw pixels beside JPEG.

Run it: python benchmarks/loader_plot.py results.json docs/figures/loader.png
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
from matplotlib import pyplot
from matplotlib.axes import Axes

KINDS = {"raw": "raw pixels", "jpeg": "JPEG"}
CUTS = {False: "whole images", True: "crop + flip"}
COLOURS = {(True, False): "#1b6ca8", (True, True): "#8fbfe0", (False, False): "#8a8a8a", (False, True): "#c8c8c8"}
"""By whether the way is this project's, and whether it crops."""


def best_rates(rows: list[dict[str, Any]], kind: str) -> dict[str, dict[bool, tuple[float, int]]]:
    """Per way and crop the highest images per second, and the number of workers that gave it."""
    best: dict[str, dict[bool, tuple[float, int]]] = {}
    for row in rows:
        if row["kind"] == kind:
            rates = best.setdefault(row["way"].removesuffix(f" {kind}").replace("ours", "aupipe"), {})
            rates[row["crop_flip"]] = max(
                rates.get(row["crop_flip"], (0.0, 0)), (row["images_per_second"], row["workers"])
            )
    return dict(sorted(best.items(), key=lambda item: max(item[1].values())))


def draw(axes: Axes, rows: list[dict[str, Any]], kind: str) -> int:
    """Bars of one kind, the fastest on top; their number."""
    best = best_rates(rows, kind)
    for place, (way, rates) in enumerate(best.items()):
        for cut, (rate, workers) in rates.items():
            height = 0.8 / len(rates)
            at = place + (0.2 - 0.4 * cut if len(rates) == 2 else 0)
            axes.barh(at, rate, height, color=COLOURS[way.startswith("aupipe"), cut])
            axes.text(rate, at, f" {rate:,.0f} ({workers})", va="center", fontsize=7)
    axes.set_yticks(range(len(best)), list(best))
    axes.set_title(KINDS[kind], fontsize=10)
    axes.margins(x=0.18)
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    return len(best)


def plot(result: dict[str, Any], path: Path) -> None:
    """Draw ``result``, what ``loader.py --json`` prints, into an image file."""
    rows = result["measured"]
    kinds = [kind for kind in KINDS if any(row["kind"] == kind for row in rows)]
    counts = [len(best_rates(rows, kind)) for kind in kinds]
    figure, panels = pyplot.subplots(
        len(kinds), 1, figsize=(8, 0.42 * sum(counts) + 0.9 * len(kinds) + 0.6), squeeze=False,
        height_ratios=counts, layout="constrained",
    )  # fmt: skip
    for axes, kind in zip(panels[:, 0], kinds, strict=True):
        draw(axes, rows, kind)
    panels[-1, 0].set_xlabel("images per second at the best number of workers or threads, which is in brackets")
    marks = [pyplot.Rectangle((0, 0), 1, 1, color=COLOURS[True, cut]) for cut in CUTS]
    panels[0, 0].legend(marks, list(CUTS.values()), loc="lower right", frameon=False)
    figure.savefig(path, dpi=150, metadata={"Software": None})


def main() -> None:
    """Draw saved results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("figure", type=Path)
    options = parser.parse_args()
    plot(json.loads(options.results.read_text(encoding="utf-8")), options.figure)


if __name__ == "__main__":
    main()
