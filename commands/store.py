"""Building, looking at and checking a store of triplets."""

from __future__ import annotations

from pathlib import Path

import click

from commands.console import (
    PATH,
    Bar,
    executor_options,
    finish_stage,
    json_option,
    make_executor,
    max_failures_option,
    show,
)


@click.command("build-maps")
@click.argument("work", type=PATH)
@click.option("--out", type=PATH, required=True, help="Folder of the store.")
@click.option("--codebook", default="default", show_default=True, help="default, reference, or a TOML file.")
@click.option("--image-size", default=256, show_default=True, help="Side of the aligned crop in pixels.")
@click.option("--map-size", default=64, show_default=True, help="Side of the AU map in pixels.")
@click.option("--rows-per-shard", default=2048, show_default=True)
@click.option("--overwrite", is_flag=True, help="Replace a store that was built with other options.")
@executor_options
@max_failures_option
@json_option
def build_maps(
    work: Path,
    out: Path,
    codebook: str,
    image_size: int,
    map_size: int,
    rows_per_shard: int,
    workers: int | None,
    scheduler: str | None,
    overwrite: bool,
    max_failures: float,
    as_json: bool,
) -> int:
    """Crop the faces, draw the AU map of each one's expression, and write the store of triplets.

    \b
    Example: aupipe build-maps work --out store
    """
    from fer_data.codebook import load_codebook
    from pipeline.maps import run_maps
    from pipeline.shard_tasks import MapConfig

    config = MapConfig(
        codebook=dict(load_codebook(codebook).content),
        image_size=image_size,
        map_size=map_size,
        rows_per_shard=rows_per_shard,
    )
    bar = Bar()
    executor = make_executor(workers, scheduler, bar)
    report = run_maps(work.resolve(), out.resolve(), config, executor, bar, overwrite=overwrite)
    return finish_stage(report, max_failures, as_json, out)


@click.command()
@click.argument("path", metavar="STORE|SHARD", type=PATH)
@json_option
def inspect(path: Path, as_json: bool) -> None:
    """Show what a store or a single shard holds.

    \b
    Example: aupipe inspect store
    """
    from fer_data.shards.inspect import inspect_path

    inspection = inspect_path(path)
    show(inspection.lines, inspection.content, as_json)


@click.command()
@click.argument("store", type=PATH)
@click.option("--rows/--no-rows", default=True, show_default=True, help="Name the damaged samples, not only the file.")
@json_option
def verify(store: Path, rows: bool, as_json: bool) -> int:
    """Check every byte of a store against its index.

    Exit code 1 when something is wrong.

    \b
    Example: aupipe verify store
    """
    from fer_data.shards import verify_store

    findings = verify_store(store, rows=rows)
    lines = [f"{found.file}: {found.what}" + "".join(f"\n  {name}" for name in found.samples) for found in findings]
    content = {
        "ok": not findings,
        "findings": [{"file": f.file, "what": f.what, "samples": list(f.samples)} for f in findings],
    }
    show(lines or [f"{store}: intact"], content, as_json)
    if findings:
        click.echo("To mend it, run `aupipe build-maps` with the same options: intact shards are kept.", err=True)
    return 1 if findings else 0
