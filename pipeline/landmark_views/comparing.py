"""Comparing two finished WORK folders of one manifest: read side by side, a part of each at a time."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32

from aupipe.fer_data.errors import UserInputError, paragraph
from aupipe.fer_data.geometry import inter_ocular
from aupipe.pipeline.landmark_views.agreement import (
    ANGLES,
    DIFFERENT_FACE,
    OUTCOMES,
    REGIONS,
    Agreement,
    Pair,
    Spread,
    spread,
)
from aupipe.pipeline.landmarks.work import FinishedWork, Row, open_work

YAW_EDGES = (0, 15, 30, 45, 60)
_BATCH = 512


def compare_landmarks(work_a: Path, work_b: Path, *, worst: int = 24) -> Agreement:
    """Compare two finished WORK folders of the same manifest.

    Both folders hold their samples in hash order, so they are read side by side, a part of each at a time.

    Args:
        work_a: One folder.
        work_b: The other one.
        worst: Number of the samples that disagree most to keep.

    Raises:
        UserInputError: The manifests differ.
        StoreError: A stage is not finished.
    """
    a, b = open_work(work_a), open_work(work_b)
    if a.manifest_digest != b.manifest_digest:
        raise UserInputError(
            paragraph(
                "These two folders hold the landmarks of different manifests, so their samples cannot be paired.",
                expected=f"manifest {a.manifest_digest[:12]} ({work_a})",
                got=f"manifest {b.manifest_digest[:12]} ({work_b})",
                fix="Run `aupipe landmarks` on one manifest with both detectors.",
            )
        )
    columns = _Columns(worst)
    for batch in _batches(zip(a.rows(), b.rows(), strict=True)):
        columns.add(batch)
    return columns.finish(_names(a, b), a)


def region_errors(a: Float[np.ndarray, "n 68 2"], b: Float[np.ndarray, "n 68 2"]) -> Float32[np.ndarray, "n 7"]:
    """Compute the NME of each pair of faces in percent, by :data:`REGIONS`."""
    eyes = np.maximum((inter_ocular(a) + inter_ocular(b)) / 2, 1.0)
    distances = np.linalg.norm(a - b, axis=-1) / eyes[:, None]
    return np.asarray(np.stack([100 * distances[:, region].mean(1) for region in REGIONS.values()], 1), np.float32)


def pose_change(a: Float[np.ndarray, "n 3"], b: Float[np.ndarray, "n 3"]) -> Float32[np.ndarray, "n 3"]:
    """Compute ``b - a`` in degrees, the short way round: in [-180, 180)."""
    return np.asarray((b - a + 180) % 360 - 180, np.float32)


class _Columns:
    """Collects compact columns batch by batch, and a heap of the worst pairs."""

    def __init__(self, worst: int) -> None:
        self._keep = worst
        self._ids: list[str] = []
        self._columns: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = []
        self._reasons: Counter[str] = Counter()
        self._heap: list[tuple[float, str, Pair]] = []

    def add(self, pairs: Sequence[tuple[Row, Row]]) -> None:
        outcome = np.array([_outcome(a, b) for a, b in pairs], np.uint8)
        both = outcome == 0
        nme, turned, yaw = (np.zeros((len(pairs), *shape), np.float32) for shape in ((len(REGIONS),), (3,), ()))
        found = [pair for pair, is_both in zip(pairs, both, strict=True) if is_both]
        if found:
            poses = [np.stack([pair[side].pose for pair in found]) for side in (0, 1)]
            nme[both] = region_errors(*(np.stack([pair[side].points for pair in found]) for side in (0, 1)))
            turned[both] = pose_change(*poses)
            yaw[both] = (np.abs(poses[0][:, 0]) + np.abs(poses[1][:, 0])) / 2
        self._ids += [a.sample.sample_id for a, _ in pairs]
        self._columns.append((outcome, nme, turned, yaw))
        for (a, b), kind, error in zip(pairs, outcome.tolist(), nme[:, -1].tolist(), strict=True):
            if kind == 0:
                self._push(Pair(a, b, error))
            elif kind < OUTCOMES.index("photo_changed"):
                self._reasons[_failure_reasons(a, b)] += 1

    def finish(self, names: tuple[str, str], work: FinishedWork) -> Agreement:
        outcome, nme, turned, yaw = (np.concatenate(columns) for columns in zip(*self._columns, strict=True))
        both = outcome == 0
        total = nme[both, -1]
        counts = np.bincount(outcome, minlength=len(OUTCOMES))
        return Agreement(
            names=names,
            title=work.title,
            root=work.manifest.root,
            outcomes=dict(zip(OUTCOMES, counts.tolist(), strict=True)),
            reasons=dict(sorted(self._reasons.items(), key=lambda item: (-item[1], item[0]))),
            regions={name: spread(nme[both, at]) for at, name in enumerate(REGIONS)},
            same_face=spread(total[total <= DIFFERENT_FACE]),
            by_yaw=_by_yaw(total, yaw[both]),
            pose={name: spread(np.abs(turned[both, at])) for at, name in enumerate(ANGLES)},
            different_faces=int((total > DIFFERENT_FACE).sum()),
            worst=tuple(pair for _, _, pair in sorted(self._heap, key=lambda item: (-item[0], item[1]))),
            sample_ids=tuple(self._ids),
            outcome=outcome,
            nme=nme,
            turned=turned,
        )

    def _push(self, pair: Pair) -> None:
        heapq.heappush(self._heap, (pair.nme, pair.a.sample.sample_id, pair))
        if len(self._heap) > self._keep:
            heapq.heappop(self._heap)


def _batches(pairs: Iterable[tuple[Row, Row]]) -> Iterator[list[tuple[Row, Row]]]:
    rest = iter(pairs)
    while batch := list(islice(rest, _BATCH)):
        yield batch


def _outcome(a: Row, b: Row) -> int:
    if a.sha256 != b.sha256:
        return OUTCOMES.index("photo_changed")
    return 2 * (not a.found) + (not b.found)


def _failure_reasons(a: Row, b: Row) -> str:
    if a.found or b.found:
        return f"only a, b: {b.reason.key}" if a.found else f"only b, a: {a.reason.key}"
    return f"neither: {a.reason.key}" + ("" if a.reason is b.reason else f" / {b.reason.key}")


def _names(a: FinishedWork, b: FinishedWork) -> tuple[str, str]:
    if a.detector != b.detector:
        return a.detector, b.detector
    folders = a.folder.resolve(), b.folder.resolve()
    alike = folders[0].name == folders[1].name
    first, second = (f"{folder.parent.name}/{folder.name}" if alike else folder.name for folder in folders)
    return f"{a.detector} ({first})", f"{b.detector} ({second})"


def _by_yaw(nme: Float32[np.ndarray, "n"], yaw: Float32[np.ndarray, "n"]) -> dict[str, Spread]:
    found = {}
    for low, high in zip(YAW_EDGES, (*YAW_EDGES[1:], None), strict=True):
        inside = (yaw >= low) & (yaw < (np.inf if high is None else high))
        found[f"{low}-{high}°" if high is not None else f"{low}° and more"] = spread(nme[inside])
    return found
