"""The two offline stages on embedded faces: counts, resumption, refusals."""

from __future__ import annotations

import csv
import errno
import importlib.machinery
import sys
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import aupipe.fer_data.files
from aupipe.fer_data.errors import FerError, FolderInUseError, ModelFileError, StoreError, UserInputError
from aupipe.fer_data.geometry import inter_ocular, roll
from aupipe.fer_data.image_formats import NEEDS_EXTRA
from aupipe.fer_data.images import UnreadableImageError
from aupipe.fer_data.manifest import build_manifest, read_manifest, write_manifest
from aupipe.fer_data.manifest.action_units import CodeSource
from aupipe.fer_data.shards import open_store, verify_store
from aupipe.fer_data.types import Reason, Silent, StageReport
from aupipe.fer_demo.portrait import portrait_faces
from aupipe.pipeline.executors import SerialExecutor
from aupipe.pipeline.landmarks import tasks
from aupipe.pipeline.landmarks.run import run_landmarks
from aupipe.pipeline.landmarks.tasks import LandmarkConfig
from aupipe.pipeline.landmarks.work import open_work
from aupipe.pipeline.maps.run import run_maps
from offline import LANDMARKS, MAPS, Built, Dataset, snapshot
from simulated_detectors import simulated_config, simulated_manifest


def failures(folder: Path) -> dict[str, str]:
    with (folder / "failures.csv").open() as file:
        return {row["sample_id"]: row["reason"] for row in csv.DictReader(file)}


def test_counts_add_up_to_the_manifest(built: Built) -> None:
    report = run_landmarks(built.dataset.manifest, built.work, LANDMARKS, SerialExecutor(), Silent())
    assert report.total == len(built.dataset.manifest.samples) == report.ok + sum(report.failed.values())
    store = open_store(built.store)
    assert sum(map(store.index.rows, store.index.splits)) + sum(store.index.failed.values()) == report.total
    listed = failures(built.store)
    stored = {name for split in store.index.splits for name in store.split(split).sample_ids}
    assert stored | set(listed) == {sample.sample_id for sample in built.dataset.manifest.samples}
    assert not stored & set(listed)


def test_each_kind_of_bad_photo_has_its_reason(built: Built) -> None:
    listed = failures(built.work)
    assert listed["train/anger/broken"] == "unreadable"
    assert listed["train/fear/empty"] == "no_face"
    assert listed["test/fear/stripes"] in ("no_face", "implausible_face")
    assert len(listed) == 3


def test_odd_encodings_are_read(built: Built) -> None:
    parts = list(open_work(built.work).parts())
    found = {name for part in parts for name, reason in zip(part.sample_ids, part.reasons, strict=True) if not reason}
    assert {f"train/happiness/{name}" for name in ("alpha", "sixteen", "grey", "webp")} <= found


def test_neutral_is_kept_without_a_map(built: Built) -> None:
    store = open_store(built.store)
    for split in store.index.splits:
        rows = store.split(split)
        for row in range(len(rows)):
            neutral = store.index.classes[rows.labels[row]] == "neutral"
            assert rows.has_map[row] == (not neutral)
            assert (rows.au_map(row).max() == 0) == neutral


def test_landmarks_agree_with_the_constructed_ones(model: Path) -> None:
    from aupipe.fer_data.types import Reason
    from aupipe.pipeline.detectors import create_detector
    from aupipe.pipeline.landmarks.faces import find_face

    detector = create_detector("mediapipe", model)
    for face in portrait_faces("surprise", 3, seed=5):
        found = find_face(face.image, detector)
        assert found.reason is Reason.OK and found.face is not None
        error = np.linalg.norm(found.face.points - face.landmarks, axis=1).mean() / inter_ocular(face.landmarks)
        assert error < 0.06
    detector.close()


def test_crops_are_level_and_hold_the_whole_face(built: Built) -> None:
    store = open_store(built.store)
    rows = store.split("train")
    for points in rows.landmarks:
        eyes = np.array([points[36:42].mean(0), points[42:48].mean(0)])
        assert abs(eyes[0, 1] - eyes[1, 1]) < 0.05
        assert eyes.mean(0)[0] == pytest.approx(0.5 * 64 - 0.5, abs=0.05)
        assert ((points > -0.5) & (points < 63.5)).all()
        assert abs(float(roll(points))) < 0.1


def test_crop_pixels_are_the_photo_s(built: Built) -> None:
    """Sampling the photo through ``to_source`` gives the crop."""
    from aupipe.fer_data.geometry import apply_affine
    from aupipe.fer_data.images import read_image

    rows = open_store(built.store).split("train")
    paths = {sample.sample_id: sample.path for sample in built.dataset.manifest.samples}
    for row in range(4):
        photo = read_image(built.dataset.root / paths[rows.sample_ids[row]]).astype(float)
        grid = np.stack(np.meshgrid(np.arange(20, 44), np.arange(20, 44)), -1).reshape(-1, 2)
        x, y = np.rint(apply_affine(rows.to_source[row], grid.astype(float))).astype(int).T
        crop = rows.image(row)[grid[:, 1], grid[:, 0]].astype(float)
        assert np.corrcoef(photo[y, x].ravel(), crop.ravel())[0, 1] > 0.95


def test_a_store_holds_the_pose_and_flags_profiles(built: Built) -> None:
    rows = {row.sample.sample_id: row for row in open_work(built.work).rows()}
    store = open_store(built.store)
    for split in map(store.split, store.index.splits):
        found = [rows[name] for name in split.sample_ids]
        assert split.pose is not None
        np.testing.assert_array_equal(split.pose, [row.pose for row in found])
        assert split.profile.tolist() == [row.profile for row in found]


def test_second_run_touches_nothing(built: Built) -> None:
    def times() -> dict[Path, int]:
        files = [*built.work.rglob("*.h5"), *built.store.iterdir()]
        return {path: path.stat().st_mtime_ns for path in files if path.name != ".lock"}

    before = times()
    again = run_landmarks(built.dataset.manifest, built.work, LANDMARKS, SerialExecutor(), Silent())
    maps = run_maps(built.work, built.store, MAPS, SerialExecutor(), Silent())
    assert again.parts_skipped == again.parts > 1 and maps.parts_skipped == maps.parts > 2
    assert times() == before


def test_damaged_and_missing_files_are_made_anew(own: Built) -> None:
    before = snapshot(own.store)
    part = next((own.work / "landmarks").iterdir())
    part_bytes = part.read_bytes()
    part.write_bytes(part_bytes[:-100])
    shards = sorted(own.store.glob("*.h5"))
    damaged = bytearray(shards[0].read_bytes())
    damaged[len(damaged) // 2] ^= 1
    shards[0].write_bytes(damaged)
    shards[1].unlink()
    (own.store / ".train-00000.h5.999999999.tmp").write_bytes(b"half")
    report = run_landmarks(own.dataset.manifest, own.work, LANDMARKS, SerialExecutor(), Silent())
    assert report.parts_skipped == report.parts - 1 and part.read_bytes() == part_bytes
    maps = run_maps(own.work, own.store, MAPS, SerialExecutor(), Silent())
    assert maps.parts_skipped == maps.parts - 2
    assert snapshot(own.store) == before
    assert verify_store(own.store, rows=True) == []


def test_damaged_index_is_made_anew(own: Built) -> None:
    before = snapshot(own.store)
    index = own.store / "index.json"
    index.write_text(index.read_text().replace('"total": ', '"total": 1'))
    with pytest.raises(StoreError, match="digest does not fit"):
        open_store(own.store)
    with pytest.raises(FolderInUseError, match=r"index is damaged.*other options, or.*aupipe repair.*--overwrite"):
        run_maps(own.work, own.store, replace(MAPS, map_size=24), SerialExecutor(), Silent())
    run_maps(own.work, own.store, MAPS, SerialExecutor(), Silent())
    assert snapshot(own.store) == before


def test_photos_of_an_empty_mount_point_are_not_taken_for_missing(own: Built) -> None:
    before, root = snapshot(own.work), own.dataset.root
    root.rename(root.with_name("mounted"))
    root.mkdir()
    (root / "lost+found").mkdir()
    with pytest.raises(UserInputError, match=r"folder of the images is empty or closed.*Mount it"):
        run_landmarks(own.dataset.manifest, own.work, LANDMARKS, SerialExecutor(), Silent())
    assert snapshot(own.work) == before


class Heard(Silent):
    """Keeps the total of each task, how much of it was done, and the remarks."""

    def __init__(self) -> None:
        self.counts, self.notes = list[list[int]](), list[str]()

    def start(self, label: str, total: int, unit: str) -> None:
        self.counts.append([total, 0])

    def advance(self, count: int) -> None:
        self.counts[-1][1] += count

    def note(self, message: str) -> None:
        self.notes.append(message)


def test_vanished_photos_change_no_count_and_no_remark(tmp_path: Path) -> None:
    """The plan is made again without them; what its first round made was not there before the call."""
    manifest, heard = simulated_manifest(tmp_path, 12), Heard()
    run_landmarks(manifest, tmp_path / "work", simulated_config(), SerialExecutor(), Silent())
    store, maps = tmp_path / "store", replace(MAPS, rows_per_shard=3)
    stored = run_maps(tmp_path / "work", tmp_path / "first", maps, SerialExecutor(), Silent())
    last = open_store(tmp_path / "first").split("train").sample_ids[-1]
    (manifest.root / open_work(tmp_path / "work").samples[last].path).unlink()
    report = run_maps(tmp_path / "work", store, maps, SerialExecutor(), heard)
    assert (report.ok, report.parts_skipped, report.failed) == (stored.ok - 1, 0, {"missing_file": 1})
    assert heard.counts == [[12, 9], [11, 11]] and heard.notes[0].startswith("11 crops are all but black")
    assert run_maps(tmp_path / "work", store, maps, SerialExecutor(), Silent()).parts_skipped == report.parts > 1


def test_replaced_photo_is_noticed(own: Built) -> None:
    victim = next(sample for sample in own.dataset.manifest.samples if sample.sample_id == "train/sadness/sadness0")
    other = own.dataset.root / "train" / "surprise" / "surprise0.png"
    (own.dataset.root / victim.path).write_bytes(other.read_bytes())
    maps = run_maps(own.work, own.store, replace(MAPS, image_size=72), SerialExecutor(), Silent(), overwrite=True)
    assert maps.failed["source_changed"] == 1 and maps.ok + sum(maps.failed.values()) == maps.total
    assert failures(own.store)[victim.sample_id] == "source_changed"
    assert verify_store(own.store, rows=True) == []
    report = run_landmarks(own.dataset.manifest, own.work, LANDMARKS, SerialExecutor(), Silent())
    assert report.parts_skipped == report.parts - 1
    maps = run_maps(own.work, own.store, replace(MAPS, image_size=72), SerialExecutor(), Silent())
    assert "source_changed" not in maps.failed


def test_full_disk_loses_nothing(own: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    before = snapshot(own.store)
    for shard in sorted(own.store.glob("*.h5"))[1:]:
        shard.unlink()
    (own.store / "index.json").unlink()
    real, calls = aupipe.fer_data.files._fsync, []

    def full(path: Path) -> None:
        calls.append(path)
        if len(calls) > 3:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        real(path)

    monkeypatch.setattr(aupipe.fer_data.files, "_fsync", full)
    with pytest.raises(FerError, match="No space left on device"):
        run_maps(own.work, own.store, MAPS, SerialExecutor(), Silent())
    assert not (own.store / "index.json").exists()
    assert all(before[name] == data for name, data in snapshot(own.store).items())
    monkeypatch.undo()
    run_maps(own.work, own.store, MAPS, SerialExecutor(), Silent())
    assert snapshot(own.store) == before


def test_index_is_taken_back_before_its_shards_change(own: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    faces = own.dataset.root / "train"
    (faces / "sadness" / "sadness0.png").write_bytes((faces / "surprise" / "surprise0.png").read_bytes())
    run_landmarks(own.dataset.manifest, own.work, LANDMARKS, SerialExecutor(), Silent())

    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(aupipe.fer_data.files, "_fsync", full)
    with pytest.raises(FerError, match="No space left"):
        run_maps(own.work, own.store, MAPS, SerialExecutor(), Silent())
    with pytest.raises(StoreError, match="not a finished store"):
        open_store(own.store)


def test_other_manifest_is_refused(own: Built, tmp_path: Path) -> None:
    (own.dataset.root / "train" / "fear" / "empty.png").unlink()
    build_manifest("folder", own.dataset.root, tmp_path / "other.csv")
    with pytest.raises(FolderInUseError, match="another manifest"):
        run_landmarks(read_manifest(tmp_path / "other.csv"), own.work, LANDMARKS, SerialExecutor(), Silent())


def test_other_options_are_refused_unless_overwriting(own: Built) -> None:
    before = snapshot(own.store)
    larger = replace(MAPS, image_size=80)
    with pytest.raises(FolderInUseError, match="--overwrite"):
        run_maps(own.work, own.store, larger, SerialExecutor(), Silent())
    assert snapshot(own.store) == before
    run_maps(own.work, own.store, larger, SerialExecutor(), Silent(), overwrite=True)
    assert open_store(own.store).index.image_size == 80 and verify_store(own.store, rows=True) == []


@pytest.mark.parametrize("name", ["index.json", "train-00007.h5"])
def test_files_that_merely_have_a_stores_names_are_kept(built: Built, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text('{"of": "another program"}')
    with pytest.raises(UserInputError, match=f"named like those of a store, and are none.*Got: {name}"):
        run_maps(built.work, tmp_path, MAPS, SerialExecutor(), Silent(), overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_work_keeps_whose_codes_they_are(dataset: Dataset, tmp_path: Path) -> None:
    source = CodeSource("openface.csv", "OpenFace", observed=(12,))
    manifest = replace(dataset.manifest, samples=dataset.manifest.samples[:1], codes=source)
    run_landmarks(manifest, tmp_path / "w", LANDMARKS, SerialExecutor(), Silent())
    copy = tmp_path / "w" / "manifest.csv"
    assert read_manifest(copy).codes == source
    write_manifest(copy, manifest.samples, root=manifest.root, layout="folder", landmarks=manifest.landmarks)
    run_landmarks(manifest, tmp_path / "w", LANDMARKS, SerialExecutor(), Silent())  # of an earlier version
    assert read_manifest(copy).codes == source


def test_photos_that_can_be_read_now_are_looked_at_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest, decode = simulated_manifest(tmp_path, 6), tasks.decode_photo

    def without_a_decoder(data: bytes, name: str) -> object:
        if name.endswith("0003.png"):
            raise UnreadableImageError(name, Reason.UNREADABLE, NEEDS_EXTRA)
        return decode(data, name)

    def run() -> StageReport:
        return run_landmarks(manifest, tmp_path / "w", simulated_config(part_size=3), SerialExecutor(), Silent())

    monkeypatch.setattr(tasks, "decode_photo", without_a_decoder)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # not installed
    assert run().failed == {"unreadable": 1} and run().parts_skipped == 2
    monkeypatch.setattr(tasks, "decode_photo", decode)
    installed = types.ModuleType("pillow_heif")
    installed.__spec__ = importlib.machinery.ModuleSpec("pillow_heif", None)
    monkeypatch.setitem(sys.modules, "pillow_heif", installed)
    found = run()
    assert (found.failed, found.parts_skipped) == ({}, 1) and run().parts_skipped == 2


def test_unfinished_landmarks_are_refused(own: Built, tmp_path: Path) -> None:
    (own.work / "landmarks.json").unlink()
    with pytest.raises(StoreError, match="aupipe landmarks"):
        run_maps(own.work, tmp_path / "new", MAPS, SerialExecutor(), Silent())
    assert not (tmp_path / "new").exists()


def test_codebook_without_a_class_is_refused(built: Built, tmp_path: Path) -> None:
    codebook = {**MAPS.codebook, "expressions": {"happiness": [6, 12]}}
    with pytest.raises(UserInputError, match="anger"):
        run_maps(built.work, tmp_path / "new", replace(MAPS, codebook=codebook), SerialExecutor(), Silent())


def test_empty_manifest_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match="no rows"):
        run_landmarks(replace(dataset.manifest, samples=()), tmp_path, LANDMARKS, SerialExecutor(), Silent())


def test_wrong_model_file_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    fake = tmp_path / "face.task"
    fake.write_bytes(b"not a model")
    with pytest.raises(ModelFileError, match="SHA-256"):
        run_landmarks(dataset.manifest, tmp_path / "w", LandmarkConfig(model=fake), SerialExecutor(), Silent())
