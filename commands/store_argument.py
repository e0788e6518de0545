"""The STORE argument: a folder, or the URL of one, which is copied into the cache before the command starts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from aupipe.commands.console import Bar


class StorePlace(click.ParamType[Path]):
    """The type of a store argument: what the user typed becomes the path of a folder (or shard) on this machine."""

    name = "store"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the local path. Raises :class:`StoreError` when a URL's store cannot be had."""
        place = PLACE.convert(value, param, ctx)
        if isinstance(place, Path):
            return place
        from aupipe.fer_data.shards.remote import local_store

        return local_store(place, Bar())


class AnyPlace(click.ParamType[Path | str]):
    """The type of a store argument whose store is opened by the command itself, after all options were checked."""

    name = "store"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path | str:
        """Return a path, or a URL as it is."""
        return Path(value) if isinstance(value, os.PathLike) or "://" not in value else str(value)


PLACE = AnyPlace()
STORE = StorePlace()
