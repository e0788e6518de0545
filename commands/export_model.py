"""Handing a trained model to other programs."""

from __future__ import annotations

from pathlib import Path

import click

from aupipe.commands.console import METHOD, PATH, out_option, output_options, show
from aupipe.commands.store_argument import PLACE


@click.command("export-model")
@click.argument("run", type=PATH)
@click.option(
    "--to",
    "form",
    type=click.Choice(["onnx", "torchscript", "pt2"]),
    default="onnx",
    show_default=True,
    help="onnx needs the extra [onnx]; pt2 is what torch.export saves.",
)
@out_option("The file.")
@click.option("--method", type=METHOD, default=None, help="Read the CAM out as another method with the same training.")
@click.option("--method-options", default="", help="That method's settings.")
@click.option("--store", type=PLACE, default=None, help="Where the run's store is now, if it was moved.")
@output_options
def export_model(
    run: Path, form: str, out: Path, method: str | None, method_options: str, store: Path | str | None, as_json: bool
) -> None:
    """Write a run's best model as one file: logits, attention of every layer, CAM of every class.

    The file holds the classes, the normalisation, the crop and the temperature, and is run once against the model.

    \b
    Example: aupipe export-model run --to onnx --out model.onnx
    """
    from aupipe.fer_analysis.export_model import export_model as run_export

    report = run_export(run, form, out, store_folder=store, method=method, method_options=method_options)
    show(report.lines(), report.as_json(), as_json)
