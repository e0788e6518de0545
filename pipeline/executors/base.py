"""The Protocol of executors, and the serial one that is the reference."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar, runtime_checkable

from aupipe.fer_data.errors import FerError, paragraph

Job = TypeVar("Job")
Result = TypeVar("Result")
Note = Callable[[str], None]
"""Takes a line for the user's log, such as :meth:`aupipe.fer_data.types.Progress.note`."""


@runtime_checkable
class Executor(Protocol):
    """A runner of a task over jobs; results come as they are ready, in any order.

    A task is a module-level function of one small frozen argument: it writes its own file and returns a small result.
    """

    def sized(self, jobs: int, seconds: float, *, isolated: bool = False) -> Executor:
        """Return the executor that is soonest done with so many jobs, which take so many seconds one after the other.

        With ``isolated`` it is one whose jobs cannot end this process, where this one is.
        """

    def run(
        self,
        task: Callable[[Job], Result],
        jobs: Iterable[Job],
        on_death: Callable[[Job], None] | None = None,
    ) -> Iterator[Result]:
        """Yield one result per job; an error of a task is raised here and ends the run.

        A job whose worker process died has no result: it is given to ``on_death``, or ends the run without it. It
        may have been a bystander that waited on the same worker.
        """


class SerialExecutor:
    """The reference the others must match: in this process, in order. Whatever kills a worker kills this process."""

    def sized(self, jobs: int, seconds: float, *, isolated: bool = False) -> Executor:
        """Return itself."""
        del jobs, seconds, isolated
        return self

    def run(
        self,
        task: Callable[[Job], Result],
        jobs: Iterable[Job],
        on_death: Callable[[Job], None] | None = None,
    ) -> Iterator[Result]:
        """Yield one result per job."""
        del on_death
        for job in jobs:
            yield task(job)


def worker_died(got: object) -> FerError:
    """Make the error for a job that ended its process."""
    return FerError(
        paragraph(
            "A worker process died.",
            got=got,
            fix="The usual cause is too little memory: run with fewer --workers, or with --workers 0 to see which "
            "image it is. Finished parts are kept.",
        )
    )


def ignore(line: str) -> None:
    """Drop a note: a :data:`Note` for nobody."""
    del line
