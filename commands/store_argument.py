"""The STORE argument: a folder, or the URL of one, which the command copies into the cache once it needs its rows."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click


class AnyPlace(click.ParamType[Path | str]):
    """The type of a store argument. The store is opened by the command itself, after all options were checked."""

    name = "store"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path | str:
        """Return a path, or a URL as it is."""
        return Path(value) if isinstance(value, os.PathLike) or "://" not in value else str(value)


PLACE = AnyPlace()
