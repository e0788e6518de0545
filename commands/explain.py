"""Explaining photos and videos with a trained run."""

from __future__ import annotations

from pathlib import Path

import click

from aupipe.commands.console import (
    DETECTOR,
    METHOD,
    PATH,
    TOO_MANY_FAILURES,
    device_option,
    echo,
    max_failures_option,
    out_option,
    output_options,
    progress,
    show,
)
from aupipe.commands.store_argument import PLACE


@click.command()
@click.argument("run", type=PATH)
@click.argument("path", metavar="IMAGE|FOLDER|MANIFEST|VIDEO", type=PATH)
@out_option("Folder for the page, the table and the files of each face.", required=False)
@click.option(
    "--video-out",
    metavar="FILE",
    type=PATH,
    help="Of a video, write its frames with what was seen in them: .mp4 or .avi.",
)
@click.option(
    "--faces",
    type=click.Choice(["auto", "box", "largest", "central", "error", "all"]),
    default="auto",
    show_default=True,
    help="Which face of a picture is meant, as in `aupipe landmarks`; all: every one.",
)
@click.option("--every", type=click.IntRange(1), default=None, help="Of a video, each N-th frame.  [default: 5; with "
              "--video-out 1]")  # fmt: skip
@click.option("--layer", type=int, default=None, help="Whose attention is shown.  [default: the deepest]")
@click.option("--method", type=METHOD, default=None, help="Read the CAM out as another method with the same training.")
@click.option("--method-options", default="", help="That method's settings.")
@click.option("--store", type=PLACE, default=None, help="Where the run's store is now, if it was moved.")
@click.option("--detector", type=DETECTOR, default=None,
              help="Another landmark detector.  [default: the store's]")  # fmt: skip
@click.option("--model", type=PATH, default=None, help="The detector's model file, if not found by itself.")
@device_option
@max_failures_option
@output_options
def explain(
    run: Path,
    path: Path,
    out: Path | None,
    video_out: Path | None,
    faces: str,
    every: int | None,
    layer: int | None,
    method: str | None,
    method_options: str,
    store: Path | str | None,
    detector: str | None,
    model: Path | None,
    device: str,
    max_failures: float,
    as_json: bool,
) -> int:
    """Explain what a run says about photos: expression, confidence, and which action units it looked at.

    No label is needed. Attention and CAM are drawn on the original photo. Writes OUT/index.html, OUT/faces.csv, a PNG
    and a JSON file per face, and OUT/timeline.png for a video.

    With --video-out the frames of a video are drawn with their faces: attention, landmarks, expression, confidence and
    the action units looked at. --out may then be left out.

    \b
    Example: aupipe explain run photos --out explained
    Example: aupipe explain run clip.mp4 --video-out seen.mp4
    """
    from aupipe.analyses import explain as run_explain

    if out is None and video_out is None:
        raise click.UsageError("Give --out, a folder for the page, or --video-out, a file, or both.")
    report = run_explain(
        run,
        path,
        out,
        video_out=video_out,
        faces=faces,
        every=every,
        layer=layer,
        method=method,
        method_options=method_options,
        store=store,
        detector=detector,
        model=model,
        device=device,
        progress=progress(),
    )
    listed_in = "" if out is None else f", listed in {out / 'failures.csv'}"
    left_out = [f"  left out: {len(report.failures)}{listed_in}"] if report.failures else []
    first, *lines = report.lines()
    show([first, *left_out, *lines], report.as_json(), as_json)
    if report.failed_share > max_failures:
        look = f"Look at {out / 'failures.csv'}" if out is not None else "The video shows them"
        if out is None and report.video_facts is None:
            look = "With --out they are listed with their reasons"
        echo(
            f"{report.failed_share:.0%} of the pictures show no face that could be explained, more than "
            f"--max-failures {max_failures:g} allows. {look}; what succeeded is kept.",
            err=True,
        )
        return TOO_MANY_FAILURES
    return 0
