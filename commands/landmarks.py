"""Detecting landmarks."""

from __future__ import annotations

from pathlib import Path

import click

from aupipe.commands.console import (
    DETECTOR,
    PATH,
    executor_options,
    finish_stage,
    make_executor,
    max_failures_option,
    out_option,
    output_options,
    progress,
    show,
)


@click.command()
@click.argument("path", metavar="M.csv", type=PATH)
@out_option("Work folder for the landmarks.")
@click.option("--detector", type=DETECTOR, default="mediapipe", show_default=True,
              help="What finds the points; dataset: those that ship with it.")  # fmt: skip
@click.option("--model", type=PATH, default=None, help="The detector's model file, if not found by itself.")
@click.option(
    "--faces",
    type=click.Choice(["auto", "box", "largest", "central", "error"]),
    default="auto",
    show_default=True,
    help="Which face is meant where there are several. auto: the one in the manifest's box, or else the one "
    "that is large and near the middle; box: the same, or else the largest; error: none, leave the image out.",
)
@click.option("--mirror", is_flag=True, help="Look at every face in the mirror image too, for twice the time: the mean "
              "of both looks, which knows no side; the error is about the same.")  # fmt: skip
@click.option("--follow-links", is_flag=True, help="Also take photos that links lead out of the dataset's folder.")
@click.option("--overwrite", is_flag=True, help="Replace landmarks that were found with other options.")
@click.option("--export", type=click.Choice(["csv", "parquet"]), default=None, help="Also write one table of all rows.")
@click.option("--sheet", is_flag=True, help="Also draw OUT/sheet.png: random faces, the worst ones, the failures.")
@executor_options
@max_failures_option
@output_options
def landmarks(
    path: Path,
    out: Path,
    detector: str,
    model: Path | None,
    faces: str,
    mirror: bool,
    follow_links: bool,
    overwrite: bool,
    export: str | None,
    sheet: bool,
    workers: int | None,
    scheduler: str | None,
    max_failures: float,
    as_json: bool,
) -> int:
    """Detect 68 facial landmarks for every image of a manifest.

    Run it again to continue where it stopped. OUT/summary.html shows what was found.

    \b
    Example: aupipe landmarks faces.csv --out work
    """
    from aupipe.fer_data.manifest import read_manifest
    from aupipe.pipeline.landmark_views import export_landmarks, write_sheet, write_summary
    from aupipe.pipeline.landmarks.run import run_landmarks
    from aupipe.pipeline.landmarks.tasks import LandmarkConfig

    config = LandmarkConfig(
        detector=detector,
        model=model.resolve() if model else None,
        faces=faces,
        mirror=mirror,
        follow_links=follow_links,
    )
    told = progress()
    executor = make_executor(workers, scheduler, told)
    report = run_landmarks(read_manifest(path), out, config, executor, told, max_failures, overwrite=overwrite)
    made = {}
    if sheet:
        made["sheet"] = out / "sheet.png"
        write_sheet(out, made["sheet"])
    made["summary"] = out / "summary.html"
    write_summary(out, made["summary"])
    if export:
        made["table"] = export_landmarks(out, out, export)
    return finish_stage(report, max_failures, as_json, out, made)


@click.command("landmarks-agreement")
@click.argument("first", metavar="WORK_A", type=PATH)
@click.argument("second", metavar="WORK_B", type=PATH)
@out_option("Folder for agreement.csv, agreement.json and agreement.png.")
@output_options
def landmarks_agreement(first: Path, second: Path, out: Path, as_json: bool) -> None:
    """Compare two detectors on the same manifest: who found which face, and how far apart the points lie.

    \b
    Example: aupipe landmarks-agreement work-mediapipe work-dlib --out agreement
    """
    from aupipe.pipeline.landmark_views import compare_landmarks, write_agreement

    agreement = compare_landmarks(first, second)
    files = write_agreement(agreement, out)
    show([*agreement.lines(), *(f"  {path}" for path in files)], agreement.as_json(), as_json)
