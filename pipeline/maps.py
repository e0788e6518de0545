"""``aupipe build-maps``: aligned crops and AU maps in sharded triplets, shard by shard, resumable.

STORE/train-00000.h5 ..., STORE/failures.csv, STORE/index.json (written last: the commit point).
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from fer_data.codebook import Codebook, codebook_from_dict
from fer_data.errors import FolderInUseError, SchemaVersionError, StoreError, UserInputError, paragraph
from fer_data.files import canonical_json, digest, folder_lock, remove_temporaries, sha256_bytes
from fer_data.landmark_parts import read_part
from fer_data.manifest import Manifest, read_manifest
from fer_data.shards import ShardEntry, ShardHeader, StoreIndex, load_index
from fer_data.shards.index import INDEX_NAME, save_index
from fer_data.types import SPLITS, Failure, Progress, Reason, StageReport, count_reasons
from pipeline.executors import Executor
from pipeline.landmarks import MANIFEST_NAME, REPORT_NAME, content_digest, landmark_failures, part_paths
from pipeline.planning import chunks, hash_order
from pipeline.report import FAILURES_NAME, write_failures
from pipeline.shard_tasks import MapConfig, Member, ShardJob, ShardResult, build_shard, landmark_part


def run_maps(
    work: Path, store: Path, config: MapConfig, executor: Executor, progress: Progress, *, overwrite: bool = False
) -> StageReport:
    """Build the store from the landmark stage's folder.

    Raises :class:`StoreError` when the landmark stage is not finished, :class:`FolderInUseError` when STORE holds a
    store built with other options (unless ``overwrite``), :class:`UserInputError` when the codebook does not know
    an expression.
    """
    started = time.monotonic()
    codebook = codebook_from_dict(config.codebook, "the chosen codebook")
    manifest, provenance = _finished_work(work)
    _check_options(config, codebook, manifest)
    with folder_lock(store):
        _claim(store, config, provenance, overwrite)
        remove_temporaries(store)
        members, failures = _members(work, manifest)
        progress.start("maps", sum(len(rows) for rows in members.values()), "img")
        results, failures = _build(work, store, manifest, members, failures, config, executor, progress)
        progress.finish()
        entries = [result.entry for result in results if result.entry is not None]
        index = _index(store, manifest, entries, failures, config, codebook, provenance)
        save_index(store, index)
        _remove_strangers(store, {entry.name for entry in entries})
    return StageReport(
        stage="build-maps",
        total=len(manifest.samples),
        ok=sum(entry.rows for entry in entries),
        failed=count_reasons(failures),
        seconds=time.monotonic() - started,
        parts=len(results),
        parts_skipped=sum(result.skipped for result in results),
    )


def _build(
    work: Path,
    store: Path,
    manifest: Manifest,
    members: dict[str, list[Member]],
    failures: list[Failure],
    config: MapConfig,
    executor: Executor,
    progress: Progress,
) -> tuple[list[ShardResult], list[Failure]]:
    """Run the shards; samples found unusable on the way are taken out and the plan is made again without them."""
    while True:
        jobs = plan_shards(work, store, manifest, members, config)
        if not jobs:
            raise StoreError(
                paragraph(
                    "No sample has landmarks, so there is nothing to put into a store.",
                    where=work,
                    got=", ".join(f"{count} {reason}" for reason, count in count_reasons(failures).items()),
                    fix="Look at failures.csv in that folder.",
                )
            )
        _uncommit_stale(store, jobs)
        results = []
        for result in executor.run(build_shard, jobs):
            results.append(result)
            progress.advance(result.rows)
        unusable = [failure for result in results for failure in result.failures]
        if not unusable:
            return sorted(results, key=lambda result: result.entry.name if result.entry else ""), failures
        failures = [*failures, *unusable]
        out = {failure.sample_id for failure in unusable}
        members = {split: [member for member in rows if member.sample_id not in out] for split, rows in members.items()}


def plan_shards(
    work: Path, store: Path, manifest: Manifest, members: dict[str, list[Member]], config: MapConfig
) -> list[ShardJob]:
    """Cut each split, in hash order, into shards of a fixed number of rows.

    Pure.
    """
    id_bytes = _id_bytes(manifest)
    config_json, software = canonical_json(config.as_json()), canonical_json(_software())
    parts = {path.name: str(path) for path in part_paths(work)}
    jobs = []
    for split in SPLITS:
        for number, rows in enumerate(chunks(members[split], config.rows_per_shard)):
            header = ShardHeader(
                split=split,
                classes=manifest.classes,
                image_size=config.image_size,
                map_size=config.map_size,
                plan_digest=_shard_digest(rows, config_json, software, manifest.classes, parts),
                codebook_name=str(config.codebook["name"]),
                codebook_digest=digest(config.codebook),
                config_json=config_json,
                software_json=software,
                id_bytes=id_bytes,
            )
            located = tuple(replace(row, part=parts[row.part]) for row in rows)
            jobs.append(ShardJob(store / f"{split}-{number:05d}.h5", manifest.root, located, header, config))
    return jobs


def _finished_work(work: Path) -> tuple[Manifest, dict[str, Any]]:
    report = work / REPORT_NAME
    if not report.is_file():
        raise StoreError(
            paragraph(
                f"{work} does not hold finished landmarks: it has no {REPORT_NAME}, which is written last.",
                fix="Run `aupipe landmarks M.csv --out` with this folder (again): it continues where it stopped.",
            )
        )
    content = json.loads(report.read_text(encoding="utf-8"))
    manifest = read_manifest(work / MANIFEST_NAME)
    if content_digest(manifest) != content["manifest_digest"] or len(part_paths(work)) != len(content["parts"]):
        raise StoreError(
            paragraph(
                f"The landmarks in {work} are not those of the manifest beside them.",
                fix="Run `aupipe landmarks` again with this folder as --out.",
            )
        )
    return manifest, {
        "manifest_digest": content_digest(manifest),
        "layout": manifest.layout,
        "landmarks": content["config"],
    }


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


def _members(work: Path, manifest: Manifest) -> tuple[dict[str, list[Member]], list[Failure]]:
    """Samples with landmarks by split, in hash order; and the others."""
    members: dict[str, list[Member]] = {split: [] for split in SPLITS}
    places: dict[str, tuple[str, int, str]] = {}
    failures: list[Failure] = []
    for path in part_paths(work):
        part = read_part(path)
        failures += landmark_failures([part])
        for row, (sample_id, reason) in enumerate(zip(part.sample_ids, part.reasons, strict=True)):
            if reason is Reason.OK:
                places[sample_id] = (path.name, row, part.source_sha256[row])
    for sample in hash_order(manifest.samples):
        if sample.sample_id in places:
            part_name, row, sha256 = places[sample.sample_id]
            members[sample.split].append(Member(sample.sample_id, sample.path, sample.label, sha256, part_name, row))
    return members, failures


def _shard_digest(
    rows: Sequence[Member], config_json: str, software: str, classes: Sequence[str], parts: dict[str, str]
) -> str:
    points = [landmark_part(parts[row.part]).landmarks[row.row].tobytes() for row in rows]
    return digest(
        [
            config_json,
            software,
            list(classes),
            [[row.sample_id, row.path, row.label, row.source_sha256] for row in rows],
            sha256_bytes(b"".join(points)),
        ]
    )


def _id_bytes(manifest: Manifest) -> int:
    """Width of the sample id column: the longest id, rounded up so that one added sample rarely changes it."""
    longest = max(len(sample.sample_id.encode()) for sample in manifest.samples)
    return -(-longest // 16) * 16


def _software() -> dict[str, str]:
    return {name: version(name) for name in ("aupipe", "numpy", "h5py", "opencv-python")}


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
        id_bytes=_id_bytes(manifest),
        rows_per_shard=config.rows_per_shard,
        shards=tuple(sorted(entries, key=lambda entry: (SPLITS.index(entry.split), entry.name))),
        total=len(manifest.samples),
        failed=count_reasons(failures),
        files={FAILURES_NAME: write_failures(store, failures)},
        config=config.as_json(),
        codebook=config.codebook,
        codebook_digest=codebook.digest,
        provenance={**provenance, "software": _software()},
        channel_mean=mean,
        channel_std=std,
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
