"""Giving a store to other tools."""

from __future__ import annotations

from pathlib import Path

import click

from aupipe.commands.console import out_option, output_options, progress, show
from aupipe.commands.store_argument import PLACE
from aupipe.fer_data.errors import UserInputError, paragraph


@click.command()
@click.argument("store", type=PLACE)
@click.option(
    "--to",
    "form",
    type=click.Choice(["webdataset", "folder", "parquet", "croissant"]),
    required=True,
    help="What to write. parquet needs the extra [parquet].",
)
@out_option("Folder to write to: new, empty, or of the same export. Not with croissant.", required=False)
@click.option(
    "--about",
    metavar="KEY=VALUE",
    multiple=True,
    help="With parquet and croissant, what only you can say of the data: license, creator, url, datePublished, citeAs, "
    "version, name, description.",
)
@output_options
def export(store: Path | str, form: str, out: Path | None, about: tuple[str, ...], as_json: bool) -> None:
    """Write a store as other tools read it: tar files, a folder of images, or tables; or describe its files.

    STORE is a folder, or a URL of one (https://, s3://, ...). webdataset: SPLIT-000000.tar with image, class, map,
    landmarks and JSON of every row. folder: images/SPLIT/CLASS/ID.png, maps/..., landmarks.csv, which `aupipe manifest
    build folder OUT/images` reads back. parquet: SPLIT-00000-of-00004.parquet, which `datasets.load_dataset` opens with
    images and class names, and croissant.json with their columns. croissant: STORE/croissant.json, which describes the
    store's own files for catalogues.

    \b
    Example: aupipe export store --to webdataset --out tars
    Example: aupipe export store --to parquet --out tables --about license=https://host/licence
    Example: aupipe export store --to croissant
    """
    from aupipe.fer_data.shards.croissant import read_about

    if (out is None) != (form == "croissant"):
        raise click.UsageError(
            "--to croissant writes beside the store's index: leave --out out." if out else "Missing option '--out'."
        )
    if about and form not in ("parquet", "croissant"):
        raise click.UsageError("--about goes with --to parquet and --to croissant.")
    if out is None:
        _describe(store, read_about(about), as_json)
    else:
        _write(store, form, out, read_about(about), as_json)


def _write(store: Path | str, form: str, out: Path, about: dict[str, str], as_json: bool) -> None:
    from aupipe.fer_data.shards.export import check_export, export_store
    from aupipe.fer_data.shards.preview import open_previewed, preview_store

    preview = preview_store(store)
    check_export(preview, form, out)
    report = export_store(open_previewed(store, preview, progress()), form, out, progress(), about)
    rows = ", ".join(f"{count} {split}" for split, count in report.rows.items())
    lines = [f"exported {sum(report.rows.values())} rows ({rows}) to {out}"]
    lines += _left_out(out) if form == "parquet" else []
    show(lines, {"form": report.form, "rows": report.rows, "files": list(report.files), "out": str(out)}, as_json)


def _describe(store: Path | str, about: dict[str, str], as_json: bool) -> None:
    from aupipe.fer_data.shards.croissant import describe_store, kept_about, missing_about
    from aupipe.fer_data.shards.index import load_index

    if isinstance(store, str):
        raise UserInputError(
            paragraph(
                "The metadata of a store is written beside its index, and a remote store is only read.",
                where=store,
                fix="Run this where the store lies.",
            )
        )
    index = load_index(store)
    path = describe_store(store, index, about)
    lines = [f"described {len(index.shards)} shards in {path}", *_left_out(store)]
    content = {"form": "croissant", "file": str(path), "left_out": missing_about(kept_about(store))}
    show(lines, content, as_json)


def _left_out(folder: Path) -> list[str]:
    from aupipe.fer_data.shards.croissant import kept_about, missing_about

    missing = ", ".join(missing_about(kept_about(folder)))
    return [f"  left out, because only you can say it with --about KEY=VALUE: {missing}"] if missing else []
