"""The workers of a Dask cluster that is there already.

The same functions write the same bytes as in the serial executor. Only jobs and small results cross the scheduler.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from aupipe.fer_data.errors import FerError, UserInputError, paragraph
from aupipe.pipeline.executors.base import Executor, Job, Note, Result, ignore
from aupipe.pipeline.executors.submission import drive, first_line

if TYPE_CHECKING:
    from distributed import Client

CONNECT_SECONDS = 8.0
FIRST_WORKER_SECONDS = 300.0
"""A batch system may need its time to start one."""


class SchedulerExecutor:
    """The workers of a Dask cluster that is there already (``tcp://host:port``); it is left running."""

    def __init__(self, address: str, note: Note = ignore) -> None:
        self.address = address
        self._note = note

    def sized(self, jobs: int, seconds: float, *, isolated: bool = False) -> Executor:
        """Return itself: its workers are there, whatever the work is."""
        del jobs, seconds, isolated
        return self

    def run(
        self, task: Callable[[Job], Result], jobs: Iterable[Job], on_death: Callable[[Job], None] | None = None
    ) -> Iterator[Result]:
        """Yield one result per job; see :class:`~aupipe.pipeline.executors.base.Executor`."""
        with _quiet(), _connected(self.address) as client:
            _await_first_worker(client, self.address, self._note)
            yield from drive(client, task, jobs, on_death)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Dask's own log lines stay out: a lost worker or a closed connection is told by this package, or is none."""
    import dask
    import distributed  # noqa: F401 - its defaults must be there before one of them is changed and restored

    names = [name for name in logging.root.manager.loggerDict if name.split(".")[0] == "distributed"]
    levels = {logging.getLogger(name): logging.getLogger(name).level for name in names}
    for logger in levels:
        logger.setLevel(logging.CRITICAL)
    try:
        with dask.config.set({"distributed.worker.daemon": True}):
            yield
    finally:
        for logger, level in levels.items():
            logger.setLevel(level)


@contextlib.contextmanager
def _connected(address: str) -> Iterator[Client]:
    from distributed import Client
    from distributed.comm.core import connect
    from distributed.utils import LoopRunner, sync

    loop = LoopRunner()
    loop.start()
    try:
        try:
            # Knock first: a Client that fails to connect may deadlock later, when it is garbage collected.
            sync(loop.loop, connect, address, timeout=CONNECT_SECONDS).abort()
        except (OSError, ValueError) as error:
            raise _unreachable(address, error) from error
        with Client(address, timeout=CONNECT_SECONDS, set_as_default=False, loop=loop.loop) as client:
            yield client
    finally:
        loop.stop()


def _await_first_worker(client: Client, address: str, note: Note) -> None:
    if not client.scheduler_info(n_workers=0)["n_workers"]:
        note(f"Waiting for the first worker of {address}.")
    try:
        client.wait_for_workers(1, timeout=FIRST_WORKER_SECONDS)
    except TimeoutError as error:
        raise FerError(
            paragraph(
                f"The Dask scheduler at {address} has no workers.",
                expected=f"a first worker within {FIRST_WORKER_SECONDS:.0f} seconds",
                fix=f"Start some, for example with `dask worker {address} --nthreads 1`, then run this command again.",
            )
        ) from error
    info: dict[str, Any] = client.scheduler_info(n_workers=0)
    dashboard = f"; dashboard: {client.dashboard_link}" if "dashboard" in info.get("services", {}) else ""
    note(f"Dask scheduler {address}, worker threads now: {info['total_threads']}{dashboard}")


def _unreachable(address: str, error: Exception) -> UserInputError:
    return UserInputError(
        paragraph(
            f"No Dask scheduler answers at {address}.",
            expected="an address such as tcp://node17:8786, as the scheduler prints it (cluster.scheduler_address)",
            got=first_line(error),
            fix="Check that it is running and reachable from this machine.",
        )
    )
