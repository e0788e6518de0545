"""Finished WORK folders of the landmark stage, written directly: no detector runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from aupipe.fer_data.au_maps.mean_face import mean_face
from aupipe.fer_data.files import canonical_json, sha256_file
from aupipe.fer_data.landmark_parts import LandmarkRow, PartFile, write_part
from aupipe.fer_data.manifest import read_manifest, write_manifest
from aupipe.fer_data.types import Reason, Sample
from aupipe.pipeline.landmarks.work import MANIFEST_NAME, PARTS_FOLDER, content_digest, save_report
from aupipe.pipeline.planning import batched, hash_order

SIDE = 96
LABELS = ("anger", "happiness", "neutral")
SPLITS = ("train", "val", "test")

Edit = Callable[[int, LandmarkRow], LandmarkRow]


def samples_of(count: int) -> list[Sample]:
    """Sample number i has the label i mod 3 and the split i div 3 mod 3."""
    return [
        Sample(f"s/{i:03d}", f"s/{i:03d}.png", LABELS[i % 3], LABELS[i % 3], SPLITS[i // 3 % 3]) for i in range(count)
    ]


def failed(row: LandmarkRow, reason: Reason) -> LandmarkRow:
    """The row as a failure."""
    seen = reason not in (Reason.MISSING_FILE, Reason.UNREADABLE)
    return LandmarkRow(
        row.sample_id,
        row.path,
        reason,
        "" if reason is Reason.MISSING_FILE else row.source_sha256,
        row.source_size if seen else (0, 0),
        rung=2 if seen else 0,
    )


def some_failures(number: int, row: LandmarkRow) -> LandmarkRow:
    """Sample 3 has no face, 5 no file; 1 has no mesh."""
    reason = {3: Reason.NO_FACE, 5: Reason.MISSING_FILE}.get(number)
    if reason is not None:
        return failed(row, reason)
    return replace(row, mesh=None, blendshapes=None) if number == 1 else row


def make_work(
    folder: Path,
    name: str = "work",
    *,
    count: int = 10,
    part_size: int = 4,
    detector: str = "toy",
    edit: Edit = some_failures,
    samples: list[Sample] | None = None,
) -> Path:
    """WORK of ``count`` samples whose photos lie in ``folder/faces``; ``edit`` changes row i before it is written."""
    chosen = samples if samples is not None else samples_of(count)
    root, work = folder / "faces", folder / name
    write_manifest(work / MANIFEST_NAME, chosen, root=root, layout="folder")
    config: dict[str, Any] = {
        "detector": detector,
        "ladder": [{"confidence": 0.5, "grey": 0, "padding": 0.25 * i, "twice": i == 2} for i in range(3)],
    }
    numbers = {sample.sample_id: number for number, sample in enumerate(chosen)}
    parts = []
    for at, part in enumerate(batched(hash_order(chosen), part_size)):
        rows = [edit(numbers[sample.sample_id], found_row(root, sample, numbers[sample.sample_id])) for sample in part]
        path = work / PARTS_FOLDER / f"part-{at:05d}.h5"
        write_part(path, rows, "plan", canonical_json(config))
        parts.append(PartFile(path, sha256_file(path), "plan"))
    manifest = read_manifest(work / MANIFEST_NAME)
    save_report(work, manifest, content_digest(manifest), config, parts, [])
    return work


def found_row(root: Path, sample: Sample, number: int) -> LandmarkRow:
    """A found face, the same for the same number; writes the photo if it is not there."""
    rng = np.random.default_rng(number)
    photo = root / sample.path
    if not photo.exists():
        photo.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng([number, 1]).integers(60, 120, (SIDE, SIDE, 3), np.uint8)
        cv2.imwrite(str(photo), noise)
    return LandmarkRow(
        sample_id=sample.sample_id,
        path=sample.path,
        reason=Reason.OK,
        source_sha256=sha256_file(photo),
        source_size=(SIDE, SIDE),
        landmarks=(mean_face(SIDE) + rng.normal(0, 0.5, (68, 2))).astype(np.float32),
        mesh=rng.normal(48, 20, (478, 3)).astype(np.float32),
        blendshapes=rng.random(52).astype(np.float32),
        pose=rng.normal(0, 12, 3).astype(np.float32),
        score=float(np.float32(0.9 - 0.01 * number)),
        rung=number % 2,
        faces_seen=1 + number % 3,
    )
