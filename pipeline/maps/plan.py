"""The plan of a store: its rows, their shards and parts, its options and digests.

Building, repairing and drawing again all ask this plan; it reads no photo and writes nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np

from aupipe.fer_data.action_units.facs import format_facs
from aupipe.fer_data.errors import StoreError
from aupipe.fer_data.files import canonical_json, digest
from aupipe.fer_data.landmark_parts import LandmarkPart, PartFile
from aupipe.fer_data.manifest.unit_scores import EstimateTable, Scores
from aupipe.fer_data.shards import ShardHeader, load_index
from aupipe.fer_data.shards.encoding import resolve_encoding
from aupipe.fer_data.shards.shard_file import read_notes
from aupipe.fer_data.shards.spec import SCHEMA_VERSIONS
from aupipe.fer_data.types import SPLITS, Failure, Reason, Sample
from aupipe.fer_data.versions import BYTES, installed_versions
from aupipe.pipeline.landmarks.work import FinishedWork, landmark_failures
from aupipe.pipeline.maps.tasks import ExistingShard, MapConfig, Member, ShardJob, landmark_part
from aupipe.pipeline.planning import batched


@dataclass(frozen=True)
class ShardPlan:
    """One shard of the plan: its file's name, its rows, and what it will say of itself."""

    name: str
    members: tuple[Member, ...]
    header: ShardHeader


@dataclass(frozen=True)
class StorePlan:
    """Content of a store before it is made: plain data, taken once from the landmarks and the manifest.

    Attributes:
        root: Folder of the photos.
        classes: Labels in the store's order.
        provenance: Where the rows come from: manifest, layout, landmarks.
        total: Samples of the manifest.
        id_bytes: Width of the columns of ids and persons: the longest, rounded up so that one added sample rarely
            changes it.
        config: Options of the stage, the encoding decided.
        members: Rows to be, in hash order of their ids.
        failures: Samples that are left out; with the members they are the manifest.
        points: By split, the SHA-256 of each shard's landmarks and poses.
    """

    root: Path
    classes: tuple[str, ...]
    provenance: Mapping[str, Any]
    total: int
    id_bytes: int
    config: MapConfig
    members: tuple[Member, ...]
    failures: tuple[Failure, ...]
    points: Mapping[str, Sequence[str]]

    def without(self, unusable: Sequence[Failure]) -> StorePlan:
        """Leave these members out too: the shards are cut anew, and the parts read again."""
        if not unusable:
            return self
        out = {failure.sample_id for failure in unusable}
        members = tuple(member for member in self.members if member.sample_id not in out)
        points = ShardPoints(self.config.rows_per_shard)
        for file, own in groupby(members, attrgetter("part")):
            points.take(landmark_part(file), list(own))
        return replace(self, members=members, failures=(*self.failures, *unusable), points=points.digests())

    @cached_property
    def shards(self) -> tuple[ShardPlan, ...]:
        """Each split cut into shards of a fixed number of rows; their digests say when one must be made anew."""
        return tuple(self._shards())

    def digests(self) -> dict[str, str]:
        """List the plan's digest of each shard, by file name."""
        return {shard.name: shard.header.plan_digest for shard in self.shards}

    def jobs(self, store: Path, images_from: Path | None = None) -> list[ShardJob]:
        """Tell the workers what to make. ``images_from``: another store whose crops may be taken over."""
        stores = list(dict.fromkeys([store, images_from or store]))
        stated = [_stated_digests(folder) for folder in stores]
        jobs = []
        for shard in self.shards:
            made = [
                ExistingShard(folder / shard.name, *known.get(shard.name, (None, "")))
                for folder, known in zip(stores, stated, strict=True)
            ]
            path = store / shard.name
            jobs.append(ShardJob(path, self.root, shard.members, shard.header, self.config, tuple(made)))
        return jobs

    def _shards(self) -> Iterator[ShardPlan]:
        config = self.config
        config_json, software_json = canonical_json(config.as_json()), canonical_json(software())
        for split in SPLITS:
            members = [member for member in self.members if member.split == split]
            for number, rows in enumerate(batched(members, config.rows_per_shard)):
                points = self.points[split][number]
                crop_digest = _crop_digest(rows, points, config, software_json, self.classes, self.id_bytes)
                header = ShardHeader(
                    split=split,
                    classes=self.classes,
                    image_size=config.image_size,
                    map_size=config.map_size,
                    plan_digest=digest([crop_digest, config_json, *_observed(rows, config)]),
                    codebook_name=str(config.codebook["name"]),
                    codebook_digest=digest(config.codebook),
                    config_json=config_json,
                    software_json=software_json,
                    id_bytes=self.id_bytes,
                    encoding=config.encoding,
                    jpeg_quality=config.jpeg_quality,
                    crop_digest=crop_digest,
                )
                yield ShardPlan(f"{split}-{number:05d}.h5", tuple(rows), header)


class ShardPoints:
    """Hashes the landmarks and poses of members, shard by shard, as their parts go by: none of them is kept."""

    def __init__(self, rows_per_shard: int) -> None:
        self._size = rows_per_shard
        self._hashes: dict[str, list[Any]] = {split: [] for split in SPLITS}
        self._room = dict.fromkeys(SPLITS, 0)

    def take(self, part: LandmarkPart, members: Sequence[Member]) -> None:
        """Take in those members whose landmarks the part holds; members come in their order."""
        rows = np.concatenate([part.landmarks.reshape(-1, 136), part.pose], 1)
        for split in SPLITS:
            chosen = rows[[member.row for member in members if member.split == split]]
            while len(chosen):
                if not self._room[split]:
                    self._hashes[split].append(hashlib.sha256())
                    self._room[split] = self._size
                self._hashes[split][-1].update(chosen[: self._room[split]].tobytes())
                self._room[split], chosen = max(self._room[split] - len(chosen), 0), chosen[self._room[split] :]

    def digests(self) -> dict[str, list[str]]:
        """Return the SHA-256 of each shard's rows, by split."""
        return {split: [one.hexdigest() for one in hashes] for split, hashes in self._hashes.items()}


def plan_store(
    work: FinishedWork, config: MapConfig, existing: Path, estimates: EstimateTable | None = None
) -> StorePlan:
    """Plan the store of all samples with landmarks; each part is read once.

    Args:
        work: The landmarks.
        config: Options of the stage.
        existing: A store, finished or not, whose encoding ``auto`` follows.
        estimates: Another program's, of the source that the options name.

    Raises:
        StoreError: A part is not what WORK's report says.
    """
    members, failures, points = list[Member](), list[Failure](), ShardPoints(max(config.rows_per_shard, 1))
    told = estimates.probabilities if estimates is not None else {}
    for file, part in zip(work.part_files, work.parts(read=landmark_part), strict=True):
        failures += landmark_failures(part)
        own = list(_members(file, part, work.samples, config, told))
        points.take(part, own)
        members += own
    encoding = _encoding_of(existing) if config.encoding == "auto" else None
    encoding = encoding or resolve_encoding(config.encoding, len(members), config.image_size)
    samples = work.manifest.samples
    return StorePlan(
        root=work.manifest.root,
        classes=work.manifest.classes,
        provenance=work.provenance,
        total=len(samples),
        id_bytes=-(-max(len(text.encode()) for one in samples for text in (one.sample_id, one.subject)) // 16) * 16,
        config=replace(config, encoding=encoding),
        members=tuple(members),
        failures=tuple(failures),
        points=points.digests(),
    )


def _members(
    file: PartFile,
    part: LandmarkPart,
    samples: Mapping[str, Sample],
    config: MapConfig,
    told: Mapping[str, Scores],
) -> Iterator[Member]:
    """Yield the rows of a part that have landmarks."""
    for row, (sample_id, reason) in enumerate(zip(part.sample_ids, part.reasons, strict=True)):
        if reason is Reason.OK:
            one = samples[sample_id]
            aus = one.aus if config.aus == "annotated" else None
            sha256, group = part.source_sha256[row], one.subject or one.sample_id
            estimate = told.get(one.sample_id)
            yield Member(one.sample_id, one.path, one.label, one.split, sha256, file, row, group, aus, estimate)


def software() -> dict[str, str]:
    """List the versions of what decides a shard's bytes."""
    return installed_versions(BYTES)


def _encoding_of(store: Path) -> str | None:
    """Read the encoding of a store, finished or begun."""
    try:
        return load_index(store).encoding
    except StoreError:
        notes = (read_notes(path) for path in sorted(store.glob("*.h5")))
        return next((found.encoding for found in notes if found is not None), None)


def _observed(rows: Sequence[Member], config: MapConfig) -> list[Any]:
    """Identity of what is known of the faces themselves, as far as their maps depend on it."""
    codes = [[row.sample_id, format_facs(row.aus)] for row in rows] if config.aus == "annotated" else []
    parts = sorted({row.part.sha256 for row in rows}) if config.reads_blendshapes else []
    estimates = [[row.sample_id, row.estimate] for row in rows] if config.estimates is not None else []
    return [known for known in (codes, parts, estimates) if known]


def _stated_digests(store: Path) -> dict[str, tuple[str, str]]:
    """Read the digests of files and plans that a store's index states; none where there is no index."""
    try:
        return {entry.name: (entry.sha256, entry.plan_digest) for entry in load_index(store).shards}
    except StoreError:
        return {}


def _crop_digest(
    rows: Sequence[Member],
    points: str,
    config: MapConfig,
    software_json: str,
    classes: Sequence[str],
    width: int,
) -> str:
    """Identity of all columns but the maps and what follows from them."""
    return digest(
        [
            SCHEMA_VERSIONS[config.encoding],
            config.crop_json(),
            software_json,
            list(classes),
            width,
            [[row.sample_id, row.path, row.label, row.source_sha256, row.group] for row in rows],
            points,
        ]
    )
