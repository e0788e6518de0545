"""Giving a store to other tools."""

from __future__ import annotations

from pathlib import Path

import click

from aupipe.commands.console import out_option, output_options, progress, show
from aupipe.commands.store_argument import PLACE


@click.command()
@click.argument("store", type=PLACE)
@click.option("--to", "form", type=click.Choice(["webdataset", "folder"]), required=True, help="What to write.")
@out_option("Folder to write to: new, empty, or of the same export.")
@output_options
def export(store: Path | str, form: str, out: Path, as_json: bool) -> None:
    """Write a store as tar files for webdataset, or as a folder of images.

    STORE is a folder, or a URL of one (https://, s3://, ...). webdataset: SPLIT-000000.tar with image, class, map,
    landmarks and JSON of every row. folder: images/SPLIT/CLASS/ID.png, maps/..., landmarks.csv, which `aupipe manifest
    build folder OUT/images` reads back.

    \b
    Example: aupipe export store --to webdataset --out tars
    """
    from aupipe.fer_data.shards.export import check_export, export_store
    from aupipe.fer_data.shards.preview import open_previewed, preview_store

    preview = preview_store(store)
    check_export(preview, form, out)
    report = export_store(open_previewed(store, preview, progress()), form, out, progress())
    rows = ", ".join(f"{count} {split}" for split, count in report.rows.items())
    lines = [f"exported {sum(report.rows.values())} rows ({rows}) to {out}"]
    show(lines, {"form": report.form, "rows": report.rows, "files": list(report.files), "out": str(out)}, as_json)
