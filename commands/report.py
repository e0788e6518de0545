"""One page about a run or a store."""

from __future__ import annotations

from pathlib import Path

import click

from aupipe.commands.console import device_option, out_option, output_options, progress, show
from aupipe.commands.store_argument import PLACE


@click.command()
@click.argument("subject", metavar="RUN|STORE", type=PLACE)
@out_option("The page, one HTML file.")
@click.option("--store", type=PLACE, default=None, help="Where the run's store is now, if it was moved.")
@click.option("--examples", type=click.IntRange(1, 50), default=3, show_default=True, help="Faces of each kind.")
@device_option
@output_options
def report(subject: Path | str, out: Path, store: Path | str | None, examples: int, device: str, as_json: bool) -> None:
    """Write one page about a run or a store: a single file that needs no network and no script.

    Of a run: what the figures say, maps beside their controls, curves, confusion, cosines by expression, average maps,
    best and worst faces, provenance. Of a store (and of a run's store): counts, triplets, average AU maps, what was
    left out, digests. It holds photos of the dataset: share it as you may share those.

    \b
    Example: aupipe report run --out report.html
    """
    from aupipe.fer_analysis.report import write_report

    written = write_report(subject, out, store=store, examples=examples, device=device, progress=progress())
    show(written.lines(), written.as_json(), as_json)
