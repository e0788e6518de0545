"""Executors, which run the parts: in this process, by others of this machine, or by the workers of a Dask cluster."""

from __future__ import annotations

from aupipe.fer_data.machine import usable_cpus
from aupipe.pipeline.executors.base import Executor, Note, SerialExecutor, ignore
from aupipe.pipeline.executors.workers import DaskExecutor, SchedulerExecutor

__all__ = ["DaskExecutor", "Executor", "Note", "SchedulerExecutor", "SerialExecutor", "create_executor"]


def create_executor(workers: int | None, scheduler: str | None = None, note: Note = ignore) -> Executor:
    """Create the executor for the command line's options.

    ``scheduler`` is the address of a Dask cluster to use, and ``workers`` is of no matter then; ``note`` is told where
    its dashboard is. Else 0: in this process; N: at most so many Dask worker processes; None: at most one for each core
    that this process may use.
    """
    if scheduler is not None:
        return SchedulerExecutor(scheduler, note)
    count = usable_cpus() if workers is None else workers
    return DaskExecutor(count) if count > 0 else SerialExecutor()
