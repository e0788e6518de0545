"""What a path is that a command was given by mistake: every kind given, where each kind is wanted, by every command."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from aupipe.commands import cli
from aupipe.fer_analysis.explain.inputs import open_source
from aupipe.fer_data.errors import FerError
from aupipe.fer_data.images import write_png
from aupipe.fer_data.manifest import read_manifest
from aupipe.fer_data.shards.index import load_index
from aupipe.fer_data.wrong_path import MANIFEST_COLUMNS
from aupipe.fer_models.training.run_record import load_record
from aupipe.pipeline.landmarks.work import open_work

READERS: dict[str, Callable[[Path], object]] = {
    "images": open_source,
    "manifest": read_manifest,
    "landmarks": open_work,
    "store": load_index,
    "run": load_record,
}
TABLE = {
    "nowhere": dict.fromkeys(READERS, "nowhere does not exist"),
    "photos": {
        "manifest": "a folder of images, not a manifest. Run `aupipe manifest build auto photos -o faces.csv` first.",
        "landmarks": "aupipe manifest build auto photos -o faces.csv` first, then `aupipe landmarks`",
        "store": "a folder of images, not a store. Run `aupipe manifest build auto photos",
        "run": "first, then `aupipe landmarks` and `aupipe build-maps` and `aupipe train`.",
    },
    "faces.csv": {
        "landmarks": "a manifest, not a landmarks folder. Run `aupipe landmarks faces.csv --out work` first.",
        "store": "Run `aupipe landmarks faces.csv --out work` first, then `aupipe build-maps`.",
        "run": "a manifest, not a run.",
    },
    "work": {
        "images": "a landmarks folder, not a folder of images",
        "manifest": "a landmarks folder, not a manifest. Give a manifest instead: work/manifest.csv.",
        "store": "a landmarks folder, not a store. Run `aupipe build-maps work --out store` first.",
        "run": "Run `aupipe build-maps work --out store` first, then `aupipe train`.",
    },
    "store": {
        "images": "a store, not a folder of images",
        "manifest": "a store, not a manifest. Give a manifest instead.",
        "landmarks": "a store, not a landmarks folder. Give a landmarks folder instead.",
        "run": "a store, not a run. Run `aupipe train store --out run` first.",
    },
    "run": {
        "images": "a run, not a folder of images",
        "manifest": "a run, not a manifest",
        "landmarks": "a run, not a landmarks folder",
        "store": "a run, not a store. Give a store instead: this run was trained on ",
    },
    "half/work": {"landmarks": "not a finished landmarks folder: it has no landmarks.json."},
    "half/store": {"store": "not a finished store: it has no index.json."},
    "half/run": {"run": "not a finished run: it has no config.json."},
    "store/train-00000.h5": {
        "manifest": "one HDF5 file, not a manifest",
        "store": "one HDF5 file, not a store. Give the folder it lies in: store.",
        "run": "one HDF5 file, not a run",
    },
    "photos/a.png": {"manifest": "one image, not a manifest", "store": "one image, not a store"},
    "notes.txt": {"store": "a file of another kind, not a store. Make it with `aupipe build-maps work --out store`."},
    "empty": {"run": "an empty folder, not a run", "images": "an empty folder"},
    "compared": {"run": "what `aupipe compare` made, not a run"},
    "grid": {"run": "not a run itself, but holds grid/runs/cam-0: give that"},
    "all": {
        "manifest": "holds all/faces.csv",
        "landmarks": "holds all/work",
        "store": "holds all/store",
        "run": "holds all/run-a or all/run-b or all/run-c, or one of 1 more",
    },
    "faces.csw": {"manifest": "does not exist. Expected: a manifest. Did you mean faces.csv?"},
    "stor": {"store": "does not exist. Expected: a store. Did you mean store?"},
    "https:/host/run": {"run": "is a URL. Expected: a run. Only a store may lie at a URL."},
}
"""What is said, by what is given and what is wanted; a kind that a row leaves out is said elsewhere or is right."""


def put(path: Path, content: bytes = b"{}") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one of everything; what a kind is told by is enough."""
    header = (",".join(MANIFEST_COLUMNS) + "\n").encode()
    hdf5 = b"\x89HDF\r\n\x1a\n"
    write_png(tmp_path / "photos" / "a.png", np.zeros((8, 8, 3), np.uint8))
    for folder in (tmp_path, tmp_path / "all"):
        put(folder / "faces.csv", header)
        put(folder / "work" / "landmarks.json")
        put(folder / "work" / "manifest.csv", header)
        put(folder / "work" / "sheet.png")
        put(folder / "store" / "index.json")
        put(folder / "store" / "train-00000.h5", hdf5)
    for name in ("run", *(f"all/run-{one}" for one in "abcd"), "grid/runs/cam-0"):
        put(tmp_path / name / "config.json", json.dumps({"store": "../store"}).encode())
    for name in ("work", "store", "run"):
        put(tmp_path / name / ".lock", b"landmarks\n" if name == "work" else f"{name}\n".encode())
    put(tmp_path / "half" / "work" / "landmarks" / "part-00000.h5", hdf5)
    put(tmp_path / "half" / "store" / "train-00000.h5", hdf5)
    put(tmp_path / "half" / "run" / "last.pt")
    put(tmp_path / "compared" / "comparison.json")
    put(tmp_path / "notes.txt", b"words")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("given", "wanted"), [(given, wanted) for given, row in TABLE.items() for wanted in row if wanted in READERS]
)
@pytest.mark.usefixtures("place")
def test_a_path_is_named_as_what_it_is(given: str, wanted: str) -> None:
    with pytest.raises(FerError) as refused:
        READERS[wanted](Path(given))
    assert TABLE[given][wanted] in str(refused.value)


WANTED = {
    "manifest build auto PATH -o m.csv": "images",
    "manifest check PATH": "",
    "landmarks PATH --out new": "manifest",
    "codebook check default --against PATH": "manifest",
    "landmarks-agreement PATH PATH --out new": "landmarks",
    "build-maps PATH --out new --workers 0": "landmarks",
    "build-maps work --images-from PATH --out new --workers 0": "",
    "repair store --from PATH": "",
    "inspect PATH": "store",
    "verify PATH": "store",
    "export PATH --to folder --out new": "store",
    "bench-loader PATH": "store",
    "train PATH --out new": "store",
    "benchmark PATH --out new": "store",
    "study PATH --out new": "store",
    "evaluate PATH": "run",
    "faithfulness PATH": "run",
    "explain PATH photos --out new": "run",
    "export-model PATH --to pt2 --out new.pt2": "run",
    "compare PATH --out new": "run",
    "report PATH --out new.html": "run or a store",
}
"""Every use of a command that reads one of these kinds; empty: it looks at another path first."""


@pytest.mark.parametrize("command", [command for command, wanted in WANTED.items() if wanted])
@pytest.mark.usefixtures("place")
def test_every_command_names_it(command: str) -> None:
    given = "work" if WANTED[command] != "landmarks" else "photos"
    name = {"images": "a folder of images", "landmarks": "a landmarks folder"}.get(
        WANTED[command], f"a {WANTED[command]}"
    )
    result = CliRunner().invoke(cli.cli, command.replace("PATH", given).split())
    assert isinstance(result.exception, FerError), (result.output, result.exception)
    kind = "a landmarks folder" if given == "work" else "a folder of images"
    assert f"{given} is {kind}, not {name}." in str(result.exception)
    assert not any(Path(one).exists() for one in ("new", "new.html", "new.pt2", "m.csv"))


def test_every_command_is_in_the_table() -> None:
    named = {command.split()[0] for command in WANTED}
    assert named | {"demo", "doctor"} == {str(command.name) for command in cli.COMMANDS}


def test_a_link_to_nothing_does_not_exist(place: Path) -> None:
    (place / "link").symlink_to("gone")
    with pytest.raises(FerError, match="link does not exist"):
        load_index(place / "link")
