"""The WORK folder of the landmark stage: its report, and its rows once the stage is finished.

WORK/manifest.csv (a copy, with its root), WORK/landmarks/part-00000.h5 ..., WORK/failures.csv, WORK/landmarks.json:
the report, written last, which says what every part must be. It is withdrawn before a part is replaced, so parts of two
runs never pass for the result of one.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32

from aupipe.fer_data.errors import StoreError, paragraph
from aupipe.fer_data.files import canonical_json, digest, sha256_file, withdraw, write_json
from aupipe.fer_data.geometry import is_profile
from aupipe.fer_data.landmark_parts import LandmarkPart, PartFile, mixed_work, read_part
from aupipe.fer_data.manifest import Manifest, read_manifest
from aupipe.fer_data.manifest.model import render_lines
from aupipe.fer_data.typed import UnreadableTextError, parse_json, read_json
from aupipe.fer_data.types import Failure, Reason, Sample, count_reasons
from aupipe.fer_data.wrong_path import wrong_path
from aupipe.pipeline.landmarks.frame import landmarks_frame
from aupipe.pipeline.planning import hash_order

MANIFEST_NAME = "manifest.csv"
REPORT_NAME = "landmarks.json"
MADE_OF_IT = ("summary.html", "sheet.png", "landmarks.csv", "landmarks.parquet")
"""What the command leaves in WORK for people and other programs."""

PARTS_FOLDER = "landmarks"
_PART_NAME = re.compile(r"part-[0-9]{5,}\.h5")
FOLLOW_LINKS = "follow_links"
"""The option of WORK's manifest that says whether links may lead photos out of its root."""

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Row:
    """One sample with its outcome; ``points`` (68, 2) in source pixels and ``pose`` are zero unless ``found``.

    ``size`` is the photo's (height, width), zero where it could not be read.
    """

    sample: Sample
    reason: Reason
    sha256: str
    size: tuple[int, int]
    points: Float32[np.ndarray, "68 2"]
    pose: Float32[np.ndarray, "3"]
    score: float
    rung: int
    faces_seen: int

    @property
    def found(self) -> bool:
        """True where there are landmarks."""
        return self.reason is Reason.OK

    @property
    def profile(self) -> bool:
        """True where the face is turned beyond :data:`~aupipe.fer_data.geometry.PROFILE_YAW`."""
        return bool(is_profile(self.pose[:1])[0])


@dataclass(frozen=True)
class FinishedWork:
    """A WORK folder whose stage came to its end. ``config`` is the detector's identity and the stage's options."""

    folder: Path
    manifest: Manifest
    manifest_digest: str
    config: Mapping[str, Any]
    part_files: tuple[PartFile, ...]

    @cached_property
    def samples(self) -> dict[str, Sample]:
        """The manifest's rows by sample id."""
        return {sample.sample_id: sample for sample in self.manifest.samples}

    @property
    def title(self) -> str:
        """The dataset's folder name."""
        return self.manifest.root.name or self.manifest.layout

    @property
    def detector(self) -> str:
        """The detector's name."""
        return str(self.config.get("detector", "unknown"))

    @property
    def provenance(self) -> dict[str, Any]:
        """The statements of a store on its landmarks."""
        return {"manifest_digest": self.manifest_digest, "layout": self.manifest.layout, "landmarks": self.config}

    def parts(
        self, *, mesh: bool = False, read: Callable[[PartFile], LandmarkPart] | None = None
    ) -> Iterator[LandmarkPart]:
        """Yield the parts in order, one at a time; together they hold every sample of the manifest once, in hash order.

        Args:
            mesh: Keep mesh and blendshapes.
            read: How a part is read, for a caller that keeps what it has read.

        Raises:
            StoreError: A part is missing, or not the one that the report and the manifest speak of.
        """
        config, begun = canonical_json(self.config), 0
        order = [sample.sample_id for sample in hash_order(self.manifest.samples)]
        for file in self.part_files:
            part = file.read(mesh=mesh) if read is None else read(file)
            ended = begun + len(part.sample_ids)
            if part.config_json != config or list(part.sample_ids) != order[begun:ended]:
                raise mixed_work(self.folder)
            begun = ended
            yield part
        if begun != len(order):
            raise mixed_work(self.folder)

    def rows(self) -> Iterator[Row]:
        """Yield every sample in hash order, found or not."""
        for part in self.parts():
            for at, sample_id in enumerate(part.sample_ids):
                yield _row(part, at, self.samples[sample_id])

    def to_pandas(self) -> pandas.DataFrame:
        """Make a table of every sample: ``reason``, ``x0, y0 ... x67, y67`` in source pixels, pose, score.

        Numbers are absent (``pandas.NA``) where no face was found. Raises :class:`UserInputError` when pandas is not
        installed.
        """
        return landmarks_frame(list(self.parts()), self.samples)

    def __repr__(self) -> str:
        return f"landmarks of {len(self.manifest.samples)} images by {self.detector} in {self.folder}"


@dataclass(frozen=True)
class _PartDigests:
    sha256: str
    plan_digest: str


@dataclass(frozen=True)
class _Options:
    """What of ``landmarks.json`` every version has."""

    config: dict[str, Any]


@dataclass(frozen=True)
class _Report:
    """``landmarks.json``."""

    manifest_digest: str
    config: dict[str, Any]
    parts: tuple[str, ...]
    part_digests: dict[str, _PartDigests]
    total: int
    ok: int
    failed: dict[str, int]


def open_work(folder: Path) -> FinishedWork:
    """Open WORK for reading.

    Raises :class:`StoreError` when the stage is not finished or its parts are not those of the manifest beside them.
    """
    report = folder / REPORT_NAME
    if not report.is_file():
        raise StoreError(wrong_path(folder, "landmarks"))
    try:
        content = read_json(report, _Report)
        digests = [content.part_digests[name] for name in content.parts if _PART_NAME.fullmatch(name)]
        if not len(digests) == len(set(content.parts)) == len(content.parts):
            raise UnreadableTextError("the names of its parts")
        if content.ok + sum(content.failed.values()) != content.total:
            raise UnreadableTextError(f"{content.ok} with a face and {content.failed} of {content.total} samples")
    except (UnreadableTextError, KeyError) as error:
        raise StoreError(
            paragraph(
                f"{REPORT_NAME} does not say the digest of every part: it is damaged, or of an earlier version.",
                where=folder,
                got=error,
                fix="Run `aupipe landmarks M.csv --out` with this folder again: it checks every part, keeps those that "
                "are right, and writes the report anew.",
            )
        ) from error
    manifest = read_manifest(folder / MANIFEST_NAME)
    if not _has_identity(manifest, content.manifest_digest) or len(manifest.samples) != content.total:
        raise mixed_work(folder)
    files = [
        PartFile(folder / PARTS_FOLDER / name, one.sha256, one.plan_digest)
        for name, one in zip(content.parts, digests, strict=True)
    ]
    return FinishedWork(folder, manifest, content.manifest_digest, content.config, tuple(files))


def stated_digests(folder: Path) -> dict[str, str]:
    """Read the SHA-256 that WORK's report states of each part, by file name; nothing where there is no report."""
    try:
        content = read_json(folder / REPORT_NAME, _Report)
    except UnreadableTextError:
        return {}
    return {name: one.sha256 for name, one in content.part_digests.items()}


def stated_config(folder: Path) -> Mapping[str, Any] | None:
    """Read the detector's identity and the options of finished landmarks; None where the stage is not finished.

    They are the report's; where it is of an earlier version, or damaged, those of the first part that can be read.
    """
    if not (folder / REPORT_NAME).is_file():
        return None
    with contextlib.suppress(UnreadableTextError):
        return read_json(folder / REPORT_NAME, _Options).config
    for path in sorted((folder / PARTS_FOLDER).glob("part-*.h5")):
        with contextlib.suppress(StoreError):
            return parse_json(read_part(path).config_json.encode(), dict[str, Any])
    return None


def save_report(
    folder: Path,
    manifest: Manifest,
    manifest_digest: str,
    config: Mapping[str, Any],
    parts: Iterable[PartFile],
    failures: Iterable[Failure],
) -> None:
    """Write WORK's report: from now on its landmarks are finished."""
    files, failed = list(parts), count_reasons(failures)
    content = {
        "manifest_digest": manifest_digest,
        "config": config,
        "parts": [file.path.name for file in files],
        "part_digests": {file.path.name: {"plan_digest": file.plan_digest, "sha256": file.sha256} for file in files},
        "total": len(manifest.samples),
        "ok": len(manifest.samples) - sum(failed.values()),
        "failed": failed,
    }
    write_json(folder / REPORT_NAME, content)


def withdraw_report(folder: Path) -> None:
    """Take back WORK's report, before its parts change, and what was drawn or exported of it.

    Its landmarks are unfinished until the next report.
    """
    for name in MADE_OF_IT:
        (folder / name).unlink(missing_ok=True)
    withdraw(folder / REPORT_NAME)


def content_digest(manifest: Manifest) -> str:
    """Compute the identity of a manifest's rows and of the points that ship with them, however its file is laid out."""
    rows = hashlib.sha256()
    for line in render_lines(manifest.samples):
        rows.update(line.encode())
    return _identity(manifest, rows.hexdigest())


def _has_identity(manifest: Manifest, stated: str) -> bool:
    # A file laid out as this program does has its rows' digest, so they need not be laid out again.
    return _identity(manifest, manifest.digest) == stated or content_digest(manifest) == stated


def _identity(manifest: Manifest, rows: str) -> str:
    return rows if manifest.landmarks is None else digest([rows, sha256_file(manifest.landmarks)])


def landmark_failures(part: LandmarkPart) -> Iterator[Failure]:
    """List a part's samples without landmarks, each with its reason."""
    rows = zip(part.sample_ids, part.paths, part.reasons, part.details, strict=True)
    for sample_id, path, reason, detail in rows:
        if reason is not Reason.OK:
            yield Failure(sample_id, path, reason.key, detail)


def _row(part: LandmarkPart, at: int, sample: Sample) -> Row:
    height, width = part.source_size[at]
    return Row(
        sample=sample,
        reason=part.reasons[at],
        sha256=part.source_sha256[at],
        size=(int(height), int(width)),
        points=part.landmarks[at],
        pose=part.pose[at],
        score=float(part.score[at]),
        rung=int(part.rung[at]),
        faces_seen=int(part.faces_seen[at]),
    )
