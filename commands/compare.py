"""Comparing networks by their global explanation maps."""

from __future__ import annotations

from pathlib import Path

import click

from commands.console import PATH, json_option, show


@click.command()
@click.option("--maps", type=PATH, required=True, help="Folder of maps: NETWORK_EXPRESSION.png, grey.")
@click.option("--masks", type=PATH, default=None, help="Folder of masks: EXPRESSION.png.  [default: masks beside maps]")
@click.option("--out", type=PATH, required=True, help="Folder of the results.")
@json_option
def compare(maps: Path, masks: Path | None, out: Path, as_json: bool) -> None:
    """Compare networks by one explanation map per network and expression: with masks, and with one another.

    \b
    Example: aupipe compare --maps maps --masks masks --out comparison
    """
    from fer_models.comparison.commands import compare_folder

    comparison = compare_folder(maps, masks, out)
    show([*comparison.lines(), f"results: {out / 'results.md'}"], comparison.as_json(), as_json)
