"""Whether this machine sees a folder: one that does not would take every photo in it for missing."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from aupipe.fer_data.errors import UserInputError, paragraph
from aupipe.fer_data.folders import is_system_file


def is_seen(images: Path) -> bool:
    """Tell whether the folder is there and holds anything: a disk that is not mounted often leaves an empty one.

    One that may be entered and not listed counts as there.
    """
    try:
        with os.scandir(images) as entries:
            return any(not is_system_file(entry.name) for entry in entries)
    except PermissionError:
        return os.access(images, os.X_OK)
    except OSError:
        return False


def check_images(folder: Path) -> None:
    """Raise :class:`UserInputError` where the folder of the images is not there, or is empty."""
    if not is_seen(folder):
        raise _unseen("The folder of the images", "empty or closed" if folder.is_dir() else "not there", folder)


def check_work(folder: Path) -> None:
    """Raise :class:`UserInputError` where the work folder is not there."""
    if not folder.is_dir():
        raise _unseen("The work folder", "not there", folder)


def _unseen(what: str, how: str, folder: Path) -> UserInputError:
    return UserInputError(
        paragraph(
            f"{what} is {how}.",
            where=f"{folder} on {socket.gethostname()}",
            fix="Mount it, or build the manifest again if it moved. The workers of a cluster must see it under the "
            "same path.",
        )
    )
