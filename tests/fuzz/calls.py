"""The command line called in this process: its exit code, and what it said. Nothing is caught that a user would see."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import sys
import traceback
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from aupipe.commands.cli import main
from aupipe.fer_data.errors import FerError
from aupipe.fer_data.manifest.descriptors import parse_descriptor
from aupipe.pipeline.detectors.model_file import find_model


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


def call(function: str, *words: str) -> Said:
    """Call ``module:function``, for what no command does; its error is what the command line would print."""
    module, _, name = function.partition(":")
    try:
        return Said(0, json.dumps(getattr(importlib.import_module(module), name)(*words), default=str), "")
    except FerError as error:
        return Said(1, "", f"aupipe: {error}\n")
    except BaseException:
        return Said(1, "", "", traceback.format_exc())


def find_face_model(path: str) -> str:
    return find_model(Path(path)).name


def read_descriptor(path: str) -> dict[str, Any]:
    return asdict(parse_descriptor(Path(path).read_bytes().decode(errors="replace"), path))
