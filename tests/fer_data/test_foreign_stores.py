from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

from aupipe.commands.inspect import inspect
from aupipe.fer_data.errors import StoreError
from aupipe.fer_data.files import digest, sha256_file
from aupipe.fer_data.shards import Finding, Store, open_store, verify_store
from aupipe.fer_data.shards.export import export_store
from aupipe.fer_data.shards.index import save_index
from jpeg_store import jpeg_copy
from synthetic import synthetic_store

SECRET = b"root:x:0:0:secret-" * 400
Change = Callable[[h5py.File, Path], None]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("foreign") / "store"
    return synthetic_store(folder, train=5, val=2, test=2, size=16, map_size=8, rows_per_shard=3)


@pytest.fixture
def folder(sound: Store, tmp_path: Path) -> Path:
    (tmp_path / "secret").write_bytes(SECRET)
    return Path(shutil.copytree(sound.folder, tmp_path / "store"))


def forge(folder: Path, change: Change, name: str = "train-00000.h5") -> None:
    """Change a shard, and make the index speak of what it is now, as somebody who means harm would."""
    index, path = open_store(folder).index, folder / name
    with h5py.File(path, "r+") as file:
        change(file, folder.parent / "secret")
        datasets = {one: file.get(one) for one in index.shards[0].offsets}
        places = {one: found.id.get_offset() for one, found in datasets.items() if isinstance(found, h5py.Dataset)}
    entries = [
        dataclasses.replace(
            entry, bytes=path.stat().st_size, sha256=sha256_file(path),
            offsets={one: places.get(one) or at for one, at in entry.offsets.items()},
        )
        if entry.name == name else entry
        for entry in index.shards
    ]  # fmt: skip
    save_index(folder, dataclasses.replace(index, shards=tuple(entries)))


def replacing(name: str, make: Callable[[h5py.File, str, Any, Path], None]) -> Change:
    def change(file: h5py.File, secret: Path) -> None:
        old = file[name][:]
        file.move(name, "moved") if make is soft_link else file.__delitem__(name)
        make(file, name, old, secret)

    return change


def external_storage(file: h5py.File, name: str, old: Any, secret: Path) -> None:
    file.create_dataset(name, old.shape, old.dtype, external=[(str(secret), 0, old.nbytes)])


def external_link(file: h5py.File, name: str, old: Any, secret: Path) -> None:
    with h5py.File(secret.with_suffix(".h5"), "w") as other:
        other["x"] = old
    file[name] = h5py.ExternalLink(str(secret.with_suffix(".h5")), "x")


def soft_link(file: h5py.File, name: str, old: Any, secret: Path) -> None:
    file[name] = h5py.SoftLink("/moved")


def virtual(file: h5py.File, name: str, old: Any, secret: Path) -> None:
    with h5py.File(secret.with_suffix(".h5"), "w") as other:
        other["x"] = old
    layout = h5py.VirtualLayout(old.shape, old.dtype)
    layout[...] = h5py.VirtualSource(str(secret.with_suffix(".h5")), "x", old.shape)
    file.create_virtual_dataset(name, layout)


def compressed(file: h5py.File, name: str, old: Any, secret: Path) -> None:
    file.create_dataset(name, data=old, compression="gzip")


def compact(file: h5py.File, name: str, old: Any, secret: Path) -> None:
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_layout(h5py.h5d.COMPACT)
    kind, space = h5py.h5t.py_create(old.dtype), h5py.h5s.create_simple(old.shape)
    h5py.h5d.create(file.id, name.encode(), kind, space, plist)


def group(file: h5py.File, name: str, old: Any, secret: Path) -> None:
    file.create_group(name)


def longer(file: h5py.File, name: str, old: Any, secret: Path) -> None:
    file.create_dataset(name, data=np.concatenate([old, old]))


def other_type(file: h5py.File, name: str, old: Any, secret: Path) -> None:
    file.create_dataset(name, data=np.zeros(old.shape, ">i8"))


def never_written(file: h5py.File, name: str, old: Any, secret: Path) -> None:
    file.create_dataset(name, old.shape, old.dtype)


MAKERS = (
    external_storage, external_link, soft_link, virtual, compressed, compact, group, longer, other_type, never_written,
)  # fmt: skip


@pytest.mark.parametrize("name", ["sample_id", "landmarks", "image"])
@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_a_column_that_is_not_the_files_own_is_never_read(folder: Path, make: Any, name: str) -> None:
    forge(folder, replacing(name, make))
    found = verify_store(folder)
    assert {finding.file for finding in found} == {"train-00000.h5"} and name in found[0].what
    for column in ("labels", "sample_ids"):
        with pytest.raises(StoreError, match=rf"train-00000.*{name} (is|lies|ends)"):
            getattr(open_store(folder).split("train"), column)
    with pytest.raises(StoreError, match=name):
        open_store(folder).split("train").image(0)
    for form in ("folder", "webdataset"):
        with pytest.raises(StoreError):
            export_store(open_store(folder), form, folder.parent / form)
        assert not any(b"secret" in path.read_bytes() for path in (folder.parent / form).rglob("*") if path.is_file())


@pytest.mark.parametrize("value", [["1.2", "1.2"], 3, h5py.Empty("f"), np.bytes_(b"\xff"), ["x"] * 4000])
def test_an_attribute_that_is_not_one_string_is_refused(folder: Path, value: Any) -> None:
    forge(folder, lambda file, secret: file.attrs.__setitem__("plan_digest", value))
    with pytest.raises(StoreError, match=r"train-00000.*(not one string|cannot be read as one)"):
        _ = open_store(folder).split("train").labels


def test_groups_are_compared_when_they_are_read(folder: Path) -> None:
    forge(folder, lambda file, secret: file["group"].__setitem__(0, b"somebody else"))
    reader = open_store(folder).split("train")
    assert len(reader.labels) == 5
    for _ in range(2):
        with pytest.raises(StoreError, match=r"train-00000.*dataset group does not match its checksum"):
            _ = reader.groups


def test_a_link_that_the_format_does_not_know_is_found_too(folder: Path) -> None:
    forge(folder, lambda file, secret: file.__setitem__("extra", h5py.ExternalLink(str(secret), "x")))
    assert "extra is a link" in verify_store(folder)[0].what
    assert len(open_store(folder).split("train").labels) == 5, "what a reader does not know it ignores"
    result = CliRunner().invoke(inspect, [str(folder / "train-00000.h5")])
    assert isinstance(result.exception, StoreError) and "extra is a link" in str(result.exception)


def test_an_offset_that_is_not_the_datasets_is_refused(folder: Path) -> None:
    index = open_store(folder).index
    first = index.shards[0]
    moved = dataclasses.replace(first, offsets={**first.offsets, "landmarks": first.offsets["landmarks"] + 8})
    save_index(folder, dataclasses.replace(index, shards=(moved, *index.shards[1:])))
    with pytest.raises(StoreError, match="landmarks lies elsewhere"):
        _ = open_store(folder).split("train").landmarks
    assert verify_store(folder)[0].what == "not what the index says of it"


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        ("label", 200, "label 200, where the largest is 6"),
        ("has_map", 7, "has_map 7"),
        ("landmarks", np.nan, "numbers in landmarks that are not finite"),
        ("to_source", np.inf, "numbers in to_source"),
        ("sample_id", b"train/0001", "the sample_id 'train/0001' twice"),
        ("sample_id", b"\xff", "not UTF-8"),
        ("sample_id", b"", "an empty sample_id"),
    ],
)
def test_values_that_no_store_may_hold_are_named(folder: Path, name: str, value: Any, what: str) -> None:
    forge(folder, lambda file, secret: file[name].__setitem__(0, value))
    assert any(what in finding.what for finding in verify_store(folder))
    reader = open_store(folder).split("train")
    attribute = {"label": "labels", "sample_id": "sample_ids"}.get(name, name)
    with pytest.raises(StoreError, match=what):
        getattr(reader, attribute)


def test_a_sample_in_two_splits_is_found(folder: Path) -> None:
    forge(folder, lambda file, secret: file["sample_id"].__setitem__(0, b"test/0001"))
    assert verify_store(folder) == [Finding("train-00000.h5", "samples that another shard holds too", ("test/0001",))]


def test_a_shard_of_other_classes_than_the_index_is_found(folder: Path) -> None:
    forge(folder, lambda file, secret: file.attrs.__setitem__("codebook_digest", "other"))
    assert verify_store(folder)[0].what == "of other classes, sizes or codebook than the index says"


def test_offsets_of_jpegs_that_lead_astray_are_refused(sound: Store, tmp_path: Path) -> None:
    folder = tmp_path / "store"
    jpeg_copy(sound, folder)
    assert verify_store(folder) == []
    forge(folder, lambda file, secret: file["image_offset"].__setitem__(-1, 10**6))
    assert [finding.what for finding in verify_store(folder)] == ["the offsets of the images do not fit"]
    with pytest.raises(StoreError, match="offsets of its images"):
        open_store(folder).split("train").image(0)


def rewrite(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = folder / "index.json"
    content = json.loads(path.read_text())
    del content["digest"]
    change(content)
    path.write_text(json.dumps({**content, "digest": digest(content)}))


def in_first_shard(**values: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda content: content["shards"][0].update(values)


@pytest.mark.parametrize(
    "change",
    [
        in_first_shard(name="../x.h5"), in_first_shard(name="/etc/passwd"), in_first_shard(name="index.json"),
        in_first_shard(name="a/b.h5"), in_first_shard(name=".."), in_first_shard(name="train-00001.h5"),
        in_first_shard(rows=10**12), in_first_shard(rows=-1), in_first_shard(rows=2), in_first_shard(rows="3"),
        in_first_shard(split="secret"), in_first_shard(labels={"anger": 10**6}), in_first_shard(labels={"x": 3}),
        in_first_shard(with_map=50), in_first_shard(offsets={}), in_first_shard(offsets={"image": -5}),
        in_first_shard(bytes=10), in_first_shard(offsets=[1]), in_first_shard(channel_sum="x"),
        lambda content: content.update(total=1000), lambda content: content.update(failed={"no_face": -4}, total=5),
        lambda content: content.update(image_size=2**40), lambda content: content.update(map_size=0),
        lambda content: content.update(id_bytes=-1), lambda content: content.update(classes=7),
        lambda content: content.update(classes=["anger"] * 7), lambda content: content.update(channel_mean=[1]),
        lambda content: content.update(channel_mean=["a", "b", "c"]), lambda content: content.update(shards=None),
        lambda content: content.update(codebook=[]), lambda content: content.update(files={"../../x": "0"}),
        lambda content: content.update(schema_version=1.1), lambda content: content.pop("provenance"),
    ],
)  # fmt: skip
def test_an_index_that_no_store_can_have_is_one_error(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    rewrite(folder, change)
    with pytest.raises(StoreError, match=r"index\.json"):
        open_store(folder)
