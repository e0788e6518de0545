"""Same bytes need the same software: every call carries the sender's versions, and a worker with others refuses."""

from __future__ import annotations

import pickle
import platform
import socket
from collections.abc import Callable
from functools import cache
from typing import Any

from aupipe.fer_data.errors import FerError, paragraph
from aupipe.fer_data.versions import ABSENT, BYTES, installed_versions
from aupipe.pipeline.detectors import detector_packages
from aupipe.pipeline.executors.base import Job, Result

Software = tuple[tuple[str, str], ...]


@cache
def installed_software() -> Software:
    """List names and versions of Python and of all that the bytes of a part depend on, in this process.

    The packages of every landmark detector count: a call does not say which one its task will use.
    """
    packages = sorted({*BYTES, *(name for names in detector_packages().values() for name in names)})
    return (("python", ".".join(platform.python_version_tuple()[:2])), *installed_versions(packages).items())


def pickled_call(task: Callable[[Job], Result], job: Job) -> bytes:
    """Pickle a call: bytes that ``pickle.loads`` turns into the result of ``task(job)``, where they are loaded.

    So only the task itself needs this package: a worker that lacks it would otherwise choke on the message that brings
    the task, again and again, and nobody would be told.
    """
    return pickle.dumps(_Call(task, job))


class _Call:
    def __init__(self, task: Callable[[Any], object], job: object) -> None:
        self._call = (task, job, installed_software())

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return checked_call, self._call


def checked_call(task: Callable[[Job], Result], job: Job, software: Software) -> Result:
    """Run ``task(job)``. Raises :class:`FerError` where this process has other software than ``software``."""
    here = dict(installed_software())
    other = [(name, stated, here.get(name, ABSENT)) for name, stated in software if here.get(name) != stated]
    if other:
        raise FerError(
            paragraph(
                "A Dask worker has other software than this process, and its results might differ.",
                where=f"worker process on {socket.gethostname()}",
                expected=", ".join(f"{name} {stated}" for name, stated, _ in other),
                got=", ".join(f"{name} {found}" for name, _, found in other),
                fix="Start the workers from the environment that runs aupipe.",
            )
        )
    return task(job)
