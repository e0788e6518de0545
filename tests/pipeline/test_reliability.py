"""Same bytes whatever happens: worker processes, SIGKILL, a second process in the same folder."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from aupipe.fer_data.errors import FolderInUseError
from aupipe.fer_data.folders import STORE, output_folder
from aupipe.fer_data.manifest import Manifest
from aupipe.fer_data.types import Silent
from aupipe.pipeline.executors import SerialExecutor
from aupipe.pipeline.landmarks.run import run_landmarks
from aupipe.pipeline.landmarks.work import PARTS_FOLDER
from aupipe.pipeline.maps.run import run_maps
from forked import CONTEXT
from offline import LANDMARKS, MAPS, Built, build, snapshot
from simulated_detectors import KILL, simulated_config, simulated_manifest
from told_processes import ToldExecutor

ROOT = Path(__file__).parents[2]

COMMAND_LINE = """
import sys
import aupipe.pipeline.landmarks.tasks
from aupipe.commands.cli import main
from simulated_detectors import SimulatedConfig, register

register()
aupipe.pipeline.landmarks.tasks.LandmarkConfig = lambda **options: SimulatedConfig(**options, part_size=4)
if __name__ == "__main__":
    main()
"""
"""The real command line, with the simulated detectors and small parts."""


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_worker_processes_write_the_same_bytes(built: Built, tmp_path: Path, workers: int) -> None:
    work, store = tmp_path / "work", tmp_path / "store"
    report = run_landmarks(built.dataset.manifest, work, LANDMARKS, ToldExecutor(workers), Silent())
    run_maps(work, store, MAPS, ToldExecutor(workers), Silent())
    assert report.ok + sum(report.failed.values()) == len(built.dataset.manifest.samples)
    assert snapshot(store) == snapshot(built.store)
    assert snapshot(work / "landmarks") == snapshot(built.work / "landmarks")


@pytest.mark.slow
def test_killed_again_and_again_the_bytes_are_the_same(built: Built, tmp_path: Path) -> None:
    """SIGKILL at random moments until a run gets through; every file ever seen under its final name is complete."""
    work, store = tmp_path / "work", tmp_path / "store"
    rng, patience, kills = random.Random(7), 0.3, 0
    reference = {**snapshot(built.work / "landmarks"), **snapshot(built.store)}
    while kills < 50:
        process = CONTEXT.Process(target=build, args=(built.dataset.path, work, store))
        process.start()
        process.join(patience * rng.uniform(0.6, 1.2))
        process.kill()
        process.join()
        if process.exitcode != -signal.SIGKILL:
            assert process.exitcode == 0
            break
        kills += 1
        patience *= 1.1
        seen = {**snapshot(work / "landmarks"), **(snapshot(store) if store.exists() else {})}
        assert all(reference[name] == data for name, data in seen.items() if not name.startswith("."))
    assert kills >= 3, "the process was never killed: the test proved nothing"
    assert snapshot(store) == snapshot(built.store)
    assert snapshot(work / "landmarks") == snapshot(built.work / "landmarks")


def test_folder_in_use_is_refused(own: Built) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", f"import fcntl, time; f = open({str(own.store / '.lock')!r}, 'w'); "
         "fcntl.flock(f, fcntl.LOCK_EX); print('held', flush=True); time.sleep(60)"],
        stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert holder.stdout is not None and holder.stdout.readline().strip() == b"held"
        with pytest.raises(FolderInUseError, match="in use"):
            run_maps(own.work, own.store, MAPS, SerialExecutor(), Silent())
    finally:
        holder.kill()
        holder.communicate()
    time.sleep(0.05)
    with output_folder(own.store, STORE):
        pass


def start_command_line(folder: Path, manifest: Path, workers: int, **options: Any) -> subprocess.Popen[bytes]:
    """``aupipe landmarks`` at 50 ms an image, the leader of its own process group as in a terminal."""
    script = folder / "program.py"
    script.write_text(COMMAND_LINE)
    words = ["landmarks", str(manifest), "--out", str(folder / "work"), "--workers", str(workers)]
    words += ["--detector", "simulated-slow", "--model", "0.05"]
    return subprocess.Popen(
        [sys.executable, str(script), *words],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT / ".house", ROOT / "tests")))},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
        **options,
    )


def wait_for_parts(folder: Path, process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Wait until some parts are finished; returns every process of the run but the first."""
    deadline = time.monotonic() + 60
    while len(list((folder / "work" / PARTS_FOLDER).glob("part-*.h5"))) < 2:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    return psutil.Process(process.pid).children(recursive=True)


def assert_gone(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=5)
    for process in alive:
        process.kill()
    assert not alive


def assert_continues(folder: Path, manifest: Manifest) -> None:
    """Running it again keeps the finished parts and ends with the bytes of an undisturbed run."""
    config = simulated_config(part_size=4)
    run_landmarks(manifest, folder / "undisturbed", config, SerialExecutor(), Silent())
    report = run_landmarks(manifest, folder / "work", config, SerialExecutor(), Silent())
    assert 0 < report.parts_skipped < report.parts
    assert snapshot(folder / "work" / PARTS_FOLDER) == snapshot(folder / "undisturbed" / PARTS_FOLDER)


@pytest.mark.slow
@pytest.mark.parametrize("whole_group", [False, True], ids=["process", "group"])
@pytest.mark.parametrize("workers", [0, 2])
def test_control_c_ends_within_two_seconds(tmp_path: Path, workers: int, whole_group: bool) -> None:
    manifest = simulated_manifest(tmp_path, 200)
    process = start_command_line(tmp_path, tmp_path / "faces.csv", workers)
    children = wait_for_parts(tmp_path, process)
    assert len(children) >= workers
    started = time.monotonic()
    (os.killpg if whole_group else os.kill)(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert time.monotonic() - started < 2
    assert process.returncode == 130
    assert b"Interrupted" in said and b"Traceback" not in said and b"Warning" not in said, said.decode()
    assert_gone(children)
    assert_continues(tmp_path, manifest)


@pytest.mark.slow
def test_control_c_ends_the_processes_of_single_photos(tmp_path: Path) -> None:
    """While a part whose worker died is tried again, workers have processes of their own."""
    simulated_manifest(tmp_path, 12, {5: KILL})
    process = start_command_line(tmp_path, tmp_path / "faces.csv", 2)
    deadline, first = time.monotonic() + 120, psutil.Process(process.pid)
    assert process.stderr is not None
    os.set_blocking(process.stderr.fileno(), False)
    before, below = b"", list[psutil.Process]()
    while not (below and b"each photo in a process of its own" in before):
        assert process.poll() is None and time.monotonic() < deadline
        before += process.stderr.read() or b""
        with contextlib.suppress(psutil.NoSuchProcess):  # workers die in the first attempt
            below = [child for worker in first.children() for child in worker.children()]
        time.sleep(0.02)
    os.set_blocking(process.stderr.fileno(), True)
    children = first.children(recursive=True)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 130 and b"Interrupted" in said
    assert b"Traceback" not in said and b"Warning" not in said, said.decode()
    assert_gone(children)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_with_their_parent(tmp_path: Path, number: signal.Signals) -> None:
    manifest = simulated_manifest(tmp_path, 200)
    process = start_command_line(tmp_path, tmp_path / "faces.csv", 2)
    children = wait_for_parts(tmp_path, process)
    process.send_signal(number)
    process.communicate(timeout=20)
    assert process.returncode != 0 and len(children) >= 2
    assert_gone(children)
    assert_continues(tmp_path, manifest)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_a_write_that_fails_is_one_paragraph(tmp_path: Path, workers: int) -> None:
    """As on a full disk: no file may grow beyond 20 kB, less than a part takes."""
    simulated_manifest(tmp_path, 8)
    process = start_command_line(
        tmp_path,
        tmp_path / "faces.csv",
        workers,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)),
    )
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert b"Could not write" in said and b"File too large" in said and b"Traceback" not in said, said.decode()
    assert not list((tmp_path / "work" / PARTS_FOLDER).iterdir())
