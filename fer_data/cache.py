"""The folder of copies from elsewhere: those in use, the limit of their size, the order in which they go.

An entry is a folder ``NAME`` beside a file ``NAME.use``. That file's lock says that a process uses the entry, its
content how many bytes the entry may take, its time when it was used last.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from aupipe.fer_data.errors import StoreError, UserInputError, paragraph
from aupipe.fer_data.folders import NO_LOCKS

DEFAULT_LIMIT = 50 * 10**9
_USE = ".use"


def user_cache_folder() -> Path:
    """Find the user's cache: ``$XDG_CACHE_HOME/aupipe``, by default ``~/.cache/aupipe``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "aupipe"


def cache_folder() -> Path:
    """Find the folder for copies of stores: ``AUPIPE_CACHE``, or else the user's cache."""
    named = os.environ.get("AUPIPE_CACHE")
    return Path(named) if named else user_cache_folder()


def cache_limit() -> int:
    """Read how many bytes all copies together may take: ``AUPIPE_CACHE_BYTES``, by default 50 GB.

    Accepts ``8e9`` and ``8GB`` as well. Raises :class:`UserInputError`.
    """
    text = os.environ.get("AUPIPE_CACHE_BYTES", "").strip()
    if not text:
        return DEFAULT_LIMIT
    match = re.fullmatch(r"(\d+(?:\.\d*)?(?:e\d+)?)\s*([kmgt]?)b?", text.lower())
    if match is None:
        raise UserInputError(
            paragraph("AUPIPE_CACHE_BYTES is not a size.", expected="a number of bytes, such as 20GB", got=text)
        )
    return int(min(float(match[1]), 1e30) * 1000 ** " kmgt".index(match[2] or " "))


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold ``path`` as a lock, waiting for the process that holds it."""
    with path.open("w") as file:
        _lock(file.fileno(), fcntl.LOCK_EX, path)
        yield


def _lock(descriptor: int, operation: int, path: Path) -> None:
    """Lock a file. Raises :class:`StoreError` on a disk without locks, where copies in use could be removed."""
    try:
        fcntl.flock(descriptor, operation)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        raise StoreError(
            paragraph(
                "The disk of the cache has no locks, by which several processes share it.",
                where=path.parent,
                got=error.strerror,
                fix="Set AUPIPE_CACHE to a folder on a local disk.",
            )
        ) from error


class Cache:
    """The entries of one folder.

    Several processes may use it at once; what any of them holds is never removed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._held: dict[str, int] = {}  # descriptors, which the system closes when the process ends

    def hold(self, name: str) -> Path:
        """Return the folder of an entry, which stays in use until this process ends."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{name}{_USE}"
        if name not in self._held:
            self._held[name] = _locked(path)
        os.utime(path)
        return self.folder / name

    def make_room(self, name: str, size: int, limit: int) -> list[str]:
        """Reserve room for a held entry; the least recently used others go.

        Args:
            name: The entry.
            size: Its bytes.
            limit: Bytes that all entries together may take.

        Returns:
            The names of the entries that had to go, in order.

        Raises:
            StoreError: The limit cannot be kept: nothing is removed then.
        """
        with exclusive(self.folder / ".room"):
            reserved = {path.name.removesuffix(_USE): _reserved(path) for path in self.folder.glob(f"*{_USE}")}
            reserved[name] = size
            with contextlib.ExitStack() as locks:
                removable = self._unused(reserved, locks)
                chosen: list[str] = []
                while sum(reserved.values()) > limit and removable:
                    chosen.append(removable.pop(0))
                    del reserved[chosen[-1]]
                if sum(reserved.values()) > limit:
                    raise StoreError(self._no_room(size, sum(reserved.values()) - size, limit))
                self._remove(chosen)
            (self.folder / f"{name}{_USE}").write_text(str(size))
        return chosen

    def _unused(self, names: dict[str, int], locks: contextlib.ExitStack) -> list[str]:
        """Entries that no process uses, the longest unused first; they stay locked for us."""
        unused = []
        for name in names:
            file = locks.enter_context((self.folder / f"{name}{_USE}").open("r+"))
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                unused.append((os.fstat(file.fileno()).st_mtime_ns, name))
        return [name for _, name in sorted(unused)]

    def _remove(self, names: list[str]) -> None:
        for name in names:
            # Renamed first: an entry whose removal is cut short is never taken for a whole one.
            with contextlib.suppress(FileNotFoundError):
                (self.folder / name).replace(self.folder / f".{name}.leaving")
            (self.folder / f"{name}{_USE}").unlink()
        for leaving in self.folder.glob(".*.leaving"):
            shutil.rmtree(leaving, ignore_errors=True)

    def _no_room(self, size: int, others: int, limit: int) -> str:
        return paragraph(
            "The store does not fit into the cache.",
            where=self.folder,
            expected=f"at most {limit / 1e9:.3g} GB (AUPIPE_CACHE_BYTES)",
            got=f"{size / 1e9:.3g} GB" + (f" beside {others / 1e9:.3g} GB that are in use" if others else ""),
            fix="Set AUPIPE_CACHE_BYTES to more, set AUPIPE_CACHE to a larger disk, or copy the store to a folder and "
            "name that.",
        )


def _locked(path: Path) -> int:
    """A shared lock on the file that is at ``path`` once the lock is ours: an evicted entry's file goes away."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        _lock(descriptor, fcntl.LOCK_SH, path)
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_ino == os.fstat(descriptor).st_ino:
                return descriptor
        os.close(descriptor)


def _reserved(path: Path) -> int:
    with contextlib.suppress(OSError, ValueError):
        return int(path.read_text())
    return 0
