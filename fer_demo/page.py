"""One self-contained HTML page that shows runs side by side: figures, controls, and overlays for each expression."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from aupipe.fer_analysis.evaluation.predictions import load_metrics
from aupipe.fer_analysis.evaluation.summary import CONTROLS, WRONG_CLASS
from aupipe.fer_analysis.explanations import Explanation, explain_batch
from aupipe.fer_data.files import write_text
from aupipe.fer_data.shards import Store, open_store
from aupipe.fer_display.blocks import Section, Table, Text, Tiles
from aupipe.fer_display.overlays import draw_points, enlarge, overlay
from aupipe.fer_display.pages import png_picture, render
from aupipe.fer_display.tables import TableLine, text_table

TILE = 160
"""Side of a picture on the page, in pixels."""

PREDICTED = "predicted_map"

HEADS = ("", "accuracy (95 %)", "ATT-COS", "CAM-COS")


def comparison_rows(runs: Mapping[str, Path]) -> list[tuple[str, str, str, str]]:
    """List (name, accuracy with interval, ATT-COS of the last layer, CAM-COS) of each run, then of each control.

    All but the map of the prediction do not depend on a model; those of the first run are shown.
    """
    rows = []
    loaded = {label: load_metrics(run) for label, run in runs.items()}
    for label, content in loaded.items():
        low, high = content["accuracy_ci95"]
        last = max(content["att_cos"], key=int)
        accuracy = f"{content['accuracy']:.1%} ({low:.1%} – {high:.1%})"
        rows.append((label, accuracy, _figure(content["att_cos"][last]), _figure(content["cam_cos"])))
    first = next(iter(loaded.values()))["controls"]
    titles = {**CONTROLS, "wrong_class": WRONG_CLASS, "ceiling": "ceiling of the last layer"}
    controls = {title: first[key] for key, title in titles.items() if key != PREDICTED}
    controls |= {f"{CONTROLS[PREDICTED]}, {label}": content["controls"][PREDICTED] for label, content in loaded.items()}
    return [*rows, *((f"control: {title}", "", _figure(value), _figure(value)) for title, value in controls.items())]


def comparison_table(runs: Mapping[str, Path]) -> list[TableLine]:
    """Write the comparison as aligned plain text."""
    return text_table([HEADS, *comparison_rows(runs)])


def write_demo_page(
    out: Path,
    store_folder: Path,
    runs: Mapping[str, Path],
    *,
    count: int = 1,
    split: str = "test",
    title: str = "aupipe demo",
) -> None:
    """Write the page: the runs compared, and some faces of each expression with every run's attention and CAM.

    No file or network is needed to view it.

    Args:
        out: The page.
        store_folder: The faces.
        runs: Folders of evaluated runs by title.
        count: Faces of each expression.
        split: Where the faces are taken from.
        title: Heading.

    Raises:
        RunError: A run was not evaluated.
    """
    store = open_store(store_folder)
    rows = example_rows(store, split, count)
    explained = {label: explain_batch(run, store, rows, split=split) for label, run in runs.items()}
    table = Table(HEADS, comparison_rows(runs))
    write_text(out, render("demo", title=title, blocks=[table, *_faces(explained)]))


def example_rows(store: Store, split: str, count: int) -> list[int]:
    """Choose the first ``count`` rows of each class; rows lie in hash order, so nothing is picked by hand."""
    labels = store.split(split).labels
    return [int(row) for number in range(len(store.index.classes)) for row in np.flatnonzero(labels == number)[:count]]


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _faces(explained: Mapping[str, Explanation]) -> list[Section]:
    first = next(iter(explained.values()))
    return [_face(number, explained) for number in range(len(first.label))]


def _face(number: int, explained: Mapping[str, Explanation]) -> Section:
    first = next(iter(explained.values()))
    picture = enlarge(first.images[number], TILE)
    points = (first.landmarks[number] + 0.5) * TILE / first.images.shape[1] - 0.5
    target = overlay(picture, first.au_maps[number]) if first.has_map[number] else picture
    caption = "AU map" if first.has_map[number] else "no AU map: no action units"
    pictures = [png_picture(picture, "face"), png_picture(draw_points(target, points), f"landmarks, {caption}")]
    maps = [(f"attention {label}", said.attention) for label, said in explained.items()]
    maps += [(f"CAM {label}", said.cam) for label, said in explained.items() if said.cam is not None]
    pictures += [png_picture(overlay(picture, values[number]), title) for title, values in maps]
    answers = "; ".join(
        f"{label}: {one.classes[one.predicted[number]]} {one.confidence[number]:.0%}"
        for label, one in explained.items()
    )
    return Section(first.classes[first.label[number]], [Text(answers), Tiles(pictures, "medium")])
