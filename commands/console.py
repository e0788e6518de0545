"""The common parts of the commands: progress on stderr, results on stdout, common options, the summary of a stage."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from aupipe.commands import listed
from aupipe.fer_data.errors import printable
from aupipe.fer_data.spelling import registered_name
from aupipe.fer_data.types import SPLITS, Progress, Silent
from aupipe.progress import Bar

if TYPE_CHECKING:
    from aupipe.fer_data.types import StageReport
    from aupipe.pipeline.executors import Executor

F = TypeVar("F", bound=Callable[..., Any])
PATH = click.Path(path_type=Path)
TOO_MANY_FAILURES = 3
_QUIET = "aupipe.quiet"

_JSON_ESCAPES = {code: f"\\u{code:04x}" for code in range(127, 160)}
"""The control characters that JSON itself leaves as they are."""


class SpelledChoice(click.Choice[str]):
    """One of several names, in whatever case and with whatever hyphens people write it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Find the name that is meant, or fail as any choice does."""
        return super().convert(registered_name(str(value), self.choices), param, ctx)


METHOD = SpelledChoice(listed.methods())


class DetectorName(click.ParamType[str]):
    """A landmark detector: those that come with the program are proposed, a user's own is registered by their code."""

    name = "name"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """Show the names as those of a choice."""
        return f"[{'|'.join(listed.detectors())}]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Find the name that is meant; one that is not known is told where detectors are made."""
        return registered_name(str(value), listed.detectors())

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Propose the names."""
        return [CompletionItem(name) for name in listed.detectors() if name.startswith(incomplete)]


DETECTOR = DetectorName()


class DeviceName(click.ParamType[str]):
    """A device by torch's name; whether this machine has it is known only once torch is loaded."""

    name = "device"
    known = ("auto", "cpu", "cuda")

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """Show the choices as those of a choice."""
        return f"[{'|'.join(self.known)}|cuda:N]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name, or fail as a choice does."""
        if value not in self.known and re.fullmatch(r"cuda:\d+", str(value)) is None:
            self.fail(f"{value!r} is not one of {', '.join(self.known)} or cuda:N.", param, ctx)
        return str(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Propose the names."""
        return [CompletionItem(name) for name in (*self.known, "cuda:0") if name.startswith(incomplete)]


DEVICE = DeviceName()
device_option = click.option("--device", type=DEVICE, default="auto", show_default=True, help="Where it computes.")


def out_option(text: str, *, required: bool = True) -> Callable[[F], F]:
    """Add ``-o/--out``, which every command that writes has; ``text`` says what is written."""
    return click.option("-o", "--out", type=PATH, required=required, help=text)


def split_option(default: str | None = "test", text: str = "Which rows are measured.") -> Callable[[F], F]:
    """Add ``--split``."""
    shown = default is not None
    return click.option("--split", type=click.Choice(SPLITS), default=default, show_default=shown, help=text)


def output_options(command: F) -> F:
    """Add ``--json`` and ``-q/--quiet``, which every command has."""
    told = click.option("-q", "--quiet", is_flag=True, expose_value=False, is_eager=True, callback=_be_quiet,
                        help="No progress and no remarks: only results and errors.")  # fmt: skip
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")(told(command))


def _be_quiet(context: click.Context, _parameter: click.Parameter, quiet: bool) -> None:
    context.meta[_QUIET] = quiet


def is_quiet() -> bool:
    """Return whether the running command was told to be quiet."""
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.meta.get(_QUIET))


def progress() -> Progress:
    """Return who hears of the running command's progress: a bar on stderr, or nobody with ``--quiet``."""
    return Silent() if is_quiet() else Bar()


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


def was_given(name: str) -> bool:
    """Tell whether an option of the running command was given, rather than left at its default."""
    source = click.get_current_context().get_parameter_source(name)
    return source not in (None, ParameterSource.DEFAULT, ParameterSource.DEFAULT_MAP)


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


def make_executor(workers: int | None, scheduler: str | None, told: Progress) -> Executor:
    """Make the executor that the two options name."""
    from aupipe.pipeline.executors import create_executor

    if scheduler is not None and workers is not None:
        raise click.UsageError("--scheduler brings its own workers: leave --workers out.")
    return create_executor(workers, scheduler, told.note)
