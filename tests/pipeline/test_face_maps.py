"""``build-maps --aus``: stores of maps of the faces' own action units."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aupipe.fer_data.action_units.facs import parse_facs
from aupipe.fer_data.action_units.modes import AU_SOURCES, AuMode
from aupipe.fer_data.au_maps.heatmaps import render_faces
from aupipe.fer_data.errors import FolderInUseError, UserInputError
from aupipe.fer_data.files import sha256_file
from aupipe.fer_data.manifest import read_manifest, write_manifest
from aupipe.fer_data.shards import open_store, verify_store
from aupipe.fer_data.types import Silent
from aupipe.pipeline.executors import SerialExecutor
from aupipe.pipeline.landmark_views.export import export_landmarks
from aupipe.pipeline.landmarks.run import run_landmarks
from aupipe.pipeline.maps.repair import stated_config
from aupipe.pipeline.maps.run import run_maps
from offline import MAPS, Built, snapshot
from simulated_detectors import simulated_config, simulated_manifest

FUSED = replace(MAPS, aus="fused")


def build(work: Path, store: Path, aus: AuMode = "fused", images_from: Path | None = None) -> Path:
    run_maps(work, store, replace(MAPS, aus=aus), SerialExecutor(), Silent(), images_from=images_from)
    return store


@pytest.fixture(scope="module")
def fused(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(built.work, tmp_path_factory.mktemp("face maps") / "store")


def test_maps_can_be_drawn_again_from_what_the_store_holds(built: Built, fused: Path) -> None:
    store = open_store(fused)
    assert verify_store(fused, rows=True) == []
    for split in store.index.splits:
        reader = store.split(split)
        assert reader.au_weight is not None and reader.au_source is not None
        index = store.index
        drawn = render_faces(
            reader.landmarks, reader.au_weight / np.float32(255), store.codebook, index.image_size, index.map_size
        )
        stored = np.stack([reader.au_map(row) for row in range(len(reader))])
        np.testing.assert_allclose(drawn, stored, atol=0.6 / 255)
        assert {AU_SOURCES[at] for at in reader.au_source} == {"fused"}
        np.testing.assert_array_equal(reader.has_map > 0, reader.au_weight.any((1, 2)))
        labels = [index.classes[label] for label in reader.labels]
        same = open_store(built.store).split(split)
        differ = [abs(reader.au_map(row) - same.au_map(row)).max() > 0.1 for row in range(len(reader))]
        assert np.mean([d for d, name in zip(differ, labels, strict=True) if name != "neutral"]) > 0.7


def test_images_can_be_taken_over(built: Built, fused: Path, tmp_path: Path) -> None:
    build(built.work, tmp_path / "again", images_from=built.store)
    assert snapshot(tmp_path / "again") == snapshot(fused)
    build(built.work, tmp_path / "back", "class", images_from=fused)
    assert snapshot(tmp_path / "back") == snapshot(built.store)


def test_modes_that_do_not_exist_are_named(built: Built, tmp_path: Path) -> None:
    for option in ({"aus": "observed"}, {"aus": "annotated", "aus_missing": "never"}):
        config = replace(MAPS, **option)
        with pytest.raises(UserInputError, match=f"Unknown --{[*option][-1].replace('_', '-')}"):
            run_maps(built.work, tmp_path / "store", config, SerialExecutor(), Silent())


def test_it_is_repaired(built: Built, fused: Path, tmp_path: Path) -> None:
    store = Path(shutil.copytree(fused, tmp_path / "store"))
    shard = next(store.glob("train-*.h5"))
    shard.write_bytes(shard.read_bytes()[:-100])
    run_maps(built.work, store, stated_config(store), SerialExecutor(), Silent(), repair=True)
    assert snapshot(store) == snapshot(fused)


@pytest.fixture
def table(built: Built, tmp_path: Path) -> Path:
    """A table of py-feat's: a smile on every second face, nothing known of the last."""
    samples = built.dataset.manifest.samples
    lines = [f"{one.path},{at % 2},{'' if at % 2 else 0.4}" for at, one in enumerate(samples[:-1])]
    (tmp_path / "pyfeat.csv").write_text("\n".join(["input,AU12,AU01", *lines, f"{samples[-1].path},,"]))
    return tmp_path / "pyfeat.csv"


def test_another_program_may_tell_the_action_units(built: Built, table: Path, tmp_path: Path) -> None:
    config = replace(MAPS, aus="estimated")
    run_maps(built.work, tmp_path / "store", config, SerialExecutor(), Silent(), estimate=table)
    index = open_store(tmp_path / "store").index
    assert index.config["estimates"] == {
        "scale": "probability",
        "sha256": sha256_file(table),
        "numbers": [1, 12],
        "common": pytest.approx([0.4, 0.5], abs=0.02),
    }
    found, samples = by_sample(tmp_path / "store"), built.dataset.manifest.samples
    smiles = [found[one.sample_id][2] for at, one in enumerate(samples[:-1]) if at % 2 and one.sample_id in found]
    others = [found[one.sample_id][2] for at, one in enumerate(samples[:-1]) if not at % 2 and one.sample_id in found]
    lower = MAPS.map_size // 2
    assert min(one[lower:].sum() for one in smiles) > 9 * max(one[:lower].sum() for one in smiles)
    assert max(one[lower:].sum() for one in others) < min(one[:lower].sum() for one in others)
    assert all(source == "estimated" for key, (source, _, _) in found.items() if key != samples[-1].sample_id)
    assert found[samples[-1].sample_id][:2] == ("none", 0)


def test_our_own_export_tells_what_the_blendshapes_tell(built: Built, tmp_path: Path) -> None:
    export_landmarks(built.work, tmp_path / "landmarks.csv", "csv")
    own = build(built.work, tmp_path / "own", "estimated")
    config = replace(MAPS, aus="estimated")
    run_maps(built.work, tmp_path / "store", config, SerialExecutor(), Silent(), estimate=tmp_path / "landmarks.csv")
    first, second = by_sample(own), by_sample(tmp_path / "store")
    assert first.keys() == second.keys()
    for key, (source, has_map, drawn) in first.items():
        assert second[key][:2] == (source, has_map)
        np.testing.assert_allclose(second[key][2], drawn, atol=0.02)


def test_a_table_is_needed_again_where_it_was_used(built: Built, table: Path, tmp_path: Path) -> None:
    store, config = tmp_path / "store", replace(MAPS, aus="fused")
    run_maps(built.work, store, config, SerialExecutor(), Silent(), estimate=table)
    whole, shard = snapshot(store), next(store.glob("train-*.h5"))
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(UserInputError, match="--estimate with the table of SHA-256"):
        run_maps(built.work, store, stated_config(store), SerialExecutor(), Silent(), repair=True)
    renamed = table.rename(tmp_path / "renamed.csv")
    table.write_bytes(renamed.read_bytes())
    other = tmp_path / "other.csv"
    other.write_text(table.read_text().replace(",1,", ",0,"))
    with pytest.raises(UserInputError, match="drawn from another table of estimates"):
        run_maps(built.work, store, stated_config(store), SerialExecutor(), Silent(), estimate=other, repair=True)
    run_maps(built.work, store, stated_config(store), SerialExecutor(), Silent(), estimate=renamed, repair=True)
    assert snapshot(store) == whole
    with pytest.raises(UserInputError, match="no --estimate: the store was drawn without one"):
        own = stated_config(built.store)
        run_maps(built.work, built.store, own, SerialExecutor(), Silent(), estimate=table, repair=True)
    with pytest.raises(FolderInUseError):
        run_maps(built.work, store, config, SerialExecutor(), Silent(), estimate=other)


def test_a_table_without_a_say_is_refused(built: Built, table: Path, tmp_path: Path) -> None:
    for config in (MAPS, replace(MAPS, aus="annotated", aus_missing="none")):
        with pytest.raises(UserInputError, match="no say in these maps"):
            run_maps(built.work, tmp_path / "store", config, SerialExecutor(), Silent(), estimate=table)


def test_other_codes_make_another_store(tmp_path: Path) -> None:
    manifest = simulated_manifest(tmp_path, 4)
    stores = list[Path]()
    for at, texts in enumerate([("1+2", "R12", "0", ""), ("1+2", "L12", "0", "")]):
        samples = [replace(sample, aus=parse_facs(text)) for sample, text in zip(manifest.samples, texts, strict=True)]
        write_manifest(tmp_path / f"coded {at}.csv", samples, root=manifest.root, layout="folder")
        work = tmp_path / f"work {at}"
        coded = read_manifest(tmp_path / f"coded {at}.csv")
        run_landmarks(coded, work, simulated_config(), SerialExecutor(), Silent())
        config = replace(MAPS, aus="annotated", aus_missing="class", image_size=32, map_size=16)
        run_maps(work, tmp_path / f"store {at}", config, SerialExecutor(), Silent())
        stores.append(tmp_path / f"store {at}")
    found = [by_sample(store) for store in stores]
    assert found[0].keys() == found[1].keys() == {sample.sample_id for sample in manifest.samples}
    two, sided, none, uncoded = (sample.sample_id for sample in manifest.samples)
    assert {key: (source, has_map) for key, (source, has_map, _) in found[0].items()} == {
        two: ("annotated", 1),
        sided: ("annotated", 1),
        none: ("annotated", 0),
        uncoded: ("class", 1),
    }
    right, left = found[0][sided][2], found[1][sided][2]
    assert right[:, :8].sum() > 9 * right[:, 8:].sum(), "the person's right is on the image's left"
    np.testing.assert_allclose(left, right[:, ::-1], atol=0.1)


def by_sample(store: Path) -> dict[str, tuple[str, int, np.ndarray]]:
    found = dict[str, tuple[str, int, np.ndarray]]()
    for split in open_store(store).index.splits:
        reader = open_store(store).split(split)
        assert reader.au_source is not None
        for row, key in enumerate(reader.sample_ids):
            found[key] = AU_SOURCES[reader.au_source[row]], int(reader.has_map[row]), reader.au_map(row)
    return found
