"""A run's log, as JSON lines: rewritten whole, so it always agrees with the checkpoint.

And what a call of the training reports.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from aupipe.fer_data.errors import RunError, paragraph
from aupipe.fer_data.recorded import read_recorded, write_recorded
from aupipe.fer_data.typed import UnreadableTextError, parse_json
from aupipe.fer_data.types import lines_repr

LOG = "log.jsonl"
WAY_OUT = "Run `aupipe train` with the same settings: it writes the log again from last.pt."


class LogRow(TypedDict):
    """One epoch in the log. ``lost``: the weights after it are gone, so it is no candidate for the best one."""

    epoch: int
    step: int
    complete: bool
    train_ce: float
    train_align: float
    train_total: float
    val_accuracy: float
    val_balanced_accuracy: float
    val_ce: float
    val_align: float
    val_total: float
    lr: float
    seconds: float
    images_per_second: float
    wait_fraction: float
    lost: NotRequired[bool]


@dataclass(frozen=True)
class TrainReport:
    """The outcome of a call of :func:`aupipe.fer_models.training.run.train`.

    ``steps`` and ``epochs`` count the whole run; ``new_steps`` this call; ``best``: of the weights kept.
    """

    run: Path
    epochs: int
    steps: int
    new_steps: int
    best_epoch: int
    best: dict[str, float]
    finished: bool
    resumed: bool
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """Return the object that ``--json`` prints."""
        return {**vars(self), "run": str(self.run), "seconds": round(self.seconds, 3)}

    __repr__ = lines_repr

    def lines(self) -> list[str]:
        """Return the summary for people."""
        if not self.new_steps:
            did = f"nothing left to do: {self.epochs} epochs, {self.steps} steps"
        else:
            how = "continued to" if self.resumed else "trained"
            did = f"{how} {self.epochs} epochs, {self.steps} steps ({self.new_steps} now, {self.seconds:.0f} s)"
        best = f"validation accuracy {self.best['val_accuracy']:.1%}, cross-entropy {self.best['val_ce']:.3f}"
        return [f"{self.run}: {did}", f"kept epoch {self.best_epoch}: {best}"]


def best_row(rows: Sequence[dict[str, Any]], select: str) -> dict[str, Any]:
    """Choose the row whose weights are kept: by the highest validation figure, or the last for ``last`` and ``ema``.

    Ties of the figure: the lower cross-entropy, then the earlier epoch.

    Among figures an epoch that ``--max-steps`` cut short counts only while there is no complete one: it is done again
    when the run continues, and the best checkpoint must be the one an undisturbed run would keep.
    """
    kept = [row for row in rows if not row.get("lost")]
    complete = [row for row in kept if row["complete"]]
    if select in ("last", "ema"):
        return (kept or rows)[-1]
    return max(complete or kept or rows, key=lambda row: (row[f"val_{select}"], -row["val_ce"], -row["step"]))


def read_log(folder: Path) -> list[dict[str, Any]]:
    """Read a run's log so far, one row an epoch; empty when there is none. Raises :class:`RunError` when damaged."""
    path = folder / LOG
    if not path.is_file():
        return []
    lines = read_recorded(path, WAY_OUT).splitlines()
    try:
        rows: list[dict[str, Any]] = [dict(parse_json(line, LogRow)) for line in lines]
        if [row["epoch"] for row in rows] != list(range(1, len(rows) + 1)):
            raise UnreadableTextError("its epochs are not numbered 1, 2, 3 ...")
    except UnreadableTextError as error:
        raise RunError(paragraph("The run's log is damaged.", where=path, got=error, fix=WAY_OUT)) from error
    return rows


def write_log(folder: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write ``log.jsonl``."""
    text = "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows)
    write_recorded(folder / LOG, text.encode())


def tensorboard_writer() -> Any:
    """Import the class that writes TensorBoard's event files. Raises :class:`RunError` when it is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise RunError(
            paragraph(
                "--tensorboard needs the package tensorboard.",
                got=error,
                fix="Use `pip install tensorboard`, or leave the option out: log.csv holds the same figures.",
            )
        ) from error
    return SummaryWriter


def write_tensorboard(folder: Path, row: dict[str, Any]) -> None:
    """Add an epoch's figures to the event files in ``folder/tensorboard``; an epoch done again replaces itself."""
    epoch = row["epoch"]
    with tensorboard_writer()(str(folder / "tensorboard"), purge_step=epoch) as writer:
        for name, value in row.items():
            if name not in ("epoch", "complete"):
                writer.add_scalar(name.replace("_", "/", 1), value, epoch)
