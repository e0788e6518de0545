"""Which rows go into which shard: pure planning, and the digests that say when a shard must be made anew."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from aupipe.fer_data.files import canonical_json, digest, sha256_bytes
from aupipe.fer_data.landmark_parts import read_part
from aupipe.fer_data.manifest import Manifest
from aupipe.fer_data.shards import ShardHeader
from aupipe.fer_data.shards.spec import SCHEMA_VERSIONS
from aupipe.fer_data.types import SPLITS, Failure, Reason
from aupipe.fer_data.versions import BYTES, installed_versions
from aupipe.pipeline.landmarks.run import landmark_failures, part_paths
from aupipe.pipeline.maps.tasks import MapConfig, Member, ShardJob, landmark_part
from aupipe.pipeline.planning import chunks, hash_order

Members = dict[str, list[Member]]
"""Rows of each split, in hash order."""


def plan_shards(
    store: Path, manifest: Manifest, members: Members, config: MapConfig, images_from: Path | None = None
) -> list[ShardJob]:
    """Cut each split, in hash order, into shards of a fixed number of rows.

    ``images_from``: another store whose crops may be taken over.
    """
    width = id_bytes(manifest)
    config_json, software_json = canonical_json(config.as_json()), canonical_json(software())
    jobs = []
    for split in SPLITS:
        for number, rows in enumerate(chunks(members[split], config.rows_per_shard)):
            crop_digest = _crop_digest(rows, config, software_json, manifest.classes, width)
            header = ShardHeader(
                split=split,
                classes=manifest.classes,
                image_size=config.image_size,
                map_size=config.map_size,
                plan_digest=digest([crop_digest, config_json]),
                codebook_name=str(config.codebook["name"]),
                codebook_digest=digest(config.codebook),
                config_json=config_json,
                software_json=software_json,
                id_bytes=width,
                encoding=config.encoding,
                jpeg_quality=config.jpeg_quality,
                crop_digest=crop_digest,
            )
            name = f"{split}-{number:05d}.h5"
            jobs.append(ShardJob(store / name, manifest.root, tuple(rows), header, config, images_from))
    return jobs


def plan_members(work: Path, manifest: Manifest) -> tuple[Members, list[Failure]]:
    """Samples with landmarks by split, in hash order; and the others."""
    members: Members = {split: [] for split in SPLITS}
    places: dict[str, tuple[str, int, str]] = {}
    failures: list[Failure] = []
    for path in part_paths(work):
        part = read_part(path)
        failures += landmark_failures([part])
        for row, (sample_id, reason) in enumerate(zip(part.sample_ids, part.reasons, strict=True)):
            if reason is Reason.OK:
                places[sample_id] = (str(path), row, part.source_sha256[row])
    for sample in hash_order(manifest.samples):
        if sample.sample_id in places:
            part_path, row, sha256 = places[sample.sample_id]
            members[sample.split].append(Member(sample.sample_id, sample.path, sample.label, sha256, part_path, row))
    return members, failures


def without(members: Members, failures: Sequence[Failure]) -> Members:
    """The members that are not among the failures."""
    out = {failure.sample_id for failure in failures}
    return {split: [member for member in rows if member.sample_id not in out] for split, rows in members.items()}


def id_bytes(manifest: Manifest) -> int:
    """Width of the sample id column: the longest id, rounded up so that one added sample rarely changes it."""
    longest = max(len(sample.sample_id.encode()) for sample in manifest.samples)
    return -(-longest // 16) * 16


def software() -> dict[str, str]:
    """Versions of what decides a shard's bytes."""
    return installed_versions(BYTES)


def _crop_digest(
    rows: Sequence[Member],
    config: MapConfig,
    software_json: str,
    classes: Sequence[str],
    width: int,
) -> str:
    """Identity of all columns but the maps and what follows from them."""
    points = [landmark_part(row.part).landmarks[row.row].tobytes() for row in rows]
    return digest(
        [
            SCHEMA_VERSIONS[config.encoding],
            config.crop_json(),
            software_json,
            list(classes),
            width,
            [[row.sample_id, row.path, row.label, row.source_sha256] for row in rows],
            sha256_bytes(b"".join(points)),
        ]
    )
