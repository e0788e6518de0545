"""Repairing a store: the options it was built with, and the refusal of all that would make it another one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aupipe.fer_data.au_maps.codebook import load_codebook
from aupipe.fer_data.errors import StoreError, paragraph
from aupipe.fer_data.files import canonical_json
from aupipe.fer_data.shards import load_index
from aupipe.fer_data.shards.shard_file import ShardNotes, read_notes
from aupipe.fer_data.types import Failure
from aupipe.pipeline.maps.plan import StorePlan
from aupipe.pipeline.maps.tasks import MapConfig


def stated_config(store: Path, codebook: str | None = None) -> MapConfig:
    """Read the options a store was built with: from its index, or where that is damaged from a shard that can be read.

    Args:
        store: The store's folder.
        codebook: A shard names its codebook but does not hold it: the name or file to use instead of that name.

    Raises:
        StoreError: Neither is left, or the codebook is another one.
    """
    try:
        index = load_index(store)
    except StoreError as damage:
        notes = next(iter(shard_notes(store).values()), None)
        if notes is None:
            raise StoreError(
                paragraph(
                    "The store says nowhere how it was built: neither its index nor any shard can be read.",
                    where=store,
                    got=str(damage),
                    fix="Run `aupipe build-maps WORK --out` with this folder and the options of that time.",
                )
            ) from damage
        return _config_of(notes, store, codebook)
    try:
        return MapConfig.from_json(index.config, dict(index.codebook))
    except (KeyError, TypeError) as error:
        raise StoreError(
            paragraph(
                "The store was built by an older version, or by another program, and cannot be repaired.",
                where=store,
                got=f"options {canonical_json(dict(index.config))}",
                fix="Build it again with `aupipe build-maps --overwrite`.",
            )
        ) from error


def check_same_plan(store: Path, plan: StorePlan) -> None:
    """Raise :class:`StoreError` unless the plan is that of the shards that the store has, or had."""
    planned = plan.digests()
    try:
        index = load_index(store)
        stated = {entry.name: entry.plan_digest for entry in index.shards}
        complete = stated.keys() == planned.keys() and all(
            index.provenance.get(key) == value for key, value in plan.provenance.items()
        )
    except StoreError:
        stated = {name: notes.plan_digest for name, notes in shard_notes(store).items()}
        complete = stated.keys() <= planned.keys()
    other = [name for name, digest in sorted(stated.items()) if planned.get(name) != digest]
    if other or not complete:
        raise StoreError(
            paragraph(
                "WORK is not what the store was built from: the repaired store would be another one.",
                where=store,
                expected=f"{len(stated)} shards of the plans they were built by",
                got=f"{len(planned)} shards, another plan for {', '.join(other[:3])}" if other else "another manifest",
                fix="Give the WORK folder, the photos and the program versions of that time; or build it anew with "
                "`aupipe build-maps --overwrite`.",
            )
        )


def photos_missing(store: Path, unusable: Sequence[Failure]) -> StoreError:
    """Make the error for a damaged shard whose photos are no longer there."""
    shown = ", ".join(f"{failure.sample_id} ({failure.reason})" for failure in unusable[:3])
    return StoreError(
        paragraph(
            f"{len(unusable)} photos of a damaged shard can no longer be used, so it cannot be made again as it was.",
            where=store,
            got=shown,
            fix="Bring the photos back and repair again; or run `aupipe build-maps` to have a store without them.",
        )
    )


def shard_notes(store: Path) -> dict[str, ShardNotes]:
    """Read what each shard that can be read says of its own making, by file name."""
    found = {path.name: read_notes(path) for path in sorted(store.glob("*-[0-9][0-9][0-9][0-9][0-9].h5"))}
    return {name: notes for name, notes in found.items() if notes is not None}


def _config_of(notes: ShardNotes, store: Path, codebook: str | None) -> MapConfig:
    content: dict[str, Any] = json.loads(notes.config_json)
    name = codebook or notes.codebook_name
    try:
        config = MapConfig.from_json(content, dict(load_codebook(name).content))
        fits = config.as_json() == content
    except (ValueError, KeyError, TypeError, OSError):
        fits = False
    if not fits:
        raise StoreError(
            paragraph(
                "The store's index is damaged, and its shards do not hold the whole codebook they were drawn with.",
                where=store,
                expected=f"the codebook {notes.codebook_name!r} of digest {str(content.get('codebook_digest'))[:16]}",
                got=f"{name!r}, which is absent or another one",
                fix="Give that codebook's file with --codebook.",
            )
        )
    return config
