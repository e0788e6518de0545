"""The whole benchmark: plan, look before training, train, evaluate, write tables and figures."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aupipe.fer_analysis.benchmark import preflight, state
from aupipe.fer_analysis.benchmark.collect import Results, collect
from aupipe.fer_analysis.benchmark.plan import (
    GridRequest,
    RunSpec,
    Training,
    ablation_network,
    parse_layer_sets,
    plan_grid,
    trainings,
)
from aupipe.fer_analysis.benchmark.processes import default_jobs, run_trainings
from aupipe.fer_analysis.benchmark.published import AUTO, load_published
from aupipe.fer_analysis.benchmark.report import GridProvenance, write_report
from aupipe.fer_analysis.benchmark.worker import Order
from aupipe.fer_data.errors import RunError, paragraph
from aupipe.fer_data.folders import GRID, output_folder
from aupipe.fer_data.machine import usable_cpus
from aupipe.fer_data.shards import Store
from aupipe.fer_data.shards.preview import open_previewed, preview_store
from aupipe.fer_data.types import Progress, Silent, spoken
from aupipe.fer_models.training import run_record


@dataclass(frozen=True)
class BenchmarkSettings:
    """Settings of a grid's execution: none changes a figure, but for ``threads``, which may change last bits.

    ``jobs``, ``threads`` (of each process) None: what the machine has. ``published``: see :func:`load_published`.
    ``command``: what the report says was called.
    """

    jobs: int | None = None
    threads: int | None = None
    split: str = "test"
    published: str = AUTO
    command: str = ""

    def resolved(self, device: str, n_trainings: int) -> tuple[int, int]:
        """Choose the number of processes, and of threads of each."""
        jobs = max(1, min(self.jobs or default_jobs(device), n_trainings))
        return jobs, self.threads or max(1, usable_cpus() // jobs)


@dataclass(frozen=True)
class GridReport:
    """The outcome of :func:`run_benchmark`.

    ``failed``: reasons, by training, and by run where files are damaged; ``files``: results.md first.
    """

    out: Path
    runs: int
    finished: int
    trainings: int
    failed: dict[str, str]
    files: tuple[Path, ...]
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """Return the object that ``--json`` prints."""
        return {
            **vars(self),
            "out": str(self.out),
            "files": [str(path) for path in self.files],
            "seconds": round(self.seconds, 3),
        }

    def lines(self) -> list[str]:
        """Return the summary for people."""
        return [
            f"{self.finished} of {self.runs} runs finished, from {self.trainings} trainings, in {spoken(self.seconds)}",
            *(f"  failed: {name}: {reason}" for name, reason in self.failed.items()),
            f"Now read {self.files[0]}",
        ]


@dataclass(frozen=True)
class Estimate:
    """A grid's plan, and the time that what is left of it would take, in seconds."""

    runs: tuple[RunSpec, ...]
    trainings: tuple[Training, ...]
    finished: int
    jobs: int
    threads: int
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """Return the object that ``--json`` prints."""
        names = {one.name: [run.name for run in one.runs] for one in self.trainings}
        content = {name: value for name, value in vars(self).items() if name not in ("runs", "trainings")}
        return {**content, "seconds": round(self.seconds), "runs": len(self.runs), "trainings": names}

    def lines(self) -> list[str]:
        """Return the plan for people."""
        lines = [f"{len(self.runs)} runs from {len(self.trainings)} trainings, {self.finished} finished already"]
        for one in self.trainings:
            others = [run.config.method for run in one.runs if run.output != run.folder]
            also = f"  (read out as {', '.join(others)} too)" if others else ""
            lines.append(f"  {one.name}{also}")
        return [*lines, f"about {spoken(self.seconds)} in {self.jobs} processes of {self.threads} threads"]


def estimate(
    store_folder: Path | str,
    out: Path,
    request: GridRequest,
    settings: BenchmarkSettings,
    progress: Progress | None = None,
) -> Estimate:
    """Estimate the work of :func:`run_benchmark` from a few steps of each network. Writes nothing.

    Args:
        store_folder: The store to train on.
        out: Folder of the benchmark; what is finished there is not counted.
        request: The grid.
        settings: Processes and threads the time is told for, and the split to measure on.
        progress: Told what is copied of a store at a URL, where folds need it.

    Returns:
        The plan, and the seconds that are left.

    Raises:
        UserInputError: A method cannot use its backbone.
        RunError: ``out`` holds other runs, or the store lacks a split.
        StoreError: The store is missing or damaged.
    """
    request, _ = _fitted(request, store_folder, out)
    store, plan, trained = _look(store_folder, out, request, settings, progress or Silent())
    jobs, threads = settings.resolved(request.base.device, len(trained))
    digest = store.index.digest
    finished = sum(state.finished(out, one, settings.split, digest) for one in trained)
    opened = open_previewed(store_folder, store) if finished < len(trained) else store
    seconds = preflight.estimate_seconds(trained, out, opened, settings.split, threads) / jobs
    return Estimate(tuple(plan), tuple(trained), finished, jobs, threads, seconds)


def run_benchmark(
    store_folder: Path | str,
    out: Path,
    request: GridRequest,
    settings: BenchmarkSettings,
    progress: Progress | None = None,
    *,
    train: bool = True,
) -> GridReport:
    """Train and evaluate what is not finished, then write tables and figures of all that is.

    The best epoch is chosen on val; ``settings.split`` is looked at only afterwards. A run that fails is named in the
    report and does not stop the others; the same call tries it again.

    Args:
        store_folder: The store to train on.
        out: Folder of the benchmark: trainings under ``runs``, tables and figures beside them.
        request: The grid.
        settings: How to carry it out.
        progress: Told what is done.
        train: False: only write the report of what is finished.

    Returns:
        Counts, failures by training, and the files that were written.

    Raises:
        UserInputError: A method cannot use its backbone, or no such dataset is published.
        RunError: ``out`` holds other runs, or the store lacks a split.
        FolderInUseError: Another process works in ``out``.
        StoreError: The store is missing or damaged.
    """
    progress, started = progress or Silent(), time.perf_counter()
    published = load_published(settings.published, preview_store(store_folder))
    request, n_layers = _fitted(request, store_folder, out)
    store, plan, trained = _look(store_folder, out, request, settings, progress, to_train=train)
    jobs, threads = settings.resolved(request.base.device, len(trained))
    with output_folder(out, GRID):
        failed: dict[str, str] = {}
        if train:
            open_previewed(store_folder, store, progress)  # copied once, here, and not by each worker
            order = Order(store.place, out.resolve(), settings.split, threads, request.base.device)
            outcomes = run_trainings(trained, order, store.index.digest, jobs, progress)
            failed = {outcome.name: outcome.reason for outcome in outcomes if outcome.reason}
        results = collect(plan, out, settings.split, store.index.digest)
        failed = {**_damaged(plan, results, out), **failed}
        seconds = time.perf_counter() - started
        how = GridProvenance(settings.command, settings.split, seconds, failed)
        files = write_report(request, plan, results, store, out, how, published, n_layers)
    return GridReport(out, len(plan), len(results.all), len(trained), failed, tuple(files), seconds)


def _damaged(plan: Sequence[RunSpec], results: Results, out: Path) -> dict[str, str]:
    """Name the runs that cannot be used because a file of theirs is damaged."""
    used = {result.spec.name for result in results.all}
    found = {run.name: state.damage(out, run) for run in plan if run.name not in used}
    return {name: reason for name, reason in found.items() if reason}


def _fitted(request: GridRequest, store_folder: Path | str, out: Path) -> tuple[GridRequest, int]:
    """Choose the crop of the grid that was begun, or the one that suits the store's images, where none is chosen.

    Returns the request, and how many layers the network has whose aligned layers it varies; 0 where it varies none.
    """
    begun = min((out / state.RUNS).glob(f"*/{run_record.CONFIG}"), default=None)
    base = request.base if begun is None else run_record.begun_crop(begun.parent, request.base)
    index = preview_store(store_folder).index
    fitted = replace(request, base=base.fitted(index.image_size))
    if not fitted.layers:
        return fitted, 0
    n_layers = preflight.layers_of(ablation_network(fitted), len(index.classes))
    return replace(fitted, layers=parse_layer_sets(fitted.layers, n_layers)), n_layers


def _begun(out: Path, training: Training) -> bool:
    return (out / state.RUNS / training.name / run_record.LAST).is_file()


def _look(
    store_folder: Path | str,
    out: Path,
    request: GridRequest,
    settings: BenchmarkSettings,
    progress: Progress,
    *,
    to_train: bool = True,
) -> tuple[Store, Sequence[RunSpec], Sequence[Training]]:
    """Make the plan, after everything that can be refused before training was."""
    store = preview_store(store_folder)
    there = preview_store(store_folder, request.base.fold, progress).index.splits  # a URL's copy serves from here on
    missing = [split for split in dict.fromkeys(("train", "val", settings.split)) if split not in there]
    if missing:
        raise RunError(
            paragraph(
                f"The store {store_folder} has no {' and no '.join(missing)} split.",
                expected=f"train to learn from, val to choose the best epoch on, {settings.split} to measure on",
                got=", ".join(store.index.splits) or "no rows",
                fix="Build the manifest again, or measure on another split with --split.",
            )
        )
    plan = plan_grid(request)
    trained = trainings(plan)
    preflight.check_folders(trained, out, store)
    if to_train:
        preflight.check_settings([one for one in trained if not _begun(out, one)], store)
    preflight.check_networks(plan, store)
    return store, plan, trained
