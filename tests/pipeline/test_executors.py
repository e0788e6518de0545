"""Executors: bounded submission, an external cluster, and what goes wrong told in one paragraph."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import aupipe.pipeline.executors.cluster as clusters
import dask_cluster
from aupipe.fer_data.errors import FerError, UserInputError
from aupipe.fer_data.machine import usable_cpus
from aupipe.fer_data.types import Silent
from aupipe.pipeline.executors import Executor, ProcessExecutor, SchedulerExecutor, SerialExecutor, create_executor
from aupipe.pipeline.executors.handshake import checked_call, installed_software
from aupipe.pipeline.landmarks.run import run_landmarks
from aupipe.pipeline.landmarks.work import PARTS_FOLDER
from dask_cluster import Cluster
from offline import snapshot
from protocols import assert_fulfils
from simulated_detectors import simulated_config, simulated_manifest


def double(job: int) -> int:
    return 2 * job


def refuse(job: int) -> int:
    raise UserInputError(f"Not with {job}.")


def die(job: int) -> int:
    if job == 1:
        os._exit(1)
    return job


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path)
    try:
        yield made
    finally:
        made.close()


def test_the_options_choose_the_executor() -> None:
    assert isinstance(create_executor(0), SerialExecutor)
    chosen = create_executor(3)
    assert isinstance(chosen, ProcessExecutor) and chosen.workers == 3
    assert isinstance(create_executor(0, "tcp://head:8786"), SchedulerExecutor)
    default = create_executor(None)
    assert isinstance(default, ProcessExecutor) and default.workers == usable_cpus()


@pytest.mark.parametrize("kind", [SerialExecutor, ProcessExecutor, SchedulerExecutor])
def test_each_is_an_executor(kind: type, request: pytest.FixtureRequest) -> None:
    """One result a job, none without jobs, and the error of a task is raised here."""
    made: Executor = SerialExecutor()
    if kind is ProcessExecutor:
        made = ProcessExecutor(2)
    elif kind is SchedulerExecutor:
        cluster: Cluster = request.getfixturevalue("cluster")
        cluster.add_workers(1)
        made = SchedulerExecutor(cluster.address)
    assert_fulfils(made, Executor)
    assert sorted(made.run(double, iter(range(5)))) == [0, 2, 4, 6, 8]
    assert list(made.run(double, [], on_death=None)) == []
    with pytest.raises(UserInputError, match="Not with 0"):
        list(made.run(refuse, [0]))


def test_jobs_are_taken_only_as_they_are_needed() -> None:
    """Never more than one a process beyond those whose results were taken."""
    taken, ahead = 0, list[int]()

    def jobs() -> Iterator[int]:
        nonlocal taken
        for job in range(50):
            taken += 1
            yield job

    results = list[int]()
    for result in ProcessExecutor(2).run(double, jobs()):
        results.append(result)
        ahead.append(taken - len(results))
    assert sorted(results) == list(range(0, 100, 2))
    assert 0 < max(ahead) <= 2


def test_an_error_of_a_task_is_raised_here() -> None:
    with pytest.raises(UserInputError, match="Not with 0"):
        list(ProcessExecutor(1).run(refuse, [0]))


def test_a_dead_worker_is_one_paragraph_or_the_callers_business() -> None:
    with pytest.raises(FerError, match=r"worker process died.*memory"):
        list(ProcessExecutor(1).run(die, [1]))
    dead = list[int]()
    done = list(ProcessExecutor(1).run(die, range(6), dead.append))
    assert 1 in dead and sorted(done + dead) == list(range(6))


def test_other_software_is_refused() -> None:
    assert checked_call(double, 4, installed_software()) == 8
    other = tuple((name, "0.0" if name == "numpy" else found) for name, found in installed_software())
    with pytest.raises(FerError, match=r"Expected: numpy 0\.0\. Got: numpy \d"):
        checked_call(double, 4, other)
    stated = dict(installed_software())
    assert {"aupipe", "h5py", "mediapipe", "numpy", "opencv-python"} <= set(stated)
    assert {"dlib-bin", "face-recognition-models"} <= set(stated)
    with pytest.raises(FerError, match=r"Expected: dlib-bin 0\.0\. Got: dlib-bin (\d|absent)"):
        checked_call(double, 4, tuple({**stated, "dlib-bin": "0.0"}.items()))


def test_no_scheduler_is_told_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    assert clusters.CONNECT_SECONDS <= 10
    monkeypatch.setattr(clusters, "CONNECT_SECONDS", 1.0)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{unused.getsockname()[1]}"
        started = time.monotonic()
        with pytest.raises(UserInputError, match=f"No Dask scheduler answers at {address}"):
            list(create_executor(None, address).run(double, [1]))
    assert time.monotonic() - started < 4


@pytest.mark.parametrize("address", ["nonsense", "carrier-pigeon://head:1", "tcp://127.0.0.1:notaport"])
def test_an_address_that_is_none_is_told(address: str) -> None:
    with pytest.raises(UserInputError, match="No Dask scheduler answers"):
        list(create_executor(None, address).run(double, [1]))


@pytest.mark.slow
def test_an_external_cluster_writes_the_same_bytes_and_stays(cluster: Cluster, tmp_path: Path) -> None:
    manifest, config = simulated_manifest(tmp_path, 60), simulated_config()
    run_landmarks(manifest, tmp_path / "serial", config, SerialExecutor(), Silent())
    notes = list[str]()
    later = threading.Timer(1.5, cluster.add_workers, [2])
    later.start()  # the first workers come late, as from a batch system
    executor = create_executor(None, cluster.address, notes.append)
    report = run_landmarks(manifest, tmp_path / "cluster", config, executor, Silent())
    assert report.ok == 60 and report.parts_skipped == 0
    assert snapshot(tmp_path / "cluster" / PARTS_FOLDER) == snapshot(tmp_path / "serial" / PARTS_FOLDER)
    assert any("first worker" in note for note in notes) and any(cluster.address in note for note in notes)
    again = run_landmarks(manifest, tmp_path / "cluster", config, executor, Silent())
    assert again.parts_skipped == again.parts
    assert cluster.scheduler.poll() is None


@pytest.mark.slow
def test_a_scheduler_that_dies_is_told_and_the_run_continues_later(cluster: Cluster, tmp_path: Path) -> None:
    manifest, config = simulated_manifest(tmp_path, 40), simulated_config(part_size=4, seconds=0.05)
    run_landmarks(manifest, tmp_path / "serial", replace(config), SerialExecutor(), Silent())
    cluster.add_workers(1)

    class Killer(Silent):
        def advance(self, count: int) -> None:
            cluster.scheduler.kill()

    with pytest.raises(FerError, match=r"connection to the Dask scheduler was lost.*again to continue"):
        run_landmarks(manifest, tmp_path / "work", config, create_executor(None, cluster.address), Killer())
    assert not (tmp_path / "work" / "landmarks.json").exists()
    report = run_landmarks(manifest, tmp_path / "work", config, SerialExecutor(), Silent())
    assert 0 < report.parts_skipped < report.parts
    assert snapshot(tmp_path / "work" / PARTS_FOLDER) == snapshot(tmp_path / "serial" / PARTS_FOLDER)


@pytest.mark.slow
def test_a_cluster_without_workers_is_told(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "FIRST_WORKER_SECONDS", 0.5)
    with pytest.raises(FerError, match=r"has no workers.*dask worker"):
        list(create_executor(None, cluster.address).run(double, [1]))


@pytest.mark.slow
def test_a_cluster_that_cannot_load_the_task_is_told(cluster: Cluster) -> None:
    """The workers lack this test module, as they would lack aupipe."""
    cluster.add_workers(1, path=str(dask_cluster.ROOT / ".house"))
    with pytest.raises(FerError, match=f"cannot load aupipe.*No module named '{__name__}'"):
        list(create_executor(None, cluster.address).run(double, [1]))


@pytest.mark.slow
def test_a_worker_that_does_not_see_the_folders_is_told(tmp_path: Path) -> None:
    manifest = simulated_manifest(tmp_path, 4)
    elsewhere = replace(manifest, root=tmp_path / "not mounted")
    with pytest.raises(UserInputError, match=r"folder of the images is not there.*not mounted on"):
        run_landmarks(elsewhere, tmp_path / "work", simulated_config(), SerialExecutor(), Silent())
    assert not list((tmp_path / "work" / PARTS_FOLDER).glob("*.h5"))
