"""The landmark stage over long manifests, and what its work folder keeps of the manifest."""

from __future__ import annotations

import threading
import tracemalloc
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

import aupipe.pipeline.landmarks.tasks as tasks
from aupipe.fer_data.au_maps.mean_face import mean_face
from aupipe.fer_data.errors import FolderInUseError, StoreError, UserInputError
from aupipe.fer_data.manifest import Manifest, read_manifest, write_manifest
from aupipe.fer_data.types import Silent
from aupipe.pipeline.executors import SerialExecutor
from aupipe.pipeline.landmarks.run import plan_landmarks, run_landmarks
from aupipe.pipeline.landmarks.tasks import LandmarkConfig, PartJob, PartResult, shared_detector, stage_identity
from aupipe.pipeline.landmarks.work import content_digest
from simulated_detectors import SIZE, simulated_config, simulated_manifest


def long_manifest(folder: Path, rows: int) -> Manifest:
    """Many samples over few photos."""
    manifest = simulated_manifest(folder, 8)
    samples = [replace(manifest.samples[row % 8], sample_id=f"row {row:06d}") for row in range(rows)]
    return replace(manifest, samples=tuple(samples))


def with_points(folder: Path, count: int) -> Manifest:
    """A manifest whose points ship with it."""
    plain = simulated_manifest(folder, count)
    samples = [replace(sample, landmarks_row=row) for row, sample in enumerate(plain.samples)]
    points = np.stack([mean_face(SIZE) + row / 100 for row in range(count)])
    return write_manifest(folder / "points.csv", samples, root=plain.root, layout="csv", landmarks=points)


class AllocatedMemory(Silent):
    """Notes what Python and NumPy hold after each part."""

    def __init__(self) -> None:
        self.held = list[int]()

    def advance(self, count: int) -> None:
        self.held.append(tracemalloc.get_traced_memory()[0])


def held_by_part(folder: Path) -> list[int]:
    """Bytes that Python and NumPy hold after each of 64 parts."""
    manifest, memory = long_manifest(folder, 1024), AllocatedMemory()
    tracemalloc.start()
    run_landmarks(manifest, folder / "work", simulated_config(part_size=16), SerialExecutor(), memory)
    return memory.held


def test_memory_does_not_grow_with_the_parts(tmp_path: Path) -> None:
    """One part's rows take a hundred kilobytes: keeping any of them would show.

    Measured in a process of its own: what threads of other tests allocate meanwhile is counted too.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as own:
        held = own.submit(held_by_part, tmp_path).result()
    assert len(held) == 64
    assert (held[-1] - held[15]) / 48 < 2_000


def test_a_plan_holds_references_only(tmp_path: Path) -> None:
    manifest, config = long_manifest(tmp_path, 20_000), simulated_config(part_size=128)
    identity = stage_identity(config)
    tracemalloc.start()
    try:
        jobs = plan_landmarks(manifest, tmp_path, config, identity)
        planned = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert planned / len(manifest.samples) < 40
    known = {id(sample) for sample in manifest.samples}
    assert {id(sample) for job in jobs for sample in job.samples} == known
    shared_detector.cache_clear()


def test_a_closed_detector_is_not_used_again(tmp_path: Path) -> None:
    manifest, config = simulated_manifest(tmp_path, 4), simulated_config()
    for name in ("one", "two"):
        assert run_landmarks(manifest, tmp_path / name, config, SerialExecutor(), Silent()).ok == 4


def test_the_next_photo_is_decoded_while_the_networks_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And no further one: two photos in memory, however large they are."""
    manifest, config = simulated_manifest(tmp_path, 4), simulated_config()
    (job,) = plan_landmarks(manifest, tmp_path, config, stage_identity(config))
    decoded, arrived, load = list[str](), threading.Event(), tasks.load_photo

    def noted(path: Path, name: str) -> tasks.Photo:
        photo = load(path, name)
        decoded.append(name)
        if len(decoded) == 2:
            arrived.set()
        return photo

    monkeypatch.setattr(tasks, "load_photo", noted)
    rows = tasks.detect_samples(job, shared_detector(config.detector, config.model), None)
    assert not decoded
    next(rows)
    assert arrived.wait(20) and decoded == [sample.path for sample in job.samples[:2]]
    assert len(list(rows)) == 3 and decoded == [sample.path for sample in job.samples]
    shared_detector.cache_clear()


def test_shipped_points_are_used_kept_and_compared(tmp_path: Path) -> None:
    manifest, config = with_points(tmp_path, 6), LandmarkConfig("dataset")
    work = tmp_path / "work"
    report = run_landmarks(manifest, work, config, SerialExecutor(), Silent())
    assert report.ok == 6
    copy = read_manifest(work / "manifest.csv")
    assert copy.landmarks is not None and copy.landmarks.parent == work.resolve()
    before = content_digest(manifest)
    assert content_digest(copy) == before
    again = run_landmarks(read_manifest(tmp_path / "points.csv"), work, config, SerialExecutor(), Silent())
    assert again.parts_skipped == again.parts
    assert manifest.landmarks is not None
    points = np.load(manifest.landmarks)
    points[3] += 1
    changed = write_manifest(
        tmp_path / "points.csv", manifest.samples, root=manifest.root, layout="csv", landmarks=points
    )
    assert content_digest(changed) != before
    with pytest.raises(FolderInUseError, match="before it was changed"):
        run_landmarks(changed, work, config, SerialExecutor(), Silent())


def test_the_dataset_detector_needs_shipped_points(tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match="this manifest has none"):
        run_landmarks(
            simulated_manifest(tmp_path, 2), tmp_path / "work", LandmarkConfig("dataset"), SerialExecutor(), Silent()
        )


def test_a_part_written_elsewhere_is_noticed(tmp_path: Path) -> None:
    """As by a worker whose work folder is not this machine's."""

    class Elsewhere(SerialExecutor):
        def run(self, task, jobs, on_death=None):
            for job in jobs:
                assert isinstance(job, PartJob)
                yield PartResult(len(job.samples), skipped=False)

    with pytest.raises(StoreError, match=r"finished part that is not there.*shared file system"):
        run_landmarks(simulated_manifest(tmp_path, 2), tmp_path / "work", simulated_config(), Elsewhere(), Silent())
    assert not (tmp_path / "work" / "landmarks.json").exists()
