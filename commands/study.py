"""The study of many networks by one command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from aupipe.commands import listed
from aupipe.commands.console import (
    TOO_MANY_FAILURES,
    SpelledChoice,
    device_option,
    out_option,
    output_options,
    progress,
    show,
    was_given,
)
from aupipe.commands.store_argument import PLACE

SMOKE = {"folds": 2, "images": 1, "samples": 16, "least": 1, "batch_size": 4, "max_steps": 1, "select": "labelled",
         "input_size": 96}  # fmt: skip
"""Settings of ``--smoke`` where none is given: every step is made, none of the study's figures means anything."""


@click.command()
@click.argument("store", type=PLACE)
@out_option("Folder of the study.")
@click.option("--networks", default="all", show_default=True,
              help="all (the study's twelve), or names with commas: NAME, NAME:pretrained, NAME:scratch.")  # fmt: skip
@click.option("--folds", type=click.IntRange(2), default=5, show_default=True, help="Parts of the persons.")
@click.option("--images", type=click.IntRange(1), default=100, show_default=True, help="Faces an expression and fold.")
@click.option("--samples", type=click.IntRange(2), default=1000, show_default=True, help="Of LIME and RISE, a face.")
@click.option("--weights-from", default="hub", show_default=True, metavar="DIR|hub|none",
              help="Pretrained weights: a folder with BACKBONE.safetensors, .pth or .pt, timm's, or none (all from "
              "scratch).")  # fmt: skip
@click.option(
    "--select",
    type=click.Choice(["correct", "predicted", "labelled"]),
    default="predicted",
    show_default=True,
    help="Faces explained: of the class and predicted as it; predicted as it; or of the class.",
)
@click.option("--least", type=click.IntRange(1), default=30, show_default=True,
              help="Explained faces of all folds from which a map counts.")  # fmt: skip
@click.option("--explainer", type=SpelledChoice(listed.explainers()), default="lime", show_default=True)
@click.option("--masks", default="study", show_default=True, help="study, codebook, or a folder.")
@click.option("--shape", type=click.Choice(["own", "uib"]), default="own", show_default=True, help="Canonical face.")
@click.option("--epochs", type=click.IntRange(1), default=None, help="Of every network.  [default: each one's own]")
@click.option("--input-size", type=click.IntRange(8), default=None,
              help="Side to which faces are scaled, of every network.  [default: each one's own]")  # fmt: skip
@click.option("--batch-size", type=click.IntRange(2), default=128, show_default=True, help="Images a training step.")
@click.option("--align-weight", type=click.FloatRange(0), default=0.0, show_default=True,
              help="Guidance by AU maps; the study has none.")  # fmt: skip
@click.option(
    "--jobs", type=click.IntRange(1), default=None, help="Processes.  [default: one a core, 4 at most; one a GPU]"
)
@click.option("--threads", type=click.IntRange(1), default=None, help="Of each process.  [default: cores / jobs]")
@click.option("--seed", type=int, default=0, show_default=True)
@device_option
@click.option("--dry-run", is_flag=True, help="Print what it would take: time and memory.")
@click.option("--smoke", is_flag=True, help="Every step in minutes, on a few faces: shows that it works, nothing else.")
@output_options
def study(
    store: Path | str, out: Path, networks: str, weights_from: str, epochs: int | None, jobs: int | None,
    threads: int | None, dry_run: bool, smoke: bool, as_json: bool, **rest: Any,
) -> int:  # fmt: skip
    """Train, explain and compare many networks: one map per network and expression, over folds of persons.

    Asks what Gaya-Morey et al. (2024) ask of twelve: how alike are they to masks of moving parts of the face, and to
    one another; do pretrained ones stand apart? Run it again to continue. The exit code is 3 when networks failed; they
    are named, and the others are compared.

    \b
    Example: aupipe study store --out study --networks songnet,resnet18,resnet18:pretrained --folds 3 --images 30
    """
    from aupipe.fer_analysis.comparison.map_maker import MapOptions
    from aupipe.fer_analysis.study import estimate_study, make_request, run_study

    if smoke:
        rest |= {name: value for name, value in SMOKE.items() if not was_given(name)}
    names = ("images", "samples", "select", "explainer", "masks", "shape", "seed", "device")
    maps = MapOptions(**{name: rest.pop(name) for name in names}, resamples=0)
    request = make_request(networks, weights_from=weights_from, epochs=epochs, maps=maps, **rest)
    if dry_run:
        estimate = estimate_study(store, out, request, jobs=jobs, threads=threads, progress=progress())
        show(estimate.lines(), estimate.as_json(), as_json)
        return 0
    report = run_study(store, out, request, jobs=jobs, threads=threads, progress=progress())
    show(report.lines(), report.as_json(), as_json)
    return TOO_MANY_FAILURES if report.failed else 0
