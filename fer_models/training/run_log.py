"""A run's log: JSON lines, CSV, and the curves. Rewritten whole, so it always agrees with the checkpoint.

And what a call of the training reports.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from aupipe.fer_data.errors import RunError, paragraph
from aupipe.fer_data.files import write_bytes, write_text
from aupipe.fer_data.types import lines_repr
from aupipe.fer_display.figures import framed_figure, png_bytes
from aupipe.fer_display.tables import csv_of_records

LOG = "log.jsonl"


@dataclass(frozen=True)
class TrainReport:
    """The outcome of a call of :func:`aupipe.fer_models.training.run.train`.

    ``steps`` and ``epochs`` count the whole run; ``new_steps`` this call.
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
        best = f"accuracy {self.best['val_accuracy']:.1%}, cross-entropy {self.best['val_ce']:.3f}"
        return [f"{self.run}: {did}", f"best validation epoch {self.best_epoch}: {best}"]


def best_row(rows: Sequence[dict[str, Any]], select_on: str) -> dict[str, Any]:
    """Choose the row with the highest validation figure; ties: the lower cross-entropy, then the earlier epoch.

    An epoch that ``--max-steps`` cut short counts only while there is no complete one: it is done again when the run
    continues, and the best checkpoint must be the one an undisturbed run would keep.
    """
    complete = [row for row in rows if row["complete"]]
    return max(complete or rows, key=lambda row: (row[f"val_{select_on}"], -row["val_ce"], -row["step"]))


def read_log(folder: Path) -> list[dict[str, Any]]:
    """Read a run's log so far, one row an epoch; empty when there is none."""
    path = folder / LOG
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []


def write_logs(folder: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write ``log.jsonl``, ``log.csv`` and ``curves.png``."""
    write_text(folder / LOG, "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows))
    write_text(folder / "log.csv", csv_of_records(rows))
    write_bytes(folder / "curves.png", png_bytes(draw_curves(rows)))


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


def draw_curves(rows: Sequence[dict[str, Any]]) -> Figure:
    """Draw three panels over the epochs: cross-entropy, alignment, validation accuracy."""
    figure = framed_figure(9.3, 2.2, left=0.55, right=0.15, top=0.3, bottom=0.5)
    epochs = [row["epoch"] for row in rows]
    panels = (
        ("cross-entropy", ("train_ce", "val_ce")),
        ("alignment: 1 − cosine", ("train_align", "val_align")),
        ("accuracy", ("val_accuracy", "val_balanced_accuracy")),
    )
    for axis, (title, names) in zip(figure.subplots(1, 3, gridspec_kw={"wspace": 0.22}), panels, strict=True):
        for name, line in zip(names, ("-", "--"), strict=True):  # one that lies on the other shows through it
            axis.plot(epochs, [row[name] for row in rows], line, marker=".", label=name.replace("_", " "))
        axis.set_title(title)
        axis.set_xlabel("epoch")
        axis.legend(frameon=False, fontsize="small")
        axis.spines[["top", "right"]].set_visible(False)
    return figure
