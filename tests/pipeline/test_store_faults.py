"""What may happen to a store while it is built: SIGKILL, a full disk, a folder that cannot be written, flipped bits."""

from __future__ import annotations

import errno
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aupipe.fer_data.au_maps.codebook import load_codebook
from aupipe.fer_data.errors import FerError, StoreError
from aupipe.fer_data.shards import verify_store
from aupipe.fer_data.types import Silent
from aupipe.pipeline.executors import Executor, SchedulerExecutor, SerialExecutor
from aupipe.pipeline.maps.repair import stated_config
from aupipe.pipeline.maps.run import run_maps
from aupipe.pipeline.maps.tasks import MapConfig
from dask_cluster import Cluster
from forked import start_command
from landmark_works import make_work
from offline import snapshot
from told_processes import ToldExecutor

ROOT = Path(__file__).parents[2]
KILLS = 60
CONFIG = MapConfig(dict(load_codebook("default").content), image_size=48, map_size=16, rows_per_shard=2)
OPTIONS = ["--image-size", "48", "--map-size", "16", "--rows-per-shard", "2", "--workers", "0"]


def build_stores(folder: Path, count: int) -> Path:
    """``work`` of ``count`` photos and its stores ``raw`` and ``jpeg``, two photos a shard, built undisturbed."""
    make_work(folder, count=count, part_size=16)
    for encoding in ("raw", "jpeg"):
        config = replace(CONFIG, encoding=encoding)
        run_maps(folder / "work", folder / encoding, config, SerialExecutor(), Silent())
    return folder


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stores of some 30 shards."""
    return build_stores(tmp_path_factory.mktemp("faults"), 60)


def start(work: Path, store: Path, limit: Callable[[], None] | None = None) -> subprocess.Popen[bytes]:
    """``aupipe build-maps``, the real command line."""
    words = ["build-maps", str(work), "--out", str(store), *OPTIONS]
    return subprocess.Popen(
        [sys.executable, str(ROOT / "cli.py"), *words],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        preexec_fn=limit,
    )


def begin(work: Path, store: Path, encoding: str) -> BaseProcess:
    """The same command, forked from a process that has imported everything; returns when it begins to write."""
    words = ["build-maps", str(work), "--out", str(store), "--encoding", encoding, *OPTIONS]
    process = start_command(words, store.with_name("said"))
    deadline = time.monotonic() + 60
    while not (store / ".lock").exists():
        assert process.is_alive() and time.monotonic() < deadline
        time.sleep(0.002)
    return process


def end(process: BaseProcess, store: Path) -> None:
    process.join(60)
    assert process.exitcode == 0, store.with_name("said").read_text()


def undisturbed_seconds(origin: Path, store: Path) -> float:
    process = begin(origin / "work", store, "raw")
    begun = time.monotonic()
    end(process, store)
    return time.monotonic() - begun


@dataclass
class Tally:
    """What became of the killed runs."""

    kills: int = 0
    finished: int = 0
    halves: int = 0
    damaged: list[str] = field(default_factory=list)


def kill_until_done(origin: Path, store: Path, encoding: str, rng: random.Random, tally: Tally, seconds: float) -> None:
    """Kill runs into one folder at random moments until one gets through; then the store is the undisturbed one."""
    reference = snapshot(origin / encoding)
    while tally.kills < KILLS:
        (store / ".lock").unlink(missing_ok=True)
        process = begin(origin / "work", store, encoding)
        process.join(rng.uniform(0, 0.5 * seconds))
        process.kill()
        process.join()
        if process.exitcode != -signal.SIGKILL:
            break
        tally.kills += 1
        seen = snapshot(store)
        tally.halves += any(name.endswith(".tmp") for name in seen)
        tally.damaged += [name for name, data in seen.items() if name[0] != "." and reference[name] != data]
    else:
        process = begin(origin / "work", store, encoding)
    end(process, store)
    tally.finished += 1
    assert snapshot(store) == reference and verify_store(store, rows=True) == []


@pytest.mark.slow
def test_sixty_kills_lose_nothing(origin: Path, tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    """SIGKILL at random moments of the writing; no file under its final name is ever incomplete."""
    rng, tally = random.Random(11), Tally()
    seconds = min(undisturbed_seconds(origin, tmp_path / f"timed{number}") for number in range(3))
    while tally.kills < KILLS:
        encoding = ("raw", "jpeg")[tally.finished % 2]
        kill_until_done(origin, tmp_path / f"store{tally.finished}", encoding, rng, tally, seconds)
    for name in ("kills", "finished", "halves"):
        record_property(name, getattr(tally, name))
    print(f"{tally.kills} runs killed, {tally.halves} left a half-written file, {len(tally.damaged)} files lost; "
          f"{tally.finished} stores finished with the undisturbed bytes")  # fmt: skip
    assert tally.kills >= 50 and tally.damaged == []
    assert tally.halves >= 3, "no run was killed while it wrote: the test proved nothing"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    cluster.add_workers(2)
    yield cluster
    cluster.close()


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["raw", "jpeg"])
def test_every_way_of_running_writes_the_same_bytes(
    origin: Path, cluster: Cluster, tmp_path: Path, encoding: str
) -> None:
    executors: dict[str, Executor] = {
        "one": ToldExecutor(1), "two": ToldExecutor(2), "cluster": SchedulerExecutor(cluster.address),
    }  # fmt: skip
    for name, executor in executors.items():
        store = tmp_path / name
        run_maps(origin / "work", store, replace(CONFIG, encoding=encoding), executor, Silent())
        assert snapshot(store) == snapshot(origin / encoding), name


class Interrupted(SerialExecutor):
    """Ends while it runs the plan of the given number, after three of its shards."""

    def __init__(self, plan: int) -> None:
        self.left = plan

    def run(self, task: Any, jobs: Any, on_death: Any = None) -> Iterator[Any]:
        self.left -= 1
        for number, result in enumerate(super().run(task, jobs, on_death)):
            if self.left == 0 and number == 3:
                raise KeyboardInterrupt
            yield result


def test_what_was_built_around_an_unusable_photo_is_kept(origin: Path, tmp_path: Path) -> None:
    """A photo that is gone changes the plan half way; an interrupted run does not start with the first plan again."""
    make_work(tmp_path, count=60, part_size=16)
    first = run_maps(tmp_path / "work", tmp_path / "first", CONFIG, SerialExecutor(), Silent())
    assert first.failed["missing_file"] == 1
    for path in sorted((tmp_path / "faces" / "s").iterdir())[10:12]:
        path.unlink()
    run_maps(tmp_path / "work", tmp_path / "whole", CONFIG, SerialExecutor(), Silent())
    with pytest.raises(KeyboardInterrupt):
        run_maps(tmp_path / "work", tmp_path / "store", CONFIG, Interrupted(2), Silent())
    assert not (tmp_path / "store" / "index.json").exists()
    there = {path: path.stat().st_mtime_ns for path in (tmp_path / "store").glob("train-0000[0-2].h5")}
    report = run_maps(tmp_path / "work", tmp_path / "store", CONFIG, SerialExecutor(), Silent())
    assert report.failed["missing_file"] == 3 and report.parts_skipped >= 3
    assert snapshot(tmp_path / "store") == snapshot(tmp_path / "whole")
    assert len(there) == 3 and all(path.stat().st_mtime_ns == time for path, time in there.items())


# --- the disk ---


def half_built(origin: Path, store: Path) -> set[str]:
    """A store without its last shards and index; the names of the shards that are there."""
    shutil.copytree(origin / "raw", store)
    for path in sorted(store.glob("*.h5"))[5:]:
        path.unlink()
    (store / "index.json").unlink()
    return {path.name for path in store.glob("*.h5")}


def assert_nothing_lost(origin: Path, store: Path) -> None:
    """What is there is whole, there is no index, and the next run ends with the undisturbed bytes."""
    reference = snapshot(origin / "raw")
    assert not (store / "index.json").exists()
    assert all(reference[name] == data for name, data in snapshot(store).items())
    run_maps(origin / "work", store, CONFIG, SerialExecutor(), Silent())
    assert snapshot(store) == reference


def test_a_write_that_fails_is_one_paragraph(origin: Path, tmp_path: Path) -> None:
    """The real command under a limit that a shard exceeds, as on a full disk."""
    store = tmp_path / "store"
    kept = half_built(origin, store)
    limit = 20_000
    assert limit < (origin / "raw" / "train-00000.h5").stat().st_size
    process = start(origin / "work", store, limit=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert (
        b"Could not write" in said
        and b"File too large" in said
        and b"run the same command again" in said.replace(b"\n", b" ")
    )
    assert b"Traceback" not in said
    assert {path.name for path in store.glob("*.h5")} == kept
    assert_nothing_lost(origin, store)


def test_a_full_disk_loses_nothing(origin: Path, tmp_path: Path) -> None:
    """A file system of 400 kB that really fills up."""
    disk = tmp_path / "disk"
    disk.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if done.returncode != 0:
        pytest.skip("needs the right to mount a file system")
    try:
        with pytest.raises(FerError, match="No space left on device"):
            run_maps(origin / "work", disk / "store", CONFIG, SerialExecutor(), Silent())
        assert list((disk / "store").glob("*.h5")), "the disk was full at once: the test proved nothing"
        subprocess.run(["mount", "-o", "remount,size=20m", str(disk)], check=True)
        assert_nothing_lost(origin, disk / "store")
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("call", [0, 1, 7])
def test_any_failing_sync_loses_nothing(
    origin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, call: int
) -> None:
    import aupipe.fer_data.files

    store = tmp_path / "store"
    half_built(origin, store)
    real, calls = aupipe.fer_data.files._fsync, []

    def failing(path: Path) -> None:
        calls.append(path)
        if len(calls) > call:
            raise OSError(number, os.strerror(number), str(path))
        real(path)

    monkeypatch.setattr(aupipe.fer_data.files, "_fsync", failing)
    with pytest.raises(FerError, match=f"Could not write .*{os.strerror(number)}"):
        run_maps(origin / "work", store, CONFIG, SerialExecutor(), Silent())
    monkeypatch.undo()
    assert_nothing_lost(origin, store)


def test_a_folder_that_cannot_be_written_is_one_paragraph(origin: Path, tmp_path: Path) -> None:
    """Root may write anywhere, so for root the folder lies where nobody can make one."""
    if os.geteuid() == 0:
        store = Path("/proc/aupipe-store")
    else:
        store = tmp_path / "closed" / "store"
        store.parent.mkdir(mode=0o500)
    process = start(origin / "work", store)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1 and b"Traceback" not in said
    assert str(store.name).encode() in said


# --- bytes that change afterwards ---


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stores of some shards in each split: a repair reads every photo."""
    return build_stores(tmp_path_factory.mktemp("small"), 10)


@pytest.fixture(scope="module", params=["raw", "jpeg"])
def lasting(small: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """A store that each example damages, and repairs."""
    return Path(shutil.copytree(small / request.param, tmp_path_factory.mktemp("bits") / request.param))


@given(data=st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_changed_byte_is_found_and_mended(small: Path, lasting: Path, data: st.DataObject) -> None:
    reference = snapshot(small / lasting.name)
    name = data.draw(st.sampled_from(sorted(reference)))
    damaged = bytearray(reference[name])
    damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
    (lasting / name).write_bytes(damaged)
    try:
        found = [finding.file for finding in verify_store(lasting)]
    except StoreError as error:
        assert "index.json" in str(error)
        found = ["index.json"]
    assert found == [name]
    run_maps(small / "work", lasting, stated_config(lasting), SerialExecutor(), Silent(), repair=True)
    assert snapshot(lasting) == reference
