"""Samples that an earlier run found unusable: left out of the plan at once, so that intact shards stay."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from aupipe.fer_data.files import sha256_bytes
from aupipe.fer_data.shards import StoreIndex
from aupipe.fer_data.types import Failure
from aupipe.pipeline.maps.plan import Members
from aupipe.pipeline.maps.tasks import MapConfig, crop_member
from aupipe.pipeline.report import FAILURES_NAME


def failures_still_there(store: Path, members: Members, root: Path, config: MapConfig) -> list[Failure]:
    """Members that STORE's ``failures.csv`` names, and that cannot be used now either.

    Only a hint is taken from the file: each sample is tried again.
    """
    path = store / FAILURES_NAME
    named = {failure.sample_id for failure in _parse(path.read_bytes())} if path.is_file() else set()
    again = {split: [member for member in rows if member.sample_id in named] for split, rows in members.items()}
    return failures_found_anew(again, root, config)


def failures_as_recorded(store: Path, index: StoreIndex, members: Members) -> list[Failure] | None:
    """Members that a finished store left out, in its own words; None when its ``failures.csv`` is not as it was."""
    path = store / FAILURES_NAME
    data = path.read_bytes() if path.is_file() else b""
    if sha256_bytes(data) != index.files.get(FAILURES_NAME):
        return None
    planned = {member.sample_id for rows in members.values() for member in rows}
    return [failure for failure in _parse(data) if failure.sample_id in planned]


def failures_found_anew(members: Members, root: Path, config: MapConfig) -> list[Failure]:
    """Every member that cannot be used now: reads every photo."""
    found = (crop_member(member, root, config) for rows in members.values() for member in rows)
    return [outcome for outcome in found if isinstance(outcome, Failure)]


def _parse(data: bytes) -> list[Failure]:
    rows = csv.DictReader(io.StringIO(data.decode(errors="replace")))
    names = ("sample_id", "path", "reason", "detail")
    return [Failure(*(row[name] or "" for name in names)) for row in rows if all(name in row for name in names)]
