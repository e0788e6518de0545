"""The command line: its commands, and the look of an error.

stdout carries results, stderr progress and errors. Exit codes: 0 done; 1 an error the user can repair; 2 wrong usage; 3
finished, but with more failures than ``--max-failures``.
"""

from __future__ import annotations

import io
import os
import signal
import sys
import warnings
from types import FrameType
from typing import NoReturn, TextIO

import click

from aupipe.commands.bench import bench_loader
from aupipe.commands.benchmark import benchmark
from aupipe.commands.codebook import codebook
from aupipe.commands.compare import compare
from aupipe.commands.console import echo, is_quiet
from aupipe.commands.demo import demo
from aupipe.commands.doctor import doctor
from aupipe.commands.explain import explain
from aupipe.commands.export import export
from aupipe.commands.export_model import export_model
from aupipe.commands.faithfulness import faithfulness
from aupipe.commands.inspect import inspect
from aupipe.commands.landmarks import landmarks, landmarks_agreement
from aupipe.commands.manifest import manifest
from aupipe.commands.models import evaluate, train
from aupipe.commands.report import report
from aupipe.commands.store import build_maps, repair, verify
from aupipe.commands.study import study
from aupipe.fer_data.errors import FerError, FerWarning
from aupipe.fer_data.image_size import LIMIT_VARIABLE, PIXEL_LIMIT


def _show_version(context: click.Context, _parameter: click.Parameter, asked: bool) -> None:
    if not asked or context.resilient_parsing:
        return
    from aupipe.fer_data import landmark_parts
    from aupipe.fer_data.shards.spec import SCHEMA_VERSIONS
    from aupipe.fer_data.versions import installed_version

    stores = ", ".join(f"{version} ({encoding})" for encoding, version in SCHEMA_VERSIONS.items())
    echo(f"aupipe, version {installed_version('aupipe')}")
    echo(f"writes stores {stores}; landmark parts {landmark_parts.SCHEMA_VERSION}")
    context.exit()


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version,
              help="Show the version, and those of the files it writes.")  # fmt: skip
def cli() -> None:
    """Interpretable facial expression recognition: from labelled face images to a classifier that shows which action
    units it looked at.

    The usual order: manifest build, landmarks, build-maps, train, evaluate.
    """


COMMANDS = (
    manifest,
    landmarks,
    landmarks_agreement,
    build_maps,
    train,
    evaluate,
    faithfulness,
    benchmark,
    explain,
    report,
    export_model,
    demo,
    inspect,
    verify,
    repair,
    export,
    bench_loader,
    doctor,
    codebook,
    compare,
    study,
)
for command in COMMANDS:
    cli.add_command(command)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print a warning of ours as one line; others as Python does."""
    ours = issubclass(category, FerWarning)
    if ours and is_quiet():
        return
    text = f"aupipe: {message}" if ours else warnings.formatwarning(message, category, filename, lineno, line)
    echo(text.removesuffix("\n"), err=True)


_INTERRUPTED = "Interrupted. What was finished is kept; run the same command again to continue."


class _Interruption:
    """The first Ctrl-C lets a command clean up; the second one ends the process at once, wherever it is.

    ``seen`` also tells interruptions that a library turned into an error of its own.
    """

    seen = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.seen:
            os.write(2, f"\n{_INTERRUPTED}\n".encode())
            os._exit(130)
        self.seen = True
        raise KeyboardInterrupt


def main() -> None:
    """Run the command line; turn errors into one paragraph and an exit code."""
    interruption = _Interruption()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, interruption)
    try:
        sys.exit(_run())
    except (click.Abort, KeyboardInterrupt):
        _end_interrupted()
    except Exception:
        if not interruption.seen:
            raise
        _end_interrupted()


def _end_interrupted() -> NoReturn:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    click.echo(_INTERRUPTED, err=True)
    sys.exit(130)


def _run() -> int:
    """Run the command that was asked for and return the exit code."""
    # For the formats whose size we do not read ourselves; this process and its workers have not loaded OpenCV yet.
    os.environ.setdefault(LIMIT_VARIABLE, str(PIXEL_LIMIT))
    for stream in (sys.stdout, sys.stderr):  # names of files that the terminal's encoding cannot show
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    warnings.showwarning = _show_warning
    try:
        return cli.main(standalone_mode=False) or 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except FerError as error:
        echo(f"aupipe: {error}", err=True)
        return 1
    except ImportError as error:
        if (error.name or "").startswith("aupipe"):
            raise
        echo(f"aupipe: A library cannot be loaded: {error}. `aupipe doctor` says what to install.", err=True)
        return 1
    except OSError as error:
        echo(
            f"aupipe: {error.strerror or error}: {error.filename or ''}. Check the path and its permissions.", err=True
        )
        return 1


if __name__ == "__main__":
    main()
