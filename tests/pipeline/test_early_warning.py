"""Data of which too much is left out is spoken of after a few hundred photos, once, with where to look."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from aupipe.fer_data.manifest import Manifest, build_manifest, read_manifest
from aupipe.fer_data.types import Silent
from aupipe.pipeline.executors import SerialExecutor
from aupipe.pipeline.landmarks import early
from aupipe.pipeline.landmarks.run import run_landmarks
from aupipe.pipeline.landmarks.tasks import LandmarkConfig


class Notes(Silent):
    """Keeps what is noted, and how many photos were done by then."""

    def __init__(self) -> None:
        self.done, self.notes = 0, list[tuple[int, str]]()

    def advance(self, count: int) -> None:
        self.done += count

    def note(self, message: str) -> None:
        self.notes.append((self.done, message))


@pytest.fixture
def faceless(tmp_path: Path) -> Manifest:
    """Photos of plain grey in two splits of two classes."""
    for split, label, count in (("train", "anger", 5), ("train", "fear", 5), ("test", "anger", 2), ("test", "fear", 2)):
        folder = tmp_path / "faces" / split / label
        folder.mkdir(parents=True)
        for number in range(count):
            image = np.full((32, 32, 3), len(list(tmp_path.rglob("*.png"))), np.uint8)
            cv2.imwrite(str(folder / f"{number}.png"), image)
    build_manifest("folder", tmp_path / "faces", tmp_path / "faces.csv", val_fraction=0)
    return read_manifest(tmp_path / "faces.csv")


@pytest.mark.parametrize(("allowed", "said"), [(0.2, True), (1.0, False)])
def test_too_much_left_out_is_said_early_and_once(
    faceless: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allowed: float, said: bool
) -> None:
    monkeypatch.setattr(early, "ENOUGH", 6)
    notes, config = Notes(), LandmarkConfig(part_size=3)
    run_landmarks(faceless, tmp_path / "work", config, SerialExecutor(), notes, allowed)
    assert len(notes.notes) == said
    for done, note in notes.notes:
        assert done == 6 and note.startswith("100% of the first 6 photos are left out, more than --max-failures 0.2")
        assert "--sheet" in note
        assert "train 100%" in note and str(faceless.root) in note and ".png" in note
