"""What the stages say of photos that are none, or show nothing."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

from aupipe.fer_data.au_maps.codebook import load_codebook
from aupipe.fer_data.types import Silent
from aupipe.pipeline.executors import SerialExecutor
from aupipe.pipeline.landmarks.run import run_landmarks
from aupipe.pipeline.maps.run import run_maps
from aupipe.pipeline.maps.tasks import MapConfig
from landmark_works import SIDE, make_work, samples_of
from simulated_detectors import simulated_config, simulated_manifest

CONFIG = MapConfig(dict(load_codebook("default").content), image_size=48, map_size=16)


class Notes(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, message: str) -> None:
        self.said.append(message)


def test_failures_carry_the_decoders_cause_from_stage_to_stage(tmp_path: Path) -> None:
    manifest = simulated_manifest(tmp_path, 4)
    photo = tmp_path / "faces" / "fear" / "0002.png"
    photo.write_bytes(photo.read_bytes()[:-20])
    run_landmarks(manifest, tmp_path / "work", simulated_config(), SerialExecutor(), Silent())
    run_maps(tmp_path / "work", tmp_path / "store", CONFIG, SerialExecutor(), Silent())
    for folder in ("work", "store"):
        with (tmp_path / folder / "failures.csv").open(newline="") as file:
            (row,) = csv.DictReader(file)
        assert (row["path"], row["reason"]) == ("fear/0002.png", "unreadable")
        assert "a PNG that ends too early" in row["detail"]


def test_photos_of_fewer_bits_than_they_say_are_counted_once(tmp_path: Path) -> None:
    manifest = simulated_manifest(tmp_path, 5)
    for number in (1, 3):
        values = np.random.default_rng(number).integers(0, 4096, (SIDE, SIDE, 3), np.uint16)
        cv2.imwrite(str(tmp_path / "faces" / "fear" / f"{number:04d}.png"), values)
    for _ in ("made", "kept"):
        notes = Notes()
        run_landmarks(manifest, tmp_path / "work", simulated_config(part_size=2), SerialExecutor(), notes)
        (said,) = notes.said
        assert said.startswith("2 photos: 16-bit values of which the image uses 12 bits or fewer")


@pytest.mark.parametrize(("level", "count"), [(3, 1), (250, 1), (None, 0)])
def test_crops_that_show_nothing_are_counted_and_said(tmp_path: Path, level: int | None, count: int) -> None:
    if level is not None:
        photo = tmp_path / "faces" / samples_of(1)[0].path
        photo.parent.mkdir(parents=True)
        cv2.imwrite(str(photo), np.random.default_rng(0).integers(level, level + 5, (SIDE, SIDE, 3), np.uint8))
    make_work(tmp_path)
    notes = Notes()
    run_maps(tmp_path / "work", tmp_path / "store", CONFIG, SerialExecutor(), notes)
    said = [note for note in notes.said if "all but black, white or of one colour" in note]
    assert len(said) == count and all(note.startswith("1 crops are") and "s/000.png" in note for note in said)
