"""The common parts of the commands: progress on stderr, results on stdout, common options, the summary of a stage."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from aupipe.fer_data.errors import printable
from aupipe.fer_data.spelling import registered_name
from aupipe.progress import Bar as Bar

if TYPE_CHECKING:
    from aupipe.fer_data.types import StageReport
    from aupipe.pipeline.executors import Executor

F = TypeVar("F", bound=Callable[..., Any])
PATH = click.Path(path_type=Path)
TOO_MANY_FAILURES = 3

_JSON_ESCAPES = {code: f"\\u{code:04x}" for code in range(127, 160)}
"""The control characters that JSON itself leaves as they are."""


class SpelledChoice(click.Choice[str]):
    """One of several names, in whatever case and with whatever hyphens people write it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Find the name that is meant, or fail as any choice does."""
        return super().convert(registered_name(str(value), self.choices), param, ctx)


def json_option(command: F) -> F:
    """Add ``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")(command)


def check_picture(path: Path | None) -> None:
    """Refuse to write over a file that is no PNG of ours: a photo. Raises :class:`UserInputError`."""
    if path is not None:
        from aupipe.fer_data.files import check_replaceable
        from aupipe.fer_display.figures import PNG_MARK

        check_replaceable(path, "a picture", PNG_MARK)


def check_alone(maps: Path | None) -> None:
    """Refuse ``--maps`` beside ``--against``, whose two runs are measured by their own maps."""
    if maps is not None:
        raise click.UsageError("Give --maps or --against, not both: two runs are compared by their own maps.")


def show(lines: Sequence[str], content: Mapping[str, Any], as_json: bool) -> None:
    """Print a result: as one JSON object, as plain text, or on a terminal with its tables drawn."""
    if as_json:
        echo(json.dumps(content, ensure_ascii=False).translate(_JSON_ESCAPES))
    elif sys.stdout.isatty():
        from aupipe.fer_display.terminal import print_lines

        print_lines(lines)
    else:
        echo("\n".join(lines))


def echo(text: str, *, err: bool = False) -> None:
    """Print text; names from elsewhere in it cannot steer the terminal."""
    click.echo("\n".join(map(printable, text.split("\n"))), err=err)


def finish_stage(
    report: StageReport, max_failures: float, as_json: bool, where: Path, made: Mapping[str, Path] | None = None
) -> int:
    """Print a stage's summary and the files ``made`` to look at; the exit code says whether too much was left out."""
    failed = ", ".join(f"{count} {reason}" for reason, count in report.failed.items()) or "none"
    kept = f" ({report.parts_skipped} of {report.parts} parts were already there)" if report.parts_skipped else ""
    lines = [
        f"{report.stage}: {report.ok} of {report.total} samples ok in {report.seconds:.1f} s{kept}",
        f"  left out: {failed}" + (f", listed in {where / 'failures.csv'}" if report.failed else ""),
    ]
    lines += [f"  {name}: {path}" for name, path in (made or {}).items()]
    show(lines, {**report.as_json(), **{name: str(path) for name, path in (made or {}).items()}}, as_json)
    if report.failed_share > max_failures:
        echo(
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


def executor_options(command: F) -> F:
    """Add ``--workers`` and ``--scheduler``."""
    workers = click.option(
        "--workers",
        type=click.IntRange(0),
        default=None,
        help="At most so many processes on this machine, as far as they pay; 0: in this process.  "
        "[default: one for each core it may use]",
    )
    scheduler = click.option(
        "--scheduler", metavar="ADDRESS", default=None, help="Use a running Dask cluster instead: tcp://head:8786."
    )
    return workers(scheduler(command))


def make_executor(workers: int | None, scheduler: str | None, bar: Bar) -> Executor:
    """Make the executor that the two options name."""
    from aupipe.pipeline.executors import create_executor

    if scheduler is not None and workers is not None:
        raise click.UsageError("--scheduler brings its own workers: leave --workers out.")
    return create_executor(workers, scheduler, bar.note)
