from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import pickle
import re
import subprocess
import sys
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest

from aupipe.fer_data.errors import FerError, StoreError
from aupipe.fer_data.files import digest
from aupipe.fer_data.shards import (
    SCHEMA_VERSION,
    ShardEntry,
    ShardHeader,
    Store,
    TripletRow,
    open_store,
    structure,
    write_shard,
)
from aupipe.fer_data.shards.reader import SplitReader
from aupipe.fer_data.shards.rows import RowFiles
from aupipe.fer_data.shards.shard_file import open_shard
from aupipe.fer_data.shards.spec import JPEG_SCHEMA_VERSION, LATER, columns
from synthetic import CLASSES, synthetic_rows, synthetic_store

ROOT = Path(__file__).parents[2]
HEADER = ShardHeader("train", CLASSES, 64, 16, "plan-7", "default", "0abc", '{"a":1}', '{"numpy":"2"}', 16)


def some_rows(count: int = 5) -> list[TripletRow]:
    return synthetic_rows("train", count, 64, 16, 3)


@pytest.fixture
def shard(tmp_path: Path) -> tuple[Path, list[TripletRow], ShardEntry]:
    rows = some_rows()
    rows[2] = dataclasses.replace(rows[2], sample_id="größe/2", to_source=np.array([[0.1, 2, 3], [4, 5, 6.5]]))
    return tmp_path / "s.h5", rows, write_shard(tmp_path / "s.h5", iter(rows), 5, HEADER)


# --- the shard ---


def test_every_column_round_trips(shard: tuple[Path, list[TripletRow], ShardEntry]) -> None:
    path, rows, entry = shard
    with h5py.File(path) as file:
        for number, row in enumerate(rows):
            np.testing.assert_array_equal(file["image"][number], row.image)
            np.testing.assert_array_equal(file["au_map"][number], row.au_map)
            np.testing.assert_array_equal(file["landmarks"][number], row.landmarks)
            np.testing.assert_array_equal(file["to_source"][number], row.to_source)
            assert file["label"][number] == row.label and file["has_map"][number] == row.has_map
            assert file["sample_id"][number].decode() == row.sample_id
            stored = [np.asarray(file[c.name][number], file[c.name].dtype) for c in columns(64, 16, 16)]
            assert zlib.crc32(b"".join(value.tobytes() for value in stored)) == file["crc32"][number]
    assert (entry.rows, entry.with_map, entry.bytes) == (5, sum(r.has_map for r in rows), path.stat().st_size)
    assert entry.labels == {"anger": 1, "disgust": 1, "fear": 1, "happiness": 1, "sadness": 1}
    pixels = np.concatenate([row.image.reshape(-1, 3) for row in rows]).astype(np.int64)
    assert entry.channel_sum == pixels.sum(0).tolist()
    assert entry.channel_sum_of_squares == (pixels**2).sum(0).tolist()


def test_the_file_describes_itself(shard: tuple[Path, list[TripletRow], ShardEntry]) -> None:
    with h5py.File(shard[0]) as file:
        assert file.attrs["schema_version"] == SCHEMA_VERSION
        assert list(file.attrs["classes"]) == list(CLASSES)
        assert file.attrs["split"] == "train" and file.attrs["plan_digest"] == "plan-7"
        assert (file.attrs["codebook"], file.attrs["codebook_digest"]) == ("default", "0abc")
        assert json.loads(file.attrs["config"]) == {"a": 1} and json.loads(file.attrs["software"]) == {"numpy": "2"}
        for column in columns(64, 16, 16):
            dataset = file[column.name]
            assert dataset.shape == (5, *column.shape) and dataset.dtype == np.dtype(column.dtype)
            assert dataset.chunks is None and dataset.compression is None
            assert dataset.attrs["long_name"] == column.long_name and dataset.attrs["units"] == column.units
            scales = [dimension[0].name.removeprefix("/") for dimension in dataset.dims]
            assert scales == ["sample", *column.dims]
        assert file["au_map"].attrs["scale_factor"] == 1 / 255
        assert file["label"].attrs["flag_meanings"].split() == list(CLASSES)


def test_offsets_read_the_same_bytes_without_hdf5(shard: tuple[Path, list[TripletRow], ShardEntry]) -> None:
    path, _, entry = shard
    with h5py.File(path) as file:
        assert set(entry.offsets) == {column.name for column in columns(64, 16, 16)} | {"crc32", *LATER}
        for name, offset in entry.offsets.items():
            dataset = file[name]
            mapped = np.memmap(path, dataset.dtype, "r", offset, dataset.shape)
            np.testing.assert_array_equal(mapped, dataset[:])
            if dataset.nbytes >= 4096:
                assert offset % 4096 == 0, name
    assert entry.offsets["image"] % 4096 == 0


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    entries = [write_shard(tmp_path / name / "s.h5", some_rows(), 5, HEADER) for name in ("a", "b")]
    assert entries[0] == entries[1]
    assert (tmp_path / "a" / "s.h5").read_bytes() == (tmp_path / "b" / "s.h5").read_bytes()
    assert str(tmp_path).encode() not in (tmp_path / "a" / "s.h5").read_bytes()
    other = write_shard(tmp_path / "c.h5", some_rows()[::-1], 5, HEADER)
    assert other.sha256 != entries[0].sha256


@pytest.mark.parametrize("given", [4, 6, 0])
def test_a_wrong_number_of_rows_leaves_no_file(tmp_path: Path, given: int) -> None:
    with pytest.raises(StoreError, match=f"5 rows was given {given}"):
        write_shard(tmp_path / "s.h5", some_rows(given), 5, HEADER)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "change",
    [
        {"sample_id": "x" * 17},
        {"au_map": np.zeros(16, np.uint8)},
        {"au_map": np.full((16, 16), 0.5)},
        {"image": np.zeros((64, 64, 1), np.uint8)},
        {"landmarks": np.full((68, 2), np.nan, np.float32)},
        {"label": 7},
    ],
)
def test_a_row_that_does_not_fit_is_refused_not_bent(tmp_path: Path, change: dict[str, object]) -> None:
    rows = some_rows()
    rows[3] = dataclasses.replace(rows[3], **change)
    with pytest.raises(StoreError, match=change.get("sample_id") or rows[3].sample_id):  # type: ignore[call-overload]
        write_shard(tmp_path / "s.h5", rows, 5, HEADER)
    assert list(tmp_path.iterdir()) == []


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    search = os.pathsep.join([str(ROOT / ".house"), str(ROOT / "tests")])
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True, text=True, timeout=60, env={**os.environ, "PYTHONPATH": search}, check=False,
    )  # fmt: skip


SETUP = """
import os, resource, signal, sys
from pathlib import Path
from aupipe.fer_data.errors import FerError
from aupipe.fer_data.shards import ShardHeader, write_shard
from synthetic import CLASSES, synthetic_rows
header = ShardHeader("train", CLASSES, 64, 16, "plan", "default", "0", "{}", "{}", 16)
rows = synthetic_rows("train", 8, 64, 16, 0)
"""


def test_a_killed_writer_leaves_nothing_under_the_final_name(tmp_path: Path) -> None:
    program = (
        SETUP
        + """
def killed():
    yield from rows[:4]
    os.kill(os.getpid(), signal.SIGKILL)
write_shard(Path(sys.argv[1]), killed(), 8, header)
"""
    )
    assert run(program, str(tmp_path / "s.h5")).returncode == -9
    left = [path.name for path in tmp_path.iterdir()]
    assert len(left) == 1 and left[0].startswith(".s.h5.") and left[0].endswith(".tmp")


@pytest.mark.parametrize("limit", [5_000, 60_000, 110_000])
def test_a_full_disk_is_one_error_and_no_crash(tmp_path: Path, limit: int) -> None:
    """The kernel refuses writes beyond the limit, as a full disk does; HDF5 by itself would crash at exit."""
    program = (
        SETUP
        + """
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    write_shard(Path(sys.argv[1]), rows, 8, header)
except FerError as error:
    print(error)
"""
    )
    done = run(program, str(tmp_path / "s.h5"), str(limit))
    assert done.stdout.startswith(f"Could not write {tmp_path / 's.h5'}: File too large.")
    assert (done.returncode, done.stderr) == (0, "")
    assert list(tmp_path.iterdir()) == []


# --- the store ---


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Five training shards, the last one short."""
    return synthetic_store(tmp_path_factory.mktemp("uneven"), train=23, val=3, test=4, size=32, rows_per_shard=5)


def test_the_reader_gives_every_row_back(uneven: Store) -> None:
    rows, reader = synthetic_rows("train", 23, 32, 16, 0), uneven.split("train")
    assert len(reader) == 23 and len(reader.entries) == 5
    np.testing.assert_array_equal(reader.labels, [row.label for row in rows])
    np.testing.assert_array_equal(reader.has_map, [row.has_map for row in rows])
    np.testing.assert_array_equal(reader.landmarks, [row.landmarks for row in rows])
    np.testing.assert_array_equal(reader.to_source, [row.to_source for row in rows])
    assert reader.sample_ids == [row.sample_id for row in rows]
    for number, row in enumerate(rows):
        np.testing.assert_array_equal(reader.image(number), row.image)
        np.testing.assert_allclose(reader.au_map(number), row.au_map / 255, atol=1e-7)
    assert reader.image(0).flags.writeable  # a copy: nobody can write to the store by accident


def test_gather_keeps_the_order_asked_for(uneven: Store) -> None:
    rows, reader = synthetic_rows("train", 23, 32, 16, 0), uneven.split("train")
    wanted = np.array([22, 0, 4, 5, 5, 19, 20, 1])
    images, maps = np.zeros((8, 32, 32, 3), np.uint8), np.zeros((8, 16, 16), np.uint8)
    reader.gather(wanted, images, maps)
    np.testing.assert_array_equal(images, [rows[number].image for number in wanted])
    np.testing.assert_array_equal(maps, [rows[number].au_map for number in wanted])


@pytest.mark.parametrize("row", [-1, 23, 1000])
def test_rows_outside_are_refused(uneven: Store, row: int) -> None:
    reader = uneven.split("train")
    with pytest.raises(IndexError, match=f"row {row} of 23"):
        reader.image(row)
    with pytest.raises(IndexError):
        reader.gather(np.array([row]), np.zeros((1, 32, 32, 3), np.uint8), np.zeros((1, 16, 16), np.uint8))


def test_an_unknown_split_lists_those_that_exist(uneven: Store) -> None:
    with pytest.raises(StoreError, match="one of train, val, test"):
        uneven.split("dev")


def test_the_codebook_travels_with_the_store(uneven: Store) -> None:
    assert open_store(uneven.folder).codebook.digest == uneven.index.codebook_digest


def fingerprint(reader: SplitReader) -> str:
    images, maps = np.zeros((4, 32, 32, 3), np.uint8), np.zeros((4, 16, 16), np.uint8)
    reader.gather(np.array([3, 17, 9, 22]), images, maps)
    return digest([images.tolist(), maps.tolist(), reader.labels.tolist(), reader.sample_ids])


def test_a_used_reader_pickles_small_and_works_again(uneven: Store) -> None:
    reader = uneven.split("train")
    expected = fingerprint(reader)
    data = pickle.dumps(reader)
    assert len(data) < 20_000  # no image travels
    assert fingerprint(pickle.loads(data)) == expected


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_used_reader_survives_fork(uneven: Store) -> None:
    reader = uneven.split("train")
    expected = fingerprint(reader)
    context = multiprocessing.get_context("fork")
    receive, send = context.Pipe(duplex=False)
    child = context.Process(target=lambda: send.send(fingerprint(reader)))
    child.start()
    assert receive.poll(30) and receive.recv() == expected
    child.join(30)
    assert child.exitcode == 0 and fingerprint(reader) == expected


def test_an_unfinished_store_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"is an empty folder, not a store\. Make it with"):
        open_store(tmp_path)


def changed_index(folder: Path, **changes: object) -> None:
    content = json.loads((folder / "index.json").read_text())
    content.pop("digest")
    content |= changes
    (folder / "index.json").write_text(json.dumps({**content, "digest": digest(content)}))


@pytest.fixture
def own_store(tmp_path: Path) -> Store:
    return synthetic_store(tmp_path / "store", train=4, val=2, test=2, size=16, map_size=8, rows_per_shard=3)


def test_another_major_version_is_refused_with_a_remedy(own_store: Store) -> None:
    changed_index(own_store.folder, schema_version="3.0")
    with pytest.raises(StoreError, match=r"Expected: schema 1\.x or 2\.x\. Got: schema 3\.0\. Build it again"):
        open_store(own_store.folder)
    changed_index(own_store.folder, schema_version="1.9")
    assert open_store(own_store.folder).index.schema_version == "1.9"


def test_keys_of_another_version_are_refused(own_store: Store) -> None:
    changed_index(own_store.folder, novelty=1)
    with pytest.raises(StoreError, match="other keys than this version reads"):
        open_store(own_store.folder)


def test_a_shard_of_another_major_version_is_refused(own_store: Store) -> None:
    path = own_store.folder / "train-00000.h5"
    with h5py.File(path, "r+") as file:
        file.attrs["schema_version"] = "9.0"
    changed = dataclasses.replace(own_store.index.shards[0], bytes=path.stat().st_size)
    index = dataclasses.replace(own_store.index, shards=(changed, *own_store.index.shards[1:]))
    with pytest.raises(StoreError, match=r"Where: train-00000\.h5.*Got: schema 9\.0"):
        _ = Store(own_store.folder, index).split("train").labels


def test_a_shard_of_another_size_is_refused(own_store: Store) -> None:
    path = own_store.folder / "train-00000.h5"
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(StoreError, match=r"train-00000\.h5 is missing or is not the file .*aupipe verify"):
        own_store.split("train").image(0)
    path.unlink()
    with pytest.raises(StoreError, match="Got: no such file"):
        own_store.split("train").image(0)


def test_errors_are_what_the_command_line_prints() -> None:
    assert issubclass(StoreError, FerError) and issubclass(StoreError, ValueError)


# --- the written contract ---


def test_the_document_agrees_with_the_code() -> None:
    text = (ROOT / "docs" / "shard-format.md").read_text()
    assert f"Schema version: **{SCHEMA_VERSION}** with the images as pixels, **{JPEG_SCHEMA_VERSION}** with" in text
    cells = [re.findall(r"[^|]+", line) for line in text.splitlines() if re.match(r"\| `\w+` \| `[\w<*]+` \|", line)]
    documented = [tuple(cell.strip(" `") for cell in row[:4]) for row in cells]
    symbols = {256: "h", 64: "m", 68: "68", 2: "2", 3: "3"}
    expected = [
        (c.name, c.dtype.replace("99", "*"), ", ".join(["n", *(symbols[size] for size in c.shape)]), c.units)
        for c in columns(256, 64, 99)
    ]
    later = [("group", "S*", "n", "1"), ("pose", "<f4", "n, 3", "degree")]
    later += [("au_weight", "u1", "n, 99, 2", "1"), ("au_source", "u1", "n", "1")]
    assert documented[:-2] == [*expected, ("crc32", "<u4", "n", "-"), *later]
    assert [row[:3] for row in documented[-2:]] == [("image_jpeg", "u1", "bytes"), ("image_offset", "<u8", "n + 1")]


def test_the_document_names_every_attribute_and_index_key(own_store: Store) -> None:
    text = (ROOT / "docs" / "shard-format.md").read_text()
    content = json.loads((own_store.folder / "index.json").read_text())
    names = {*content, *content["shards"][0]}
    with h5py.File(own_store.folder / "train-00000.h5") as file:
        names |= set(file.attrs) | set(file)
    missing = {name for name in names if f"`{name}`" not in text}
    assert not missing


def test_the_document_s_example_runs(own_store: Store) -> None:
    text = (ROOT / "docs" / "shard-format.md").read_text()
    example = re.findall(r"```python\n(.*?)```", text, re.S)[0]
    assert len(example.strip().splitlines()) <= 6
    done = run(f"import os; os.chdir({str(own_store.folder)!r})\n{example}\nprint(image.shape, name, au_map.max())")
    assert done.stderr == "" and done.stdout.startswith("(16, 16, 3) anger")


def test_persons_are_kept_and_a_damaged_one_is_found(tmp_path: Path) -> None:
    rows = [dataclasses.replace(row, group="Ärztin 3" if at < 3 else "") for at, row in enumerate(some_rows())]
    path = tmp_path / "train-00000.h5"
    entry = write_shard(path, rows, 5, HEADER)
    with h5py.File(path) as file:
        assert [name.decode() for name in file["group"][:]] == ["Ärztin 3"] * 3 + [row.sample_id for row in rows[3:]]
    with path.open("r+b") as stream:
        stream.seek(entry.offsets["group"] + 3)
        stream.write(b"X")
    with open_shard(path) as shard:
        assert [finding.what for finding in shard.findings(rows=True)] == [
            "the dataset group does not match its checksum"
        ]
        assert structure.later_faults(shard.file, ("group",))
    with pytest.raises(StoreError, match=r"(?s)group of sample .* does not fit.*S16"):
        write_shard(path, [dataclasses.replace(rows[0], group="x" * 17), *rows[1:]], 5, HEADER)


@pytest.mark.parametrize("keep", [True, False])
def test_a_shard_that_is_replaced_while_it_is_read_gives_no_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: bool
) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (8 if keep else 2, 8))
    paths = [tmp_path / f"{name}.h5" for name in "abc"]
    for path in paths:
        path.write_bytes(b"old!")
    files, out = RowFiles(paths), np.empty(4, np.uint8)
    files.read(0, 0, out)
    for path in paths:
        (tmp_path / "new").write_bytes(b"new!")
        (tmp_path / "new").replace(path)
    with pytest.raises(StoreError, match=r"b\.h5 was replaced by another file"):
        files.read(1, 0, out)
    if keep:
        files.read(0, 0, out)  # the old file is open still
        assert out.tobytes() == b"old!"
