"""Comparing networks by their global explanation maps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from aupipe.commands import listed
from aupipe.commands.console import (
    PATH,
    SpelledChoice,
    device_option,
    out_option,
    output_options,
    progress,
    show,
    split_option,
    was_given,
)
from aupipe.commands.store_argument import PLACE


@click.command()
@click.argument("runs", type=PATH, nargs=-1, metavar="[RUN]...")
@out_option("Folder of the results.", required=False)
@click.option("--maps", type=PATH, default=None, help="Compare the maps of this folder: NETWORK_EXPRESSION.png.")
@click.option(
    "--masks", default=None, help="study, codebook, or a folder.  [default: study; with --maps: those beside]"
)
@click.option("--shape", type=click.Choice(["own", "uib"]), default=None, help="Canonical face.  [default: own]")
@click.option("--store", type=PLACE, default=None, help="Faces to explain.  [default: the first run's store]")
@split_option()
@click.option("--images", type=click.IntRange(1), default=100, show_default=True, help="Faces an expression.")
@click.option("--select", type=click.Choice(["correct", "predicted", "labelled"]), default="correct", show_default=True,
              help="Faces explained: of the class and predicted as it; predicted as it; or of the class.")  # fmt: skip
@click.option(
    "--explainer",
    type=SpelledChoice(listed.explainers()),
    default="lime",
    show_default=True,
)
@click.option("--samples", type=click.IntRange(2), default=1000, show_default=True, help="Of LIME and RISE, a face.")
@click.option("--batch-size", type=click.IntRange(1), default=64, show_default=True, help="Perturbed images at once.")
@click.option(
    "--resamples", type=click.IntRange(0), default=200, show_default=True, help="For intervals over faces; 0: none."
)
@click.option("--seed", type=int, default=0, show_default=True)
@device_option
@click.option("--model", multiple=True, metavar="MODULE:FACTORY", help="Also any torch classifier; repeat for more.")
@click.option("--weights", type=PATH, multiple=True, help="Weights of each --model, in their order.")
@click.option("--input-size", type=click.IntRange(8), default=None, help="Image size of --model.")
@click.option(
    "--normalisation", type=click.Choice(["imagenet", "half", "none"]), default="imagenet", show_default=True,
    help="Images of --model.",
)  # fmt: skip
@click.option("--zoo", is_flag=True, help="List the networks of the study and what stands in for each.")
@output_options
def compare(
    runs: tuple[Path, ...],
    out: Path | None,
    maps: Path | None,
    masks: str | None,
    zoo: bool,
    as_json: bool,
    **rest: Any,
) -> None:
    """Compare networks by one explanation map per network and expression: with masks, and with one another.

    Of runs (and --model) the maps are made first; with --maps they are there. Writes DIR/results.md, tables, figures.

    \b
    Example: aupipe compare run-plain run-au --explainer cam --out compared
    """
    if zoo:
        _show_zoo(as_json)
        return
    if out is None:
        raise click.UsageError("Missing option '--out'.")
    if (maps is not None) == bool(runs or rest["model"]):
        raise click.UsageError("Give either RUN... (or --model), or --maps.")
    if maps is not None:
        _refuse(set(rest) - {"shape"}, "They say how maps are made, and with --maps they are there.")
    elif not rest["model"]:
        _refuse({"input_size", "normalisation", "weights"}, "They belong to --model, and there is none.")
    comparison = _compared(runs, out, maps, masks, rest)
    show([*comparison.lines(), f"results: {out / 'results.md'}"], comparison.as_json(), as_json)


def _refuse(names: set[str], why: str) -> None:
    """Refuse options that would have no effect, where they were given."""
    given = [f"--{name.replace('_', '-')}" for name in sorted(names) if was_given(name)]
    if given:
        raise click.UsageError(f"Leave out {', '.join(given)}. {why}")


def _compared(runs: tuple[Path, ...], out: Path, maps: Path | None, masks: str | None, rest: dict[str, Any]) -> Any:
    from aupipe.analyses import compare as run_compare
    from aupipe.fer_analysis.comparison.run import ExternalModel

    models, weights = rest.pop("model"), rest.pop("weights")
    size, normalisation = rest.pop("input_size"), rest.pop("normalisation")
    if weights and len(weights) != len(models):
        raise click.UsageError("Give one --weights for each --model, or none.")
    externals = [
        ExternalModel(model, weights[number] if weights else None, size, normalisation)
        for number, model in enumerate(models)
    ]
    return run_compare(runs, out, maps=maps, masks=masks, models=externals, progress=progress(), **rest)


def _show_zoo(as_json: bool) -> None:
    from dataclasses import asdict

    from aupipe.fer_models.backbones.zoo import ZOO, zoo_lines

    show(zoo_lines(), {"networks": [asdict(entry) for entry in ZOO]}, as_json)
