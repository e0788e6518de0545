"""The whole job on embedded faces."""

from __future__ import annotations

from pathlib import Path

import click

from aupipe.commands.console import executor_options, make_executor, out_option, output_options, progress, show


@click.command()
@out_option("Folder for everything the demo makes.")
@click.option("--faces", default=60, show_default=True, type=click.IntRange(4), help="Training faces per expression.")
@click.option("--epochs", default=16, show_default=True, type=click.IntRange(1), help="Of each of the two trainings.")
@executor_options
@output_options
def demo(out: Path, faces: int, epochs: int, workers: int | None, scheduler: str | None, as_json: bool) -> None:
    """Run the whole job on embedded faces: one portrait, warped AU by AU into seven expressions.

    Trains the same network without and with AUs, prints one table and writes OUT/index.html. Offline, a few minutes on
    two cores.

    \b
    Example: aupipe demo --out demo
    """
    from aupipe.fer_demo.run import run_demo

    told = progress()
    report = run_demo(out, faces, epochs, make_executor(workers, scheduler, told), told)
    show(report.lines(), report.as_json(), as_json)
