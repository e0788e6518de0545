"""``aupipe build-maps``: aligned crops and AU maps in sharded triplets, shard by shard, resumable.

STORE/train-00000.h5 ..., STORE/failures.csv, STORE/index.json (written last: the commit point).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from aupipe.fer_data.au_maps.codebook import Codebook, codebook_from_dict
from aupipe.fer_data.errors import FolderInUseError, SchemaVersionError, StoreError, UserInputError, paragraph
from aupipe.fer_data.files import canonical_json, remove_temporaries
from aupipe.fer_data.folders import STORE, output_folder
from aupipe.fer_data.manifest import Manifest
from aupipe.fer_data.shards import ShardEntry, StoreIndex, load_index
from aupipe.fer_data.shards.encoding import resolve_encoding
from aupipe.fer_data.shards.index import INDEX_NAME, save_index
from aupipe.fer_data.shards.redraw import read_notes
from aupipe.fer_data.shards.spec import SCHEMA_VERSIONS
from aupipe.fer_data.types import SPLITS, Failure, Progress, StageReport, count_reasons
from aupipe.pipeline.executors import Executor
from aupipe.pipeline.landmarks.run import part_paths
from aupipe.pipeline.landmarks.work import mixed_work, open_work
from aupipe.pipeline.maps.failures import failures_as_recorded, failures_still_there
from aupipe.pipeline.maps.plan import Members, id_bytes, plan_members, plan_shards, software, without
from aupipe.pipeline.maps.repair import check_same_plan, failures_to_keep, photos_missing
from aupipe.pipeline.maps.tasks import MapConfig, ShardJob, ShardResult, build_shard
from aupipe.pipeline.report import FAILURES_NAME, write_failures


def run_maps(
    work: Path,
    store: Path,
    config: MapConfig,
    executor: Executor,
    progress: Progress,
    *,
    overwrite: bool = False,
    images_from: Path | None = None,
    mend: bool = False,
) -> StageReport:
    """Build the store from the landmark stage's folder.

    ``images_from``: a finished store with the same crops, whose images are taken over: no photo is read. ``mend``: make
    what is damaged or missing again, and refuse whatever would give another store than STORE was.

    Raises :class:`StoreError` when the landmark stage is not finished, :class:`FolderInUseError` when STORE holds a
    store built with other options (unless ``overwrite``), :class:`UserInputError` when the codebook does not know an
    expression.
    """
    started = time.monotonic()
    codebook = codebook_from_dict(config.codebook, "the chosen codebook")
    manifest, provenance = _finished_work(work)
    members, lost = plan_members(work, manifest)
    config = with_encoding(config, images_from or store, sum(len(rows) for rows in members.values()))
    _check_options(config, codebook, manifest)
    with output_folder(store, STORE):
        plan = _Plan(work, store, manifest, config, provenance, images_from, mend, members, lost)
        plan = plan.less(_known_failures(plan))
        if mend:
            check_same_plan(store, plan.jobs(), provenance)
        else:
            _claim(store, config, provenance, overwrite)
        remove_temporaries(store)
        progress.start("maps", sum(len(rows) for rows in plan.members.values()), "img")
        results, failures = _build(plan, executor, progress)
        progress.finish()
        entries = [result.entry for result in results if result.entry is not None]
        index = _index(store, manifest, entries, failures, config, codebook, provenance)
        save_index(store, index)
        _remove_strangers(store, {entry.name for entry in entries})
    return StageReport(
        stage="repair" if mend else "build-maps",
        total=len(manifest.samples),
        ok=sum(entry.rows for entry in entries),
        failed=count_reasons(failures),
        seconds=time.monotonic() - started,
        parts=len(results),
        parts_skipped=sum(result.skipped for result in results),
    )


@dataclass(frozen=True)
class _Plan:
    """What is to be built: ``members`` become rows, ``failures`` are left out."""

    work: Path
    store: Path
    manifest: Manifest
    config: MapConfig
    provenance: dict[str, Any]
    images_from: Path | None
    mend: bool
    members: Members
    failures: list[Failure]

    def jobs(self) -> list[ShardJob]:
        return plan_shards(self.store, self.manifest, self.members, self.config, self.images_from)

    def less(self, unusable: list[Failure]) -> _Plan:
        return replace(self, members=without(self.members, unusable), failures=[*self.failures, *unusable])


def _build(plan: _Plan, executor: Executor, progress: Progress) -> tuple[list[ShardResult], list[Failure]]:
    """Run the shards; samples found unusable on the way are taken out and the plan is made again without them."""
    while True:
        jobs = plan.jobs()
        if not jobs:
            raise StoreError(
                paragraph(
                    "No sample has landmarks, so there is nothing to put into a store.",
                    where=plan.work,
                    got=", ".join(f"{count} {reason}" for reason, count in count_reasons(plan.failures).items()),
                    fix="Look at failures.csv in that folder.",
                )
            )
        if not plan.mend:
            _uncommit_stale(plan.store, jobs)
        results = []
        for result in executor.run(build_shard, jobs):
            results.append(result)
            progress.advance(result.rows)
        unusable = [failure for result in results for failure in result.failures]
        if not unusable:
            return sorted(results, key=lambda result: result.entry.name if result.entry else ""), plan.failures
        if plan.mend:
            raise photos_missing(plan.store, unusable)
        plan = plan.less(unusable)
        # An interrupted run starts from these, instead of finding them again at the cost of intact shards.
        (plan.store / INDEX_NAME).unlink(missing_ok=True)
        write_failures(plan.store, plan.failures)


def with_encoding(config: MapConfig, store: Path, rows: int) -> MapConfig:
    """The configuration with ``auto`` resolved: as in ``store``, finished or begun, else by the size of the images."""
    begun: str | None = None
    if config.encoding == "auto":
        try:
            begun = load_index(store).encoding
        except StoreError:
            notes = (read_notes(path) for path in sorted(store.glob("*.h5")))
            begun = next((found.encoding for found in notes if found is not None), None)
    return replace(config, encoding=begun or resolve_encoding(config.encoding, rows, config.image_size))


def _known_failures(plan: _Plan) -> list[Failure]:
    """Samples with landmarks that cannot be used, as far as an earlier run says."""
    if plan.images_from is not None:
        return _left_out_by(plan.images_from, plan)
    if plan.mend:
        return failures_to_keep(plan.store, plan.members, plan.manifest.root, plan.config)
    return failures_still_there(plan.store, plan.members, plan.manifest.root, plan.config)


def _left_out_by(other: Path, plan: _Plan) -> list[Failure]:
    """What a store with the same crops left out; it must have the same crops."""
    index = load_index(other)
    config = plan.config
    wanted = {**config.crop_json(), "rows_per_shard": config.rows_per_shard, **_origin(plan.provenance)}
    given = {**index.config, **_origin(index.provenance)}
    differing = [key for key, value in wanted.items() if given.get(key) != value]
    recorded = failures_as_recorded(other, index, plan.members)
    if differing or recorded is None:
        raise StoreError(
            paragraph(
                "The images of the other store cannot be taken over: "
                + ("its crops are not those asked for." if differing else "its failures.csv was changed."),
                where=other,
                expected=", ".join(f"{key} {canonical_json(wanted[key])[:80]}" for key in differing) or None,
                got=", ".join(f"{key} {canonical_json(given.get(key))[:80]}" for key in differing) or None,
                fix="Give the same WORK and options, or leave --images-from out."
                if differing
                else "Mend it with `aupipe repair` first.",
            )
        )
    return recorded


def _origin(provenance: Mapping[str, Any]) -> dict[str, Any]:
    return {key: provenance.get(key) for key in ("manifest_digest", "landmarks")}


def _finished_work(folder: Path) -> tuple[Manifest, dict[str, Any]]:
    work = open_work(folder)
    if {path.name for path in part_paths(folder)} != set(work.part_names):
        raise mixed_work(folder)
    provenance = {"manifest_digest": work.manifest_digest, "layout": work.manifest.layout, "landmarks": work.config}
    return work.manifest, provenance


def _check_options(config: MapConfig, codebook: Codebook, manifest: Manifest) -> None:
    if not 16 <= config.map_size <= config.image_size or config.rows_per_shard < 1:
        raise UserInputError(
            paragraph(
                "The sizes do not fit together.",
                expected="16 <= --map-size <= --image-size, --rows-per-shard at least 1",
                got=f"map {config.map_size}, image {config.image_size}, {config.rows_per_shard} rows a shard",
            )
        )
    unknown = [name for name in manifest.classes if name not in codebook.expressions]
    if unknown:
        raise UserInputError(
            paragraph(
                f"The codebook {codebook.name!r} does not say which AUs belong to {', '.join(unknown)}.",
                expected=f"classes among {', '.join(sorted(codebook.expressions))}",
                fix="Choose another --codebook, or add the expression to your own codebook file.",
            )
        )


def _claim(store: Path, config: MapConfig, provenance: dict[str, Any], overwrite: bool) -> None:
    """Refuse to replace a finished store that was built differently; with ``overwrite`` take it back first."""
    try:
        index = load_index(store)
    except SchemaVersionError:
        if not overwrite:
            raise
        (store / INDEX_NAME).unlink()
        return
    except StoreError:
        return  # none yet, or damaged: it is made anew from the shards
    if index.config == config.as_json() and index.provenance["manifest_digest"] == provenance["manifest_digest"]:
        return
    if not overwrite:
        raise FolderInUseError(
            paragraph(
                f"{store} already holds a store that was built with other options or from another manifest.",
                expected=canonical_json(config.as_json()),
                got=canonical_json(dict(index.config)),
                fix="Choose another --out, or pass --overwrite to replace it.",
            )
        )
    (store / INDEX_NAME).unlink()


def _uncommit_stale(store: Path, jobs: Sequence[ShardJob]) -> None:
    """Take the index back before a shard it names is replaced by another one: a store is whole or it is none."""
    try:
        stated = {entry.name: entry.plan_digest for entry in load_index(store).shards}
    except StoreError:
        return
    if stated != {job.path.name: job.header.plan_digest for job in jobs}:
        (store / INDEX_NAME).unlink()


def _index(
    store: Path,
    manifest: Manifest,
    entries: list[ShardEntry],
    failures: list[Failure],
    config: MapConfig,
    codebook: Codebook,
    provenance: dict[str, Any],
) -> StoreIndex:
    mean, std = _channel_statistics(entries, config.image_size)
    return StoreIndex(
        classes=manifest.classes,
        image_size=config.image_size,
        map_size=config.map_size,
        id_bytes=id_bytes(manifest),
        rows_per_shard=config.rows_per_shard,
        shards=tuple(sorted(entries, key=lambda entry: (SPLITS.index(entry.split), entry.name))),
        total=len(manifest.samples),
        failed=count_reasons(failures),
        files={FAILURES_NAME: write_failures(store, failures)},
        config=config.as_json(),
        codebook=config.codebook,
        codebook_digest=codebook.digest,
        provenance={**provenance, "software": software()},
        channel_mean=mean,
        channel_std=std,
        schema_version=SCHEMA_VERSIONS[config.encoding],
    )


def _channel_statistics(entries: Sequence[ShardEntry], image_size: int) -> tuple[list[float], list[float]]:
    """Per-channel mean and standard deviation in [0, 1] over the training split (over all rows where there is none)."""
    chosen = [entry for entry in entries if entry.split == "train"] or entries
    pixels = sum(entry.rows for entry in chosen) * image_size**2
    mean = np.sum([entry.channel_sum for entry in chosen], 0) / pixels
    variance = np.sum([entry.channel_sum_of_squares for entry in chosen], 0) / pixels - mean**2
    return [round(float(v), 6) for v in mean / 255], [round(float(v), 6) for v in np.sqrt(variance) / 255]


def _remove_strangers(store: Path, expected: set[str]) -> None:
    """Shards of an earlier plan with more shards; nothing else in the folder is touched."""
    for split in SPLITS:
        for path in store.glob(f"{split}-[0-9][0-9][0-9][0-9][0-9].h5"):
            if path.name not in expected:
                path.unlink()
