"""Carrying out a plan in worker processes: resumable, one failure does not stop the others, Ctrl-C ends all at once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch

from aupipe.fer_analysis.benchmark import state
from aupipe.fer_analysis.benchmark.plan import Training
from aupipe.fer_analysis.benchmark.worker import Order, Outcome, carry_out
from aupipe.fer_data.machine import usable_cpus
from aupipe.fer_data.processes import Death, Done, Message, run_jobs
from aupipe.fer_data.types import Progress, spoken

MOST_JOBS = 4
"""Processes that are started unless the caller says otherwise: each takes a gigabyte or so."""

PATIENCE = 10.0
"""Seconds a process that was told to end may take to save."""


def default_jobs(device: str) -> int:
    """Choose a number of processes: one per CUDA device; on the CPU one a core, few at most.

    Small networks do not keep several threads busy: on two cores, two processes of one thread finish a grid sooner than
    one process of two threads.
    """
    if device not in ("auto", "cpu"):
        return 1
    if device == "auto" and torch.cuda.is_available():
        return torch.cuda.device_count()
    return min(usable_cpus(), MOST_JOBS)


def run_trainings(
    plan: Sequence[Training], order: Order, store_digest: str, jobs: int, progress: Progress
) -> list[Outcome]:
    """Train and evaluate what is not finished, in several processes.

    Every process works alone on one training at a time, so the results do not depend on their number. A process that
    dies is a failure of the training it was at, and is replaced. On an exception, Ctrl-C among them, the processes are
    ended at once: what they had saved is continued by the next call.

    Args:
        plan: The trainings, with the runs that are evaluated on each.
        order: Where data and results are, and how much of the machine a process may use.
        store_digest: The store's digest, which finished evaluations must name.
        jobs: Number of processes.
        progress: Told what is done.

    Returns:
        The outcomes of the trainings that were begun.
    """
    left = [one for one in plan if not state.finished(order.out, one, order.split, store_digest)]
    report = _Reporter(plan, left, order, jobs, progress)
    if not left:
        return []
    outcomes: list[Outcome] = []
    processes = range(min(jobs, len(left)))
    tasks = [partial(carry_out, replace(order, device=device_of(order.device, number))) for number in processes]
    with contextlib.closing(run_jobs(tasks, report.handed_out(left), PATIENCE)) as events:
        for training, event in events:
            if isinstance(event, Message):
                report.epoch(training.name, event.what)
            else:
                outcomes.append(_outcome(training, event))
                report.ended(outcomes[-1])
    progress.finish()
    return outcomes


def device_of(device: str, number: int) -> str:
    """Choose the device of a process: what was asked for; with ``auto`` they take turns on the CUDA devices."""
    if device != "auto" or not torch.cuda.is_available():
        return device
    return f"cuda:{number % torch.cuda.device_count()}"


def _outcome(training: Training, end: Done[Outcome] | Death) -> Outcome:
    if isinstance(end, Done):
        return end.result
    hint = " Signal 9 is mostly the system short of memory: try fewer --jobs." if end.code == -9 else ""
    return Outcome(training.name, f"{end}.{hint}", end.seconds)


@dataclass
class _Pace:
    """Seconds an epoch took, validation and the share of evaluation included."""

    seconds: float = 0.0
    epochs: int = 0


class _Reporter:
    """Lines for people: which training, how many are done, how long it will take."""

    def __init__(
        self, plan: Sequence[Training], left: Sequence[Training], order: Order, jobs: int, progress: Progress
    ) -> None:
        self.total, self.kept = len(plan), len(plan) - len(left)
        self.jobs, self.progress = jobs, progress
        self.finished = self.kept
        self.failed = 0
        self.number = {one.name: number for number, one in enumerate(plan, 1)}
        self.kind = {one.name: f"{one.config.method} on {one.config.backbone}" for one in plan}
        self.done = {one.name: state.epochs_done(order.out / state.RUNS / one.name) for one in left}
        self.wanted = {one.name: one.config.epochs for one in left}
        self.paces: dict[str, _Pace] = {}
        self.first: dict[str, int] = {}
        if self.kept:
            progress.note(f"{self.kept} of {self.total} trainings are finished already")
        if left:
            epochs = sum(max(self.wanted[name] - self.done[name], 0) for name in self.done)
            progress.start(f"{len(left)} trainings", epochs, "epochs")

    def handed_out(self, trainings: Iterable[Training]) -> Iterator[Training]:
        """Pass trainings on, and say so of each when it is asked for."""
        for training in trainings:
            self.first[training.name] = self.done[training.name]
            self.progress.note(f"[{self.number[training.name]}/{self.total}] {training.name}: started")
            yield training

    def epoch(self, name: str, done: int) -> None:
        """Take note that a training's log has so many epochs."""
        if (new := done - self.done[name]) > 0:
            self.done[name] = done
            self.progress.advance(new)

    def ended(self, outcome: Outcome) -> None:
        """Take note that a training is done or has failed."""
        name = outcome.name
        head = f"[{self.number[name]}/{self.total}] {name}"
        if outcome.reason:
            self.failed += 1
            self.progress.note(f"{head}: FAILED after {spoken(outcome.seconds)}: {outcome.reason}")
            self.wanted[name] = self.done[name]
            return
        self.epoch(name, self.wanted[name])
        pace = self.paces.setdefault(self.kind[name], _Pace())
        pace.seconds += outcome.seconds
        pace.epochs += max(self.wanted[name] - self.first[name], 1)
        self.finished += 1
        figure = "" if outcome.accuracy is None else f", accuracy {outcome.accuracy:.1%}"
        left = self.seconds_left()
        rest = f", about {spoken(left)} left" if left else ""
        self.progress.note(
            f"{head}: done in {spoken(outcome.seconds)}{figure}; {self.finished} of {self.total} finished{rest}"
        )

    def seconds_left(self) -> float:
        """Estimate the time until the plan is done.

        From the pace of trainings of the same kind, or of all where there is none.
        """
        overall = _Pace(sum(one.seconds for one in self.paces.values()), sum(one.epochs for one in self.paces.values()))
        total = 0.0
        for name, done in self.done.items():
            pace = self.paces.get(self.kind[name], overall)
            total += max(self.wanted[name] - done, 0) * pace.seconds / max(pace.epochs, 1)
        return total / self.jobs
