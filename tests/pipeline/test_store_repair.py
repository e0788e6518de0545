"""Repairing a store, taking images over from another, and the encodings: always the bytes of an undisturbed build."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

from aupipe.commands.store import build_maps
from aupipe.commands.store import repair as repair_command
from aupipe.fer_data.au_maps.codebook import load_codebook
from aupipe.fer_data.errors import FolderInUseError, StoreError, UserInputError
from aupipe.fer_data.shards import open_store, verify_store
from aupipe.fer_data.types import Silent, StageReport
from aupipe.fer_data.versions import BYTES, installed_versions
from aupipe.pipeline.executors import SerialExecutor
from aupipe.pipeline.landmarks.work import open_work
from aupipe.pipeline.maps import failures, plan
from aupipe.pipeline.maps.repair import stated_config
from aupipe.pipeline.maps.run import run_maps
from aupipe.pipeline.maps.tasks import MapConfig, build_shard
from landmark_works import make_work, samples_of
from offline import snapshot

CONFIG = MapConfig(dict(load_codebook("default").content), image_size=32, map_size=16, rows_per_shard=4)
JPEG = replace(CONFIG, encoding="jpeg")
OTHER = replace(CONFIG, codebook=dict(load_codebook("reference").content))


def build(work: Path, store: Path, config: MapConfig = CONFIG, **options: object) -> StageReport:
    return run_maps(work, store, config, SerialExecutor(), Silent(), **options)  # type: ignore[arg-type]


def repair(work: Path, store: Path, codebook: str | None = None) -> StageReport:
    return build(work, store, stated_config(store, codebook), repair=True)


def persons(sample_id: str) -> str:
    """Person of a sample: three photos each, unknown of the last ten."""
    number = int(sample_id[2:])
    return f"a person called {number // 3}" if number < 30 else ""


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``work`` of 40 photos, one of them gone since, with persons; and its stores ``raw`` and ``jpeg``."""
    folder = tmp_path_factory.mktemp("origin")
    make_work(folder, samples=[replace(one, subject=persons(one.sample_id)) for one in samples_of(40)])
    (folder / "faces" / "s" / "007.png").unlink()
    build(folder / "work", folder / "raw")
    build(folder / "work", folder / "jpeg", JPEG)
    return folder


@pytest.fixture(params=["raw", "jpeg"])
def own(origin: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A private copy, with the store to harm as ``store``."""
    shutil.copytree(origin, tmp_path / "own")
    (tmp_path / "own" / request.param).rename(tmp_path / "own" / "store")
    return tmp_path / "own"


def inodes(store: Path) -> dict[str, tuple[int, int]]:
    return {
        path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in store.iterdir() if path.name != ".lock"
    }


def flip(path: Path, share: float) -> None:
    data = bytearray(path.read_bytes())
    data[int(share * len(data))] ^= 4
    path.write_bytes(data)


HARMS: dict[str, tuple[Callable[[Path], object], set[str]]] = {
    "byte": (lambda s: flip(s / "train-00001.h5", 0.6), {"train-00001.h5"}),
    "truncated": (lambda s: (s / "val-00000.h5").write_bytes(b"\x89HDF\r\n"), {"val-00000.h5"}),
    "missing": (lambda s: (s / "train-00000.h5").unlink(), {"train-00000.h5"}),
    "half": (lambda s: (s / ".train-00000.h5.999999999.tmp").write_bytes(b"half"), set()),
    "failures": (lambda s: (s / "failures.csv").write_text("sample_id,pa"), {"failures.csv"}),
    "no failures": (lambda s: (s / "failures.csv").unlink(), {"failures.csv"}),
    "index": (lambda s: flip(s / "index.json", 0.5), {"index.json"}),
    "no index": (lambda s: (s / "index.json").unlink(), {"index.json"}),
    "index and shard": (
        lambda s: [(s / "index.json").unlink(), (s / "train-00001.h5").unlink()], {"index.json", "train-00001.h5"},
    ),
    "swapped": (
        lambda s: [(s / "train-00000.h5").rename(s / "x"), (s / "val-00000.h5").rename(s / "train-00000.h5"),
                   (s / "x").rename(s / "val-00000.h5")], {"train-00000.h5", "val-00000.h5"},
    ),
    "extra": (lambda s: shutil.copy(s / "train-00000.h5", s / "train-00099.h5"), set()),
}  # fmt: skip


@pytest.mark.parametrize("encoding", ["raw", "jpeg"])
def test_the_store_knows_the_persons(origin: Path, encoding: str) -> None:
    for split in ("train", "val", "test"):
        reader = open_store(origin / encoding).split(split)
        assert reader.groups == [persons(name) or name for name in reader.sample_ids]


@pytest.mark.parametrize("harm", HARMS)
def test_exactly_what_is_broken_is_made_again(own: Path, harm: str) -> None:
    store, (do, touched) = own / "store", HARMS[harm]
    bytes_before, before = snapshot(store), inodes(store)
    do(store)
    report = repair(own / "work", store)
    assert snapshot(store) == bytes_before and verify_store(store, rows=True) == []
    after = inodes(store)
    assert {name for name in before if after[name] != before[name]} == touched
    assert report.stage == "repair" and report.parts - report.parts_skipped == len([n for n in touched if "h5" in n])


def test_the_command_repairs_and_continues_with_what_was_asked(own: Path, tmp_path: Path) -> None:
    before = snapshot(own / "store")
    (own / "store" / "test-00000.h5").unlink()
    ask = CliRunner().invoke
    done = ask(repair_command, [str(own / "store"), "--from", str(own / "work"), "--workers", "0", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["stage"] == "repair" and snapshot(own / "store") == before
    sizes = ["--image-size", "32", "--map-size", "16", "--rows-per-shard", "4", "--workers", "0"]
    encoding = open_store(own / "store").index.encoding
    words = [str(own / "work"), "--out", str(tmp_path / "new"), "--encoding", encoding, *sizes]
    done = ask(build_maps, [*words, "--images-from", str(own / "store")])
    assert done.exit_code == 0 and snapshot(tmp_path / "new") == before
    words[2] = str(tmp_path / "poor")
    done = ask(build_maps, [*words, "--encoding", "jpeg", "--jpeg-quality", "20"])
    assert done.exit_code == 0 and open_store(tmp_path / "poor").index.config["jpeg_quality"] == 20


def test_an_intact_store_is_left_alone(own: Path) -> None:
    before = inodes(own / "store")
    assert (report := repair(own / "work", own / "store")).parts_skipped == report.parts > 6
    assert inodes(own / "store") == before


def test_a_photo_that_came_back_does_not_change_the_store(own: Path) -> None:
    before = snapshot(own / "store")
    make_work(own, "again", count=40)  # writes the photo that was gone
    (own / "store" / "val-00001.h5").unlink()
    repair(own / "work", own / "store")
    assert snapshot(own / "store") == before


def test_a_lost_photo_of_a_damaged_shard_is_told(own: Path) -> None:
    rows = open_store(own / "store").split("train").sample_ids
    (own / "faces" / f"{rows[1]}.png").unlink()
    flip(own / "store" / "train-00000.h5", 0.5)
    left = inodes(own / "store")
    with pytest.raises(
        StoreError, match=rf"1 photos of a damaged shard .*{rows[1]} \(missing_file\).* Bring the photos"
    ):
        repair(own / "work", own / "store")
    assert inodes(own / "store") == left


def test_other_landmarks_are_refused(own: Path) -> None:
    other = make_work(own, "other", count=31)
    for harm in ("missing", "no index"):
        HARMS[harm][0](own / "store")
        left = inodes(own / "store")
        with pytest.raises(StoreError, match="WORK is not what the store was built from"):
            repair(other, own / "store")
        assert inodes(own / "store") == left


def test_without_any_account_it_says_what_is_needed(own: Path) -> None:
    for path in (own / "store").iterdir():
        path.write_bytes(b"?")
    with pytest.raises(StoreError, match=r"neither its index nor any shard can be read\..* options of that time"):
        repair(own / "work", own / "store")


def test_a_codebook_of_one_s_own_must_be_given_where_the_index_is_gone(origin: Path, tmp_path: Path) -> None:
    from aupipe.fer_data.au_maps.codebook import codebook_text

    text = codebook_text("default")
    mine = tmp_path / "mine.toml"
    mine.write_text(text.replace('name = "default"', 'name = "mine"'))
    config = replace(CONFIG, codebook=dict(load_codebook(str(mine)).content))
    build(origin / "work", tmp_path / "store", config)
    before = snapshot(tmp_path / "store")
    (tmp_path / "store" / "index.json").unlink()
    with pytest.raises(StoreError, match=r"codebook 'mine' of digest .*--codebook"):
        repair(origin / "work", tmp_path / "store")
    with pytest.raises(StoreError, match="another one"):
        repair(origin / "work", tmp_path / "store", "reference")
    repair(origin / "work", tmp_path / "store", str(mine))
    assert snapshot(tmp_path / "store") == before


# --- other maps, the same images ---


@pytest.fixture(params=[OTHER, replace(CONFIG, map_size=24)], ids=["codebook", "size"])
def redrawn(request: pytest.FixtureRequest) -> MapConfig:
    return request.param  # type: ignore[no-any-return]


@pytest.mark.parametrize("encoding", ["raw", "jpeg"])
@pytest.mark.parametrize("in_place", ["other folder", "in place", "in place, named"])
def test_redrawn_from_images_is_the_store_built_from_photos(
    origin: Path, tmp_path: Path, redrawn: MapConfig, encoding: str, in_place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Byte for byte, and without a photo: there is none, and nothing decodes or encodes."""
    shutil.copytree(origin, tmp_path / "own")
    work, old, config = tmp_path / "own" / "work", tmp_path / "own" / encoding, replace(redrawn, encoding=encoding)
    build(work, tmp_path / "scratch", config)
    shutil.rmtree(tmp_path / "own" / "faces")
    for function in ("imdecode", "imencode", "warpAffine"):
        monkeypatch.setattr(f"cv2.{function}", None)
    new = tmp_path / "new" if in_place == "other folder" else old
    options = {} if in_place == "in place" else {"images_from": old}
    report = build(work, new, config, overwrite=new == old, **options)
    assert report.parts_skipped == 0
    assert snapshot(new) == snapshot(tmp_path / "scratch")
    assert snapshot(new) != snapshot(origin / encoding)


def test_a_damaged_image_is_not_taken_over(own: Path, tmp_path: Path) -> None:
    config = replace(stated_config(own / "store"), map_size=24)
    build(own / "work", tmp_path / "scratch", config)
    flip(own / "store" / "train-00000.h5", 0.5)
    build(own / "work", tmp_path / "new", config, images_from=own / "store")
    assert snapshot(tmp_path / "new") == snapshot(tmp_path / "scratch")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": 40}, "image_size 40"),
        ({"encoding": "jpeg"}, "encoding"),
        ({"rows_per_shard": 5}, "rows_per_shard"),
    ],
)
def test_other_crops_cannot_be_taken_over(origin: Path, tmp_path: Path, change: dict[str, int], message: str) -> None:
    with pytest.raises(StoreError, match=f"cannot be taken over: its crops .*{message}"):
        build(origin / "work", tmp_path / "new", replace(CONFIG, **change), images_from=origin / "raw")  # type: ignore[arg-type]


def test_crops_of_other_versions_are_not_taken_over(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (plan, failures):
        monkeypatch.setattr(module, "software", lambda: {**installed_versions(BYTES), "numpy": "99.0"})
    with pytest.raises(StoreError, match=r"(?s)made by other versions.*version of numpy \"99.0\""):
        build(own / "work", tmp_path / "new", stated_config(own / "store"), images_from=own / "store")


def test_a_store_outlives_photos_that_are_not_there(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is not mounted costs no index and no shard, whatever would have to be made anew."""
    config, before = stated_config(own / "store"), snapshot(own / "store")
    (own / "faces").rename(own / "elsewhere")
    build(own / "work", own / "store", config)
    monkeypatch.setattr(plan, "software", lambda: {**installed_versions(BYTES), "numpy": "99.0"})
    with pytest.raises(UserInputError, match=r"(?s)folder of the images is not there.*Mount it"):
        build(own / "work", own / "store", config)
    assert snapshot(own / "store") == before
    job = plan.plan_store(open_work(own / "work"), config, own / "store").jobs(own / "store")[0]
    with pytest.raises(UserInputError, match="folder of the images is not there"):  # as a worker of a cluster says it
        build_shard(job)


def test_a_store_of_other_landmarks_is_not_replaced_unasked(own: Path, tmp_path: Path) -> None:
    before = snapshot(own / "store")
    samples = [replace(one, subject=persons(one.sample_id)) for one in samples_of(40)]
    shutil.copytree(own / "faces", tmp_path / "faces")
    other = make_work(tmp_path, samples=samples, detector="another")
    with pytest.raises(FolderInUseError, match="built from other landmarks"):
        build(other, own / "store", stated_config(own / "store"))
    assert snapshot(own / "store") == before


def test_images_of_an_unfinished_store_are_refused(own: Path, tmp_path: Path) -> None:
    (own / "store" / "index.json").unlink()
    with pytest.raises(StoreError, match="not a finished store"):
        build(own / "work", tmp_path / "new", images_from=own / "store")


def test_each_shard_is_opened_and_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once as it was, where the index states it or keeps it; once as it was written. Counted per shard."""
    hashed, opened = Counter[str](), Counter[str]()
    digest_of, open_file = hashlib.file_digest, h5py.File

    def hashing(stream: io.FileIO, name: str) -> Any:
        hashed[str(stream.name)] += 1
        return digest_of(stream, name)

    def opening(file: io.FileIO, mode: str, **options: Any) -> h5py.File:
        if mode == "r" and isinstance(file, io.FileIO):
            opened[str(file.name)] += 1
        return open_file(file, mode, **options)

    def counts(folder: Path, config: MapConfig, **options: object) -> tuple[dict[str, int], dict[str, int]]:
        """Of the shards that were there, and of the new ones, which still have their temporary name."""
        hashed.clear()
        opened.clear()
        build(work, folder, config, **options)
        assert hashed == opened
        found = [Counter(count for path, count in hashed.items() if path.endswith(".tmp") == new) for new in (0, 1)]
        return dict(found[0]), dict(found[1])

    work, store = make_work(tmp_path, count=20), tmp_path / "store"
    build(work, store)
    shards = len(list(store.glob("*.h5")))
    monkeypatch.setattr(hashlib, "file_digest", hashing)
    monkeypatch.setattr(h5py, "File", opening)
    assert counts(tmp_path / "fresh", CONFIG) == ({}, {1: shards})
    assert counts(store, CONFIG) == ({1: shards}, {})
    assert counts(tmp_path / "new", OTHER, images_from=store) == ({1: shards}, {1: shards})
    assert counts(store, OTHER, overwrite=True) == ({1: shards}, {1: shards})
    assert counts(store, CONFIG, overwrite=True, images_from=store) == ({1: shards}, {1: shards})


# --- encodings ---


def test_jpeg_changes_the_images_only(origin: Path) -> None:
    raw, jpeg = (open_store(origin / name) for name in ("raw", "jpeg"))
    assert (raw.index.schema_version[0], jpeg.index.schema_version[0]) == ("1", "2")
    assert jpeg.index.config["jpeg_quality"] == 95 and "jpeg_quality" not in raw.index.config
    assert raw.index.channel_mean == jpeg.index.channel_mean
    for split in raw.index.splits:
        a, b = raw.split(split), jpeg.split(split)
        assert (a.encoding, b.encoding) == ("raw", "jpeg") and a.sample_ids == b.sample_ids
        for row in range(len(a)):
            assert np.abs(a.image(row).astype(int) - b.image(row)).mean() < 5
            np.testing.assert_array_equal(a.au_map(row), b.au_map(row))


@pytest.mark.parametrize("begun", ["raw", "jpeg"])
@pytest.mark.parametrize("finished", [True, False])
def test_auto_continues_what_was_begun(
    origin: Path, tmp_path: Path, begun: str, finished: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where this machine's memory would have it otherwise."""
    store = Path(shutil.copytree(origin / begun, tmp_path / "store"))
    if not finished:
        (store / "index.json").unlink()
        (store / "train-00000.h5").unlink()
    monkeypatch.setattr(
        "aupipe.pipeline.maps.plan.resolve_encoding", lambda asked, *_: asked if asked != "auto" else 1 / 0
    )
    report = build(origin / "work", store, replace(CONFIG, encoding="auto"))
    assert report.parts_skipped == report.parts - (not finished) and snapshot(store) == snapshot(origin / begun)


def test_auto_on_an_empty_folder_follows_the_rule(origin: Path, tmp_path: Path) -> None:
    build(origin / "work", tmp_path / "new", replace(CONFIG, encoding="auto"))
    assert snapshot(tmp_path / "new") == snapshot(origin / "raw")  # 40 small images fit any memory
    assert json.loads((tmp_path / "new" / "index.json").read_text())["config"]["encoding"] == "raw"


def test_another_encoding_is_another_store(origin: Path, tmp_path: Path) -> None:
    store = Path(shutil.copytree(origin / "raw", tmp_path / "store"))
    said = r"other options\. Expected: encoding jpeg, jpeg_quality 95\. Got: encoding raw, jpeg_quality none\."
    with pytest.raises(FolderInUseError, match=said):
        build(origin / "work", store, JPEG)
    build(origin / "work", store, JPEG, overwrite=True)
    assert snapshot(store) == snapshot(origin / "jpeg")
    with pytest.raises(UserInputError, match="raw, jpeg or auto"):
        build(origin / "work", store, replace(CONFIG, encoding="png"))


def test_a_run_that_met_an_unusable_photo_keeps_its_shards_next_time(own: Path) -> None:
    before = inodes(own / "store")
    report = build(own / "work", own / "store", stated_config(own / "store"))
    assert report.parts_skipped == report.parts and report.failed["missing_file"] == 2  # one known to `landmarks`
    assert inodes(own / "store") == before
