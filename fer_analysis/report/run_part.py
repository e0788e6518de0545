"""The report's part on a run: figures, curves, where it looks, its best and worst faces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from aupipe.fer_analysis.evaluation.averages import AVERAGES, read_averages
from aupipe.fer_analysis.evaluation.coded_text import coded_rows, faces_line, remarks, unit_rows
from aupipe.fer_analysis.evaluation.figures import TITLES, draw_coded
from aupipe.fer_analysis.evaluation.occluded_text import control_line, occluded_rows
from aupipe.fer_analysis.evaluation.predictions import (
    METRICS,
    PREDICTIONS,
    PredictionTable,
    load_metrics,
    read_predictions,
)
from aupipe.fer_analysis.evaluation.summary import CONTROLS
from aupipe.fer_analysis.evaluation.text import figure_rows, shown, span
from aupipe.fer_analysis.explanations import Explanation, explain_batch
from aupipe.fer_analysis.faithfulness import load_faithfulness, summary_line
from aupipe.fer_analysis.report.reading import reading
from aupipe.fer_analysis.report.store_part import SIDE
from aupipe.fer_data.shards import Store
from aupipe.fer_display.blocks import (
    Cell,
    Charts,
    Details,
    Group,
    Groups,
    HeatTable,
    Listing,
    Section,
    Table,
    Text,
    Wide,
)
from aupipe.fer_display.charts import Series, line_chart
from aupipe.fer_display.figures import png_bytes
from aupipe.fer_display.overlays import enlarge, overlay
from aupipe.fer_display.pages import Picture, data_uri, jpeg_picture
from aupipe.fer_models.training.measured_run import outdated
from aupipe.fer_models.training.run_log import read_log
from aupipe.fer_models.training.run_record import RunRecord
from aupipe.fer_models.training.selection import describe_selection


@dataclass(frozen=True)
class EvaluatedRun:
    """A run's folder with its ``metrics.json``."""

    folder: Path
    metrics: Mapping[str, Any]

    @property
    def layer(self) -> str:
        """The deepest layer, whose attention is shown."""
        layers: dict[str, float] = self.metrics["att_cos"]
        return max(layers, key=int)

    @cached_property
    def predictions(self) -> PredictionTable:
        """The table of its faces. Raises :class:`RunError` when the table is missing or another one."""
        return read_predictions(self.folder / PREDICTIONS, self.metrics["predictions_sha256"])


def run_figures(run: EvaluatedRun) -> dict[str, str]:
    """Gather the key figures of a run."""
    content = run.metrics
    low, high = content["accuracy_ci95"]
    return {
        "accuracy": f"{content['accuracy']:.1%} ({low:.1%} – {high:.1%})",
        "balanced accuracy": f"{content['balanced_accuracy']:.1%}",
        "ATT-COS": shown(content["att_cos"][run.layer]),
        "CAM-COS": shown(content["cam_cos"]),
        "faces": f"{content['n']:,} of {content['split']}",
    }


def reading_section(run: EvaluatedRun, store: Store | None) -> Section:
    """Say in sentences what the figures show."""
    content, command = load_faithfulness(run.folder), f"`aupipe faithfulness {run.folder}`"
    if content is None:
        faithful = f"Whether the maps show what the decision depends on was not measured: {command}."
    elif reason := outdated(run.folder, content, store):
        faithful = f"The faithfulness figures are not of this run as it is now: {reason}. Use {command} again."
    else:
        faithful = summary_line(content)
    return Section("What this says", [Text(one, "read") for one in (*reading(run.metrics), faithful)])


def controls_section(run: EvaluatedRun) -> Section:
    """Show every map beside the controls, which know nothing about the sample."""
    heads, *rows = figure_rows(run.metrics)
    width = len(heads)
    intervals = run.metrics["intervals"]
    said = (
        "Cosines with the face's AU map, macro means over the expressions. normalised: 0 an even map, 1 the best a map "
        "of that size can reach. specificity: less the cosine with the other expressions' maps on the same face. "
        "pointing, energy, pixel AP: against the AU region; chance is its share of the picture."
    )
    ranges = (
        f"95 % by bootstrap: ATT-COS {span(intervals['att_cos'])}, specificity {span(intervals['att_specificity'])}; "
        f"CAM-COS {span(intervals['cam_cos'])}, specificity {span(intervals['cam_specificity'])}."
    )
    full = [[*row, *[""] * (width - len(row))] for row in rows]
    return Section("Where it looks", [Table(heads, full), Text(ranges), Text(said)])


def occluded_sections(run: EvaluatedRun) -> list[Section]:
    """Show what hiding parts of the faces costs.

    Returns:
        The section; none where it was not measured.
    """
    if not run.metrics.get("occluded"):
        return []
    heads, *rows = occluded_rows(run.metrics)
    said = f"The eyes with the brows, and the mouth, under a box of the mean colour; {control_line(run.metrics)}."
    return [Section("Parts of the face hidden", [Table(heads, rows), Text(said)])]


def coded_sections(run: EvaluatedRun) -> list[Section]:
    """Show the maps beside the action units that were coded on the faces, and what these are read against.

    Returns:
        The section; none where no codes were given.
    """
    coded = run.metrics.get("coded")
    if not coded:
        return []
    (heads, *rows), (unit_heads, *units) = coded_rows(coded), unit_rows(coded)
    said = [f"{text[0].upper()}{text[1:]}" for text in (faces_line(coded), *remarks(coded))]
    picture = draw_coded(coded)
    width, height = (round(side * picture.dpi) for side in picture.get_size_inches())
    title = "Areas under the curve within a class"
    chart = Wide(
        Picture(data_uri(png_bytes(picture), "png"), width, height, title, f"{title}: as in the table"), "chart"
    )
    by_unit = [Details("By action unit", [Table(unit_heads, units)])] if units else []
    return [Section("Coded action units", [Table(heads, rows), chart, *by_unit, *map(Text, said)])]


def curves_section(folder: Path) -> Section:
    """Draw training and validation over the epochs."""
    rows = read_log(folder)
    if not rows:
        return Section("Training", [Text("The run has no log yet.", "notice")])
    epochs = [row["epoch"] for row in rows]
    panels = (
        ("Cross-entropy", (("training", "train_ce"), ("validation", "val_ce"))),
        ("Alignment: 1 − cosine", (("training", "train_align"), ("validation", "val_align"))),
        ("Validation accuracy, %", (("accuracy", "val_accuracy"), ("balanced", "val_balanced_accuracy"))),
    )
    drawn = [
        line_chart(title, epochs, [Series(name, _numbers(rows, key, percent="%" in title)) for name, key in series])
        for title, series in panels
    ]
    return Section("Training", [Charts(drawn)])


def _numbers(rows: Sequence[Mapping[str, Any]], key: str, *, percent: bool) -> list[float]:
    return [100 * row[key] if percent else row[key] for row in rows]


def confusion_section(run: EvaluatedRun) -> Section:
    """Show the true by the predicted expression, coloured by the share of the row."""
    classes, matrix = run.metrics["confusion"]["classes"], run.metrics["confusion"]["matrix"]
    rows = [
        (f"{name} ({sum(counts)})", [Cell(str(count), count / max(sum(counts), 1)) for count in counts])
        for name, counts in zip(classes, matrix, strict=True)
    ]
    said = "Rows: true expression; columns: predicted; coloured by share of the row."
    return Section("Confusion", [HeatTable(("true", *classes), rows), Text(said)])


def cosine_section(run: EvaluatedRun) -> Section:
    """Show the mean cosine by expression and map: every layer's attention, CAM, controls."""
    matrix = run.metrics["cosine_matrix"]
    if not matrix["classes"]:
        return Section("Cosines by expression", [Text("No face has an AU map.")])
    titles = [f"layer {name}" if name.isdecimal() else TITLES[name] for name in matrix["maps"]]
    rows = [
        (f"{name} ({count})", [Cell(shown(value), value) for value in values])
        for name, count, values in zip(matrix["classes"], matrix["counts"], matrix["values"], strict=True)
    ]
    controls = sum(name in CONTROLS for name in matrix["maps"])
    said = "Mean cosine with the AU map, by true expression; the colour runs from 0 to 1. "
    said += f"The last {controls} are controls."
    return Section("Cosines by expression", [HeatTable(("expression", *titles), rows), Text(said)])


def average_map_sections(run: EvaluatedRun) -> list[Section]:
    """Draw average attention and CAM of each expression beside its average AU map, over the average face.

    Returns:
        The section; none without the evaluation's averages.
    """
    path = run.folder / AVERAGES
    if not path.is_file():
        return []
    groups, classes = [], run.metrics["confusion"]["classes"]
    averages = read_averages(path, classes)
    maps = {"attention": averages.attention}
    maps |= {"CAM": averages.maps["cam"]} if "cam" in averages.maps else {}
    for number in np.flatnonzero(averages.count).tolist():
        face = enlarge(np.asarray(np.rint(averages.face[number] * 255), np.uint8), SIDE)
        tiles = [jpeg_picture(face, "average face")]
        if averages.count_with_map[number]:
            tiles.append(jpeg_picture(overlay(face, averages.au_map[number]), "AU map"))
        tiles += [jpeg_picture(overlay(face, values[number]), name) for name, values in maps.items()]
        groups.append(Group(classes[number], f"n = {averages.count[number]}", tiles))
    said = (
        "Faces are aligned, so pixels correspond. Each face's map is scaled to its own maximum and added; the sum is "
        "divided by the number of faces of that expression. CAM: of the true expression."
    )
    return [Section("Average maps", [Text(said), Groups(groups)])]


@dataclass(frozen=True)
class Choice:
    """Faces of the evaluation chosen by a rule; ``rows``: their places in ``predictions.csv``."""

    title: str
    rows: tuple[int, ...]


def chosen_faces(run: EvaluatedRun, count: int) -> list[Choice]:
    """Choose the best and worst faces by cosine of the attention, and the most confident mistakes; best first."""
    table = run.predictions
    mapped = np.flatnonzero(table.flags("has_map"))
    cosines = table.numbers(f"att{run.layer}_cos", table.flags("has_map"))
    order = mapped[np.argsort(-cosines, kind="stable")].tolist()
    half = -(-len(order) // 2)  # of few faces, none is on both ends
    wrong = np.flatnonzero(~table.flags("correct"))
    confident = wrong[np.argsort(-table.numbers("confidence", ~table.flags("correct")), kind="stable")].tolist()
    return [
        Choice("Attention closest to the AU map", tuple(order[:half][:count])),
        Choice("Attention farthest from the AU map", tuple(order[half:][::-1][:count])),
        Choice("Most confident mistakes", tuple(confident[:count])),
    ]


def faces_section(run: EvaluatedRun, store: Store, count: int, device: str) -> Section:
    """Show the chosen faces: AU map, attention, CAM of the true expression."""
    place = {sample: row for row, sample in enumerate(store.split(run.metrics["split"]).sample_ids)}
    choices = [choice for choice in chosen_faces(run, count) if choice.rows]
    chosen = sorted({number for choice in choices for number in choice.rows})
    if not chosen:
        return Section("Faces")
    rows = [place[run.predictions.rows[number]["sample_id"]] for number in chosen]
    said = explain_batch(run.folder, store, rows, split=run.metrics["split"], device=device)
    shown = {number: _face(run, said, at, run.predictions.rows[number]) for at, number in enumerate(chosen)}
    return Section("Faces", [Groups([shown[number] for number in choice.rows], choice.title) for choice in choices])


def _face(run: EvaluatedRun, said: Explanation, at: int, row: Mapping[str, str]) -> Group:
    """Draw the face at a place of the explained ones; ``row``: its line of ``predictions.csv``."""
    face = enlarge(said.images[at], SIDE)
    tiles = [jpeg_picture(face, "face")]
    if said.has_map[at]:
        tiles.append(jpeg_picture(overlay(face, said.au_maps[at]), "AU map"))
    cosines = (row[f"att{run.layer}_cos"], row.get("cam_cos", ""))
    for name, values, cosine in zip(("attention", "CAM"), (said.attention, said.cam), cosines, strict=True):
        if values is not None:
            known = f", cosine {float(cosine):.2f}" if cosine else ""
            tiles.append(jpeg_picture(overlay(face, values[at]), f"{name}{known}"))
    answer = f"{row['label']}, taken for {row['predicted']}" if row["correct"] == "0" else row["label"]
    return Group(f"{answer} ({float(row['confidence']):.0%})", row["sample_id"], tiles)


def run_provenance_section(run_folder: Path, record: RunRecord, metrics: Mapping[str, Any] | None) -> Section:
    """List what the run was trained on and how, and what was evaluated."""
    about = [
        ("trained on the store", record.store_digest),
        ("codebook", f"{record.codebook}, {record.codebook_digest}"),
        ("backbone, method", f"{record.config.backbone}, {record.config.method}"),
        ("first weights", ", ".join(record.initial_weights.values()) or "not recorded"),
        ("weight of the alignment", f"{record.config.align_weight:g}, layers {record.config.align_layers}"),
        ("seed", str(record.config.seed)),
        ("kept", describe_selection(record.config, record.validation_faces)),
    ]
    if metrics is not None:
        limit = "all" if metrics["limit"] is None else f"the first {metrics['limit']:,}"
        about += [
            ("evaluated", f"{limit} of {metrics['split']} of the store {metrics['store_digest']}"),
            ("checkpoint", f"{metrics['checkpoint']}, epoch {metrics['epoch']}"),
            (PREDICTIONS, f"sha256 {metrics['predictions_sha256']}"),
        ]
    settings = [(name, str(value)) for name, value in record.config.as_json().items()]
    versions = [(name, value) for name, value in record.versions.items()]
    details = [Details("All settings", [Listing(settings)]), Details("Software", [Listing(versions)])]
    return Section("Provenance of the run", [Listing(about), *details])


def load_evaluated(folder: Path) -> EvaluatedRun | None:
    """Load a run with its figures; None when it was not evaluated.

    Raises:
        RunError: The figures cannot be read.
    """
    return EvaluatedRun(folder, load_metrics(folder)) if (folder / METRICS).is_file() else None
