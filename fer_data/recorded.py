"""Files written together with their digest, and read back checked: a damaged one is named, never believed.

``digests.json`` of a folder holds the SHA-256 of each such file. While a file is replaced it holds the old and the new
one, so a crash at any moment leaves a folder whose every file is known.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from aupipe.fer_data.errors import RunError, paragraph
from aupipe.fer_data.files import atomic_path, sha256_bytes, sha256_file, write_json
from aupipe.fer_data.typed import Kind, UnreadableTextError, convert, parse_json

DIGESTS = "digests.json"


@contextlib.contextmanager
def recorded_path(path: Path) -> Iterator[Path]:
    """Yield a temporary name; on success record its digest and rename it over ``path``, as :func:`atomic_path` does.

    Raises:
        FerError: The disk refuses the write.
        RunError: The folder's ``digests.json`` is damaged.
    """
    with atomic_path(path) as temporary:
        yield temporary
        sha256 = sha256_file(temporary)
        _record(path, sha256, keep_old=True)
    _record(path, sha256, keep_old=False)


def write_recorded(path: Path, data: bytes) -> None:
    """Write a file atomically and record its digest."""
    with recorded_path(path) as temporary:
        temporary.write_bytes(data)


def read_recorded(path: Path, fix: str) -> bytes:
    """Read a file whose digest was recorded.

    Args:
        path: The file.
        fix: What to do when it is damaged, whole sentences.

    Returns:
        Its content.

    Raises:
        RunError: It is missing, or not the file that was written.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RunError(paragraph(f"Cannot read {path}: {error.strerror}.", fix=fix)) from error
    _check(path, sha256_bytes(data), fix)
    return data


def read_declared(path: Path, kind: type[Kind], check: Callable[[Kind], None], what: str, fix: str) -> dict[str, Any]:
    """Read a recorded JSON file of figures whose parts were declared.

    Args:
        path: The file.
        kind: Its declared shape.
        check: Tells whether the parts belong together; raises :class:`UnreadableTextError`.
        what: What it holds, for the message.
        fix: What to do when it cannot be used, whole sentences.

    Returns:
        Its content, undeclared keys too.

    Raises:
        RunError: It is missing, damaged, or of an older version.
    """
    try:
        content = parse_json(read_recorded(path, fix), dict[str, Any])
        check(convert(content, kind))
    except UnreadableTextError as error:
        message = f"The {what} are damaged, or of an older version."
        raise RunError(paragraph(message, where=path, got=error, fix=fix)) from error
    return content


def check_recorded(path: Path, fix: str) -> str:
    """Check a large file against its recorded digest without keeping it; return the digest. Raises like the reading."""
    try:
        sha256 = sha256_file(path)
    except OSError as error:
        raise RunError(paragraph(f"Cannot read {path}: {error.strerror}.", fix=fix)) from error
    _check(path, sha256, fix)
    return sha256


def _check(path: Path, sha256: str, fix: str) -> None:
    known = _load(path.parent).get(path.name)  # None: a file of an earlier version, taken as it is
    if known is not None and sha256 not in known:
        raise RunError(
            paragraph(
                f"{path.name} is damaged, or was changed after it was written: its SHA-256 is not the recorded one.",
                where=path,
                expected=" or ".join(one[:12] for one in known),
                got=sha256[:12],
                fix=fix,
            )
        )


def _record(path: Path, sha256: str, *, keep_old: bool) -> None:
    with _alone(path.parent):
        digests = _load(path.parent)
        known = [one for one in digests.get(path.name, ()) if keep_old and one != sha256]
        write_json(path.parent / DIGESTS, {**digests, path.name: [*known, sha256]})


def _load(folder: Path) -> dict[str, list[str]]:
    path = folder / DIGESTS
    if not path.is_file():
        return {}
    try:
        return parse_json(path.read_bytes(), dict[str, list[str]])
    except UnreadableTextError as error:
        raise RunError(
            paragraph(
                f"{DIGESTS}, which tells damaged files from sound ones, cannot be read.",
                where=path,
                got=error,
                fix="Restore it from a copy, or remove it to use the folder's files unchecked.",
            )
        ) from error


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep two commands on one run from losing each other's digests; the folder itself is the lock."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
