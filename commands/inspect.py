"""Looking at a store or a shard, as text, JSON or a contact sheet."""

from __future__ import annotations

from pathlib import Path

import click

from aupipe.commands.console import PATH, check_picture, output_options, progress, show, split_option
from aupipe.commands.store_argument import PLACE


@click.command()
@click.argument("path", metavar="STORE|SHARD", type=PLACE)
@click.option("--png", type=PATH, help="Draw random rows of each class as a contact sheet.")
@split_option(None, "Split to draw.  [default: the first that has rows]")
@click.option("--per-class", type=click.IntRange(1), default=4, show_default=True, help="Rows to draw of each class.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Which random rows are drawn.")
@click.option("--all", "everything", is_flag=True, help="Also digests, options, provenance, shards and datasets.")
@output_options
def inspect(
    path: Path | str, png: Path | None, split: str | None, per_class: int, seed: int, everything: bool, as_json: bool
) -> None:
    """Show what a store or a single shard holds: counts by class and split, what was left out, what is too little.

    STORE is a folder, or a URL of one (https://, s3://, ...), which is copied into the cache first.

    \b
    Example: aupipe inspect store --png sheet.png
    """
    from aupipe.fer_data.shards.inspect import inspect_path
    from aupipe.fer_data.shards.preview import preview_store
    from aupipe.fer_data.shards.remote import is_url, local_store

    check_picture(png)
    if is_url(path) and png is not None and split is not None:
        preview_store(path).split(split)
    path = local_store(path, progress())
    inspection = inspect_path(path)
    lines, content = [*inspection.lines, *(inspection.more if everything else ())], inspection.content
    if png is not None:
        from aupipe.fer_data.shards.contact_sheet import save_sheet

        save_sheet(path, png, split=split, per_class=per_class, seed=seed)
        lines += ["", f"  contact sheet: {png}"]
        content = {**content, "png": str(png)}
    show(lines, content, as_json)
