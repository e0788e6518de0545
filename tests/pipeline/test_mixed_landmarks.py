"""A WORK whose parts are of two runs, or were changed, never becomes a store; one whose photos moved does."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from aupipe.fer_data import landmark_parts
from aupipe.fer_data.action_units.modes import AuMode
from aupipe.fer_data.au_maps.codebook import load_codebook
from aupipe.fer_data.errors import FolderInUseError, StoreError
from aupipe.fer_data.files import sha256_file
from aupipe.fer_data.landmark_parts import LandmarkPart, LandmarkRow, read_part, write_part
from aupipe.fer_data.manifest import Manifest, read_manifest, write_manifest
from aupipe.fer_data.shards import open_store, verify_store
from aupipe.fer_data.shards.index import save_index
from aupipe.fer_data.types import Failure, Silent, StageReport
from aupipe.pipeline.executors import SerialExecutor
from aupipe.pipeline.landmarks.run import run_landmarks
from aupipe.pipeline.landmarks.work import PARTS_FOLDER, REPORT_NAME, open_work
from aupipe.pipeline.maps.plan import plan_store
from aupipe.pipeline.maps.run import run_maps
from aupipe.pipeline.maps.tasks import MapConfig, landmark_part
from offline import snapshot
from simulated_detectors import SimulatedConfig, simulated_config, simulated_manifest

MAPS = MapConfig(dict(load_codebook("default").content), image_size=32, map_size=16, rows_per_shard=8)
COUNT = 12


class Killed(Silent):
    """Ends a run after a number of parts."""

    def __init__(self, parts: int) -> None:
        self.parts = parts

    def advance(self, count: int) -> None:
        self.parts -= 1
        if self.parts < 0:
            raise KeyboardInterrupt


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return simulated_manifest(tmp_path, COUNT)


@pytest.fixture
def config() -> SimulatedConfig:
    return simulated_config(part_size=4)


@pytest.fixture
def work(tmp_path: Path, manifest: Manifest, config: SimulatedConfig) -> Path:
    """Finished landmarks of three parts."""
    run_landmarks(manifest, tmp_path / "work", config, SerialExecutor(), Silent())
    return tmp_path / "work"


def build(work: Path) -> StageReport:
    return run_maps(work, work.with_name("store"), MAPS, SerialExecutor(), Silent())


def part(work: Path, number: int) -> Path:
    return work / PARTS_FOLDER / f"part-{number:05d}.h5"


def test_landmarks_of_two_runs_do_not_become_a_store(work: Path, manifest: Manifest, config: SimulatedConfig) -> None:
    """The second run has other options and is ended after its first part."""
    with pytest.raises(KeyboardInterrupt):
        run_landmarks(manifest, work, replace(config, mirror=True), SerialExecutor(), Killed(1), overwrite=True)
    assert read_part(part(work, 0)).config_json != read_part(part(work, 2)).config_json
    assert not (work / REPORT_NAME).exists()
    with pytest.raises(StoreError, match="not a finished landmarks folder"):
        build(work)
    assert not work.with_name("store").exists()
    again = run_landmarks(manifest, work, replace(config, mirror=True), SerialExecutor(), Silent())
    assert 0 < again.parts_skipped < again.parts and build(work).ok == COUNT


def test_finished_landmarks_are_not_replaced_by_other_options(
    work: Path, manifest: Manifest, config: SimulatedConfig
) -> None:
    report, mirrored = (work / REPORT_NAME).read_text(), replace(config, mirror=True, follow_links=True)
    earlier = json.dumps({key: value for key, value in json.loads(report).items() if key != "part_digests"})
    for said in (report, earlier, "{"):
        (work / REPORT_NAME).write_text(said)
        before = snapshot(work)
        with pytest.raises(FolderInUseError, match=r"mirror true\. Got: mirror none\..*--overwrite"):
            run_landmarks(manifest, work, mirrored, SerialExecutor(), Silent())
        assert snapshot(work) == before
    (work / "manifest.meta.json").unlink()
    with pytest.raises(FolderInUseError, match="--overwrite"):
        run_landmarks(manifest, work, mirrored, SerialExecutor(), Silent())
    assert run_landmarks(manifest, work, config, SerialExecutor(), Silent()).parts_skipped == 3
    assert build(work).ok == COUNT
    assert run_landmarks(manifest, work, mirrored, SerialExecutor(), Silent(), overwrite=True).parts_skipped == 0
    assert run_landmarks(manifest, work, mirrored, SerialExecutor(), Silent()).parts_skipped == 3


def test_the_report_goes_before_the_first_part(
    work: Path, manifest: Manifest, config: SimulatedConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = snapshot(work / PARTS_FOLDER)

    def no_disk(*_: object) -> None:
        assert not (work / REPORT_NAME).exists()
        raise KeyboardInterrupt

    monkeypatch.setattr("aupipe.pipeline.landmarks.tasks.write_part", no_disk)
    with pytest.raises(KeyboardInterrupt):
        run_landmarks(manifest, work, replace(config, mirror=True), SerialExecutor(), Silent(), overwrite=True)
    assert snapshot(work / PARTS_FOLDER) == before


def test_a_run_that_replaces_nothing_keeps_the_report(work: Path, manifest: Manifest, config: SimulatedConfig) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_landmarks(manifest, work, config, SerialExecutor(), Killed(1))
    assert build(work).ok == COUNT


def test_parts_of_a_longer_plan_go_after_the_report(work: Path, manifest: Manifest, config: SimulatedConfig) -> None:
    shutil.copy(part(work, 0), part(work, 7))
    with pytest.raises(KeyboardInterrupt):
        run_landmarks(manifest, work, config, SerialExecutor(), Killed(0))
    assert not part(work, 7).exists() and not (work / REPORT_NAME).exists()


def rows_of(path: Path) -> list[LandmarkRow]:
    made = read_part(path, mesh=True)
    return [
        LandmarkRow(
            sample_id=made.sample_ids[at],
            path=made.paths[at],
            reason=made.reasons[at],
            source_sha256=made.source_sha256[at],
            source_size=(int(made.source_size[at, 0]), int(made.source_size[at, 1])),
            landmarks=made.landmarks[at],
            mesh=made.mesh[at],
            blendshapes=made.blendshapes[at],
            pose=made.pose[at],
        )
        for at in range(len(made.sample_ids))
    ]


def rewrite(path: Path, rows: list[LandmarkRow]) -> None:
    made = read_part(path)
    write_part(path, rows, made.plan_digest, made.config_json)


def doubled(work: Path) -> None:
    rows = rows_of(part(work, 1))
    rewrite(part(work, 1), [rows[0], *rows[:-1]])


def renamed(work: Path) -> None:
    rows = rows_of(part(work, 1))
    rewrite(part(work, 1), [replace(rows[0], sample_id="fear/9999"), *rows[1:]])


def shortened(work: Path) -> None:
    rewrite(part(work, 2), rows_of(part(work, 2))[:-1])


def of_another_plan(work: Path) -> None:
    made = read_part(part(work, 1))
    write_part(part(work, 1), rows_of(part(work, 1)), "another plan", made.config_json)


def of_other_options(work: Path) -> None:
    made = read_part(part(work, 1))
    write_part(part(work, 1), rows_of(part(work, 1)), made.plan_digest, made.config_json.replace("{", '{"a":1,', 1))


def copied(work: Path) -> None:
    shutil.copy(part(work, 0), part(work, 1))


def swapped(work: Path) -> None:
    first = part(work, 0).read_bytes()
    shutil.copy(part(work, 1), part(work, 0))
    part(work, 1).write_bytes(first)


def state_anew(work: Path) -> None:
    """The report states the files as they are now: only what is in them can tell."""
    path = work / REPORT_NAME
    report = json.loads(path.read_text())
    for name, digests in report["part_digests"].items():
        digests["sha256"] = sha256_file(work / PARTS_FOLDER / name)
    path.write_text(json.dumps(report))


@pytest.mark.parametrize("report_follows", [False, True])
@pytest.mark.parametrize(
    "harm", [doubled, renamed, shortened, of_another_plan, of_other_options, copied, swapped], ids=lambda f: f.__name__
)
def test_a_part_that_is_not_the_report_s_is_refused(
    work: Path, manifest: Manifest, config: SimulatedConfig, harm: Callable[[Path], None], report_follows: bool
) -> None:
    before = snapshot(work)
    harm(work)
    if report_follows:
        state_anew(work)
    with pytest.raises(StoreError, match=r"not those that its manifest and landmarks\.json speak of"):
        build(work)
    assert not work.with_name("store").exists()
    run_landmarks(manifest, work, config, SerialExecutor(), Silent())
    assert snapshot(work) == before and build(work).ok == COUNT


def test_other_bytes_are_refused_before_hdf5_opens_them(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = bytearray(part(work, 1).read_bytes())
    data[len(data) // 2] ^= 1
    part(work, 1).write_bytes(data)
    opened = []
    monkeypatch.setattr("aupipe.fer_data.landmark_parts.parse_part", lambda _, path, **__: opened.append(path))
    (_, second, _) = open_work(work).part_files
    with pytest.raises(StoreError, match="speak of"):
        second.read()
    assert opened == []


@pytest.mark.parametrize("aus", ["class", "fused"])
def test_a_build_reads_each_part_once_and_no_mesh(work: Path, monkeypatch: pytest.MonkeyPatch, aus: AuMode) -> None:
    """In one process; another process reads those that its shards need."""
    read, parse = list[tuple[str, bool, bool]](), landmark_parts.parse_part

    def counted(data: bytes, path: Path, *, mesh: bool = False, sha256: str = "") -> LandmarkPart:
        read.append((path.name, mesh, not sha256))
        return parse(data, path, mesh=mesh, sha256=sha256)

    monkeypatch.setattr(landmark_parts, "parse_part", counted)
    landmark_part.cache_clear()
    run_maps(work, work.with_name("store"), replace(MAPS, aus=aus), SerialExecutor(), Silent())
    assert read == [(f"part-{number:05d}.h5", False, False) for number in range(3)]


def test_a_plan_keeps_no_part(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shards' digests are taken as the parts go by, and are the same where the shards are cut anew."""
    plan = plan_store(open_work(work), MAPS, work.with_name("store"))
    one, other = plan.members[1], plan.members[5]
    out = [Failure(member.sample_id, member.path, "unreadable") for member in (one, other)]
    assert plan.without(out[:1]).without(out[1:]).digests() == plan.without(out).digests() != plan.digests()
    assert plan.without([]) is plan
    monkeypatch.setattr("aupipe.pipeline.maps.plan.landmark_part", None)
    assert plan.digests() and plan.jobs(work.with_name("store"))


@pytest.mark.parametrize("change", ["no digests", "cut", "no part"])
def test_a_report_without_digests_is_made_anew(
    work: Path, manifest: Manifest, config: SimulatedConfig, change: str
) -> None:
    """As an earlier version wrote it; every part is kept."""
    before, path = snapshot(work), work / REPORT_NAME
    report = json.loads(path.read_text())
    if change == "no digests":
        del report["part_digests"]
    elif change == "no part":
        del report["part_digests"]["part-00001.h5"]
    path.write_text(json.dumps(report)[: 40 if change == "cut" else None])
    with pytest.raises(StoreError, match=r"digest of every part.* earlier version.*aupipe landmarks.* keeps those"):
        build(work)
    again = run_landmarks(manifest, work, config, SerialExecutor(), Silent())
    assert again.parts_skipped == again.parts and snapshot(work) == before
    assert build(work).ok == COUNT


def test_the_report_says_the_digest_of_every_part(work: Path) -> None:
    report = json.loads((work / REPORT_NAME).read_text())
    assert report["part_digests"] == {
        name: {"plan_digest": read_part(work / PARTS_FOLDER / name).plan_digest,
               "sha256": sha256_file(work / PARTS_FOLDER / name)}
        for name in report["parts"]
    }  # fmt: skip
    assert len(report["parts"]) == 3 and (report["total"], report["ok"], report["failed"]) == (COUNT, COUNT, {})


def test_an_index_whose_rows_do_not_add_up_is_not_written(work: Path) -> None:
    build(work)
    store = work.with_name("store")
    before = (store / "index.json").read_bytes()
    index = open_store(store).index
    for wrong in (replace(index, total=COUNT + 1), replace(index, failed={"no_face": 1})):
        with pytest.raises(StoreError, match=r"do not add up.*12 samples|do not add up.*13 samples"):
            save_index(store, wrong)
    assert (store / "index.json").read_bytes() == before and verify_store(store) == []


@pytest.mark.parametrize("built_before", [False, True])
def test_photos_that_moved_are_found_at_their_new_place(
    tmp_path: Path, work: Path, manifest: Manifest, config: SimulatedConfig, built_before: bool
) -> None:
    if built_before:
        build(work)
    else:
        run_maps(work, tmp_path / "reference", MAPS, SerialExecutor(), Silent())
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "faces").rename(tmp_path / "elsewhere" / "photos")
    moved = write_manifest(
        tmp_path / "elsewhere" / "m.csv",
        manifest.samples,
        root=tmp_path / "elsewhere" / "photos",
        layout=manifest.layout,
        options=manifest.options,
    )
    report = run_landmarks(moved, work, config, SerialExecutor(), Silent())
    assert report.parts_skipped == report.parts and report.ok == COUNT
    assert read_manifest(work / "manifest.csv").root == tmp_path / "elsewhere" / "photos"
    maps = build(work)
    assert maps.ok == COUNT and maps.failed == {} and maps.parts_skipped == (maps.parts if built_before else 0)
    if not built_before:
        assert snapshot(tmp_path / "store") == snapshot(tmp_path / "reference")
