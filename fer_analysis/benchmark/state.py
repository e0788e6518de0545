"""The state of a run, read from its folder: nothing is remembered anywhere else, so any call can continue."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aupipe.fer_analysis.benchmark.plan import RunSpec, Training
from aupipe.fer_analysis.evaluation.predictions import METRICS, PREDICTIONS, load_metrics
from aupipe.fer_data.errors import RunError
from aupipe.fer_data.files import sha256_file
from aupipe.fer_data.recorded import check_recorded
from aupipe.fer_data.shards.folds import folded_digest
from aupipe.fer_models.training import measured_run, run_log, run_record
from aupipe.fer_models.training.config import TrainConfig

RUNS = "runs"


def epochs_done(folder: Path) -> int:
    """Count the complete epochs of a training."""
    return sum(bool(row["complete"]) for row in _log(folder))


def training_finished(folder: Path, config: TrainConfig) -> bool:
    """Tell whether nothing is left to train."""
    rows = _log(folder)
    if not rows or not (folder / run_record.BEST).is_file():
        return False
    enough = config.max_steps is not None and rows[-1]["step"] >= config.max_steps
    return enough or (bool(rows[-1]["complete"]) and rows[-1]["epoch"] >= config.epochs)


def _log(folder: Path) -> list[dict[str, Any]]:
    """Read a training's log; of a damaged one nothing: training the run again writes it anew."""
    try:
        return run_log.read_log(folder)
    except RunError:
        return []


def read_metrics(out: Path, run: RunSpec) -> dict[str, Any] | None:
    """Read a run's ``metrics.json``; None when there is none that can be believed: it is measured again."""
    try:
        return load_metrics(out / RUNS / run.output)
    except RunError:
        return None


def metrics_current(out: Path, run: RunSpec, split: str, store_digest: str) -> bool:
    """Tell whether the figures belong to this run, this split and the checkpoint that is there now.

    ``store_digest``: of the whole store, whatever the run's fold.
    """
    content, folder = read_metrics(out, run), out / RUNS / run.folder
    rows = _log(folder)
    if content is None or not rows:
        return False
    wanted = {
        "method": run.config.method,
        "method_options": run.config.method_options,
        "backbone": run.config.backbone,
        "seed": run.config.seed,
        "align_weight": run.config.align_weight,
        "split": split,
        "limit": None,
        "store_digest": folded_digest(store_digest, run.config.fold),
        "epoch": run_log.best_row(rows, run.config.select)["epoch"],
    }
    predictions = out / RUNS / run.output / PREDICTIONS
    if not predictions.is_file() or sha256_file(predictions) != content.get("predictions_sha256"):
        return False
    return _contains(content, wanted) and measured_run.outdated(folder, content) is None


def damage(out: Path, run: RunSpec) -> str | None:
    """Say what is wrong with the files of a run that was trained or measured; None where nothing is."""
    folder, output = out / RUNS / run.folder, out / RUNS / run.output
    try:
        if run_log.read_log(folder):
            check_recorded(folder / run_record.BEST, run_record.WAYS_OUT[run_record.BEST])
        if (output / METRICS).is_file() and (reason := measured_run.outdated(folder, load_metrics(output))):
            return f"the figures are left out: {reason}"
    except RunError as error:
        return str(error)
    return None


def finished(out: Path, training: Training, split: str, store_digest: str) -> bool:
    """Tell whether a training and all evaluations on it are done."""
    return training_finished(out / RUNS / training.name, training.config) and all(
        metrics_current(out, run, split, store_digest) for run in training.runs
    )


def _contains(content: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    return all(name in content and content[name] == value for name, value in wanted.items())
