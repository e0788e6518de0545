from __future__ import annotations

import dataclasses
import errno
import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from aupipe.fer_data.errors import StoreError
from aupipe.fer_data.files import sha256_file
from aupipe.fer_data.shards import Finding, Store, open_store, verify_shard, verify_store
from aupipe.fer_data.shards.index import save_index
from aupipe.fer_data.shards.spec import columns
from synthetic import synthetic_store


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("verify") / "store"
    store = synthetic_store(folder, train=5, val=2, test=2, size=16, map_size=8, rows_per_shard=3)
    (folder / "failures.csv").write_text("sample_id,path,reason,detail\nx/1,x/1.png,no_face,\n")
    files = {"failures.csv": sha256_file(folder / "failures.csv")}
    save_index(folder, dataclasses.replace(store.index, files=files, failed={"no_face": 1}, total=10))
    assert verify_store(folder, rows=True) == []
    return open_store(folder)


@pytest.fixture
def folder(pristine: Store, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pristine.folder, tmp_path / "store"))


@pytest.fixture(scope="module")
def lasting(pristine: Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One copy for many examples; each of them mends what it damaged."""
    copy = Path(shutil.copytree(pristine.folder, tmp_path_factory.mktemp("damage") / "store"))
    yield copy
    assert verify_store(copy, rows=True) == []


def problems(folder: Path) -> list[Finding]:
    """Findings; an index that cannot be used counts as one."""
    try:
        return verify_store(folder, rows=True)
    except StoreError as error:
        return [Finding("index.json", str(error))]


FILES = ("index.json", "failures.csv", "train-00000.h5", "train-00001.h5", "val-00000.h5", "test-00000.h5")


def test_a_whole_store_is_clean(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    assert verify_store(folder) == verify_store(folder, rows=True) == []
    (folder / ".lock").touch()
    assert verify_store(folder) == []


@given(st.sampled_from(FILES), st.floats(0, 1, exclude_max=True), st.integers(1, 255))
@example("train-00000.h5", 4104.5 / 20434, 110)  # the size of a heap: HDF5 would search it for ever
@example("index.json", 0.0, 1)
@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_changed_byte_is_found(lasting: Path, name: str, where: float, flip: int) -> None:
    path = lasting / name
    data = path.read_bytes()
    damaged = bytearray(data)
    damaged[int(where * len(data))] ^= flip
    path.write_bytes(damaged)
    try:
        found = problems(lasting)
    finally:
        path.write_bytes(data)
    assert [finding.file for finding in found] == [name]
    assert found[0].what


COLUMNS = tuple(column.name for column in columns(16, 8, 16))


@pytest.mark.slow
@given(
    st.sampled_from([0, 1]), st.sampled_from((*COLUMNS, "crc32")), st.integers(0, 2), st.floats(0, 1, exclude_max=True),
    st.integers(1, 255),
)  # fmt: skip
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_changed_byte_in_a_row_names_its_sample(
    pristine: Store, lasting: Path, shard: int, column: str, row: int, where: float, flip: int
) -> None:
    entry = pristine.index.shards[shard]
    row %= entry.rows
    path = lasting / entry.name
    data = path.read_bytes()
    sizes = {c.name: c for c in columns(16, 8, 16)}
    size = 4 if column == "crc32" else np.dtype((sizes[column].dtype, sizes[column].shape)).itemsize
    damaged = bytearray(data)
    damaged[entry.offsets[column] + row * size + int(where * size)] ^= flip
    path.write_bytes(damaged)
    try:
        with_rows, without = verify_store(lasting, rows=True), verify_store(lasting)
    finally:
        path.write_bytes(data)
    (finding,) = with_rows
    assert finding.file == entry.name and finding.what == "1 rows do not match their checksum"
    sample = f"train/{shard * 3 + row:04d}"
    assert len(finding.samples) == 1
    if column != "sample_id":
        assert finding.samples == (sample,)
    assert [(f.file, f.samples) for f in without] == [(entry.name, ())]


def test_two_damaged_rows_are_both_named(folder: Path, pristine: Store) -> None:
    entry = pristine.index.shards[0]
    data = bytearray((folder / entry.name).read_bytes())
    for row in (0, 2):
        data[entry.offsets["image"] + row * 16 * 16 * 3] ^= 255
    (folder / entry.name).write_bytes(data)
    assert verify_store(folder, rows=True) == [
        Finding(entry.name, "2 rows do not match their checksum", ("train/0000", "train/0002"))
    ]
    assert verify_shard(folder / entry.name, rows=True)[0].samples == ("train/0000", "train/0002")
    assert verify_shard(folder / entry.name, rows=False) == []


@pytest.mark.parametrize("share", [0.0, 0.3, 0.999])
@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_is_found(folder: Path, name: str, share: float) -> None:
    path = folder / name
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    assert [finding.file for finding in problems(folder)] == [name]


@pytest.mark.parametrize("name", FILES)
def test_a_file_with_bytes_appended_is_found(folder: Path, name: str) -> None:
    with (folder / name).open("ab") as file:
        file.write(b"\n")
    assert [finding.file for finding in problems(folder)] == [name]


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_found(folder: Path, name: str) -> None:
    (folder / name).unlink()
    (finding,) = problems(folder)
    assert finding.file == name
    assert finding.what == "missing" or "not a finished store" in finding.what


def test_two_shards_that_changed_places_are_found(folder: Path) -> None:
    (folder / "val-00000.h5").rename(folder / "x")
    (folder / "test-00000.h5").rename(folder / "val-00000.h5")
    (folder / "x").rename(folder / "test-00000.h5")
    what = "not the bytes that the index describes"
    assert verify_store(folder, rows=True) == [Finding("test-00000.h5", what), Finding("val-00000.h5", what)]


def test_extra_and_left_over_files_are_found(folder: Path) -> None:
    (folder / ".train-00002.h5.123.tmp").write_bytes(b"half")
    (folder / "train-00009.h5").write_bytes(b"?")
    (folder / "cache").mkdir()
    for name in (".DS_Store", "._index.json"):
        (folder / name).write_bytes(b"a system's")
    assert verify_store(folder) == [
        Finding(".train-00002.h5.123.tmp", "left by an interrupted write"),
        Finding("cache", "not part of the store"),
        Finding("train-00009.h5", "not part of the store"),
    ]


def test_every_problem_is_listed_at_once(folder: Path) -> None:
    (folder / "val-00000.h5").unlink()
    (folder / "failures.csv").write_text("")
    (folder / "junk").touch()
    assert {finding.file for finding in verify_store(folder)} == {"val-00000.h5", "failures.csv", "junk"}


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "{}", '"text"', '{"schema_version": "1.0"}'])
def test_an_index_that_is_none_is_a_clear_error(folder: Path, content: str) -> None:
    (folder / "index.json").write_text(content)
    with pytest.raises(StoreError, match=r"index\.json"):
        verify_store(folder)


def test_a_reformatted_index_is_noticed(folder: Path) -> None:
    path = folder / "index.json"
    path.write_text(path.read_text().replace("\n ", "\n  "))
    assert verify_store(folder) == [Finding("index.json", "not the bytes that were written")]


def test_a_shard_that_is_no_shard(tmp_path: Path) -> None:
    (tmp_path / "s.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(500))
    (finding,) = verify_shard(tmp_path / "s.h5", rows=True)
    assert finding.what.startswith("not a complete shard")


def test_a_disk_that_fails_is_named_and_its_pages_are_never_mapped(
    pristine: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, plain = Path(shutil.copytree(pristine.folder, tmp_path / "store")), hashlib.file_digest

    def failing(stream: Any, name: str) -> Any:
        if Path(stream.name).name == "train-00000.h5":
            raise OSError(errno.EIO, "Input/output error")
        return plain(stream, name)

    monkeypatch.setattr(hashlib, "file_digest", failing)
    monkeypatch.setattr(np, "memmap", lambda *_: pytest.fail("a failing page under a map ends the process"))
    assert verify_store(folder, rows=True) == [Finding("train-00000.h5", "cannot be read (Input/output error)")]
