"""What every comparison of two runs on the same faces shares: its refusals, and paired differences with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from aupipe.fer_analysis.evaluation.face_parts import PARTS
from aupipe.fer_analysis.evaluation.predictions import PredictionTable
from aupipe.fer_data.errors import RunError, paragraph
from aupipe.fer_data.files import digest, withdraw
from aupipe.fer_data.typed import UnreadableTextError, read_json
from aupipe.fer_models.metrics import resampling
from aupipe.fer_models.training.measured_run import outdated

SAME = ("store_digest", "split", "limit", "codebook_digest", "crop_size")
"""What two measurements must share: the faces, and their AU maps."""


def check_current(run: Path, content: Mapping[str, Any], command: str, split: str, limit: int | None) -> None:
    """Check that figures are of the weights that a run has now. Raises :class:`RunError` when they are not."""
    if reason := outdated(run, content):
        rows = "" if limit is None else f" --limit {limit}"
        fix = f"Run `aupipe {command} {run} --split {split}{rows}` again."
        raise RunError(paragraph(f"The figures of {run} are not of this run: {reason}.", fix=fix))


@dataclass(frozen=True)
class RunPair:
    """Two runs that were measured by one command, ``evaluate`` or another, on a split or so many rows of it."""

    run: Path
    other: Path
    command: str
    split: str
    limit: int | None

    def check_contents(self, contents: Sequence[Mapping[str, Any]], same: Sequence[str] = SAME) -> None:
        """Check that both figures are of the weights that are there now, and alike in the settings named.

        Raises:
            RunError: They are not.
        """
        for one, content in zip((self.run, self.other), contents, strict=True):
            check_current(one, content, self.command, self.split, self.limit)
        first, second = contents
        self.check_alike(first, second, same)

    def check_alike(self, first: Mapping[str, Any], second: Mapping[str, Any], names: Sequence[str]) -> None:
        """Check that two measurements have these settings alike. Raises :class:`RunError` when they have not."""
        for name in names:
            if first[name] != second[name]:
                raise self._refusal(name.replace("_", " "), first[name], second[name])

    def check_rows(self, first: PredictionTable, second: PredictionTable) -> None:
        """Check that two tables hold the same faces in the same order. Raises :class:`RunError`."""
        if first.identity != second.identity:
            raise self._refusal("rows", f"{len(first.rows)} rows", f"{len(second.rows)} rows, other ids")

    def check_codes(self, first: PredictionTable, second: PredictionTable) -> None:
        """Check that two tables hold the same coded faces with the same codes. Raises :class:`RunError`."""
        its = [[(row["sample_id"], row["aus"]) for row in table.rows] for table in (first, second)]
        if its[0] != its[1]:
            changed = len(set(its[0]) ^ set(its[1]))
            raise self._refusal("codes", f"{len(its[0])} coded faces", f"{len(its[1])}, {changed} of either unlike")

    def _refusal(self, what: str, first: object, second: object) -> RunError:
        return RunError(
            paragraph(
                f"{self.run} and {self.other} were not measured on the same faces and maps: their {what} differ.",
                expected=f"{first}, as in {self.run}",
                got=second,
                fix=f"Run `aupipe {self.command} {self.other}` with the same options first.",
            )
        )


AGAINST = "against"


def against_path(folder: Path, prefix: str, other: Path) -> Path:
    """Choose the file of a comparison with ``other``, named after it; by its place, too, where another has the name."""
    place = other.resolve()
    path = folder / f"{prefix}{AGAINST}-{place.name}.json"
    try:
        said = read_json(path, _Compared).other_place
        taken = said != str(place) and bool(said) and Path(said).is_dir()
    except UnreadableTextError:
        taken = False
    return path.with_stem(f"{path.stem}-{digest(str(place))[:6]}") if taken else path


@dataclass(frozen=True)
class _Compared:
    """What tells whose a comparison's file is; those of earlier versions do not say it."""

    other_place: str = ""


def withdraw_comparisons(folder: Path, prefix: str) -> None:
    """Remove the comparisons of figures that are about to be measured anew."""
    for path in folder.glob(f"{prefix}{AGAINST}-*.json"):
        if path.is_file():
            withdraw(path)
            for drawn in (".csv", ".png"):
                path.with_suffix(drawn).unlink(missing_ok=True)


def identities(contents: Sequence[Mapping[str, Any]], other: Path) -> dict[str, Any]:
    """Say which weights were compared, and on which store, in the words of a comparison's file."""
    first, second = (content.get("checkpoint_sha256") for content in contents)
    return {
        "other_place": str(other.resolve()),
        "checkpoint_sha256": first,
        "other_checkpoint_sha256": second,
        "store_digest": contents[0]["store_digest"],
    }


def paired_difference(
    first: Float64[np.ndarray, "n"],
    second: Float64[np.ndarray, "n"],
    label: Int64[np.ndarray, "n"],
    weighting: resampling.Weighting,
    group: Int64[np.ndarray, "n"],
) -> dict[str, Any]:
    """Compute the means of two runs on the same faces, their difference, and its interval over persons."""
    interval = resampling.bootstrap_interval(first - second, label, weighting, group=group)
    means = [resampling.weighted_mean(values, label, weighting) for values in (first, second)]
    return difference(means[0], means[1], interval)


def difference(run: float, other: float, interval: tuple[float, float] | None) -> dict[str, Any]:
    """Make the entry of a figure of two runs and of its difference, as the file of a comparison holds it."""
    return {
        "run": run,
        "other": other,
        "difference": run - other,
        "ci95": None if interval is None else list(interval),
    }


PERCENT = ("accuracy", "balanced_accuracy", *(f"accuracy_{part}_hidden" for part in PARTS))
"""Figures that people read as percentages, here and in every other table."""


TITLES = {
    "att_cos": "ATT-COS",
    "att_specificity": "ATT specificity",
    "cam_cos": "CAM-COS",
    "cam_specificity": "CAM specificity",
}
"""Names of figures that are written otherwise than in JSON."""


def difference_rows(run: str, other: str, differences: Mapping[str, Mapping[str, Any]]) -> list[Sequence[str]]:
    """List named differences of two runs' folders for a table, its heads first: the names of the runs."""
    rows: list[Sequence[str]] = [("", *run_names(run, other), "difference", "95 %, paired")]
    for name, one in differences.items():
        scale, usual = (100, 1) if name in PERCENT else (1, 3)
        figures = [scale * one[key] for key in ("run", "other", "difference")]
        ends = [scale * end for end in one["ci95"] or ()]
        digits = enough_digits(ends, usual)
        title = f"{TITLES.get(name, name.replace('_', ' '))}{', %' if name in PERCENT else ''}"
        between = " to ".join(f"{end:+.{digits}f}" for end in ends) or "-"
        means = (f"{value:.{usual}f}" for value in figures[:2])
        rows.append((title, *means, f"{figures[2]:+.{digits}f}", between))
    return rows


def run_names(run: str, other: str) -> tuple[str, str]:
    """Call two runs by their folders' names; by their paths where these are the same."""
    names = Path(run).resolve().name, Path(other).resolve().name
    return names if names[0] != names[1] else (run, other)


def enough_digits(ends: Sequence[float], usual: int) -> int:
    """Choose so many decimals that no end of an interval is shown as 0 unless it is 0."""
    enough = (digits for digits in range(usual, usual + 4) if all(round(end, digits) or not end for end in ends))
    return next(enough, usual + 4)
