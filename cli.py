"""The command line: parse, one call, print.

Heavy imports happen inside the commands. stdout carries results, stderr progress and errors. Exit codes: 0 done; 1
an error the user can repair; 2 wrong usage; 3 finished, but with more failures than ``--max-failures``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from fer_data.errors import FerError

if TYPE_CHECKING:
    from tqdm import tqdm

    from fer_data.types import StageReport

F = TypeVar("F", bound=Callable[..., Any])
PATH = click.Path(path_type=Path)
TOO_MANY_FAILURES = 3
DEMO_NETWORK: dict[str, Any] = {"backbone": "resnet10t", "crop_size": 112, "batch_size": 8}
"""Small and with many steps, so that it learns the embedded faces in a minute on two cores."""


class Bar:
    """Progress on stderr: count, rate, time left."""

    def __init__(self) -> None:
        self._bar: tqdm[Any] | None = None

    def start(self, label: str, total: int, unit: str) -> None:
        """Open a bar."""
        from tqdm import tqdm

        self.finish()
        self._bar = tqdm(desc=label, total=total, unit=unit, file=sys.stderr, dynamic_ncols=True, mininterval=0.5)

    def advance(self, count: int) -> None:
        """Move it."""
        if self._bar is not None:
            self._bar.update(count)

    def note(self, message: str) -> None:
        """Print a line above it."""
        from tqdm import tqdm

        tqdm.write(message, file=sys.stderr)

    def finish(self) -> None:
        """Close it."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def json_option(command: F) -> F:
    """``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")(command)


def show(lines: list[str] | tuple[str, ...], content: Mapping[str, Any], as_json: bool) -> None:
    """Print a result as text or as one JSON object."""
    click.echo(json.dumps(content, ensure_ascii=False) if as_json else "\n".join(lines))


def finish_stage(report: StageReport, max_failures: float, as_json: bool, where: Path) -> int:
    """Print a stage's summary; the exit code says whether too much was left out."""
    failed = ", ".join(f"{count} {reason}" for reason, count in report.failed.items()) or "none"
    kept = f" ({report.parts_skipped} of {report.parts} parts were already there)" if report.parts_skipped else ""
    lines = [
        f"{report.stage}: {report.ok} of {report.total} samples ok in {report.seconds:.1f} s{kept}",
        f"  left out: {failed}" + (f", listed in {where / 'failures.csv'}" if report.failed else ""),
    ]
    show(lines, report.as_json(), as_json)
    if report.failed_share > max_failures:
        click.echo(
            f"{report.failed_share:.0%} of the samples failed, more than --max-failures {max_failures:g} allows. "
            f"Look at {where / 'failures.csv'}; what succeeded is kept.",
            err=True,
        )
        return TOO_MANY_FAILURES
    return 0


max_failures_option = click.option(
    "--max-failures",
    type=click.FloatRange(0, 1),
    default=0.2,
    show_default=True,
    help="Share of samples that may fail before the exit code is 3.",
)
workers_option = click.option(
    "--workers",
    type=click.IntRange(0),
    default=None,
    help="Worker processes; 0: in this process.  [default: one a core]",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="aupipe")
def cli() -> None:
    """Interpretable facial expression recognition: from labelled face images to a classifier that shows which action
    units it looked at.

    The usual order: manifest build, landmarks, build-maps, train, evaluate.
    """


@cli.group()
def manifest() -> None:
    """Describe a dataset: one CSV with a label and a split per image."""


@manifest.command("build")
@click.argument("layout")
@click.argument("root", type=PATH)
@click.option("-o", "--out", type=PATH, required=True, help="The manifest to write, for example faces.csv.")
@click.option("--val-fraction", default=0.1, show_default=True, help="Share of train cut off for validation.")
@click.option(
    "--test-fraction", default=0.2, show_default=True, help="Share cut off for test where there are no splits."
)
@click.option("--seed", default=0, show_default=True, help="Seed of the cuts.")
@click.option("--alias", multiple=True, metavar="NAME=LABEL", help="Another name for an expression; may be repeated.")
@click.option(
    "--variant", default=None, help="Which images, where the dataset has several (rafdb: aligned or original)."
)
@click.option("--subject", "subject_pattern", default=None, help="Regular expression whose first group is the subject.")
@json_option
def manifest_build(as_json: bool, layout: str, root: Path, out: Path, alias: tuple[str, ...], **options: Any) -> None:
    """Read the dataset at ROOT and write its manifest.

    LAYOUT is auto, folder, csv, rafdb, fer2013 or legend. Rows that cannot be used stay out and are listed in
    OUT.problems.csv.

    \b
    Example: aupipe manifest build auto ~/data/faces -o faces.csv
    """
    from fer_data.manifest import build_manifest

    for entry in alias:
        if "=" not in entry:
            raise click.BadParameter(f"{entry!r} is not NAME=LABEL", param_hint="--alias")
    aliases = dict(entry.split("=", 1) for entry in alias)
    report = build_manifest(layout, root, out, aliases=aliases, **options)
    if report.problems:
        summary = ", ".join(f"{count} {reason}" for reason, count in report.problems.items())
        click.echo(f"Left out: {summary}. Each is listed with its line in {report.problems_file}.", err=True)
    show(report.lines(), report.as_json(), as_json)


@manifest.command("check")
@click.argument("path", type=PATH)
@json_option
def manifest_check(path: Path, as_json: bool) -> int:
    """Check a manifest: files present, labels known, no person or photo in two splits.

    \b
    Example: aupipe manifest check faces.csv
    """
    from fer_data.manifest import check_manifest

    report = check_manifest(path)
    show(report.lines(), report.as_json(), as_json)
    return 0 if report.ok else 1


@cli.command()
@click.argument("path", metavar="M.csv", type=PATH)
@click.option("--out", type=PATH, required=True, help="Work folder for the landmarks.")
@click.option("--model", type=PATH, default=None, help="The face_landmarker.task file, if not found by itself.")
@click.option("--detector", default="mediapipe", show_default=True)
@workers_option
@max_failures_option
@json_option
def landmarks(
    path: Path, out: Path, model: Path | None, detector: str, workers: int | None, max_failures: float, as_json: bool
) -> int:
    """Detect 68 facial landmarks for every image of a manifest.

    Run it again to continue where it stopped.
        \b
        Example: aupipe landmarks faces.csv --out work
    """
    from fer_data.manifest import read_manifest
    from pipeline.executors import create_executor
    from pipeline.landmarks import LandmarkConfig, run_landmarks

    config = LandmarkConfig(detector=detector, model=model.resolve() if model else None)
    report = run_landmarks(read_manifest(path), out, config, create_executor(workers), Bar())
    return finish_stage(report, max_failures, as_json, out)


@cli.command("build-maps")
@click.argument("work", type=PATH)
@click.option("--out", type=PATH, required=True, help="Folder of the store.")
@click.option("--codebook", default="default", show_default=True, help="default, reference, or a TOML file.")
@click.option("--image-size", default=256, show_default=True, help="Side of the aligned crop in pixels.")
@click.option("--map-size", default=64, show_default=True, help="Side of the AU map in pixels.")
@click.option("--rows-per-shard", default=2048, show_default=True)
@click.option("--overwrite", is_flag=True, help="Replace a store that was built with other options.")
@workers_option
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
    overwrite: bool,
    max_failures: float,
    as_json: bool,
) -> int:
    """Crop the faces, draw the AU map of each one's expression, and write the store of triplets.

    \b
    Example: aupipe build-maps work --out store
    """
    from fer_data.codebook import load_codebook
    from pipeline.executors import create_executor
    from pipeline.maps import run_maps
    from pipeline.shard_tasks import MapConfig

    config = MapConfig(
        codebook=dict(load_codebook(codebook).content),
        image_size=image_size,
        map_size=map_size,
        rows_per_shard=rows_per_shard,
    )
    report = run_maps(work, out, config, create_executor(workers), Bar(), overwrite=overwrite)
    return finish_stage(report, max_failures, as_json, out)


def train_options(command: F) -> F:
    """One option per field of the training configuration."""
    from dataclasses import fields

    from fer_models.config import CHOICES, TYPES, TrainConfig

    for setting in reversed(fields(TrainConfig)):
        name, text = setting.name.replace("_", "-"), setting.metadata["help"]
        if isinstance(setting.default, bool):
            option = click.option(f"--{name}/--no-{name}", default=setting.default, show_default=True, help=text)
        else:
            kind: Any = TYPES.get(setting.name, type(setting.default))
            if setting.name in CHOICES:
                kind = click.Choice(CHOICES[setting.name])
            option = click.option(f"--{name}", type=kind, default=setting.default, show_default=True, help=text)
        command = option(command)
    return command


@cli.command()
@click.argument("store", type=PATH)
@click.option("--out", type=PATH, required=True, help="Folder of the run.")
@train_options
@json_option
def train(store: Path, out: Path, as_json: bool, **options: Any) -> None:
    """Train a classifier on a store, guided by the AU maps. Run it again to continue where it stopped.

    \b
    Example: aupipe train store --out run --align-weight 4
    """
    from fer_models.config import TrainConfig
    from fer_models.training import train as run_training

    report = run_training(store, out, TrainConfig(**options), Bar())
    show(report.lines(), report.as_json(), as_json)


@cli.command()
@click.argument("run", type=PATH)
@click.option("--store", type=PATH, default=None, help="Another store.  [default: the one it was trained on]")
@click.option("--split", default="test", show_default=True, help="train, val or test.")
@click.option("--limit", type=click.IntRange(1), default=None, help="Only the first N rows (rows lie in hash order).")
@click.option("--device", default="auto", show_default=True)
@json_option
def evaluate(run: Path, store: Path | None, split: str, limit: int | None, device: str, as_json: bool) -> None:
    """Measure a run's best checkpoint and write RUN/metrics.json.

    Accuracy, CAM-COS and ATT-COS per layer, each cosine beside its controls.

    \b
    Example: aupipe evaluate run
    """
    from fer_models.evaluation import evaluate as run_evaluation

    evaluation = run_evaluation(run, store_folder=store, split=split, limit=limit, device=device, progress=Bar())
    show(evaluation.lines(), evaluation.as_json(), as_json)


@cli.command()
@click.option("--out", type=PATH, required=True, help="Folder for everything the demo makes.")
@click.option("--faces", default=60, show_default=True, type=click.IntRange(4), help="Training faces per expression.")
@click.option("--epochs", default=16, show_default=True, type=click.IntRange(1))
@workers_option
@json_option
def demo(out: Path, faces: int, epochs: int, workers: int | None, as_json: bool) -> None:
    """Run the whole job on embedded faces: one portrait, warped AU by AU into seven expressions.

    Trains the same network without and with AUs, prints one table and writes OUT/index.html. Offline, a few minutes on
    two cores.

    \b
    Example: aupipe demo --out demo
    """
    from fer_data.codebook import load_codebook
    from fer_data.manifest import build_manifest, read_manifest
    from fer_models.config import TrainConfig
    from fer_models.demo_page import comparison_table, write_demo_page
    from fer_models.evaluation import evaluate as run_evaluation
    from fer_models.training import train as run_training
    from pipeline.executors import create_executor
    from pipeline.landmarks import LandmarkConfig, run_landmarks
    from pipeline.maps import run_maps
    from pipeline.portrait import write_portrait_dataset
    from pipeline.shard_tasks import MapConfig

    bar, executor = Bar(), create_executor(workers)
    write_portrait_dataset(out / "faces", train=faces, test=max(faces // 3, 2), progress=bar)
    build_manifest("folder", out / "faces", out / "faces.csv")
    run_landmarks(read_manifest(out / "faces.csv"), out / "work", LandmarkConfig(), executor, bar)
    maps = MapConfig(dict(load_codebook("default").content), image_size=128, map_size=32)
    run_maps(out / "work", out / "store", maps, executor, bar)
    runs = {"without AUs": (out / "run-plain", 0.0), "with AUs": (out / "run-au", 4.0)}
    for name, (folder, weight) in runs.items():
        click.echo(f"training {name}", err=True)
        run_training(out / "store", folder, TrainConfig(align_weight=weight, epochs=epochs, **DEMO_NETWORK), bar)
        run_evaluation(folder, progress=bar)
    folders = {name: folder for name, (folder, _) in runs.items()}
    write_demo_page(out / "index.html", out / "store", folders)
    content = {name: json.loads((folder / "metrics.json").read_text("utf-8")) for name, folder in folders.items()}
    show([comparison_table(folders), "", f"Now open {out / 'index.html'}"], content, as_json)


@cli.command()
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


@cli.command()
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


@cli.command()
@json_option
def doctor(as_json: bool) -> int:
    """Check this installation and say how to repair it.

    \b
    Example: aupipe doctor
    """
    from pipeline.doctor import run_checks

    checks = run_checks()
    lines = []
    for check in checks:
        lines.append(f"{'ok  ' if check.ok else 'FAIL'}  {check.name:<14}{check.found}")
        if not check.ok:
            lines.append(f"      {check.repair}")
    content = {"ok": all(check.ok for check in checks), "checks": [check.__dict__ for check in checks]}
    show(lines, content, as_json)
    return 0 if content["ok"] else 1


@cli.group()
def codebook() -> None:
    """The tables that say which action units belong to an expression, and where they are drawn."""


@codebook.command("show")
@click.argument("name", required=False)
@json_option
def codebook_show(name: str | None, as_json: bool) -> None:
    """Show a codebook, or list the built-in ones.

    \b
    Example: aupipe codebook show default
    """
    from fer_data.codebook import builtin_codebooks, describe, load_codebook

    if name is None:
        books = [load_codebook(builtin) for builtin in builtin_codebooks()]
        show([f"{b.name:<12}{b.description}" for b in books], {b.name: b.description for b in books}, as_json)
        return
    book = load_codebook(name)
    show(describe(book), {**book.content, "digest": book.digest}, as_json)


def main() -> None:
    """Entry point: turns errors into one paragraph and an exit code."""
    try:
        code = cli.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted. What was finished is kept; run the same command again to continue.", err=True)
        sys.exit(130)
    except FerError as error:
        click.echo(f"aupipe: {error}", err=True)
        sys.exit(1)
    except OSError as error:
        click.echo(
            f"aupipe: {error.strerror or error}: {error.filename or ''}. Check the path and its permissions.", err=True
        )
        sys.exit(1)
    sys.exit(code or 0)


if __name__ == "__main__":
    main()
