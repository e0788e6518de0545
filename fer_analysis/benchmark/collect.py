"""The runs' figures, read back from their folders, checked to belong together, and averaged."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aupipe.fer_analysis.benchmark import state
from aupipe.fer_analysis.benchmark.plan import GridCell, RunSpec
from aupipe.fer_analysis.evaluation import per_face
from aupipe.fer_data.errors import RunError, paragraph
from aupipe.fer_display.tables import csv_of_records
from aupipe.fer_models.training.run_log import read_log

SAME = ("store_digest", "codebook_digest", "split", "limit", "n", "crop_size")
"""What must be equal in all figures that are averaged or compared."""

TIMES = ("train_seconds",)
"""Columns of ``results.csv`` that two identical runs need not agree on."""

LEFT_OUT = ("confusion", "cosine_matrix", "predictions_sha256", "checkpoint_sha256")
"""Parts of ``metrics.json`` that are no figures; they stay in the run's folder."""


@dataclass(frozen=True)
class Result:
    """A finished run. ``metrics``: its ``metrics.json``; ``epochs``: logged; ``train_seconds``: of its training."""

    spec: RunSpec
    metrics: Mapping[str, Any]
    epochs: int
    train_seconds: float

    def figure(self, name: str) -> float | None:
        """Look up one of :data:`FIGURES`; None where the metrics do not have it."""
        last = max(self.metrics["att_cos"], key=int)
        value: Any = self.metrics
        for key in FIGURES[name].path.format(last=last).split("/"):
            value = value.get(key) if isinstance(value, Mapping) else None
        return None if value is None else float(value) * FIGURES[name].scale


@dataclass(frozen=True)
class FigureOf:
    """A figure in ``metrics.json``: keys separated by ``/``, ``{last}`` the deepest layer; decimals when shown."""

    title: str
    path: str
    decimals: int = 3
    scale: float = 1.0


FIGURES = {
    "cl": FigureOf("CL %", "accuracy", 1, 100.0),
    "cam_cos": FigureOf("CAM-COS", "cam_cos"),
    "att_cos": FigureOf("ATT-COS", "att_cos/{last}"),
    **{
        f"{short}_{name}": FigureOf(f"{short.upper()} {name}", f"localisation/{place}/all/{name}")
        for short, place in (("att", "attention/{last}"), ("cam", "cam"))
        for name, figure in per_face.FIGURES.items()
        if figure.shown.benchmark
    },
    "cam_cos_paper": FigureOf("CAM-COS as published", "localisation/cam/all/cos_paper"),
    "att_cos_paper": FigureOf("ATT-COS as published", "localisation/attention/{last}/all/cos_paper"),
}


@dataclass(frozen=True)
class Mean:
    """Mean and standard deviation over ``n`` seeds (``ddof=1``; None for a single seed)."""

    mean: float
    sd: float | None
    n: int


def mean_of(values: Sequence[float]) -> Mean | None:
    """Return mean, sample standard deviation and count of the values; None of no values."""
    if not values:
        return None
    spread = statistics.stdev(values) if len(values) > 1 else None
    return Mean(math.fsum(values) / len(values), spread, len(values))


class Results:
    """Finished runs by cell and seed."""

    def __init__(self, results: Sequence[Result]) -> None:
        self.all = tuple(results)
        self._cells: dict[GridCell, dict[int, Result]] = {}
        for result in results:
            self._cells.setdefault(result.spec.cell, {})[result.spec.config.seed] = result

    def of(self, cell: GridCell) -> Mapping[int, Result]:
        """Return a cell's runs by seed."""
        return self._cells.get(cell, {})

    def values(self, cell: GridCell, figure: str) -> dict[int, float]:
        """Return a figure of each of a cell's seeds that has it."""
        figures = {seed: result.figure(figure) for seed, result in self.of(cell).items()}
        return {seed: value for seed, value in figures.items() if value is not None}

    def mean(self, cell: GridCell, figure: str) -> Mean | None:
        """Average a figure over the cell's seeds."""
        return mean_of(list(self.values(cell, figure).values()))

    def difference(self, cell: GridCell, base: GridCell, figure: str) -> Mean | None:
        """Average the paired differences ``cell - base`` of a figure over the seeds that both cells have."""
        ours, theirs = self.values(cell, figure), self.values(base, figure)
        return mean_of([ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())])


def collect(runs: Sequence[RunSpec], out: Path, split: str, store_digest: str) -> Results:
    """Collect the finished runs of a plan.

    Raises:
        RunError: Their figures do not belong together.
    """
    results = [
        result
        for run in runs
        if state.training_finished(out / state.RUNS / run.folder, run.training)
        and state.metrics_current(out, run, split, store_digest)
        and (result := _read(out, run)) is not None
    ]
    check_together(results)
    return Results(results)


def _read(out: Path, run: RunSpec) -> Result | None:
    content, rows = state.read_metrics(out, run), read_log(out / state.RUNS / run.folder)
    if content is None:
        return None
    return Result(run, content, len(rows), math.fsum(row["seconds"] for row in rows))


def check_together(results: Sequence[Result]) -> None:
    """Check that results come from one store, codebook, split and crop. Raises :class:`RunError`."""
    for name in SAME:
        found = {str(result.metrics.get(name)): result.spec.name for result in results}
        if len(found) > 1:
            raise RunError(
                paragraph(
                    f"These runs cannot stand in one table: their {name} differs, so their figures mean other things.",
                    expected="one store, one codebook, one split and one crop size for the whole grid",
                    got="; ".join(f"{run}: {value}" for value, run in found.items()),
                    fix="Use one --out per store and codebook.",
                )
            )


def results_csv(results: Results) -> str:
    """List all that ``metrics.json`` says as CSV: a row a run, a column a figure; empty where a run has none."""
    return csv_of_records([_record(result) for result in results.all])


def _record(result: Result) -> dict[str, Any]:
    config = result.spec.config
    own = {
        "run": result.spec.name,
        "method": config.method,
        "method_options": config.method_options,
        "backbone": config.backbone,
        "align_weight": config.align_weight,
        "align_layers": result.spec.cell.layers,
        "align_target": result.spec.cell.target,
        "seed": config.seed,
        "trained_as": result.spec.folder,
        "epochs": result.epochs,
        "train_seconds": round(result.train_seconds, 1),
    }
    figures = {name: value for name, value in result.metrics.items() if name not in LEFT_OUT and name not in own}
    return own | dict(_flat("", figures))


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(f"{prefix}.{key}" if prefix else str(key), inner)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for number, inner in enumerate(value):
            yield from _flat(f"{prefix}.{number}", inner)
    else:
        yield prefix, value
