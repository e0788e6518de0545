"""Whether this machine sees a folder: one that does not would take every photo in it for missing."""

from __future__ import annotations

import socket
from pathlib import Path

from aupipe.fer_data.errors import UserInputError, paragraph

IMAGES = "The folder of the images"


def check_seen(what: str, folder: Path) -> None:
    """Raise :class:`UserInputError` where a folder is not there; ``what`` names it."""
    if not folder.is_dir():
        raise UserInputError(
            paragraph(
                f"{what} is not there.",
                where=f"{folder} on {socket.gethostname()}",
                fix="Mount it, or build the manifest again if it moved. The workers of a cluster must see it under the "
                "same path.",
            )
        )
