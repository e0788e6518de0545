"""Listed files: those that exist, and those that hold the same bytes."""

from __future__ import annotations

import os
import stat
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from aupipe.fer_data.files import sha256_file


def file_sizes(root: Path, paths: Iterable[str]) -> tuple[dict[str, int], dict[str, str]]:
    """Look up the sizes of listed files.

    Returns:
        Sizes in bytes of the usable files, and the reasons why the others are not usable; both by path.
    """
    sizes, faults = dict[str, int](), dict[str, str]()
    for path in dict.fromkeys(paths):
        try:
            status = os.stat(root / path)  # noqa: PTH116 - half the cost of Path.stat on 300,000 files
        except (OSError, ValueError) as error:
            absent = isinstance(error, FileNotFoundError | NotADirectoryError)
            faults[path] = "no such file" if absent else f"cannot be read: {error}"
            continue
        if not stat.S_ISREG(status.st_mode):
            faults[path] = "is not a file"
        elif status.st_size == 0:
            faults[path] = "the file is empty"
        else:
            sizes[path] = status.st_size
    return sizes, faults


def content_keys(root: Path, sizes: dict[str, int]) -> dict[str, str]:
    """Return a key per path, equal for byte-identical files. Only files that share their size are read."""
    by_size = defaultdict[int, list[str]](list)
    for path, size in sizes.items():
        by_size[size].append(path)
    keys = dict[str, str]()
    for paths in by_size.values():
        for path in paths:
            keys[path] = f"path {path}" if len(paths) == 1 else _hash(root, path)
    return keys


def _hash(root: Path, path: str) -> str:
    try:
        return f"sha256 {sha256_file(root / path)}"
    except OSError:
        # The landmark stage reports a file that cannot be opened; it equals no other.
        return f"path {path}"
