"""The command that measures how fast a store is read on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aupipe.commands.console import DEVICE, output_options, progress, show, split_option
from aupipe.commands.store_argument import PLACE

if TYPE_CHECKING:
    from aupipe.fer_data.loading.plan import Mode


@click.command("bench-loader")
@click.argument("store", type=PLACE)
@click.option("--batch-size", type=click.IntRange(1), default=128, show_default=True)
@click.option("--threads", type=click.IntRange(1), multiple=True, help="Repeat for several.  [default: 1 and 2]")
@click.option("--mode", type=click.Choice(["none", "full", "block"]), default="full", show_default=True,
              help="none: in file order; full, block: shuffled, as --order of train.")  # fmt: skip
@split_option("train", "Which rows are read.")
@click.option("--device", type=DEVICE, default="cpu", show_default=True, help="Where finished batches go.")
@click.option("--repeats", type=click.IntRange(1), default=3, show_default=True, help="Epochs; the median counts.")
@output_options
def bench_loader(
    store: Path | str,
    batch_size: int,
    threads: tuple[int, ...],
    mode: Mode,
    split: str,
    device: str,
    repeats: int,
    as_json: bool,
) -> None:
    """Measure how fast a store is read on this machine, beside the speed of copying memory.

    Reading delivers the stored bytes; training batches are augmented and normalised on the device as well.

    \b
    Example: aupipe bench-loader store
    """
    from aupipe.fer_data.loading.bench import measure_store
    from aupipe.fer_models.devices import resolve_device

    measured = measure_store(
        store,
        split=split,
        batch_size=batch_size,
        threads=threads or (1, 2),
        mode=mode,
        device=str(resolve_device(device)),
        repeats=repeats,
        progress=progress(),
    )
    content: dict[str, Any] = measured.as_json()
    show(measured.lines(), content, as_json)
