"""The work of a worker process: it trains and evaluates; everything it makes is on disk."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import torch

from aupipe.fer_analysis.benchmark import state
from aupipe.fer_analysis.benchmark.plan import Training
from aupipe.fer_analysis.evaluation import evaluate
from aupipe.fer_data.errors import FerError
from aupipe.fer_data.files import write_text
from aupipe.fer_data.shards import open_store
from aupipe.fer_models.training.run import train

TRACEBACK = "traceback.txt"


@dataclass(frozen=True)
class Order:
    """A worker's order: where its data is, where its results go, and how much of the machine it may use."""

    store: Path | str
    out: Path
    split: str
    threads: int
    device: str


@dataclass(frozen=True)
class Outcome:
    """The end of a training and its evaluations; ``reason`` is empty when all went well."""

    name: str
    reason: str
    seconds: float
    accuracy: float | None = None


def carry_out(order: Order, training: Training, tell: Callable[[int], None]) -> Outcome:
    """Train what is left of a training, evaluate what is not current; tell how many epochs its log holds.

    Any exception becomes the outcome's reason.
    """
    use_threads(order.threads)
    started = time.perf_counter()
    folder = order.out / state.RUNS / training.name
    try:
        accuracy = _train_and_evaluate(training, folder, order, tell)
        (folder / TRACEBACK).unlink(missing_ok=True)
        return Outcome(training.name, "", time.perf_counter() - started, accuracy)
    except Exception as error:  # one broken run must not end the others
        return Outcome(training.name, failure_reason(error, folder), time.perf_counter() - started)


def use_threads(count: int) -> None:
    """Let this process compute with so many threads."""
    torch.set_num_threads(count)
    cv2.setNumThreads(count)


def failure_reason(error: Exception, folder: Path) -> str:
    """Say why a run failed: in our own words, or by the error, whose traceback is then left in the run's folder."""
    if isinstance(error, FerError):
        return str(error)
    write_text(folder / TRACEBACK, "".join(traceback.format_exception(error)))
    said = (str(error).strip() or "no message").splitlines()[0]
    return f"{type(error).__name__}: {said} (see {folder / TRACEBACK})"


def _train_and_evaluate(training: Training, folder: Path, order: Order, tell: Callable[[int], None]) -> float | None:
    config = replace(training.config, device=order.device)
    report = train(order.store, folder, config, _Relay(folder, tell))
    digest = open_store(order.store).index.digest
    accuracy = None
    for run in training.runs:
        if report.new_steps or not state.metrics_current(order.out, run, order.split, digest):
            evaluate(
                folder,
                order.store,
                split=order.split,
                device=config.device,
                method=run.config.method,
                method_options=run.config.method_options,
                out=order.out / state.RUNS / run.output,
            )
        accuracy = (state.read_metrics(order.out, run) or {}).get("accuracy")
    return accuracy


class _Relay:
    """A training's progress as the parent wants it: how many epochs the log holds, each time something begins."""

    def __init__(self, folder: Path, tell: Callable[[int], None]) -> None:
        self.folder, self.tell = folder, tell

    def start(self, label: str, total: int, unit: str) -> None:
        """Say how far the run is."""
        self.tell(state.epochs_done(self.folder))

    def advance(self, count: int) -> None:
        """Ignore steps: they are too fine to tell."""

    def note(self, message: str) -> None:
        """Say how far the run is: training notes the end of each epoch."""
        self.tell(state.epochs_done(self.folder))

    def finish(self) -> None:
        """Do nothing: there is nothing to close."""
