"""Two runs on the same faces: a paired test of their predictions, paired bootstrap of their differences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64

from aupipe.fer_analysis.evaluation.predictions import (
    EVALUATION,
    PREDICTIONS,
    PredictionTable,
    column_name,
    load_metrics,
    read_predictions,
)
from aupipe.fer_data.errors import RunError, paragraph
from aupipe.fer_data.files import write_json
from aupipe.fer_display.tables import text_table
from aupipe.fer_models.metrics import resampling
from aupipe.fer_models.training.checkpoint import outdated, results_folder

SAME = ("store_digest", "split", "limit", "codebook_digest", "crop_size")
"""What two evaluations must share: the faces, and the maps that the cosines are taken with."""

SPECIFICITY = "cos - cos_wrong"


@dataclass(frozen=True)
class Comparison:
    """Differences ``run - other``; ``content`` is what the file in the run's folder holds."""

    content: Mapping[str, Any]

    def as_json(self) -> dict[str, Any]:
        """Return the object that ``--json`` prints."""
        return dict(self.content)

    def lines(self) -> list[str]:
        """Return the comparison for people."""
        c, table = self.content, self.content["paired_test"]
        rows = [("", "run", "other", "difference", "95 %, paired")]
        for name, one in c["differences"].items():
            ends = "-" if one["ci95"] is None else f"{one['ci95'][0]:+.3f} to {one['ci95'][1]:+.3f}"
            figures = (f"{one['run']:.3f}", f"{one['other']:.3f}", f"{one['difference']:+.3f}", ends)
            rows.append((name.replace("_", " "), *figures))
        return [
            f"{c['run']} against {c['other']}: {c['n']} images of {c['split']}",
            *text_table(rows),
            f"right: both {table['both']}, only run {table['first_only']}, only other {table['second_only']}, neither "
            f"{table['neither']}; {table['method']}: p = {table['p_value']:.3g}",
        ]


def compare(run: Path, other: Path, split: str = "test", limit: int | None = None) -> Comparison:
    """Compare two evaluated runs, and write ``against-OTHER.json`` beside the first one's figures.

    Args:
        run: Folder of the run that the other is taken from.
        other: Folder of the other.
        split: What both were measured on.
        limit: Number of rows of it; None: all.

    Returns:
        The differences ``run - other``, with their intervals.

    Raises:
        RunError: One was not evaluated, not with the weights it has now, or not on the same faces and maps.
    """
    found = [figures_of(one, split, limit) for one in (run, other)]
    folders, contents = [folder for folder, _ in found], [content for _, content in found]
    _check_same(run, other, contents)
    first, second = (
        read_predictions(folder / PREDICTIONS, content["predictions_sha256"])
        for folder, content in zip(folders, contents, strict=True)
    )
    if first.identity != second.identity:
        raise RunError(_message(run, other, "rows", f"{len(first.rows)} rows", f"{len(second.rows)} rows, other ids"))
    content = {
        "run": str(run),
        "other": str(other),
        "split": contents[0]["split"],
        "n": len(first.rows),
        "n_groups": len(np.unique(first.group)),
        "paired_test": resampling.paired_test(first.flags("correct"), second.flags("correct"), first.group).as_json(),
        "differences": _differences(first, second, contents),
        "resamples": resampling.RESAMPLES,
        "seed": resampling.SEED,
    }
    write_json(folders[0] / f"against-{other.resolve().name}.json", content)
    return Comparison(content)


def figures_of(run: Path, split: str = "test", limit: int | None = None) -> tuple[Path, dict[str, Any]]:
    """Read a run's figures, and say in which folder they lie.

    Raises:
        RunError: It was not evaluated so, or not with the weights that it has now.
    """
    folder = results_folder(run, EVALUATION, split, limit)
    content = load_metrics(folder, run)
    if reason := outdated(run, content):
        raise RunError(
            paragraph(f"The figures of {run} are not of this run: {reason}.", fix=_evaluate(run, split, limit))
        )
    return folder, content


def _evaluate(run: Path, split: str, limit: int | None) -> str:
    rows = "" if limit is None else f" --limit {limit}"
    return f"Run `aupipe evaluate {run} --split {split}{rows}` again."


def _check_same(run: Path, other: Path, contents: list[dict[str, Any]]) -> None:
    first, second = contents
    for name in SAME:
        if first[name] != second[name]:
            raise RunError(_message(run, other, name.replace("_", " "), first[name], second[name]))


def _message(run: Path, other: Path, what: str, first: object, second: object) -> str:
    return paragraph(
        f"{run} and {other} were not measured on the same faces and maps: their {what} differ.",
        expected=f"{first}, as in {run}",
        got=second,
        fix=f"Run `aupipe evaluate {other}` on the same --store, --split and --limit first.",
    )


def _differences(first: PredictionTable, second: PredictionTable, contents: list[dict[str, Any]]) -> dict[str, Any]:
    mapped = first.flags("has_map")
    label = np.unique([row["true"] for row in first.rows], return_inverse=True)[1].astype(np.int64)
    right = [one.flags("correct").astype(np.float64) for one in (first, second)]
    found = {
        "accuracy": _paired(right[0], right[1], label, "samples", first.group),
        "balanced_accuracy": _paired(right[0], right[1], label, "classes", first.group),
    }
    # The deepest layer of each run: their networks may have different numbers of layers.
    last = [max(content["att_cos"], key=int) for content in contents]
    for name, owners, figure in (
        ("att_cos", last, "cos"),
        ("att_specificity", last, SPECIFICITY),
        ("cam_cos", ["cam", "cam"], "cos"),
        ("cam_specificity", ["cam", "cam"], SPECIFICITY),
    ):
        columns = [[column_name(owner, part) for part in figure.split(" - ")] for owner in owners]
        pairs = list(zip((first, second), columns, strict=True))
        if mapped.any() and all(one.has(column) for one, names in pairs for column in names):
            values = [_less(one, names, mapped) for one, names in pairs]
            found[name] = _paired(values[0], values[1], label[mapped], "classes", first.group[mapped])
    return found


def _paired(
    first: Float64[np.ndarray, "n"],
    second: Float64[np.ndarray, "n"],
    label: Int64[np.ndarray, "n"],
    weighting: resampling.Weighting,
    group: Int64[np.ndarray, "n"],
) -> dict[str, Any]:
    interval = resampling.bootstrap_interval(first - second, label, weighting, group=group)
    means = [resampling.weighted_mean(values, label, weighting) for values in (first, second)]
    return {
        "run": means[0],
        "other": means[1],
        "difference": means[0] - means[1],
        "ci95": None if interval is None else list(interval),
    }


def _less(table: PredictionTable, names: list[str], rows: Bool[np.ndarray, "n"]) -> Float64[np.ndarray, "m"]:
    """Return the first column, less the second where there is one."""
    values = [table.numbers(name, rows) for name in names]
    return values[0] - values[1] if len(values) > 1 else values[0]
