"""The command line called in this process: its exit code, and what it said. Nothing is caught that a user would see."""

from __future__ import annotations

import contextlib
import io
import json
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from aupipe.commands.cli import main
from aupipe.fer_data.errors import FerError


@dataclass(frozen=True)
class Said:
    """What a call ended with. ``traceback``: of an exception that the command line did not turn into a paragraph."""

    code: int
    out: str
    err: str
    traceback: str = ""


def aupipe(*words: object) -> Said:
    """Run ``aupipe WORDS...`` as a shell would: the real entry, with its own handling of errors."""
    out, err, said, code = io.StringIO(), io.StringIO(), "", 0
    before, argv = warnings.showwarning, sys.argv
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
        warnings.simplefilter("default")
        sys.argv = ["aupipe", *map(str, words)]
        try:
            main()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
        except BaseException:
            code, said = 1, traceback.format_exc()
        finally:
            warnings.showwarning, sys.argv = before, argv
    return Said(code, out.getvalue(), err.getvalue(), said)


def call(function: Callable[..., Any], words: Sequence[str]) -> Said:
    """Call a public function that no command passes a file to; its error is what the command line would print."""
    try:
        return Said(0, json.dumps(function(*words), default=str), "")
    except FerError as error:
        return Said(1, "", f"aupipe: {error}\n")
    except BaseException:
        return Said(1, "", "", traceback.format_exc())
