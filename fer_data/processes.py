"""Spawned processes that do one job at a time: the end of one is a value, and Ctrl-C ends them all.

The standard library's pools do not say which job a process died of: ``concurrent.futures`` gives up all that wait,
``multiprocessing.Pool`` waits for ever. This is the little that :mod:`multiprocessing` lacks.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from multiprocessing import parent_process, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar

Job = TypeVar("Job")
Said = TypeVar("Said")
Result = TypeVar("Result")
Task = Callable[[Job, Callable[[Said], None]], Result]
"""What a process does for a job: it may tell something by its second argument before it returns the result."""

_LAST_BREATH = 10.0
"""Seconds that a process may take to end after it closed its connection."""


@dataclass(frozen=True)
class Message(Generic[Said]):
    """A message of a process that is at a job."""

    what: Said


@dataclass(frozen=True)
class Done(Generic[Result]):
    """The end of a job, and what it gave."""

    result: Result


@dataclass(frozen=True)
class Death:
    """The end of a process at a job that took ``seconds`` until then.

    ``code``: its exit code, or minus the number of the signal that ended it.
    """

    code: int
    seconds: float

    def __str__(self) -> str:
        how = f"signal {-self.code}" if self.code < 0 else f"exit code {self.code}"
        return f"the process ended by itself ({how})"


class Worker(Generic[Job, Said, Result]):
    """A process that does one job after the other: started for the first one, and anew for the next after its death.

    The task, a module-level function or an object of a module-level class, and the jobs are pickled. The process does
    not see Ctrl-C, and does not outlive the one that started it. Without ``import_main`` it does not run the main
    module again, which may be a script that starts right away; the task must then not need it. ``environment`` holds
    the variables that it has beside or instead of this process's.
    """

    connection: Connection
    """Readable when :meth:`receive` has something to say."""

    def __init__(
        self, task: Task[Job, Said, Result], *, import_main: bool = True, environment: Mapping[str, str] | None = None
    ) -> None:
        self._task, self._import_main, self._environment = task, import_main, environment or {}
        self._process: SpawnProcess | None = None

    @property
    def alive(self) -> bool:
        """True while there is a process, as far as is known."""
        return self._process is not None

    def give(self, job: Job) -> None:
        """Send the next job, when the last one is done."""
        self._given = time.perf_counter()
        if self._process is None:
            self._start()
        with contextlib.suppress(OSError):  # it died just now: receive() tells
            self.connection.send((self._task, job))

    def receive(self) -> Message[Said] | Done[Result] | Death:
        """Wait for what the process says next. Raises the exception that its task raised."""
        try:
            said: Message[Said] | Done[Result] | Exception = self.connection.recv()
        except (EOFError, OSError):
            return Death(self.end(_LAST_BREATH), time.perf_counter() - self._given)
        if isinstance(said, Exception):
            raise said
        return said

    def ask(self, job: Job) -> Result | Death:
        """Give a job and wait for its end."""
        self.give(job)
        while isinstance(said := self.receive(), Message):
            pass
        return said.result if isinstance(said, Done) else said

    def terminate(self) -> None:
        """Tell the process to end: a job may catch SIGTERM and save."""
        if self._process is not None:
            self._process.terminate()

    def end(self, patience: float = 0.0) -> int:
        """Wait so many seconds for the process to end by itself, then kill it; returns its exit code."""
        process, self._process = self._process, None
        if process is None:
            return 0
        process.join(patience)
        process.kill()
        process.join()
        self.connection.close()
        return process.exitcode or 0

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs,), daemon=True)
        main = contextlib.nullcontext() if self._import_main else _without_main()
        with theirs, without_interrupts(), _as_parent(), _variables(self._environment), main:
            process.start()
            self._process = process


def die_silently() -> None:
    """Let this process die in silence, and when memory runs out let the system end it instead of its parent."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    with Path(os.devnull).open("w") as nowhere:
        for stream in (1, 2):
            os.dup2(nowhere.fileno(), stream)


def run_jobs(
    tasks: Sequence[Task[Job, Said, Result]],
    jobs: Iterable[Job],
    patience: float,
    environment: Mapping[str, str] | None = None,
) -> Generator[tuple[Job, Message[Said] | Done[Result] | Death]]:
    """Run jobs in as many processes as there are tasks.

    A job is taken when a process is free for it. Closing the iterator, or an exception on the way, ends the processes:
    they get SIGTERM, and ``patience`` seconds later SIGKILL.

    Args:
        tasks: The task of each process.
        jobs: The jobs, in order.
        patience: Seconds between SIGTERM and SIGKILL.
        environment: See :class:`Worker`.

    Returns:
        What is said of each job, its end last, as it comes.
    """
    workers = [Worker(task, environment=environment) for task in tasks]
    busy: dict[Any, tuple[Worker[Job, Said, Result], Job]] = {}
    queue = iter(jobs)

    def give(worker: Worker[Job, Said, Result]) -> None:
        for job in islice(queue, 1):
            worker.give(job)
            busy[worker.connection] = worker, job

    try:
        for worker in workers:
            give(worker)
        while busy:
            for connection in wait(list(busy)):
                worker, job = busy[connection]
                said = worker.receive()
                yield job, said
                if not isinstance(said, Message):
                    del busy[connection]
                    give(worker)
    finally:
        for worker in workers:
            worker.terminate()
        deadline = time.monotonic() + patience
        for worker in workers:
            worker.end(max(deadline - time.monotonic(), 0.0))


@contextlib.contextmanager
def without_interrupts() -> Iterator[None]:
    """Block SIGINT in this thread: processes and threads that are started meanwhile inherit that.

    So Ctrl-C, which a terminal sends to every process of a command, reaches its first one alone.
    """
    resource_tracker.ensure_running()  # started in here, it would unblock SIGINT
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _as_parent() -> Iterator[None]:
    """Let a daemon, as Dask's workers are, start a process; it is a daemon itself, and ends with this one."""
    me = multiprocessing.current_process()
    before, me.daemon = me.daemon, False
    try:
        yield
    finally:
        me.daemon = before


@contextlib.contextmanager
def _variables(environment: Mapping[str, str]) -> Iterator[None]:
    """Have these variables, which a process that is started inherits."""
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    try:
        yield
    finally:
        for name in environment:
            del os.environ[name]
        os.environ.update({name: value for name, value in before.items() if value is not None})


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
    """Hide the main module, which a process that is started would import first."""
    before = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = before


def _serve(connection: Connection) -> None:
    """In the other process: do what comes, until nobody is there to tell or a job was told to end."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with contextlib.suppress(EOFError, OSError, KeyboardInterrupt):
        while True:
            task, job = connection.recv()
            connection.send(_answer(task, job, lambda what: connection.send(Message(what))))


def _answer(task: Task[Job, Said, Result], job: Job, tell: Callable[[Said], None]) -> Done[Result] | Exception:
    try:
        return Done(task(job, tell))
    except Exception as error:  # whatever it is, it is raised where the job came from
        return error


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
