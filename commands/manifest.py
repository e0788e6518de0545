"""Describing a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from aupipe.commands import listed
from aupipe.commands.console import (
    PATH,
    TOO_MANY_FAILURES,
    echo,
    is_quiet,
    max_failures_option,
    out_option,
    output_options,
    show,
)


@click.group()
def manifest() -> None:
    """Describe a dataset: one CSV with a label and a split per image."""


BUILD_HELP = f"""Read the dataset at ROOT and write its manifest.

LAYOUT is auto, or {", ".join(listed.layouts()[:-1])} or {listed.layouts()[-1]}. Rows that cannot be used stay out and
are listed in OUT.problems.csv.

\b
Example: aupipe manifest build auto ~/data/faces -o faces.csv
"""


@manifest.command("build", help=BUILD_HELP)
@click.argument("layout")
@click.argument("root", type=PATH)
@out_option("The manifest to write, for example faces.csv.")
@click.option("--val-fraction", default=0.1, show_default=True, help="Share of train cut off for validation.")
@click.option(
    "--test-fraction", default=0.2, show_default=True, help="Share cut off for test where there are no splits."
)
@click.option("--seed", default=0, show_default=True, help="Seed of the cuts.")
@click.option(
    "--alias",
    multiple=True,
    metavar="NAME=LABEL",
    help="Another name for an expression, or NAME=drop to leave a label out; may be repeated.",
)
@click.option(
    "--labels",
    default=None,
    metavar="MAP",
    help="What the dataset's labels mean, instead of the layout's own: 0=anger,1=disgust,... or a file of such lines.",
)
@click.option(
    "--variant",
    default=None,
    help="Which images, where the dataset has several. rafdb, rafdb-compound: aligned, original; ckplus: apex, "
    "apex3+neutral; kdef: straight, all.  [default: the first]",
)
@click.option("--overwrite", is_flag=True, help="Replace OUT although it was edited by hand since it was built.")
@click.option("--subject", "subject_pattern", default=None, help="Regular expression whose first group is the subject.")
@click.option(
    "--box-format",
    type=click.Choice(["xyxy", "xywh", "yxyx", "cxcywh", "yolo"]),
    default=None,
    help="What the four numbers of a table's boxes are.  [default: what the columns say, else found over all rows]",
)
@click.option(
    "--aus-from",
    type=PATH,
    default=None,
    help="Table of the faces' action units, by file, sequence or person: FACS codes, OpenFace, LibreFace or py-feat.  "
    "[default: those that lie with the dataset]",
)
@max_failures_option
@output_options
def manifest_build(
    as_json: bool,
    layout: str,
    root: Path,
    out: Path,
    alias: tuple[str, ...],
    labels: str | None,
    max_failures: float,
    **options: Any,
) -> int:
    """Read the dataset at ROOT and write its manifest; the help is :data:`BUILD_HELP`."""
    from aupipe.fer_data.manifest import build_manifest, parse_label_map

    for entry in alias:
        if "=" not in entry:
            raise click.BadParameter(f"{entry!r} is not NAME=LABEL", param_hint="--alias")
    aliases = dict(entry.split("=", 1) for entry in alias)
    given = parse_label_map(labels) if labels else None
    report = build_manifest(layout, root, out, aliases=aliases, labels=given, **options)
    if report.problems and not is_quiet():
        summary = ", ".join(f"{count} {reason}" for reason, count in report.problems.items())
        echo(f"Left out: {summary}. Each is listed with its line in {report.problems_file}.", err=True)
    show(report.lines(), report.as_json(), as_json)
    if report.lost_classes:
        echo(f"Not one image is left of {', '.join(report.lost_classes)}: see {report.problems_file}.", err=True)
    if report.faulty_share > max_failures:
        echo(
            f"{report.faulty_share:.0%} of the rows have faults, more than --max-failures {max_failures:g} allows: "
            f"see {report.problems_file}. What could be read is kept.",
            err=True,
        )
    return TOO_MANY_FAILURES if report.lost_classes or report.faulty_share > max_failures else 0


@manifest.command("check")
@click.argument("path", type=PATH)
@output_options
def manifest_check(path: Path, as_json: bool) -> int:
    """Check a manifest: files present, labels known, no person or face in two splits.

    \b
    Example: aupipe manifest check faces.csv
    """
    from aupipe.fer_data.manifest import check_manifest

    report = check_manifest(path)
    show(report.lines(), report.as_json(), as_json)
    return 0 if report.ok else 1
