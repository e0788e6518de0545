"""The grid of the paper: every method, without and with AUs."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import click

from aupipe.commands import listed
from aupipe.commands.console import (
    METHOD,
    TOO_MANY_FAILURES,
    F,
    out_option,
    output_options,
    progress,
    show,
    split_option,
)
from aupipe.commands.grouped_help import GroupedHelp
from aupipe.commands.models import train_options, training_config
from aupipe.commands.store_argument import PLACE
from aupipe.fer_data.errors import without_secrets

VARIED = ("method", "method_options", "backbone", "align_weight", "align_layers", "align_target", "seed")
"""Settings of a run that the grid sets; all others are shared by every run, and are options here as of train."""


def shared_options(command: F) -> F:
    """Add the options of ``aupipe train`` that hold for the whole grid."""
    return train_options(command, without=VARIED)


@click.command(cls=GroupedHelp)
@click.argument("store", type=PLACE)
@out_option("Folder of the grid.")
@click.option("--methods", default="all", show_default=True,
              help=f"all, or some of {', '.join(listed.methods())}, with commas between.")  # fmt: skip
@click.option(
    "--backbone",
    default="resnet18",
    show_default=True,
    help="Of all methods but TS-CAM, whose own is deit_tiny_patch16_224, and those of --backbone-for.",
)
@click.option("--backbone-for", multiple=True, metavar="METHOD=NAME", help="Another backbone for one method.")
@click.option("--option-for", multiple=True, metavar="METHOD=OPTIONS", help="A method's settings: wildcat=alpha=0.6.")
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(1), help="Runs of each: seeds 0, 1, ...")
@click.option("--align-weight", default="0,4", show_default=True, help="Weights of the alignment; 0: without AUs.")
@click.option("--layers", default="", metavar="SETS", help="Ablation of the aligned layers: last;4;5,4.")
@click.option("--lambdas", default="", metavar="WEIGHTS", help="Sweep of the align weight: 0,0.5,1,2,4,8,16.")
@click.option(
    "--align-targets", default="", metavar="NAMES", help="Controls: class,mean,shuffled,landmarks,other_face."
)
@click.option("--ablation-method", type=METHOD, default="cam", show_default=True,
              help="Whose runs --layers, --lambdas and --align-targets vary.")  # fmt: skip
@split_option()
@click.option("--published", default="auto", show_default=True, help="Figures beside: rafdb, affectnet7, none or auto.")
@click.option("--jobs", type=click.IntRange(1), help="Runs at a time.  [default: one a core, 4 at most; one a GPU]")
@click.option("--threads", type=click.IntRange(1), help="Threads of each process.  [default: cores / jobs]")
@click.option("--dry-run", is_flag=True, help="Print the plan and the time it would take; measures a few steps.")
@click.option("--report-only", is_flag=True, help="Train nothing: tables of what is finished.")
@shared_options
@output_options
def benchmark(
    store: Path | str, out: Path, methods: str, backbone: str, backbone_for: tuple[str, ...],
    option_for: tuple[str, ...], seeds: int, align_weight: str, layers: str, lambdas: str, align_targets: str,
    ablation_method: str, split: str, published: str, jobs: int | None, threads: int | None, dry_run: bool,
    report_only: bool,
    as_json: bool, **shared: Any,
) -> int:  # fmt: skip
    """Train and evaluate a grid of methods, without and with AUs, and write the paper's tables and figures.

    Run it again to continue: finished runs are kept. Methods that only read another map out of CAM's network share its
    training. The exit code is 3 when runs failed; they are named, and the tables hold the others.

    \b
    Example: aupipe benchmark store --methods all --backbone resnet18 --seeds 3 --align-weight 0,4 --out grid
    """
    from aupipe.fer_analysis.benchmark import plan
    from aupipe.fer_analysis.benchmark.run import BenchmarkSettings, estimate, run_benchmark

    base = training_config({"backbone": backbone, **shared})
    request = plan.GridRequest(
        methods=plan.parse_methods(methods),
        seeds=seeds,
        weights=plan.parse_weights(align_weight, "align-weight"),
        base=base,
        backbones=plan.parse_pairs(backbone_for, "backbone-for"),
        options=plan.parse_pairs(option_for, "option-for"),
        layers=tuple(filter(None, map(str.strip, layers.split(";")))),
        lambdas=plan.parse_weights(lambdas, "lambdas"),
        targets=tuple(dict.fromkeys(name.strip() for name in align_targets.split(",") if name.strip())),
        ablation=ablation_method,
    )
    said = without_secrets(shlex.join(["aupipe", *sys.argv[1:]]))
    settings = BenchmarkSettings(jobs, threads, split, published, said)
    if dry_run:
        planned = estimate(store, out, request, settings, progress())
        show(planned.lines(), planned.as_json(), as_json)
        return 0
    report = run_benchmark(store, out, request, settings, progress(), train=not report_only)
    show(report.lines(), report.as_json(), as_json)
    return TOO_MANY_FAILURES if report.failed else 0
