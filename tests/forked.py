"""Processes forked from one that has imported everything: as real as any other, without the seconds of its imports."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "h5py",
        "mediapipe.tasks.python.vision",
        "pytest",
        "aupipe.commands.cli",
        "aupipe.fer_data.au_maps.codebook",
        "aupipe.fer_analysis.evaluation",
        "aupipe.fer_demo.portrait",
        "aupipe.fer_models.training.run",
        "aupipe.pipeline.detectors.mediapipe",
        "aupipe.pipeline.landmarks.run",
        "aupipe.pipeline.maps.run",
    ]
)
"""The one context of all tests: a process of the tests has one server, which the first of its users starts."""


def start_command(words: Sequence[str], said: Path) -> BaseProcess:
    """Start ``aupipe WORDS...``: the command line's own entry in a process of its own, what it says in ``said``."""
    process = CONTEXT.Process(target=_command, args=(list(words), said, dict(os.environ)))
    process.start()
    return process


def _command(words: list[str], said: Path, environment: dict[str, str]) -> None:
    with said.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    from aupipe.commands.cli import main

    os.environ.clear()  # the server's is of the time when it was started
    os.environ.update(environment)
    sys.argv = ["aupipe", *words]
    main()
