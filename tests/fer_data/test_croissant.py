"""Croissant metadata of stores and tables: true, checked with the standard's own library, and nobody's stray file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from aupipe.commands import cli
from aupipe.fer_data.errors import StoreError, UserInputError
from aupipe.fer_data.files import sha256_file
from aupipe.fer_data.shards import Store, verify_store
from aupipe.fer_data.shards.croissant import (
    ABOUT,
    CROISSANT_NAME,
    describe_store,
    kept_about,
    missing_about,
    read_about,
)
from aupipe.fer_data.shards.export import export_store
from aupipe.fer_data.shards.inspect import inspect_path
from synthetic import synthetic_store

SAID = {
    "license": "https://creativecommons.org/licenses/by/4.0/",
    "creator": "Ada",
    "url": "https://example.org/faces",
    "datePublished": "2026-01-02",
    "citeAs": "Ada: Faces",
    "version": "1.0.0",
}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return synthetic_store(tmp_path / "store", train=16, val=7, test=7, size=24, map_size=12, rows_per_shard=8)


def read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def test_every_file_is_named_with_its_size_and_digest(store: Store) -> None:
    path = describe_store(store.folder, store.index, {})
    content = read(path)
    assert path == store.folder / CROISSANT_NAME and "recordSet" not in content
    told = {file["contentUrl"]: file for file in content["distribution"]}
    files = [one for one in store.folder.iterdir() if one.name not in (CROISSANT_NAME, ".lock")]
    assert set(told) == {one.name for one in files}
    for one in files:
        assert told[one.name]["sha256"] == sha256_file(one)
        assert told[one.name]["contentSize"] == f"{one.stat().st_size} B"
    assert told["train-00000.h5"]["encodingFormat"] == "application/x-hdf5"


def test_the_store_stays_intact_and_a_stale_file_is_found(store: Store, tmp_path: Path) -> None:
    describe_store(store.folder, store.index, SAID)
    assert verify_store(store.folder) == []
    assert inspect_path(store.folder).content["digest"] == store.index.digest
    other = synthetic_store(tmp_path / "other", train=9, val=2, test=2, size=16, map_size=8)
    stale = describe_store(other.folder, other.index, {}).read_bytes()
    for content in (stale, b"{", b"[]", b'{"distribution": [{}]}'):
        (store.folder / CROISSANT_NAME).write_bytes(content)
        (finding,) = verify_store(store.folder)
        assert finding.file == CROISSANT_NAME and "another index" in finding.what


def test_the_same_store_gives_the_same_bytes_wherever_it_lies(store: Store, tmp_path: Path) -> None:
    first = describe_store(store.folder, store.index, SAID).read_bytes()
    moved = store.folder.rename(tmp_path / "moved")
    assert describe_store(moved, store.index, SAID).read_bytes() == first


def test_what_people_say_is_read_and_what_they_do_not_is_left_out(store: Store) -> None:
    assert read_about(["license=https://a/b?c=d", "name= my faces "]) == {
        "license": "https://a/b?c=d",
        "name": "my faces",
    }
    for word, message in (("license", "KEY=VALUE"), ("license=", "KEY=VALUE"), ("licence=x", "Did you mean 'license'")):
        with pytest.raises(UserInputError, match=message):
            read_about([word])
    assert missing_about({}) == ["license", "creator", "url", "datePublished", "citeAs", "version"]
    assert missing_about(SAID) == []
    silent, told = (read(describe_store(store.folder, store.index, about)) for about in ({}, SAID))
    assert not set(missing_about({})) & set(silent)
    assert {key: told[key] for key in SAID if key != "creator"} == {k: v for k, v in SAID.items() if k != "creator"}
    assert told["creator"]["name"] == "Ada" and set(SAID) | {"name", "description"} == set(ABOUT)


def test_the_command_says_what_is_still_to_be_said(store: Store, tmp_path: Path) -> None:
    words = ["export", str(store.folder), "--to", "croissant"]
    done = CliRunner().invoke(cli.cli, [*words, "--about", "license=https://a/b", "--json"])
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert said["file"] == str(store.folder / CROISSANT_NAME) and "license" not in said["left_out"]
    assert "creator" in CliRunner().invoke(cli.cli, words).output
    assert CliRunner().invoke(cli.cli, [*words, "--out", str(tmp_path / "x")]).exit_code == 2
    tables = [
        "export",
        str(store.folder),
        "--to",
        "parquet",
        "--out",
        str(tmp_path / "tables"),
        "--about",
        "creator=Ada",
    ]
    assert CliRunner().invoke(cli.cli, tables).exit_code == 0
    assert read(tmp_path / "tables" / CROISSANT_NAME)["creator"]["name"] == "Ada"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the library's own use of rdflib
def test_the_standard_s_library_finds_nothing_wrong_and_reads_the_rows(store: Store, tmp_path: Path) -> None:
    mlcroissant = pytest.importorskip("mlcroissant", reason="the package mlcroissant is not installed")
    described = mlcroissant.Dataset(jsonld=str(describe_store(store.folder, store.index, SAID)))
    assert described.metadata.ctx.issues.report() == ""
    export_store(store, "parquet", tmp_path / "tables", about=SAID)
    tables = mlcroissant.Dataset(jsonld=str(tmp_path / "tables" / CROISSANT_NAME))
    assert tables.metadata.ctx.issues.report() == ""
    seen = 0
    readers = {split: store.split(split) for split in store.index.splits}
    places = {name: (split, row) for split, one in readers.items() for row, name in enumerate(one.sample_ids)}
    for record in tables.records("faces"):
        split, row = places[record["faces/sample_id"].decode()]
        reader = readers[split]
        assert (record["faces/split"].decode(), record["faces/label"]) == (split, reader.labels[row])
        np.testing.assert_array_equal(np.asarray(record["faces/image"]), reader.image(row))
        np.testing.assert_array_equal(np.array(record["faces/landmarks"]), reader.landmarks[row])
        seen += 1
    assert seen == 30


def test_what_people_said_stays_and_damaged_stores_are_not_described(store: Store, tmp_path: Path) -> None:
    folder, silent = store.folder, Path(shutil.copytree(store.folder, tmp_path / "silent"))
    describe_store(folder, store.index, SAID)
    again = read(describe_store(folder, store.index, {"license": "https://other/licence"}))
    assert again["license"] == "https://other/licence" and kept_about(folder) == {**SAID, "license": again["license"]}
    describe_store(silent, store.index, {})
    assert kept_about(silent) == {}, "our own words are nobody's"
    said = {"name": "faces-2024", "description": "Aligned face crops of my lab, 2024"}
    describe_store(silent, store.index, said)
    assert kept_about(silent) == said, "words that begin like ours are people's"
    content = read(silent / CROISSANT_NAME)
    content["creator"] = [{"@type": "sc:Person", "name": "Ann"}, {"@type": "sc:Person", "name": "Bo"}]
    (silent / CROISSANT_NAME).write_text(json.dumps(content), encoding="utf-8")
    assert kept_about(silent) == {**said, "creator": "Ann, Bo"}
    shard = folder / store.index.shards[0].name
    shard.write_bytes(shard.read_bytes()[:-1])
    for _ in range(2):
        with pytest.raises(StoreError, match="missing or has another size"):
            describe_store(folder, store.index, {})
        shard.unlink(missing_ok=True)
