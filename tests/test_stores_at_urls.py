"""No command asks for gigabytes before it has refused what it can refuse: with a wrong option no shard is copied."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import click
import pytest
from click.testing import CliRunner

from aupipe.commands import cli
from aupipe.commands.store_argument import PLACE
from aupipe.fer_data.errors import FerError, StoreError
from aupipe.fer_data.images import write_png
from aupipe.fer_data.shards import Store, open_store, remote
from aupipe.fer_data.shards.preview import open_previewed, preview_store
from aupipe.fer_models.training.config import TrainConfig
from aupipe.fer_models.training.run import train
from synthetic import synthetic_store

URL = "https://host/faces/store"
SMALL = ("--backbone", "test_resnet", "--crop-size", "32", "--batch-size", "8", "--device", "cpu")
WRONG: dict[str, dict[str, str]] = {
    "train": {
        "device": f"{URL} --out new {' '.join(SMALL[:-1])} cuda:9",
        "out": f"{URL} --out other {' '.join(SMALL)}",
        "backbone": f"{URL} --out new --backbone resnet1800 --device cpu",
        "method": f"{URL} --out new {' '.join(SMALL)} --method-options nope=1",
        "layers": f"{URL} --out new {' '.join(SMALL)} --align-layers 9",
        "crop": f"{URL} --out new --backbone test_resnet --device cpu --crop-size 480",
        "weights": f"{URL} --out new {' '.join(SMALL)} --weights gone.pt",
    },
    "evaluate": {
        "device": f"run --store {URL} --device cuda:9",
        "split": f"run --store {URL} --split nope",
        "against": f"run --store {URL} --against other --device cpu",
    },
    "faithfulness": {
        "device": f"run --store {URL} --device cuda:9",
        "split": f"run --store {URL} --split nope --device cpu",
    },
    "benchmark": {
        "methods": f"{URL} --out new --methods nope",
        "published": f"{URL} --out new --methods cam --published nope {' '.join(SMALL)}",
        "split": f"{URL} --out new --methods cam --split nope {' '.join(SMALL)}",
        "backbone": f"{URL} --out new --methods cam --backbone resnet1800",
        "out": f"{URL} --out other --methods cam {' '.join(SMALL)}",
        "dry": f"{URL} --out new --methods cam --dry-run --split nope {' '.join(SMALL)}",
    },
    "explain": {
        "path": f"run gone --out new --store {URL}",
        "out": f"run photo.png --out other --store {URL} --device cpu",
        "layer": f"run photo.png --out new --store {URL} --layer 99 --device cpu",
        "method": f"run photo.png --out new --store {URL} --method nope --device cpu",
        "detector": f"run photo.png --out new --store {URL} --detector nope --device cpu",
        "device": f"run photo.png --out new --store {URL} --device cuda:9",
    },
    "export-model": {
        "to": f"run --store {URL} --to nope --out model.onnx",
        "out": f"run --store {URL} --to pt2 --out photo.png",
        "method": f"run --store {URL} --to pt2 --out model.pt2 --method nope",
    },
    "compare": {
        "no out": f"run --store {URL}",
        "out": f"run --store {URL} --out other --device cpu",
        "split": f"run --store {URL} --out new --device cpu --split nope",
        "masks": f"run --store {URL} --out new --device cpu --masks gone",
        "device": f"run --store {URL} --out new --device cuda:9",
        "model": f"run --store {URL} --out new --device cpu --model nope:nope",
        "run": f"gone --store {URL} --out new --device cpu",
    },
    "study": {
        "no out": f"{URL}",
        "out": f"{URL} --out other --networks test_resnet --device cpu",
        "masks": f"{URL} --out new --masks gone --device cpu",
        "weights": f"{URL} --out new --weights-from gone --device cpu",
        "device": f"{URL} --out new --device cuda:9",
        "twice": f"{URL} --out new --networks test_resnet,test_resnet --device cpu",
    },
    "report": {
        "device": f"{URL} --out new.html --device cuda:9",
        "out": f"{URL} --out photo.png",
        "store": f"run --store {URL} --out photo.png",
    },
    "inspect": {
        "png": f"{URL} --png photo.txt",
        "split": f"{URL} --png new.png --split nope",
        "per class": f"{URL} --per-class 0",
        "extra": f"{URL} extra",
    },
    "export": {
        "to": f"{URL} --to nope --out new",
        "out": f"{URL} --to folder --out other",
        "no out": f"{URL} --to parquet",
        "parquet": f"{URL} --to parquet --out other",
        "about": f"{URL} --to parquet --out new --about nope=1",
        "remote": f"{URL} --to croissant",
        "croissant": f"{URL} --to croissant --out new",
        "about a folder": f"{URL} --to folder --out new --about license=x",
    },
    "verify": {"extra": f"{URL} extra"},
    "bench-loader": {
        "split": f"{URL} --split nope",
        "device": f"{URL} --device cuda:9",
        "mode": f"{URL} --mode nope",
    },
}
"""A wrong use of every command that takes a store, by what is wrong with it; a URL comes before the wrong word."""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return synthetic_store(tmp_path_factory.mktemp("store"), train=16, val=7, test=7, size=48, map_size=16)


@pytest.fixture(scope="module")
def place(source: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a trained run, a photo and a folder of somebody's files."""
    folder = tmp_path_factory.mktemp("place")
    config = TrainConfig(
        backbone="test_resnet", epochs=1, max_steps=1, batch_size=8, crop_size=32, augment=False, device="cpu"
    )
    train(source.folder, folder / "run", config)
    write_png(folder / "photo.png", source.split("train").image(0))
    (folder / "photo.txt").write_text("not a picture")
    (folder / "other").mkdir()
    (folder / "other" / "notes.txt").write_text("somebody's")
    return folder


@pytest.fixture
def asked(source: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were asked of the server at :data:`URL`."""
    names: list[str] = []

    @contextlib.contextmanager
    def answer(url: str, name: str) -> Iterator[IO[bytes]]:
        names.append(name)
        yield io.BytesIO((source.folder / name).read_bytes())

    monkeypatch.setattr(remote, "_open_http", answer)
    monkeypatch.setenv("AUPIPE_CACHE", str(tmp_path / "cache"))
    return names


def takes_a_store(command: click.Command) -> bool:
    return any(parameter.type is PLACE for parameter in command.params)


def test_every_command_that_takes_a_store_is_tried() -> None:
    assert {str(one.name) for one in cli.COMMANDS if takes_a_store(one)} == set(WRONG)


@pytest.mark.parametrize(("name", "wrong"), [(name, wrong) for name, uses in WRONG.items() for wrong in uses])
def test_a_wrong_option_is_refused_before_a_shard_is_copied(
    name: str, wrong: str, place: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    done = CliRunner().invoke(cli.cli, [name, *WRONG[name][wrong].split()])
    assert done.exit_code == 2 or isinstance(done.exception, FerError), (done.output, done.exception)
    assert set(asked) <= {"index.json"}
    assert {one.name for one in place.iterdir()} <= {"other", "photo.png", "photo.txt", "run", "new"}


def test_a_right_use_copies_the_store_once(source: Store, asked: list[str]) -> None:
    assert preview_store(URL).index == source.index and asked == ["index.json"]
    assert CliRunner().invoke(cli.cli, ["verify", URL]).exit_code == 0
    assert len(open_store(URL).split("test").labels) == 7
    shards = [name for name in asked if name != "index.json"]
    assert sorted(shards) == sorted(entry.name for entry in source.index.shards)


def test_a_preview_names_the_content_as_the_opened_store_does(asked: list[str]) -> None:
    assert preview_store(URL).place == open_store(URL).place


def test_a_store_replaced_between_look_and_opening_is_not_taken_for_it(source: Store, tmp_path: Path) -> None:
    seen = preview_store(source.folder)
    other = synthetic_store(tmp_path / "other", train=9, val=2, test=2, size=16, map_size=8)
    assert open_previewed(source.folder, seen).index == seen.index
    with pytest.raises(StoreError, match="replaced by another"):
        open_previewed(other.folder, seen)
