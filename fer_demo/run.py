"""The demo: the whole job on embedded faces, from photos to two trained networks and a page that compares them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aupipe.fer_analysis.evaluation import evaluate
from aupipe.fer_data.au_maps.codebook import load_codebook
from aupipe.fer_data.files import check_replaceable
from aupipe.fer_data.manifest import build_manifest, read_manifest
from aupipe.fer_data.types import Progress
from aupipe.fer_demo.page import comparison_table, write_demo_page
from aupipe.fer_demo.portrait import write_portrait_dataset
from aupipe.fer_display.pages import PAGE_MARK
from aupipe.fer_models.training.config import TrainConfig
from aupipe.fer_models.training.run import train
from aupipe.pipeline.executors import Executor
from aupipe.pipeline.landmarks.run import run_landmarks
from aupipe.pipeline.landmarks.tasks import LandmarkConfig
from aupipe.pipeline.maps.run import run_maps
from aupipe.pipeline.maps.tasks import MapConfig

NETWORK: dict[str, Any] = {"backbone": "resnet10t", "crop_size": 112, "batch_size": 8}
"""Small and with many steps, so that it learns the embedded faces in a minute on two cores."""

RUNS = {"without AUs": ("run-plain", 0.0), "with AUs": ("run-au", 4.0)}
"""Title of a run: its folder and the weight of the alignment."""


@dataclass(frozen=True)
class DemoReport:
    """The demo's results: its page and the folder of each run by title."""

    page: Path
    runs: dict[str, Path]

    def lines(self) -> list[str]:
        """Return the summary for people."""
        return [*comparison_table(self.runs), "", f"Now open {self.page}"]

    def as_json(self) -> dict[str, Any]:
        """Return the object that ``--json`` prints: the figures of each run by title."""
        return {name: json.loads((folder / "metrics.json").read_text("utf-8")) for name, folder in self.runs.items()}


def run_demo(out: Path, faces: int, epochs: int, executor: Executor, progress: Progress) -> DemoReport:
    """Run the whole job in ``out``: faces, landmarks, maps, training without and with AUs, evaluation, the page.

    Args:
        out: Folder for everything that is made; a second call continues the first.
        faces: Training faces per expression; a third as many are for testing.
        epochs: Epochs of each training.
        executor: Who runs the two offline stages.
        progress: Told what is done.

    Raises:
        UserInputError: A file of other people is where the page, a photo or a folder of the demo would be.
    """
    out = out.resolve()
    check_replaceable(out / "index.html", "a page", PAGE_MARK)
    write_portrait_dataset(out / "faces", train=faces, test=max(faces // 3, 2), progress=progress)
    build_manifest("folder", out / "faces", out / "faces.csv")
    run_landmarks(read_manifest(out / "faces.csv"), out / "work", LandmarkConfig(), executor, progress)
    maps = MapConfig(dict(load_codebook("default").content), image_size=128, map_size=32)
    run_maps(out / "work", out / "store", maps, executor, progress)
    runs = {title: out / folder for title, (folder, _) in RUNS.items()}
    for title, (_, weight) in RUNS.items():
        progress.note(f"training {title}")
        config = TrainConfig(align_weight=weight, epochs=epochs, **NETWORK)
        train(out / "store", runs[title], config, progress)
        evaluate(runs[title], progress=progress)
    write_demo_page(out / "index.html", out / "store", runs)
    return DemoReport(out / "index.html", runs)
