"""The command line: its commands, and the look of an error.

stdout carries results, stderr progress and errors. Exit codes: 0 done; 1 an error the user can repair; 2 wrong usage; 3
finished, but with more failures than ``--max-failures``.
"""

from __future__ import annotations

import os
import sys
import warnings
from typing import TextIO

import click

from aupipe.commands.bench import bench_loader
from aupipe.commands.benchmark import benchmark
from aupipe.commands.codebook import codebook
from aupipe.commands.compare import compare
from aupipe.commands.console import echo
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
from aupipe.fer_data.errors import FerError, FerWarning
from aupipe.fer_data.image_size import LIMIT_VARIABLE, PIXEL_LIMIT


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="aupipe")
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
    text = f"aupipe: {message}" if ours else warnings.formatwarning(message, category, filename, lineno, line)
    echo(text.removesuffix("\n"), err=True)


def main() -> None:
    """Run the command line; turn errors into one paragraph and an exit code."""
    # For the formats whose size we do not read ourselves; this process and its workers have not loaded OpenCV yet.
    os.environ.setdefault(LIMIT_VARIABLE, str(PIXEL_LIMIT))
    warnings.showwarning = _show_warning
    try:
        code = cli.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted. What was finished is kept; run the same command again to continue.", err=True)
        sys.exit(130)
    except FerError as error:
        echo(f"aupipe: {error}", err=True)
        sys.exit(1)
    except OSError as error:
        echo(
            f"aupipe: {error.strerror or error}: {error.filename or ''}. Check the path and its permissions.", err=True
        )
        sys.exit(1)
    sys.exit(code or 0)


if __name__ == "__main__":
    main()
