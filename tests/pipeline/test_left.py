"""What is left of a stage's work is looked for first; processes are started only where they pay."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import aupipe.pipeline.left as left
from aupipe.fer_data.au_maps.codebook import load_codebook
from aupipe.fer_data.image_size import LIMIT_VARIABLE
from aupipe.fer_data.images import write_png
from aupipe.fer_data.types import Silent
from aupipe.pipeline.executors import DaskExecutor, Executor, SerialExecutor, workers
from aupipe.pipeline.executors.base import Job, Result
from aupipe.pipeline.executors.workers import WORTH_SECONDS
from aupipe.pipeline.landmarks.run import run_landmarks
from aupipe.pipeline.landmarks.tasks import PartJob, PartResult, finished_part
from aupipe.pipeline.landmarks.work import PARTS_FOLDER, REPORT_NAME
from aupipe.pipeline.maps.run import run_maps
from aupipe.pipeline.maps.tasks import MapConfig
from landmark_works import make_work
from offline import snapshot
from simulated_detectors import SIZE, simulated_config, simulated_manifest

MAPS = MapConfig(dict(load_codebook("default").content), image_size=48, map_size=16, rows_per_shard=2)


class Recorder(SerialExecutor):
    """Notes what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, float, bool]] = []
        self.run_over: list[object] = []

    def sized(self, jobs: int, seconds: float, *, isolated: bool = False) -> Executor:
        self.asked.append((jobs, seconds, isolated))
        return self

    def run(
        self, task: Callable[[Job], Result], jobs: Iterable[Job], on_death: Callable[[Job], None] | None = None
    ) -> Iterator[Result]:
        for job in jobs:
            self.run_over.append(job)
            yield task(job)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of worker processes of each cluster that is started."""
    counts, start = list[int](), workers._own_workers

    def counted(count: int) -> contextlib.AbstractContextManager[object]:
        counts.append(count)
        return start(count)

    monkeypatch.setattr(workers, "_own_workers", counted)
    return counts


@pytest.mark.parametrize(
    ("most", "jobs", "seconds", "processes"),
    [
        (2, 9, 0.0, 0),
        (2, 9, 1.9, 0),
        (2, 9, 2.0, 2),
        (8, 9, 3.5, 3),
        (8, 3, 100.0, 3),
        (8, 1, 100.0, 0),
        (1, 9, 100, 0),
    ],
)
def test_so_many_processes_are_started_as_pay(most: int, jobs: int, seconds: float, processes: int) -> None:
    chosen = DaskExecutor(most).sized(jobs, seconds * WORTH_SECONDS)
    assert (chosen.workers if isinstance(chosen, DaskExecutor) else 0) == processes
    isolated = DaskExecutor(most).sized(jobs, seconds * WORTH_SECONDS, isolated=True)
    assert isinstance(isolated, DaskExecutor) and isolated.workers == max(processes, 1)


def test_only_what_is_left_is_run() -> None:
    stage = left.Stage(
        task=lambda job: f"made {job}",
        known=lambda job: job != 2,
        finished=lambda job: f"found {job}" if job % 2 else None,
        looking=lambda job: 0.01,
        making=lambda job: 3.0,
        isolated=True,
    )
    recorder = Recorder()
    assert list(left.run_stage(stage, range(4), recorder)) == ["found 1", "found 3", "made 0", "made 2"]
    assert recorder.asked == [(2, 6.0, True)] and recorder.run_over == [0, 2]
    nobody = Recorder()
    assert list(left.run_stage(stage, [1, 3], nobody)) == ["found 1", "found 3"] and not nobody.asked
    long = Recorder()
    assert len(list(left.run_stage(replace(stage, looking=lambda job: left.LOOK_SECONDS), range(4), long))) == 4
    assert long.run_over == [0, 1, 2, 3], "each process looks for its own"
    assert long.asked == [(4, 3.0 + 3 * left.LOOK_SECONDS, True)], "what seems to be there is not counted as work"


def test_a_part_is_opened_here_only_where_its_digest_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A damaged one can make HDF5 hang; a worker that hangs can be ended, this process cannot."""
    manifest, config = simulated_manifest(tmp_path, 12), simulated_config(part_size=4)
    run_landmarks(manifest, tmp_path / "work", config, SerialExecutor(), Silent())
    part = tmp_path / "work" / PARTS_FOLDER / "part-00001.h5"
    part.write_bytes(part.read_bytes()[:-1] + b"?")
    opened = list[str]()

    def noted(job: PartJob) -> PartResult | None:
        opened.append(job.path.name)
        return finished_part(job)

    monkeypatch.setattr("aupipe.pipeline.landmarks.run.finished_part", noted)
    recorder = Recorder()
    again = run_landmarks(manifest, tmp_path / "work", config, recorder, Silent())
    assert opened == ["part-00000.h5", "part-00002.h5"] and again.parts_skipped == 2
    (tmp_path / "work" / REPORT_NAME).unlink()
    opened.clear()
    assert run_landmarks(manifest, tmp_path / "work", config, recorder, Silent()).parts_skipped == 3 and not opened


def test_photos_that_cannot_be_reached_stop_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"x" * 1000)
    assert left.photo_seconds(tmp_path, ["a.png", "x" * 300]) == left.photo_seconds(tmp_path, ["a.png"]) > 0


def test_large_photos_take_longer(tmp_path: Path) -> None:
    assert left.photo_seconds(tmp_path, ["none.jpg"]) == 0
    (tmp_path / "large.jpg").write_bytes(bytes(2_000_000))
    (tmp_path / "small.jpg").write_bytes(b"")
    assert left.photo_seconds(tmp_path, ["large.jpg", "none.jpg", "small.jpg"]) == 1e6 / left.PHOTO_BYTES_PER_SECOND


def test_landmarks_take_one_process_for_a_few_photos_and_none_for_none(tmp_path: Path, started: list[int]) -> None:
    """One, because a photo must not end the command; it is worth no second one."""
    manifest, config = simulated_manifest(tmp_path, 12), simulated_config(part_size=4)
    first = run_landmarks(manifest, tmp_path / "work", config, DaskExecutor(2), Silent())
    assert first.ok == 12 and first.parts > 1 and started == [1]
    made = snapshot(tmp_path / "work" / "landmarks")
    again = run_landmarks(manifest, tmp_path / "work", config, DaskExecutor(2), Silent())
    assert again.parts_skipped == again.parts == first.parts and started == [1]
    assert snapshot(tmp_path / "work" / "landmarks") == made


def test_unreadable_photos_take_no_process_until_they_may_be_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started: list[int]
) -> None:
    large, damaged = (tmp_path / "faces" / "fear" / name for name in ("large.png", "damaged.png"))
    write_png(large, np.full((2 * SIZE, SIZE, 3), 90, np.uint8))
    damaged.write_bytes(b"no image")
    manifest, config = simulated_manifest(tmp_path, 4), simulated_config()
    monkeypatch.setenv(LIMIT_VARIABLE, str(SIZE * SIZE))
    for _ in range(2):
        report = run_landmarks(manifest, tmp_path / "work", config, DaskExecutor(2), Silent(), 1)
        assert report.failed == {"unreadable": 1, "too_large": 1} and started == [1]
    monkeypatch.delenv(LIMIT_VARIABLE)
    for skipped in (0, 1):
        report = run_landmarks(manifest, tmp_path / "work", config, DaskExecutor(2), Silent(), 1)
        assert report.failed == {"unreadable": 1} and report.parts_skipped == skipped and started == [1, 1]


def test_a_small_store_takes_no_process(tmp_path: Path, started: list[int]) -> None:
    """Nor does one that is there; the bytes are those of the serial run."""
    work = make_work(tmp_path)
    first, again = (run_maps(work, tmp_path / "store", MAPS, DaskExecutor(2), Silent()) for _ in range(2))
    assert first.parts == again.parts == again.parts_skipped > 2 and not first.parts_skipped and not started
    run_maps(work, tmp_path / "serial", MAPS, SerialExecutor(), Silent())
    assert snapshot(tmp_path / "store") == snapshot(tmp_path / "serial")


def test_a_large_store_is_estimated_by_its_photos_and_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, recorder = make_work(tmp_path), Recorder()
    monkeypatch.setattr("aupipe.pipeline.maps.run.DRAWING_SECONDS", 1.0)
    monkeypatch.setattr(left, "PHOTO_BYTES_PER_SECOND", 1)
    run_maps(work, tmp_path / "store", MAPS, recorder, Silent())
    ((jobs, seconds, isolated),) = recorder.asked
    size = sum(path.stat().st_size for path in (tmp_path / "faces").rglob("*.png")) / 10
    assert jobs == 5 and not isolated and seconds == pytest.approx(8 * (1 + size), rel=0.05)
    (tmp_path / "store" / "train-00000.h5").unlink()
    run_maps(work, tmp_path / "store", MAPS, recorder, Silent())
    assert recorder.asked[1] == (1, pytest.approx(seconds / 4, rel=0.05), False)
