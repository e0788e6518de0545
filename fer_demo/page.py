"""One self-contained HTML page that shows runs side by side: figures, controls, and overlays for each expression."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from aupipe.fer_analysis.evaluation.predictions import load_metrics
from aupipe.fer_analysis.overlays import Explanation, draw_points, enlarge, explain_batch, overlay
from aupipe.fer_data.files import write_text
from aupipe.fer_data.images import encode_png
from aupipe.fer_data.shards import Store, open_store
from aupipe.fer_display.pages import data_uri, page_head
from aupipe.fer_display.tables import text_table

TILE = 160
"""Side of a picture on the page, in pixels."""

CONTROLS = (
    ("uniform", "uniform map"),
    ("centre", "centred Gaussian"),
    ("mean_map", "mean AU map"),
    ("wrong_class", "another expression's map"),
    ("ceiling", "ceiling of the last layer"),
)


def comparison_rows(runs: Mapping[str, Path]) -> list[tuple[str, str, str, str]]:
    """(name, accuracy with interval, ATT-COS of the last layer, CAM-COS) of each run, then of each control.

    The controls do not depend on a model; those of the first run are shown.
    """
    rows = []
    loaded = {label: load_metrics(run) for label, run in runs.items()}
    for label, content in loaded.items():
        low, high = content["accuracy_ci95"]
        last = max(content["att_cos"], key=int)
        accuracy = f"{content['accuracy']:.1%} ({low:.1%} – {high:.1%})"
        rows.append((label, accuracy, _figure(content["att_cos"][last]), _figure(content["cam_cos"])))
    controls = next(iter(loaded.values()))["controls"]
    rows += [(f"control: {title}", "", _figure(controls[key]), _figure(controls[key])) for key, title in CONTROLS]
    return rows


def comparison_table(runs: Mapping[str, Path]) -> str:
    """The comparison as aligned plain text."""
    rows = [("", "accuracy (95 %)", "ATT-COS", "CAM-COS"), *comparison_rows(runs)]
    return "\n".join(text_table(rows))


def write_demo_page(
    out: Path,
    store_folder: Path,
    runs: Mapping[str, Path],
    *,
    count: int = 1,
    split: str = "test",
    title: str = "aupipe demo",
) -> None:
    """Write the page: the runs compared, and ``count`` faces of each expression with every run's attention and CAM.

    No file or network is needed to view it. Raises :class:`RunError` when a run was not evaluated.
    """
    store = open_store(store_folder)
    rows = example_rows(store, split, count)
    explained = {label: explain_batch(run, store, rows, split=split) for label, run in runs.items()}
    parts = [
        page_head(title),
        _PAGE_START.format(title=html.escape(title)),
        _table(comparison_rows(runs)),
        _faces(explained),
        _PAGE_END,
    ]
    write_text(out, "\n".join(parts))


def example_rows(store: Store, split: str, count: int) -> list[int]:
    """The first ``count`` rows of each class (rows lie in hash order, so nothing was picked by hand)."""
    labels = store.split(split).labels
    return [int(row) for number in range(len(store.index.classes)) for row in np.flatnonzero(labels == number)[:count]]


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    head = "<tr><th></th><th>accuracy (95 %)</th><th>ATT-COS</th><th>CAM-COS</th></tr>"
    body = "".join(
        f'<tr class="{"control" if row[0].startswith("control") else "run"}"><th scope="row">{html.escape(row[0])}</th>'
        + "".join(f"<td>{html.escape(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table><thead>{head}</thead><tbody>{body}</tbody></table></div>'


def _faces(explained: Mapping[str, Explanation]) -> str:
    first = next(iter(explained.values()))
    return "\n".join(_face(number, explained) for number in range(len(first.label)))


def _face(number: int, explained: Mapping[str, Explanation]) -> str:
    first = next(iter(explained.values()))
    picture = enlarge(first.images[number], TILE)
    points = (first.landmarks[number] + 0.5) * TILE / first.images.shape[1] - 0.5
    target = overlay(picture, first.au_maps[number]) if first.has_map[number] else picture
    caption = "AU map" if first.has_map[number] else "no AU map: no action units"
    tiles = [_tile(picture, "face"), _tile(draw_points(target, points), f"landmarks, {caption}")]
    for kind in ("attention", "cam"):
        for label, said in explained.items():
            if (values := getattr(said, kind)) is not None:
                tiles.append(_tile(overlay(picture, values[number]), f"{'CAM' if kind == 'cam' else kind} {label}"))
    answers = "; ".join(
        f"{label}: {one.classes[one.predicted[number]]} {one.confidence[number]:.0%}"
        for label, one in explained.items()
    )
    name = html.escape(first.classes[first.label[number]])
    heading = f'<h2>{name}</h2><p class="said">{html.escape(answers)}</p>'
    return f'<section>{heading}<div class="tiles">{"".join(tiles)}</div></section>'


def _tile(image: UInt8[np.ndarray, "h w 3"], caption: str) -> str:
    text = html.escape(caption)
    return (
        f'<figure><img src="{data_uri(encode_png(image), "png")}" width="{TILE}" height="{TILE}" alt="{text}">'
        f"<figcaption>{text}</figcaption></figure>"
    )


_PAGE_START = """<body>
<h1>{title}</h1>
<p>Each training sample is a triplet: a face, its expression, and a map of the action units (AUs) that make up the
expression, drawn at the face's own landmarks. Guided training adds one term to the loss: the mean of the network's
deepest features, its <em>attention</em>, should point where the AU map points. At test time no map is used; attention
and class activation map (CAM) are the explanation.</p> <p>ATT-COS and CAM-COS are cosines with the AU map, averaged
over the expressions. A cosine means little alone: read it against the controls, which know nothing about the sample,
and against the ceiling, the best that the network's coarse grid can reach.</p>"""

_PAGE_END = """<p class="said">Overlays show positive values, scaled to their own maximum; CAMs are those of the true
expression. Faces are the first of each expression in the split, not chosen.</p>
</body>
</html>"""
