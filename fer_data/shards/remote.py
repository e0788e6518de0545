"""Stores at a URL: copied shard by shard into the cache on first use, checked on arrival, then read as a folder.

``https://``, ``s3://``, ``gs://``, ``file://``, ``memory://`` and whatever else fsspec has a driver for. HTTP needs
none. ``URL#sha256=DIGEST`` names one content: a store of another digest is refused, and once it is in the cache nothing
is asked of the network. ``https://NAME:PASSWORD@host/store`` sends them as HTTP's basic authentication; they and what
stands after a question mark are never shown.

A server is not trusted: nothing is kept beyond the bytes that the index states, and one that sends too slowly is given
up.
"""

from __future__ import annotations

import base64
import contextlib
import re
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from aupipe.fer_data.cache import Cache, cache_folder, cache_limit, exclusive
from aupipe.fer_data.errors import StoreError, UserInputError, paragraph, without_secrets
from aupipe.fer_data.files import atomic_path, sha256_bytes, sha256_file, write_text
from aupipe.fer_data.shards.index import INDEX_NAME, StoreIndex, load_index
from aupipe.fer_data.typed import MOST_BYTES
from aupipe.fer_data.types import Progress, Silent

_URL = re.compile(r"[a-z][a-z0-9+.:-]*://", re.IGNORECASE)
_PIN = re.compile(r"sha256=([0-9a-f]{64})", re.IGNORECASE)
_BLOCK = 1 << 20
_TIMEOUT = 60
_PATIENCE = 120
"""Seconds that a file may take beyond what it takes at ``_SLOWEST``."""
_SLOWEST = 10_000
"""Bytes a second, on average, below which a transfer is given up."""
_SIDE_FILE = 2**28
"""Longest file of which the index does not state the length: failures.csv of some million samples."""
_caches: dict[Path, Cache] = {}


class UnreachableError(StoreError):
    """The place of a remote store does not answer; a copy in the cache still serves."""


def is_url(place: str | Path) -> bool:
    """Tell whether ``place`` names a remote store.

    >>> is_url("s3://bucket/store"), is_url("work/store")
    (True, False)
    """
    return isinstance(place, str) and _URL.match(place) is not None


def local_store(place: str | Path, progress: Progress | None = None, *, repair: bool = False) -> Path:
    """Find the folder of a store: ``place`` itself, or for a URL its copy in the cache, made or completed first.

    The copy is ``CACHE/stores/DIGEST``. It stays in use, and is not evicted, until this process ends. The remote index
    is read on every call, so a store that was built anew is copied anew; when the place does not answer, the copy that
    was last used for this URL serves. Any number of processes may call this at once: one copies, the others wait.
    When a copy fails, what has arrived is kept, and the next call continues there.

    Args:
        place: A folder or a URL, which may end in ``#sha256=`` and the digest of its index.
        progress: Hears of what is copied.
        repair: Check every byte of the copy, fetch again what is damaged and remove what does not belong to it.

    Raises:
        StoreError: The store cannot be had, or a file arrives damaged twice.
        FerError: The disk refuses.
    """
    if not is_url(place):
        return Path(place)
    progress = progress or Silent()
    found = _find(str(place), progress, repair=repair)
    if not found.text:
        return found.folder
    cache, digest = found.cache, found.index.digest
    path = cache.hold(digest)
    with exclusive(cache.folder / f"{digest}.copying"):
        if repair or _complete(cache, digest) is None:
            _copy(found.url, path, found.text, found.index, cache, progress)
        memo = _memo(cache, found.url)
        if not memo.is_file() or memo.read_text().strip() != digest:
            write_text(memo, digest + "\n")
    return path


def index_of(place: str | Path) -> tuple[Path, StoreIndex]:
    """Read the index of a store; of a remote one no other file is asked for.

    Args:
        place: A folder or a URL, as for :func:`local_store`.

    Returns:
        The folder that :func:`local_store` returns for this place, where a remote store's files may not be yet, and the
        index.

    Raises:
        StoreError: There is no such store.
    """
    if not is_url(place):
        return Path(place), load_index(Path(place))
    found = _find(str(place), Silent(), repair=False)
    return found.folder, found.index


def pinned(url: str, digest: str) -> str:
    """Return the URL that names this one content of a remote store, without secrets."""
    return f"{without_secrets(url).partition('#')[0]}#sha256={digest}"


def is_copy(folder: Path) -> bool:
    """Tell whether a folder is the copy of a remote store in the cache."""
    return folder.resolve().parent == (cache_folder() / "stores").resolve()


@dataclass(frozen=True)
class _Found:
    """A remote store that was looked for: its index, and ``text``, the index's bytes where it came from there now."""

    url: str
    cache: Cache
    index: StoreIndex
    text: bytes = b""

    @property
    def folder(self) -> Path:
        """Folder of its copy."""
        return self.cache.folder / self.index.digest


def _find(place: str, progress: Progress, *, repair: bool) -> _Found:
    """Find the index of a remote store: a pinned one in the cache, else at the URL, else the one known last."""
    url, pin = _split_pin(place)
    cache = _caches.setdefault(folder := cache_folder() / "stores", Cache(folder))
    if pin is not None and not repair and (index := _complete(cache, pin)) is not None:
        return _Found(url, cache, index)
    try:
        text, index = _remote_index(url)
    except UnreachableError as error:
        memo = _memo(cache, url)
        known = pin or (memo.read_text().strip() if memo.is_file() else None)
        if repair or known is None or (index := _complete(cache, known)) is None:
            raise
        progress.note(f"{error} The copy in the cache is used.")
        return _Found(url, cache, index)
    if pin is not None and index.digest != pin:
        raise StoreError(
            paragraph("The remote store is not the one that was asked for.", where=url, expected=pin,
                      got=index.digest, fix="Leave out #sha256=... to take what is there now.")
        )  # fmt: skip
    return _Found(url, cache, index, text)


def _memo(cache: Cache, url: str) -> Path:
    """Return the file that keeps which content a URL had last."""
    return cache.folder / f"{sha256_bytes(url.encode())[:32]}.url"


def _split_pin(place: str) -> tuple[str, str | None]:
    url, mark, fragment = place.partition("#")
    match = _PIN.fullmatch(fragment)
    if mark and match is None:
        raise UserInputError(
            paragraph(
                f"{place} ends in a mark that is not a digest.",
                expected="URL#sha256= and the 64 digits that `aupipe inspect` shows as the store's digest",
            )
        )
    return url.rstrip("/"), match[1].lower() if match else None


def _complete(cache: Cache, digest: str) -> StoreIndex | None:
    """The index of a finished copy, held; None when there is none. Checks sizes, as every reader does."""
    path = cache.folder / digest
    if not (path / INDEX_NAME).is_file():
        return None
    cache.hold(digest)
    try:
        index = load_index(path)
    except StoreError:
        return None
    sizes = {entry.name: entry.bytes for entry in index.shards}
    present = all((path / name).is_file() for name in index.files)
    present = present and all((path / n).is_file() and (path / n).stat().st_size == size for n, size in sizes.items())
    return index if present and index.digest == digest else None


def _copy(url: str, path: Path, text: bytes, index: StoreIndex, cache: Cache, progress: Progress) -> None:
    """Complete a held copy; the index goes last, as in every store."""
    size = sum(entry.bytes for entry in index.shards) + len(text)
    for gone in cache.make_room(index.digest, size, cache_limit()):
        progress.note(f"The cached store {gone[:16]} made room: it was used the longest time ago.")
    path.mkdir(exist_ok=True)
    expected: dict[str, tuple[str, int | None]] = {name: (sha256, None) for name, sha256 in index.files.items()}
    expected |= {entry.name: (entry.sha256, entry.bytes) for entry in index.shards}
    for stray in path.iterdir():
        if stray.name not in expected and stray.name != INDEX_NAME and stray.is_file():
            stray.unlink()
    progress.start(f"copying {without_secrets(url)}", size // 10**6, "MB")
    done = 0
    try:
        for name, (sha256, length) in sorted(expected.items()):
            if not _is_file(path / name, sha256, length):
                _fetch(url, name, path / name, sha256, length)
            previous, done = done, done + (length or 0)
            progress.advance(done // 10**6 - previous // 10**6)
    finally:
        progress.finish()
    with atomic_path(path / INDEX_NAME) as temporary:
        temporary.write_bytes(text)


def _is_file(path: Path, sha256: str, length: int | None) -> bool:
    return path.is_file() and length in (None, path.stat().st_size) and sha256_file(path) == sha256


def _fetch(url: str, name: str, path: Path, sha256: str, length: int | None, *, again: bool = True) -> None:
    """Fetch one file under a temporary name and check it; a damaged or broken-off one is asked for once more."""
    got = ""
    with contextlib.suppress(_DamagedError), atomic_path(path) as temporary:
        try:
            with temporary.open("wb") as target, contextlib.closing(_blocks(url, name)) as blocks:
                for block in blocks:
                    target.write(block)
                    if target.tell() > (_SIDE_FILE if length is None else length):
                        got = f"more than {_SIDE_FILE if length is None else length} bytes"
                        raise _DamagedError
        except UnreachableError as error:
            got = str(error)
            raise _DamagedError from error
        if _is_file(temporary, sha256, length):
            return
        got = f"{temporary.stat().st_size} bytes, SHA-256 {sha256_file(temporary)}"
        raise _DamagedError
    if again:
        return _fetch(url, name, path, sha256, length, again=False)
    raise StoreError(
        paragraph(
            f"{name} of a remote store did not arrive as its index describes it, twice.",
            where=f"{url}/{name}",
            expected=f"{length} bytes, SHA-256 {sha256}" if length is not None else f"SHA-256 {sha256}",
            got=got,
            fix="What has arrived is kept: run the same command again to continue. If it stays so, the store at that "
            "place is damaged: run `aupipe verify` where it was built and upload it again.",
        )
    )


class _DamagedError(Exception):
    pass


def _remote_index(url: str, *, again: bool = True) -> tuple[bytes, StoreIndex]:
    """The index's bytes and content, checked; a damaged one is asked for once more."""
    text = b""
    with contextlib.closing(_blocks(url, INDEX_NAME)) as blocks:
        for block in blocks:
            text += block
            if len(text) > MOST_BYTES:
                raise StoreError(
                    paragraph("The index of the remote store is too long to be one.", where=url,
                              expected=f"at most {MOST_BYTES:,} bytes", fix="Check the URL.")
                )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / INDEX_NAME).write_bytes(text)
        try:
            index = load_index(Path(folder))
        except StoreError as error:
            if again:
                return _remote_index(url, again=False)
            raise type(error)(str(error).replace(folder, without_secrets(url))) from error
    return text, index


def _blocks(url: str, name: str) -> Generator[bytes]:
    """The blocks of a remote file.

    Raises :class:`StoreError` when there is none, :class:`UnreachableError` for what may be better next time.
    """
    opener = _open_http if url.lower().startswith(("http://", "https://")) else _open_fsspec
    try:
        with opener(url, name) as stream:
            read = getattr(stream, "read1", stream.read)  # read1 returns what has come: a trickle is noticed
            begun, received = time.monotonic(), 0
            while block := read(_BLOCK):
                received += len(block)
                if time.monotonic() - begun > _PATIENCE + received / _SLOWEST:
                    raise TimeoutError(f"{name} comes too slowly: {received} bytes so far")
                yield block
    except StoreError:
        raise
    except (FileNotFoundError, PermissionError) as error:
        raise StoreError(
            paragraph(
                f"There is no readable {name} at the URL.",
                where=url,
                got=error,
                fix="Check the URL, which names the folder that holds index.json, and the credentials.",
            )
        ) from error
    except Exception as error:  # every driver has its own
        raise UnreachableError(
            paragraph(f"{url} does not answer as it should.", got=f"{type(error).__name__}: {error}")
        ) from error


@contextlib.contextmanager
def _open_http(url: str, name: str) -> Iterator[IO[bytes]]:
    place = urllib.parse.urlsplit(url)
    user, host = place.netloc.rpartition("@")[::2]
    path = urllib.parse.quote(f"{place.path.rstrip('/')}/{name}", safe="/%:@!$&'()*+,;=~")  # as people may write it
    address = place._replace(netloc=host, path=path).geturl()
    request = urllib.request.Request(address, headers={"User-Agent": "aupipe"})
    if user:  # not sent on to where the server redirects
        token = base64.b64encode(urllib.parse.unquote(user).encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {token}")
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in (401, 403):
            raise PermissionError(str(error)) from error
        if error.code in (404, 410):
            raise FileNotFoundError(str(error)) from error
        raise
    with response:
        yield response


@contextlib.contextmanager
def _open_fsspec(url: str, name: str) -> Iterator[IO[bytes]]:
    import fsspec

    try:
        files, root = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise StoreError(
            paragraph(
                f"No driver can open {url}.",
                got=error,
                fix="Install the one that fsspec names (s3:// pip install s3fs, gs:// pip install gcsfs).",
            )
        ) from error
    with files.open(f"{root.rstrip('/')}/{name}", "rb") as file:
        yield file
