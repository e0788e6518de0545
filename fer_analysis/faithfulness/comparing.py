"""Two runs' dependence on the AU regions, on the same faces: paired differences of what removing them takes.

Networks are sure to different degrees, and right on different faces. So a fall counts as a share of what the face's
pixels add to the probability of that network's own baseline, p(whole) - p(baseline), and only on faces that both name
rightly and to which both add :data:`~aupipe.fer_analysis.faithfulness.summary.ROOM` or more. Intervals resample persons
where they repeat.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64

from aupipe.fer_analysis.evaluation.pairing import (
    SAME,
    RunPair,
    against_path,
    difference_rows,
    identities,
    paired_difference,
)
from aupipe.fer_analysis.evaluation.predictions import PredictionTable, read_predictions
from aupipe.fer_analysis.faithfulness.faces import TABLE
from aupipe.fer_analysis.faithfulness.figures import draw_against
from aupipe.fer_analysis.faithfulness.regions import REMOVALS
from aupipe.fer_analysis.faithfulness.run import COMPARED, FAITHFULNESS, LIMIT, load_faithfulness
from aupipe.fer_analysis.faithfulness.summary import ROOM, decided
from aupipe.fer_data.errors import RunError, UserInputError, paragraph
from aupipe.fer_data.files import write_bytes, write_json, write_text
from aupipe.fer_display.figures import png_bytes
from aupipe.fer_display.tables import csv_of_columns, number_cells, text_table
from aupipe.fer_models.metrics import resampling
from aupipe.fer_models.training.measured_run import results_folder

CONDITIONS = (*SAME, "baseline", "seed")
"""What two measurements must share: the faces, the regions, and what the removed pixels become."""


@dataclass(frozen=True)
class FaithfulnessComparison:
    """Differences ``run - other``; ``content`` is what the file in the run's folder holds."""

    content: Mapping[str, Any]

    def as_json(self) -> dict[str, Any]:
        """Return the object that ``--json`` prints."""
        return dict(self.content)

    def lines(self) -> list[str]:
        """Return the comparison for people."""
        c = self.content
        start = (
            f"{c['run']} against {c['other']}: {c['n']} faces of {c['split']} that both name rightly and to whose "
            f"probability both add {c['room']:g} or more ({c['n_groups']} persons; of {c['n_with_region']} with an AU "
            f"region {c['n_right']['run']} and {c['n_right']['other']} right, {c['n_right']['both']} in both)"
        )
        if not c["differences"]:
            return [f"{start}: nothing to compare."]
        return [
            f"{start}; falls as shares of what the face adds",
            *text_table(difference_rows(c["run"], c["other"], c["differences"])),
            c["verdict"],
        ]


def check_pair(
    run: Path, other: Path, split: str = "test", limit: int | None = LIMIT, asked: Mapping[str, Any] | None = None
) -> None:
    """Refuse before anything is measured what could not be compared afterwards.

    Args:
        run: The run that is to be measured.
        other: The one that was.
        split: What both are measured on.
        limit: Number of rows of it; None: all.
        asked: Settings with which the first will be measured, such as ``baseline`` and ``seed``.

    Raises:
        UserInputError: Both are one run.
        RunError: The other was not measured, or with other settings.
    """
    if run.resolve() == other.resolve():
        raise UserInputError(
            paragraph(f"{run} cannot be compared with itself.", fix="Name another run with --against.")
        )
    found = _load(results_folder(other, "faithfulness", split, limit, LIMIT), other)
    if asked:
        RunPair(run, other, "faithfulness", split, limit).check_alike(asked, found, list(asked))


def compare_faithfulness(
    run: Path, other: Path, split: str = "test", limit: int | None = LIMIT
) -> FaithfulnessComparison:
    """Compare two runs whose faithfulness was measured.

    Writes ``faithfulness-against-OTHER.json``, ``.csv`` (every face that counts) and ``.png`` beside the first one's
    figures.

    Args:
        run: Folder of the run that the other is taken from.
        other: Folder of the other.
        split: What both were measured on.
        limit: Number of rows of it; None: all.

    Returns:
        The differences ``run - other``, with their intervals.

    Raises:
        UserInputError: Both are one run.
        RunError: One was not measured, not with the weights it has now, or not on the same faces in the same way.
    """
    check_pair(run, other, split, limit)
    folders = [results_folder(one, "faithfulness", split, limit, LIMIT) for one in (run, other)]
    contents = [_load(folder, one) for folder, one in zip(folders, (run, other), strict=True)]
    pair = RunPair(run, other, "faithfulness", split, limit)
    pair.check_contents(contents, CONDITIONS)
    first, second = (
        _read_faces(folder / TABLE, content["faces_sha256"], one)
        for folder, content, one in zip(folders, contents, (run, other), strict=True)
    )
    pair.check_rows(first, second)
    chosen, counts = _faces_of_both(first, second)
    shares = [_shares(table, chosen) for table in (first, second)]
    differences = _differences(shares, first, chosen)
    content = {
        "run": str(run),
        "other": str(other),
        "split": contents[0]["split"],
        **identities(contents, other),
        "room": ROOM,
        **counts,
        "differences": differences,
        "verdict": _verdict(run, other, differences),
        "resamples": resampling.RESAMPLES,
        "seed": resampling.SEED,
    }
    path = against_path(folders[0], COMPARED, other)
    write_text(path.with_suffix(".csv"), _csv(shares, first, chosen))
    write_bytes(path.with_suffix(".png"), png_bytes(draw_against(content)))
    write_json(path, content)
    return FaithfulnessComparison(content)


def _load(folder: Path, run: Path) -> dict[str, Any]:
    found = load_faithfulness(folder, run, to_compare=True)
    if found is None:
        fix = f"Run `aupipe faithfulness {run}` first, with the same --split and --limit."
        raise RunError(paragraph(f"The faithfulness of {run} was not measured.", where=folder / FAITHFULNESS, fix=fix))
    return found


def _read_faces(path: Path, sha256: str, run: Path) -> PredictionTable:
    table = read_predictions(path, sha256, FAITHFULNESS, "faithfulness")
    if not table.has("group"):
        raise RunError(
            paragraph(
                f"{path} is of an earlier version, which did not name the persons.",
                fix=f"Run `aupipe faithfulness {run}` again.",
            )
        )
    return table


def _faces_of_both(first: PredictionTable, second: PredictionTable) -> tuple[Bool[np.ndarray, "n"], dict[str, Any]]:
    """Mark the faces that count, and count how many are left at each step."""
    region = np.array([row["region_share"] != "" for row in first.rows], bool)
    right = [region & np.array([row["label"] == row["predicted"] for row in one.rows], bool) for one in (first, second)]
    both = right[0] & right[1]
    chosen = both & (_room(first) >= ROOM) & (_room(second) >= ROOM)
    return chosen, {
        "n": int(chosen.sum()),
        "n_groups": len(np.unique(first.group[chosen])),
        "n_with_region": int(region.sum()),
        "n_right": {"run": int(right[0].sum()), "other": int(right[1].sum()), "both": int(both.sum())},
    }


def _room(table: PredictionTable, rows: Bool[np.ndarray, "n"] | None = None) -> Float64[np.ndarray, "m"]:
    """Return what each face's pixels add to the probability that its baseline has."""
    chosen = np.ones(len(table.rows), bool) if rows is None else rows
    return np.asarray(table.numbers("probability", chosen) - table.numbers("probability_baseline", chosen))


def _shares(table: PredictionTable, rows: Bool[np.ndarray, "n"]) -> dict[str, Float64[np.ndarray, "m"]]:
    """Divide the falls by the room, and take those inside over those elsewhere."""
    falls = {kind: table.numbers(f"fall_{kind}", rows) / _room(table, rows) for kind in REMOVALS}
    return falls | {f"inside_over_{kind}": falls["inside"] - falls[kind] for kind in REMOVALS if kind != "inside"}


def _differences(
    shares: list[dict[str, Float64[np.ndarray, "m"]]], table: PredictionTable, rows: Bool[np.ndarray, "n"]
) -> dict[str, Any]:
    if not rows.any():
        return {}
    label = table.label[rows]
    first, second = shares
    return {name: paired_difference(first[name], second[name], label, "samples", table.group[rows]) for name in first}


def _verdict(run: Path, other: Path, differences: Mapping[str, Any]) -> str:
    """Say which one depends more on the AU regions; the paired interval decides."""
    apart = f"How much {run} and {other} depend on the AU regions cannot be told apart on these faces."
    if not differences:
        return apart
    one = differences["inside_over_outside_face"]
    more = decided(one["ci95"], "more", "less", "")
    return (
        apart
        if not more
        else (
            f"{run} depends {more} on the AU regions, over as much elsewhere on the face, than {other}: by "
            f"{abs(one['difference']):.3f} of what the face adds."
        )
    )


def _csv(shares: list[dict[str, Float64[np.ndarray, "m"]]], table: PredictionTable, rows: Bool[np.ndarray, "n"]) -> str:
    """Write a line for each face that counts: the shares that removing took, by run."""
    chosen = [row for row, kept in zip(table.rows, rows, strict=True) if kept]
    everywhere = np.ones(len(chosen), bool)
    columns = [(name, [row[name] for row in chosen]) for name in ("sample_id", "group", "label")]
    columns += [
        (f"{whose}_{kind}", list(number_cells(values[kind], everywhere)))
        for whose, values in zip(("run", "other"), shares, strict=True)
        for kind in REMOVALS
    ]
    return csv_of_columns(columns)
