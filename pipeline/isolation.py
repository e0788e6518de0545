"""A process of its own for what may kill it: the photo that does is named, and the command lives on."""

from __future__ import annotations

from typing import Generic

from aupipe.fer_data.errors import FerError, paragraph
from aupipe.fer_data.processes import Death, Job, Result, Task, Worker

MAX_DEADLY = 8
"""So many photos in a row may be culprits; more mean that the photos are not to blame."""


class Isolated(Generic[Job, Result]):
    """Calls a task in a process that may die: it is replaced, and the job is given once more to a fresh one.

    The task is first called with None, and then does only what comes before the first photo, beginning with
    :func:`aupipe.fer_data.processes.die_silently`: a process that dies of that is not the photo's fault.
    """

    def __init__(self, task: Task[Job | None, object, Result], *, import_main: bool = True) -> None:
        self._worker: Worker[Job | None, object, Result] = Worker(task, import_main=import_main)
        self._deadly = 0

    def __call__(self, job: Job) -> Result | Death:
        """Return the task's result, or the death of the second process, too.

        Raises what the task raises, and :class:`FerError` when the processes die whatever the job is.
        """
        result = self._ask(job)
        if isinstance(result, Death):
            result = self._ask(job)
        self._deadly = self._deadly + 1 if isinstance(result, Death) else 0
        if self._deadly > MAX_DEADLY:
            raise _not_the_photos(f"{self._deadly} photos in a row ended the process that looked at them")
        return result

    def close(self) -> None:
        """End the process."""
        self._worker.end()

    def _ask(self, job: Job) -> Result | Death:
        if not self._worker.alive and isinstance(self._worker.ask(None), Death):
            raise _not_the_photos("a process that had only loaded the detector died")
        return self._worker.ask(job)


def _not_the_photos(got: str) -> FerError:
    return FerError(
        paragraph(
            "Worker processes die whatever the photo is.",
            got=got,
            fix="The usual causes are too little memory (fewer --workers) and a broken installation (`aupipe doctor`). "
            "What is finished is kept: run the same command again to continue.",
        )
    )
