"""Commands with a fault each, to be found out by the judge of the attacks: they read ``m.csv``."""

from __future__ import annotations

import os
import time
from pathlib import Path

from aupipe.fer_data.errors import UserInputError


def _sound(path: str) -> bool:
    return Path(path).read_bytes() == Path("work/manifest.csv").read_bytes()


def careful(path: str) -> str:
    if not _sound(path):
        raise UserInputError("The file is damaged.")
    return "result"


def robust(path: str) -> str:
    return "result"


def believing(path: str) -> str:
    return "result" if _sound(path) else "another result"


def writing(path: str) -> str:
    Path("new.txt").write_bytes(Path(path).read_bytes())
    return "result"


def crude(path: str) -> str:
    if not _sound(path):
        raise KeyError(path)
    return "result"


def wordy(path: str) -> str:
    if not _sound(path):
        raise UserInputError("One line.\nAnother line.")
    return "result"


def destructive(path: str) -> str:
    if not _sound(path):
        Path("two.csv").unlink()
        raise UserInputError("The file is damaged.")
    return "result"


def crashing(path: str) -> str:
    if not _sound(path):
        os.abort()
    return "result"


def endless(path: str) -> str:
    while not _sound(path):
        time.sleep(0.1)
    return "result"
