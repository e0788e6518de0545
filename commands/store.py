"""Building, looking at and checking a store of triplets."""

from __future__ import annotations

from pathlib import Path

import click

from aupipe.commands.console import (
    PATH,
    echo,
    executor_options,
    finish_stage,
    make_executor,
    max_failures_option,
    out_option,
    output_options,
    progress,
    show,
)
from aupipe.commands.store_argument import PLACE
from aupipe.fer_data.action_units.modes import MISSING, MODES, AuMissing, AuMode


@click.command("build-maps")
@click.argument("work", type=PATH)
@out_option("Folder of the store.")
@click.option("--codebook", default="default", show_default=True, help="A built-in one, or a TOML file.")
@click.option(
    "--aus",
    type=click.Choice(MODES),
    default="class",
    show_default=True,
    help="The action units that are drawn: those of the label; those that people coded on the face; those estimated "
    "from its blendshapes, whatever the label; or label and estimate together.",
)
@click.option(
    "--aus-missing",
    type=click.Choice(MISSING),
    default="fused",
    show_default=True,
    help="With --aus annotated: the map of a face that nobody coded.",
)
@click.option(
    "--estimate",
    type=PATH,
    default=None,
    metavar="FILE",
    help="With --aus estimated, fused, or annotated --aus-missing fused: a table in which OpenFace, LibreFace or "
    "py-feat says which action units each face shows, in place of the blendshapes.",
)
@click.option("--image-size", default=256, show_default=True, help="Side of the aligned crop in pixels.")
@click.option("--map-size", default=64, show_default=True, help="Side of the AU map in pixels.")
@click.option("--rows-per-shard", default=2048, show_default=True, help="Faces in a file of the store.")
@click.option(
    "--encoding",
    type=click.Choice(["raw", "jpeg", "auto"]),
    default="raw",
    show_default=True,
    help="Images as pixels or as JPEG; auto: pixels where they take at most half of the memory there is.",
)
@click.option("--jpeg-quality", type=click.IntRange(1, 100), default=95, show_default=True)
@click.option(
    "--images-from",
    metavar="STORE",
    type=PATH,
    help="Take the images over from a store with the same crops: only the maps are drawn, no photo is read.",
)
@click.option("--overwrite", is_flag=True, help="Replace a store that was built with other options.")
@executor_options
@max_failures_option
@output_options
def build_maps(
    work: Path,
    out: Path,
    codebook: str,
    aus: AuMode,
    aus_missing: AuMissing,
    estimate: Path | None,
    image_size: int,
    map_size: int,
    rows_per_shard: int,
    encoding: str,
    jpeg_quality: int,
    images_from: Path | None,
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
    from aupipe.fer_data.au_maps.codebook import load_codebook
    from aupipe.pipeline.maps.run import run_maps
    from aupipe.pipeline.maps.tasks import MapConfig

    config = MapConfig(
        codebook=dict(load_codebook(codebook).content),
        image_size=image_size,
        map_size=map_size,
        rows_per_shard=rows_per_shard,
        encoding=encoding,
        jpeg_quality=jpeg_quality,
        aus=aus,
        aus_missing=aus_missing,
    )
    told = progress()
    executor = make_executor(workers, scheduler, told)
    other = None if images_from is None else images_from.resolve()
    report = run_maps(
        work.resolve(),
        out.resolve(),
        config,
        executor,
        told,
        overwrite=overwrite,
        images_from=other,
        estimate=estimate,
    )
    return finish_stage(report, max_failures, as_json, out)


@click.command()
@click.argument("store")
@click.option("--from", "work", metavar="WORK", type=PATH, help="The landmarks it was built from.")
@click.option("--codebook", default=None, help="Its codebook's file, needed where index.json is damaged too.")
@click.option(
    "--estimate", type=PATH, default=None, metavar="FILE", help="The table of estimates that it was drawn from, if any."
)
@executor_options
@output_options
def repair(
    store: str,
    work: Path | None,
    codebook: str | None,
    estimate: Path | None,
    workers: int | None,
    scheduler: str | None,
    as_json: bool,
) -> int:
    """Make the damaged and missing files of a store again, as they were; intact shards are not touched.

    Its options are read from the store. Refused where the result would be another store. Where STORE is the URL of a
    store, its copy in the cache is mended: what is damaged is fetched again, and --from is not needed.

    \b
    Example: aupipe repair store --from work
    Example: aupipe repair https://host/faces/store
    """
    from aupipe.fer_data.shards.remote import is_url, local_store
    from aupipe.pipeline.maps.repair import stated_config
    from aupipe.pipeline.maps.run import run_maps

    told = progress()
    if is_url(store):
        copy = local_store(store, told, repair=True)
        show([f"{copy}: intact"], {"ok": True, "store": str(copy)}, as_json)
        return 0
    if work is None:
        raise click.UsageError("Missing option '--from': the landmarks that the store was built from.")
    folder = Path(store)
    config = stated_config(folder, codebook)
    executor = make_executor(workers, scheduler, told)
    report = run_maps(work.resolve(), folder.resolve(), config, executor, told, estimate=estimate, repair=True)
    return finish_stage(report, 1.0, as_json, folder)


@click.command()
@click.argument("store", type=PLACE)
@click.option("--rows/--no-rows", default=True, show_default=True, help="Name the damaged samples, not only the file.")
@output_options
def verify(store: Path | str, rows: bool, as_json: bool) -> int:
    """Check every byte of a store against its index.

    Exit code 1 when something is wrong.

    \b
    Example: aupipe verify store
    """
    from aupipe.fer_data.shards import verify_store
    from aupipe.fer_data.shards.croissant import CROISSANT_NAME
    from aupipe.fer_data.shards.remote import is_copy, local_store
    from aupipe.fer_data.shards.verify import STRAY

    store = local_store(store, progress())
    findings = verify_store(store, rows=rows)
    lines = [f"{found.file}: {found.what}" + "".join(f"\n  {name}" for name in found.samples) for found in findings]
    content = {
        "ok": not findings,
        "findings": [{"file": f.file, "what": f.what, "samples": list(f.samples)} for f in findings],
    }
    show(lines or [f"{store}: intact"], content, as_json)
    others = [found for found in findings if found.file != CROISSANT_NAME]
    if others and all(found.what == STRAY for found in others) and not is_copy(store):
        echo("Nothing is damaged; move away what is not part of the store.", err=True)
    elif others:
        echo(
            "This is the copy of a remote store: run `aupipe repair` with its URL to fetch again what is damaged."
            if is_copy(store)
            else "To mend it, run `aupipe repair` with the landmarks it was built from: intact shards are kept.",
            err=True,
        )
    return 1 if findings else 0
