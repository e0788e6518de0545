"""Atomic writes, digests, canonical JSON: the only ways this project puts a file in place."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from aupipe.fer_data.errors import FerError, UserInputError, paragraph

_ODD = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff\\~]|^[. ]|[. ]$|^$")
_LONGEST, _DEEPEST = 180, 16
"""Bytes of a part of a path, which must leave room for a suffix and a temporary's name; parts."""


def sha256_bytes(data: bytes) -> str:
    """Compute the hexadecimal SHA-256 of ``data``."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Compute the hexadecimal SHA-256 of a file's content, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def canonical_json(value: Any) -> str:
    """Write JSON text that depends on the value only: sorted keys, no spaces, no NaN.

    >>> canonical_json({"b": 1, "a": [1.5, None]})
    '{"a":[1.5,null],"b":1}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def digest(value: Any) -> str:
    """Compute the SHA-256 of the canonical JSON of ``value``: the identity of a configuration or a plan."""
    return sha256_bytes(canonical_json(value).encode())


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary name in the same folder; on success fsync it and rename it over ``path``.

    A crash leaves either the old file or the new one, never a part of it. Works for any program that writes to a
    path (h5py, torch.save, matplotlib). Raises :class:`FerError` when the disk refuses the write.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _make_new(temporary)
        yield temporary
        _fsync(temporary)
        temporary.replace(path)
        _fsync(path.parent)
    except OSError as error:
        if isinstance(error, FerError) or not _concerns(error, path, temporary):
            raise
        raise _refused("write", path, error) from error
    finally:
        with contextlib.suppress(OSError):  # the folder itself may be missing or read-only
            temporary.unlink()


def check_replaceable(path: Path, kind: str, *marks: bytes) -> None:
    """Refuse to write over a file that is not of the kind a command makes: a run's own file, a photo, a table.

    Args:
        path: What would be written.
        kind: Name of the kind, with an article.
        marks: Bytes of which every file of this kind holds one.

    Raises:
        UserInputError: There is something else at ``path``.
    """
    if not (path.exists() or path.is_symlink()):
        return
    if path.is_file():
        data = path.read_bytes()
        if any(mark in data for mark in marks):
            return
    raise UserInputError(
        paragraph(
            f"{path} is there already and is not {kind} that this command made, so it was not written over.",
            expected=f"a new file, or {kind} of an earlier call",
            got="a file of another kind" if path.is_file() else "a folder, a device or a link to nothing",
            fix="Choose another name, or remove the file if you do not need it.",
        )
    )


def withdraw(path: Path) -> None:
    """Remove a file, if it is there, so that no crash brings it back: for reports that are about to become untrue.

    Raises :class:`FerError` when the disk refuses.
    """
    try:
        path.unlink(missing_ok=True)
        if path.parent.is_dir():
            _fsync(path.parent)
    except OSError as error:
        raise _refused("remove", path, error) from error


def _make_new(path: Path) -> None:
    """Make an empty file that nobody else has: never one that a link of the same name points to."""
    path.unlink(missing_ok=True)
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))


def _concerns(error: OSError, path: Path, temporary: Path) -> bool:
    """Return whether an error is about the file being written, not about one that is read meanwhile."""
    named = error.filename
    return not isinstance(named, (str, bytes)) or Path(os.fsdecode(named)) in (path, temporary, *path.parents)


@contextlib.contextmanager
def flushing(path: Path) -> Iterator[None]:
    """Send a finished file to the disk while something else is done; what the disk refuses is raised at the end."""
    with ThreadPoolExecutor(1, thread_name_prefix="aupipe-flush") as pool:
        flushed = pool.submit(_fsync, path)
        yield
        flushed.result()


@contextlib.contextmanager
def steady_file(path: Path) -> Iterator[io.FileIO]:
    """Open a new file for a library that cannot bear a failing write: the first error is raised at the end.

    HDF5 cannot close a file whose writes fail (disk full): it raises RuntimeError, prints, and may crash the process
    when it ends. Give it this file (``h5py.File(file, "w")``): it always sees success.
    """
    with _SteadyFile(path, "w+") as file:
        try:
            yield file
        finally:
            if file.error is not None:
                raise file.error


class _SteadyFile(io.FileIO):
    error: OSError | None = None

    def write(self, data: Any, /) -> int:
        left = memoryview(data).cast("B")
        size = len(left)
        while self.error is None and len(left):
            try:
                left = left[super().write(left) :]
            except OSError as error:
                self.error = error
        return size

    def truncate(self, size: int | None = None, /) -> int:
        try:
            return super().truncate(size)
        except OSError as error:
            self.error = self.error or error
            return size or 0


def write_bytes(path: Path, data: bytes) -> Path:
    """Write a file atomically; returns ``path``."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)
    return path


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically; bytes of file names that are no text are escaped."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def json_bytes(value: Any) -> bytes:
    """Encode readable, sorted JSON without NaN; bytes of file names that are no text become JSON's escapes."""
    text = json.dumps(value, sort_keys=True, indent=1, allow_nan=False, ensure_ascii=False)
    return f"{text}\n".encode("utf-8", "backslashreplace")


def write_json(path: Path, value: Any) -> None:
    """Write readable, sorted JSON atomically."""
    write_bytes(path, json_bytes(value))


def file_name(name: str) -> str:
    """Turn any name, such as a sample's id, into a relative path that every file system takes.

    Names that differ give paths that differ, and none is a folder of another; harmless ones stay as they are.

    >>> file_name("test/b.jpg.face1"), file_name("../b.jpg")
    ('test/b.jpg.face1', 'b.jpg~4a436290636bc4f2')
    """
    *folders, last = parts = name.split("/")
    odd = any(_ODD.search(part) or len(part.encode("utf-8", "surrogatepass")) > _LONGEST for part in parts)
    if not odd and len(parts) <= _DEEPEST and not any(part.endswith((".png", ".json")) for part in folders):
        return name
    readable = "".join(re.findall(r"[\w.-]", last, re.ASCII))[-40:].lstrip(".")
    return f"{readable}~{sha256_bytes(name.encode('utf-8', 'surrogatepass'))[:16]}"


def remove_temporaries(folder: Path) -> None:
    """Delete what interrupted calls of :func:`atomic_path` left behind in ``folder`` and below.

    What a living process writes stays, and files of other names too.
    """
    for leftover in folder.rglob(".*.tmp"):
        named = re.fullmatch(r"\..+\.(\d{1,9})\.tmp", leftover.name, re.DOTALL)
        if named and not _is_alive(int(named[1])):
            with contextlib.suppress(OSError):  # somebody else's, or gone by now
                leftover.unlink()


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is another user's
        return True
    return True


def _refused(what: str, path: Path, error: OSError) -> FerError:
    return FerError(
        paragraph(
            f"Could not {what} {path}: {error.strerror or error}.",
            fix="What was already written is intact: free some space or mend the folder's permissions, then run "
            "the same command again.",
        )
    )


def _fsync(path: Path) -> None:
    """Send a file or a folder to the disk; some file systems (CIFS, drvfs) cannot do it for folders."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not (error.errno == errno.EINVAL and path.is_dir()):
            raise
    finally:
        os.close(descriptor)
