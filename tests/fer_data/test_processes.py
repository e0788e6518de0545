"""Spawned processes: results, deaths and exceptions as they come, and nothing is left behind."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from aupipe.fer_data.processes import Death, Done, Message, Worker, run_jobs

ROOT = Path(__file__).parents[2]


def main_file(job: None, tell: object) -> str | None:
    """Say which main module this process knows."""
    return getattr(sys.modules["__main__"], "__file__", None)


def act(job: str, tell: Callable[[str], None]) -> tuple[str, int]:
    """Do what the job says."""
    match job.split():
        case ["exit", code]:
            os._exit(int(code))
        case ["kill"]:
            os.kill(os.getpid(), signal.SIGKILL)
        case ["raise"]:
            raise ValueError("not with this one")
        case ["tell", *words]:
            for word in words:
                tell(word)
        case ["sleep", seconds]:
            time.sleep(float(seconds))
        case ["save", path]:
            signal.signal(signal.SIGTERM, lambda *_: Path(path).write_text("saved") and sys.exit(0))
            tell("ready")
            time.sleep(60)
    return job, os.getpid()


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    yield
    assert multiprocessing.active_children() == []


@pytest.fixture
def worker() -> Iterator[Worker[str, str, tuple[str, int]]]:
    made = Worker(act)
    yield made
    made.end()


def test_one_process_does_all_jobs(worker: Worker[str, str, tuple[str, int]]) -> None:
    assert not worker.alive
    one, other = worker.ask("one"), worker.ask("tell this and that")
    assert isinstance(one, tuple) and isinstance(other, tuple)
    assert (one[0], other[0]) == ("one", "tell this and that") and one[1] == other[1] != os.getpid()


@pytest.mark.parametrize(("job", "code"), [("exit 3", 3), ("kill", -signal.SIGKILL)])
def test_a_death_is_a_value_and_the_next_job_gets_a_new_process(
    worker: Worker[str, str, tuple[str, int]], job: str, code: int
) -> None:
    death = worker.ask(job)
    assert isinstance(death, Death) and death.code == code and death.seconds > 0 and not worker.alive
    assert str(death).endswith("(exit code 3)" if code > 0 else "(signal 9)")
    assert worker.ask("next") != death and worker.alive


def test_a_process_that_died_between_two_jobs_is_heard_of_at_the_second(
    worker: Worker[str, str, tuple[str, int]],
) -> None:
    worker.ask("one")
    (process,) = multiprocessing.active_children()
    process.kill()
    process.join()
    assert isinstance(worker.ask("two"), Death)
    assert not isinstance(worker.ask("two"), Death)


def test_an_exception_is_raised_here_and_the_process_lives_on(worker: Worker[str, str, tuple[str, int]]) -> None:
    first = worker.ask("one")
    with pytest.raises(ValueError, match="not with this one"):
        worker.ask("raise")
    again = worker.ask("two")
    assert isinstance(first, tuple) and isinstance(again, tuple) and first[1] == again[1]


def test_a_daemon_may_start_one_too() -> None:
    """As Dask's workers, which are daemons."""
    outer = Worker(in_between)
    inner = outer.ask("kill")
    assert isinstance(inner, Death) and inner.code == -signal.SIGKILL and outer.alive
    outer.end()


def in_between(job: str, tell: object) -> object:
    assert multiprocessing.current_process().daemon
    worker = Worker(act)
    try:
        return worker.ask(job)
    finally:
        worker.end()
        assert multiprocessing.current_process().daemon


@pytest.mark.parametrize("count", [1, 2, 9])
def test_every_job_has_one_end(count: int) -> None:
    jobs = ["one", "exit 1", "tell a b", "two", "kill", "three"]
    events = list(run_jobs([act] * count, jobs, 0.0))
    ends = {job: event for job, event in events if not isinstance(event, Message)}
    assert len(events) == len(jobs) + 2 and sorted(ends) == sorted(jobs)
    assert [event.what for job, event in events if isinstance(event, Message) and job == "tell a b"] == ["a", "b"]
    assert {job for job, event in ends.items() if isinstance(event, Death)} == {"exit 1", "kill"}
    pids = {event.result[1] for event in ends.values() if isinstance(event, Done)}
    assert os.getpid() not in pids and (count > 1 or len(pids) == 3)


def test_a_job_is_taken_when_a_process_is_free_for_it() -> None:
    taken = 0

    def jobs() -> Iterator[str]:
        nonlocal taken
        for taken in range(1, 7):  # noqa: B007
            yield "job"

    ahead = [taken - done for done, _ in enumerate(run_jobs([act, act], jobs(), 0.0))]
    assert max(ahead) == 2


def test_no_jobs_start_no_process() -> None:
    assert list(run_jobs([act], [], 0.0)) == []


def test_a_busy_process_may_save_before_it_ends(tmp_path: Path) -> None:
    with contextlib.closing(run_jobs([act, act], [f"save {tmp_path / 'file'}", "sleep 60"], 30.0)) as events:
        while not isinstance(next(events)[1], Message):
            pass
        started = time.monotonic()
    assert (tmp_path / "file").read_text() == "saved" and time.monotonic() - started < 20


def test_whoever_starts_them_may_be_interrupted() -> None:
    def interrupt() -> None:
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        list(run_jobs([act, act], ["sleep 60", "sleep 60"], 0.0))


PROGRAM = """
import sys
from aupipe.fer_data.processes import run_jobs
from test_processes import act

if __name__ == "__main__":
    try:
        for job, event in run_jobs([act, act], ["tell busy", "tell busy", "sleep 60", "sleep 60"], 0.0):
            print(event, flush=True)
    except KeyboardInterrupt:
        sys.exit(130)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("early", [True, False], ids=["early", "late"])
def test_they_end_with_their_starter_in_silence(tmp_path: Path, number: signal.Signals, early: bool) -> None:
    """The signal goes to the whole group, as Ctrl-C does, or to the first process alone, as ``kill -9`` does."""
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    process = subprocess.Popen(
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT / ".house", Path(__file__).parent)))},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    children = list[psutil.Process]()
    deadline = time.monotonic() + 60
    if not early:
        for _ in range(4):  # what two jobs tell, and their ends
            process.stdout.readline()
    while len(children) < 3 and time.monotonic() < deadline:  # the resource tracker is one of them
        children = psutil.Process(process.pid).children(recursive=True)
    (os.killpg if number is signal.SIGINT else os.kill)(process.pid, number)
    _, said = process.communicate(timeout=30)
    assert process.returncode == (130 if number is signal.SIGINT else -number)
    if number is signal.SIGINT or not early:  # a starter killed while it starts others leaves them a torn message
        assert "Traceback" not in said and "KeyboardInterrupt" not in said, said
    gone, alive = psutil.wait_procs(children, timeout=20)
    assert len(gone) >= 3 and not alive


def test_a_main_module_that_starts_right_away_is_not_run_again(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from aupipe.fer_data.processes import Worker\n"
        "from test_processes import main_file\n"
        "worker = Worker(main_file, import_main=False)\n"
        "print('started', worker.ask(None))\n"
        "worker.end()\n"
    )
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": paths}
    )
    assert (done.stdout, done.stderr) == ("started None\n", "")
