"""The whole job on embedded faces."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from aupipe.commands.console import PATH, Bar, executor_options, json_option, make_executor, show

DEMO_NETWORK: dict[str, Any] = {"backbone": "resnet10t", "crop_size": 112, "batch_size": 8}
"""Small and with many steps, so that it learns the embedded faces in a minute on two cores."""


@click.command()
@click.option("--out", type=PATH, required=True, help="Folder for everything the demo makes.")
@click.option("--faces", default=60, show_default=True, type=click.IntRange(4), help="Training faces per expression.")
@click.option("--epochs", default=16, show_default=True, type=click.IntRange(1))
@executor_options
@json_option
def demo(out: Path, faces: int, epochs: int, workers: int | None, scheduler: str | None, as_json: bool) -> None:
    """Run the whole job on embedded faces: one portrait, warped AU by AU into seven expressions.

    Trains the same network without and with AUs, prints one table and writes OUT/index.html. Offline, a few minutes on
    two cores.

    \b
    Example: aupipe demo --out demo
    """
    from aupipe.fer_analysis.evaluation import evaluate as run_evaluation
    from aupipe.fer_data.au_maps.codebook import load_codebook
    from aupipe.fer_data.manifest import build_manifest, read_manifest
    from aupipe.fer_demo.page import comparison_table, write_demo_page
    from aupipe.fer_demo.portrait import write_portrait_dataset
    from aupipe.fer_models.training.config import TrainConfig
    from aupipe.fer_models.training.run import train as run_training
    from aupipe.pipeline.landmarks.run import run_landmarks
    from aupipe.pipeline.landmarks.tasks import LandmarkConfig
    from aupipe.pipeline.maps.run import run_maps
    from aupipe.pipeline.maps.tasks import MapConfig

    out, bar = out.resolve(), Bar()
    executor = make_executor(workers, scheduler, bar)
    write_portrait_dataset(out / "faces", train=faces, test=max(faces // 3, 2), progress=bar)
    build_manifest("folder", out / "faces", out / "faces.csv")
    run_landmarks(read_manifest(out / "faces.csv"), out / "work", LandmarkConfig(), executor, bar)
    maps = MapConfig(dict(load_codebook("default").content), image_size=128, map_size=32)
    run_maps(out / "work", out / "store", maps, executor, bar)
    runs = {"without AUs": (out / "run-plain", 0.0), "with AUs": (out / "run-au", 4.0)}
    for name, (folder, weight) in runs.items():
        click.echo(f"training {name}", err=True)
        run_training(out / "store", folder, TrainConfig(align_weight=weight, epochs=epochs, **DEMO_NETWORK), bar)
        run_evaluation(folder, progress=bar)
    folders = {name: folder for name, (folder, _) in runs.items()}
    write_demo_page(out / "index.html", out / "store", folders)
    content = {name: json.loads((folder / "metrics.json").read_text("utf-8")) for name, folder in folders.items()}
    show([*comparison_table(folders), "", f"Now open {out / 'index.html'}"], content, as_json)
