"""Samples with landmarks that cannot be used, as far as an earlier run says: left out at once, so that shards stay."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from aupipe.fer_data.errors import StoreError, paragraph
from aupipe.fer_data.failures import FAILURES_NAME
from aupipe.fer_data.files import canonical_json, sha256_bytes
from aupipe.fer_data.shards import StoreIndex, load_index
from aupipe.fer_data.shards.spec import SCHEMA_VERSIONS
from aupipe.fer_data.types import Failure
from aupipe.fer_display.tables import csv_records
from aupipe.pipeline.maps.plan import StorePlan, software
from aupipe.pipeline.maps.tasks import Member, crop_member


def failures_still_there(store: Path, plan: StorePlan) -> list[Failure]:
    """List the members that STORE's ``failures.csv`` names, and that cannot be used now either.

    Only a hint is taken from the file: each sample is tried again.
    """
    path = store / FAILURES_NAME
    named = {failure.sample_id for failure in _parse(path.read_bytes())} if path.is_file() else set()
    return _found_anew((member for member in plan.members if member.sample_id in named), plan)


def failures_to_keep(store: Path, plan: StorePlan) -> list[Failure]:
    """List the members that the store left out, so that its shards keep their rows when it is repaired.

    Where the store does not say, every photo is read.
    """
    try:
        recorded = _as_recorded(store, load_index(store), plan)
    except StoreError:
        recorded = None
    return _found_anew(plan.members, plan) if recorded is None else recorded


def failures_of_other(other: Path, plan: StorePlan) -> list[Failure]:
    """List what a store left out whose images are taken over. Raises :class:`StoreError` where its crops differ."""
    index, config = load_index(other), plan.config
    origin = origin_of(plan.provenance)
    made_by = _made_by(SCHEMA_VERSIONS[config.encoding], software())
    wanted = {**config.crop_json(), "rows_per_shard": config.rows_per_shard, **origin, **made_by}
    given = {**index.config, **origin_of(index.provenance)}
    given |= _made_by(index.schema_version, index.provenance.get("software", {}))
    differing = [key for key, value in wanted.items() if given.get(key) != value]
    recorded = _as_recorded(other, index, plan)
    if differing or recorded is None:
        raise StoreError(
            paragraph(
                "The images of the other store cannot be taken over: "
                + (
                    "its crops are not those asked for, or were made by other versions."
                    if differing
                    else "its failures.csv was changed."
                ),
                where=other,
                expected=", ".join(f"{key} {canonical_json(wanted[key])[:80]}" for key in differing) or None,
                got=", ".join(f"{key} {canonical_json(given.get(key))[:80]}" for key in differing) or None,
                fix="Give the same WORK and options, or leave --images-from out."
                if differing
                else "Mend it with `aupipe repair` first.",
            )
        )
    return recorded


def origin_of(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Take from a store's provenance what its rows were made from."""
    return {key: provenance.get(key) for key in ("manifest_digest", "landmarks")}


def _made_by(schema: str, versions: Mapping[str, str]) -> dict[str, str]:
    """Name what decides a shard's bytes beside its options."""
    return {"schema_version": schema, **{f"version of {name}": version for name, version in versions.items()}}


def _as_recorded(store: Path, index: StoreIndex, plan: StorePlan) -> list[Failure] | None:
    """Members that a finished store left out, in its own words; None when its ``failures.csv`` is not as it was."""
    path = store / FAILURES_NAME
    data = path.read_bytes() if path.is_file() else b""
    if sha256_bytes(data) != index.files.get(FAILURES_NAME):
        return None
    planned = {member.sample_id for member in plan.members}
    return [failure for failure in _parse(data) if failure.sample_id in planned]


def _found_anew(members: Iterable[Member], plan: StorePlan) -> list[Failure]:
    """Members that cannot be used now: reads their photos."""
    found = (crop_member(member, plan.root, plan.config) for member in members)
    return [outcome for outcome in found if isinstance(outcome, Failure)]


def _parse(data: bytes) -> list[Failure]:
    try:
        rows = csv_records(io.StringIO(data.decode(errors="replace")))
    except ValueError:  # damaged: it names nobody
        return []
    names = ("sample_id", "path", "reason", "detail")
    return [Failure(*(row[name] for name in names)) for row in rows if all(name in row for name in names)]
