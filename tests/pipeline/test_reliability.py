"""Same bytes whatever happens: worker processes, SIGKILL, a second process in the same folder."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fer_data.errors import FolderInUseError
from fer_data.files import folder_lock
from fer_data.types import Silent
from offline import LANDMARKS, MAPS, Built, snapshot
from pipeline.executors import DaskExecutor, SerialExecutor
from pipeline.landmarks import run_landmarks
from pipeline.maps import run_maps

SCRIPT = """
import sys
from pathlib import Path
from fer_data.codebook import load_codebook
from fer_data.manifest import read_manifest
from fer_data.types import Silent
from pipeline.executors import SerialExecutor
from pipeline.landmarks import LandmarkConfig, run_landmarks
from pipeline.maps import run_maps
from pipeline.shard_tasks import MapConfig

manifest, work, store = map(Path, sys.argv[1:])
run_landmarks(read_manifest(manifest), work, LandmarkConfig(part_size=8), SerialExecutor(), Silent())
config = MapConfig(dict(load_codebook("default").content), image_size=64, map_size=16, rows_per_shard=8)
run_maps(work, store, config, SerialExecutor(), Silent())
"""


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_worker_processes_write_the_same_bytes(built: Built, tmp_path: Path, workers: int) -> None:
    work, store = tmp_path / "work", tmp_path / "store"
    report = run_landmarks(built.dataset.manifest, work, LANDMARKS, DaskExecutor(workers), Silent())
    run_maps(work, store, MAPS, DaskExecutor(workers), Silent())
    assert report.ok + sum(report.failed.values()) == len(built.dataset.manifest.samples)
    assert snapshot(store) == snapshot(built.store)
    assert snapshot(work / "landmarks") == snapshot(built.work / "landmarks")


@pytest.mark.slow
def test_killed_again_and_again_the_bytes_are_the_same(built: Built, tmp_path: Path) -> None:
    """SIGKILL at random moments until a run gets through; every file ever seen under its final name is complete."""
    work, store = tmp_path / "work", tmp_path / "store"
    command = [sys.executable, "-c", SCRIPT, str(built.dataset.path), str(work), str(store)]
    rng, patience, kills = random.Random(7), 0.9, 0
    reference = {**snapshot(built.work / "landmarks"), **snapshot(built.store)}
    while kills < 50:
        process = subprocess.Popen(command, cwd=Path(__file__).parents[2], stderr=subprocess.DEVNULL)
        try:
            assert process.wait(timeout=patience * rng.uniform(0.6, 1.2)) == 0
            break
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
            patience *= 1.06
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
    with folder_lock(own.store):
        pass
