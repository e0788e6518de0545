"""Two runs on the same faces: a paired test of their predictions, paired bootstrap of their differences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64

from aupipe.fer_analysis.evaluation.coded_comparing import coded_differences
from aupipe.fer_analysis.evaluation.coded_maps import TABLE
from aupipe.fer_analysis.evaluation.face_parts import PARTS
from aupipe.fer_analysis.evaluation.occluded import TABLE as OCCLUDED_TABLE
from aupipe.fer_analysis.evaluation.pairing import (
    RunPair,
    against_path,
    check_current,
    difference_rows,
    identities,
    paired_difference,
    run_names,
)
from aupipe.fer_analysis.evaluation.predictions import (
    EVALUATION,
    PREDICTIONS,
    PredictionTable,
    column_name,
    load_metrics,
    read_predictions,
)
from aupipe.fer_data.files import write_json
from aupipe.fer_display.tables import text_table
from aupipe.fer_models.metrics import resampling
from aupipe.fer_models.training.measured_run import results_folder

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
        run, other = run_names(c["run"], c["other"])
        return [
            f"{c['run']} against {c['other']}: {c['n']} images of {c['split']}",
            *text_table(difference_rows(c["run"], c["other"], c["differences"])),
            f"right: both {table['both']}, only {run} {table['first_only']}, only {other} {table['second_only']}, "
            f"neither {table['neither']}; {table['method']}: p = {table['p_value']:.3g}",
        ]


def compare(run: Path, other: Path, split: str = "test", limit: int | None = None) -> Comparison:
    """Compare two evaluated runs, and write ``against-OTHER.json`` beside the first one's figures.

    Args:
        run: Folder of the run that the other is taken from.
        other: Folder of the other.
        split: What both were measured on.
        limit: Number of rows of it; None: all.

    Returns:
        The differences ``run - other``, with their intervals; those of coded action units, and of faces with a part
        hidden, where both have them.

    Raises:
        RunError: One was not evaluated, not with the weights it has now, or not on the same faces, maps and codes.
    """
    found = [figures_of(one, split, limit) for one in (run, other)]
    folders, contents = [folder for folder, _ in found], [content for _, content in found]
    pair = RunPair(run, other, "evaluate", split, limit)
    pair.check_contents(contents)
    first, second = (
        read_predictions(folder / PREDICTIONS, content["predictions_sha256"])
        for folder, content in zip(folders, contents, strict=True)
    )
    pair.check_rows(first, second)
    differences = _differences(first, second, contents)
    margins = [content.get("occluded", {}).get("margin") for content in contents]
    if margins[0] is not None and margins[0] == margins[1]:
        differences |= _hidden_differences(*_tables(folders, contents, "occluded", OCCLUDED_TABLE))
    if all("coded" in content for content in contents):
        one, another = _tables(folders, contents, "coded", TABLE)
        pair.check_codes(one, another)
        differences |= coded_differences(one, another)
    content = {
        "run": str(run),
        "other": str(other),
        "split": contents[0]["split"],
        "n": len(first.rows),
        "n_groups": len(np.unique(first.group)),
        **identities(contents, other),
        "paired_test": resampling.paired_test(first.flags("correct"), second.flags("correct"), first.group).as_json(),
        "differences": differences,
        "resamples": resampling.RESAMPLES,
        "seed": resampling.SEED,
    }
    write_json(against_path(folders[0], "", other), content)
    return Comparison(content)


def _tables(
    folders: list[Path], contents: list[dict[str, Any]], part: str, name: str
) -> tuple[PredictionTable, PredictionTable]:
    """Read the tables that a part of both figures comes from."""
    first, second = (
        read_predictions(folder / name, content[part]["table_sha256"])
        for folder, content in zip(folders, contents, strict=True)
    )
    return first, second


def _hidden_differences(first: PredictionTable, second: PredictionTable) -> dict[str, Any]:
    """Compute the paired differences of the accuracies with each part hidden."""
    found = {}
    for part in PARTS:
        right = [table.flags(f"correct_{part}").astype(np.float64) for table in (first, second)]
        found[f"accuracy_{part}_hidden"] = paired_difference(right[0], right[1], first.label, "samples", first.group)
    return found


def figures_of(run: Path, split: str = "test", limit: int | None = None) -> tuple[Path, dict[str, Any]]:
    """Read a run's figures, and say in which folder they lie.

    Raises:
        RunError: It was not evaluated so, or not with the weights that it has now.
    """
    folder = results_folder(run, EVALUATION, split, limit)
    content = load_metrics(folder, run)
    check_current(run, content, "evaluate", split, limit)
    return folder, content


def _differences(first: PredictionTable, second: PredictionTable, contents: list[dict[str, Any]]) -> dict[str, Any]:
    mapped = first.flags("has_map")
    label = first.label
    right = [one.flags("correct").astype(np.float64) for one in (first, second)]
    found = {
        "accuracy": paired_difference(right[0], right[1], label, "samples", first.group),
        "balanced_accuracy": paired_difference(right[0], right[1], label, "classes", first.group),
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
            found[name] = paired_difference(values[0], values[1], label[mapped], "classes", first.group[mapped])
    return found


def _less(table: PredictionTable, names: list[str], rows: Bool[np.ndarray, "n"]) -> Float64[np.ndarray, "m"]:
    """Return the first column, less the second where there is one."""
    values = [table.numbers(name, rows) for name in names]
    return values[0] - values[1] if len(values) > 1 else values[0]
