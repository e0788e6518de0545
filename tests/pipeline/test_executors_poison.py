"""An image that kills the process that looks at it costs that image alone."""

from __future__ import annotations

import csv
from dataclasses import replace
from multiprocessing import resource_tracker
from pathlib import Path

import numpy as np
import pytest

from aupipe.fer_data.errors import FerError
from aupipe.fer_data.landmark_parts import LandmarkPart, read_part
from aupipe.fer_data.manifest import Manifest
from aupipe.fer_data.types import Reason, Silent, StageReport
from aupipe.pipeline.executors import DaskExecutor, SchedulerExecutor, SerialExecutor
from aupipe.pipeline.isolation import MAX_DEADLY
from aupipe.pipeline.landmarks.isolation import detect_part_isolated, isolated_rows
from aupipe.pipeline.landmarks.run import plan_landmarks, run_landmarks
from aupipe.pipeline.landmarks.tasks import close_detector, shared_detector, stage_identity
from aupipe.pipeline.landmarks.work import PARTS_FOLDER, open_work
from dask_cluster import Cluster
from offline import LANDMARKS, Built, snapshot
from simulated_detectors import EXIT, KILL, SEGFAULT, simulated_config, simulated_manifest
from told_processes import ToldExecutor

DEADLY = {5: KILL, 17: SEGFAULT, 18: EXIT}
COUNT = 40


def run(manifest: Manifest, work: Path, workers: int) -> StageReport:
    executor = ToldExecutor(workers) if workers else SerialExecutor()
    return run_landmarks(manifest, work, simulated_config(), executor, Silent())


def assert_same_but(part: LandmarkPart, other: LandmarkPart, deadly: set[str]) -> None:
    """Every row equal, except that the deadly ones have their reason and no points."""
    assert part.sample_ids == other.sample_ids
    for row, sample_id in enumerate(part.sample_ids):
        if sample_id in deadly:
            assert part.reasons[row] is Reason.WORKER_DIED
            assert not part.landmarks[row].any() and not part.mesh[row].any()
        else:
            assert part.reasons[row] is other.reasons[row] is Reason.OK
            np.testing.assert_array_equal(part.landmarks[row], other.landmarks[row])
            np.testing.assert_array_equal(part.mesh[row], other.mesh[row])


@pytest.mark.slow
def test_deadly_images_cost_themselves_alone(tmp_path: Path) -> None:
    healthy = simulated_manifest(tmp_path / "healthy", COUNT)
    run(healthy, tmp_path / "undisturbed", 0)
    manifest = simulated_manifest(tmp_path / "sick", COUNT, DEADLY)
    deadly = {f"fear/{number:04d}" for number in DEADLY}
    reports = {workers: run(manifest, tmp_path / f"work{workers}", workers) for workers in (1, 2)}
    for workers, report in reports.items():
        work = tmp_path / f"work{workers}"
        assert report.failed == {"worker_died": len(DEADLY)} and report.ok == COUNT - len(DEADLY)
        with (work / "failures.csv").open() as file:
            assert {(row["sample_id"], row["reason"]) for row in csv.DictReader(file)} == {
                (name, "worker_died") for name in deadly
            }
        for part, other in zip(
            open_work(work).parts(mesh=True), open_work(tmp_path / "undisturbed").parts(mesh=True), strict=True
        ):
            assert_same_but(part, other, deadly)
    once = snapshot(tmp_path / "work1" / PARTS_FOLDER)
    assert once == snapshot(tmp_path / "work2" / PARTS_FOLDER)
    again = run(manifest, tmp_path / "work1", 0)  # in this very process: the deadly images are not looked at again
    assert again.parts_skipped == again.parts and again.failed == reports[1].failed
    assert snapshot(tmp_path / "work1" / PARTS_FOLDER) == once


def test_rows_of_another_process_are_the_same(built: Built, tmp_path: Path) -> None:
    """With the real detector: a part made the second way has the bytes of one made the first way."""
    job = plan_landmarks(built.dataset.manifest, tmp_path, LANDMARKS, stage_identity(LANDMARKS))[0]
    assert not detect_part_isolated(job).skipped
    assert job.path.read_bytes() == (built.work / PARTS_FOLDER / job.path.name).read_bytes()
    close_detector(LANDMARKS)


def test_a_replaced_photo_is_looked_at_again(tmp_path: Path) -> None:
    manifest = simulated_manifest(tmp_path, 4, {2: EXIT})
    config = simulated_config()
    (tmp_path / PARTS_FOLDER).mkdir()
    (job,) = plan_landmarks(manifest, tmp_path / PARTS_FOLDER, config, stage_identity(config))
    assert not detect_part_isolated(job).skipped and detect_part_isolated(job).skipped
    assert sorted(read_part(job.path).reasons) == [Reason.OK] * 3 + [Reason.WORKER_DIED]
    simulated_manifest(tmp_path, 4)
    assert not detect_part_isolated(job).skipped
    assert read_part(job.path).reasons == (Reason.OK,) * 4
    shared_detector.cache_clear()


def test_many_deaths_are_not_the_photos_fault(tmp_path: Path) -> None:
    config = simulated_config(part_size=16)
    manifest = simulated_manifest(tmp_path, MAX_DEADLY + 1, dict.fromkeys(range(MAX_DEADLY + 1), EXIT))
    (job,) = plan_landmarks(manifest, tmp_path, config, stage_identity(config))
    with pytest.raises(FerError, match=r"whatever the photo is.*memory.*doctor"):
        isolated_rows(job)
    shared_detector.cache_clear()


def test_a_process_that_cannot_start_is_not_the_photos_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = simulated_config()
    (job,) = plan_landmarks(simulated_manifest(tmp_path, 2), tmp_path, config, stage_identity(config))
    resource_tracker.ensure_running()
    monkeypatch.setattr("multiprocessing.spawn._python_exe", b"/bin/false")
    with pytest.raises(FerError, match="only loaded the detector"):
        isolated_rows(job)
    shared_detector.cache_clear()


def test_an_error_in_the_other_process_is_raised_here(tmp_path: Path) -> None:
    config = simulated_config()
    (job,) = plan_landmarks(simulated_manifest(tmp_path, 2), tmp_path, config, stage_identity(config))
    with pytest.raises(FerError, match="Unknown detector"):
        isolated_rows(replace(job, config=replace(config, detector="nothing")))
    shared_detector.cache_clear()


@pytest.mark.slow
def test_an_external_cluster_survives_deadly_images(tmp_path: Path) -> None:
    """Its scheduler tries a job on four workers before it gives up; its nannies replace them."""
    manifest = simulated_manifest(tmp_path, 12, {5: KILL})
    run(manifest, tmp_path / "local", 1)
    cluster = Cluster(tmp_path)
    try:
        cluster.add_workers(1)
        executor = SchedulerExecutor(cluster.address)
        report = run_landmarks(manifest, tmp_path / "cluster", simulated_config(), executor, Silent())
    finally:
        cluster.close()
    assert report.failed == {"worker_died": 1} and report.ok == 11
    assert snapshot(tmp_path / "cluster" / PARTS_FOLDER) == snapshot(tmp_path / "local" / PARTS_FOLDER)


def test_workers_that_cannot_start_end_the_stage_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    resource_tracker.ensure_running()
    monkeypatch.setattr("multiprocessing.spawn._python_exe", b"/bin/false")
    monkeypatch.setattr("aupipe.pipeline.executors.workers.USUAL_START_SECONDS", 0.5)
    with pytest.raises(FerError, match=r"cannot start.*exit code 1.*--workers 0"):
        next(iter(DaskExecutor(1).run(str, [1])))
