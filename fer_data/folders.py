"""Output folders: each belongs to one kind of result, and to one process at a time.

A folder is claimed by its ``.lock`` file, which holds the name of what is made there. Other people's files are never
overwritten: a folder that holds something else is refused before anything is written, links are not followed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from aupipe.fer_data.errors import FerWarning, FolderInUseError, UserInputError, paragraph
from aupipe.fer_data.files import remove_temporaries

LOCK_NAME = ".lock"
SYSTEM_FILES = frozenset({LOCK_NAME, ".DS_Store", "Thumbs.db", "desktop.ini", "lost+found"})
"""Names that do not make a folder somebody's; see :func:`is_system_file`."""

NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL})
"""What file systems without locks answer: NFS without its lock service, Lustre without flock, some FUSE."""


_SAID = 64
"""Most bytes that are read of a lock."""


class NoLocksWarning(FerWarning):
    """The file system knows no locks: nothing keeps two processes apart."""


@dataclass(frozen=True)
class FolderKind:
    """What a folder is for.

    Attributes:
        name: One word, kept in the folder's ``.lock``.
        command: The command that makes such a folder.
        signs: Patterns of files of which one tells this kind, for folders whose ``.lock`` was not copied with them.
    """

    name: str
    command: str
    signs: tuple[str, ...]

    def made(self, folder: Path) -> bool:
        """Return whether what lies in ``folder`` is of this kind."""
        return any(path for sign in self.signs for path in folder.glob(sign))


LANDMARKS = FolderKind("landmarks", "aupipe landmarks", ("landmarks.json", "landmarks/part-*.h5"))
STORE = FolderKind("store", "aupipe build-maps", ("index.json", "*-[0-9][0-9][0-9][0-9][0-9].h5"))
RUN = FolderKind("run", "aupipe train", ("config.json", "last.pt"))
GRID = FolderKind("benchmark", "aupipe benchmark", ("results.csv", "runs/*/config.json", "runs/*/last.pt"))
COMPARISON = FolderKind("comparison", "aupipe compare", ("comparison.json",))
STUDY = FolderKind("study", "aupipe study", ("runs/*-fold1/config.json",))
EXPLANATION = FolderKind("explanation", "aupipe explain", ("explain.json",))
EXPORT = FolderKind("export", "aupipe export", ("export.json",))
AGREEMENT = FolderKind("agreement", "aupipe landmarks-agreement", ("agreement.json",))
KINDS = (LANDMARKS, STORE, RUN, GRID, COMPARISON, STUDY, EXPLANATION, EXPORT, AGREEMENT)


@contextlib.contextmanager
def output_folder(folder: Path, kind: FolderKind) -> Iterator[None]:
    """Hold ``folder`` for this process and this kind of result; the lock goes with the process, however it ends.

    Temporary files that a killed process left in it are removed.

    A file system without locks is used without one, with a :class:`NoLocksWarning`.

    Args:
        folder: Made where it does not exist.
        kind: What will be written to it.

    Raises:
        FolderInUseError: Another process holds it.
        UserInputError: It holds another kind of result, or files that are not ours.
    """
    check_output(folder, kind)
    folder.mkdir(parents=True, exist_ok=True)
    with _open_lock(folder) as lock:
        _hold(lock, folder)
        _claim(lock, folder, kind)
        remove_temporaries(folder)
        yield


def check_output(folder: Path, kind: FolderKind) -> None:
    """Refuse a folder for which :func:`output_folder` would raise :class:`UserInputError`; nothing is written."""
    if folder.is_dir():
        _refuse_other_files(folder, kind)
        lock = folder / LOCK_NAME
        if lock.is_file() and not lock.is_symlink():
            with lock.open("rb") as file:
                _refuse_other_kind(_said(file.read(_SAID)), folder, kind)


def _refuse_other_files(folder: Path, kind: FolderKind) -> None:
    """Refuse a folder without ``.lock`` that holds anything but this kind's own files."""
    if (folder / LOCK_NAME).exists() or kind.made(folder):
        return
    others = sorted(path.name for path in folder.iterdir() if not _is_nobodys(path.name))
    if others:
        _refuse(folder, kind, ", ".join(others[:4]) + (f" and {len(others) - 4} more" if len(others) > 4 else ""))


def is_system_file(name: str) -> bool:
    """Tell whether a system or a lock made a file of this name; ``._NAME`` are macOS's, on disks of other systems."""
    return name in SYSTEM_FILES or name.startswith("._")


def _is_nobodys(name: str) -> bool:
    """Return whether a name is a system's, or the temporary of a write that was interrupted."""
    return is_system_file(name) or (name.startswith(".") and name.endswith(".tmp"))


@contextlib.contextmanager
def _open_lock(folder: Path) -> Iterator[int]:
    """Open the lock without following a link and without touching what is in it."""
    path = folder / LOCK_NAME
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        lock = os.open(path, flags, 0o666)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise
        raise UserInputError(_not_a_lock(path)) from error
    try:
        if not stat.S_ISREG(os.fstat(lock).st_mode):
            raise UserInputError(_not_a_lock(path))
        yield lock
    finally:
        os.close(lock)


def _hold(lock: int, folder: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise FolderInUseError(
            paragraph(
                f"The folder {folder} is in use: another aupipe process is writing to it.",
                fix="Wait for it to end, or choose another --out.",
            )
        ) from error
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        message = f"The file system of {folder} has no locks: do not run two commands on one folder at once."
        warnings.warn(message, NoLocksWarning, stacklevel=4)


def _claim(lock: int, folder: Path, kind: FolderKind) -> None:
    """Write the kind into a new lock; refuse one that names another kind."""
    said = _said(os.pread(lock, _SAID, 0))
    if not said:
        os.pwrite(lock, f"{kind.name}\n".encode(), 0)
    _refuse_other_kind(said, folder, kind)


def _said(data: bytes) -> str:
    return data.decode("utf-8", "replace").strip()


def _refuse_other_kind(said: str, folder: Path, kind: FolderKind) -> None:
    """Refuse a folder whose lock names another kind, whose files lie in it or this kind's do not."""
    found = next((other for other in KINDS if other.name == said), None)
    if said not in ("", kind.name) and ((found is not None and found.made(folder)) or not kind.made(folder)):
        _refuse(folder, kind, f"what `{found.command}` made" if found else f"a {LOCK_NAME} file that is not ours")


def _refuse(folder: Path, kind: FolderKind, got: str) -> None:
    raise UserInputError(
        paragraph(
            f"The folder {folder} holds something else, so nothing was written to it.",
            expected=f"a new or an empty folder, or one that `{kind.command}` made",
            got=got,
            fix="Choose another --out.",
        )
    )


def _not_a_lock(path: Path) -> str:
    return paragraph(
        f"{path} is not a plain file, so the folder cannot be locked.",
        expected="no such file, or the one an earlier run made",
        got="a link, a folder or a device",
        fix="Remove it if you know it, or choose another --out.",
    )
