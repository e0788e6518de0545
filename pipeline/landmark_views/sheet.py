"""The contact sheet: a fair draw of faces with their points, the ones the detector was least sure of, the failures."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from aupipe.fer_data.errors import UserInputError, paragraph
from aupipe.fer_data.files import atomic_path
from aupipe.fer_data.geometry import PROFILE_YAW
from aupipe.fer_data.images import write_png
from aupipe.fer_data.types import Reason
from aupipe.pipeline.landmark_views.drawing import (
    WHITE,
    FaceSection,
    FaceTile,
    compose,
    face_picture,
    load_photo,
    notice_picture,
    whole_picture,
)
from aupipe.pipeline.landmarks.work import FinishedWork, Row, open_work

RANKING = "lowest detector score first; ties: higher rung, then larger |yaw| + |pitch|, then sample id"
_UNREADABLE = frozenset({Reason.MISSING_FILE, Reason.UNREADABLE, Reason.TOO_LARGE, Reason.NO_ACCESS})


@dataclass(frozen=True)
class SheetRows:
    """The rows of a sheet, and how many there were to choose from."""

    random: tuple[Row, ...]
    doubtful: tuple[Row, ...]
    failed: tuple[Row, ...]
    found_count: int
    profile_count: int
    failed_count: int
    unreadable_count: int


def write_sheet(work: Path, out: Path, count: int = 24) -> None:
    """Write a contact sheet of faces and failures; the same landmarks give the same sheet.

    Random: the first found samples in hash order. Doubtful: by :data:`RANKING`. Failures: the first in hash order
    whose photo can be read, with the reason. A photo that is missing or was changed since becomes a grey tile.

    Args:
        work: A finished WORK folder.
        out: The PNG to write.
        count: Tiles in each of the three sections, at most.

    Raises:
        StoreError: The stage is not finished.
        UserInputError: The count is below 1.
    """
    if count < 1:
        raise UserInputError(paragraph("A contact sheet needs room.", expected="a count of at least 1", got=count))
    finished = open_work(work)
    picked = pick_rows(finished.rows(), count)
    sections = (
        FaceSection(
            "Random sample",
            f"{len(picked.random)} of {picked.found_count} faces found: the first in hash order, not chosen by eye",
            tuple(_face_tile(row, finished) for row in picked.random),
        ),
        FaceSection("Least sure", RANKING, tuple(_face_tile(row, finished) for row in picked.doubtful)),
        FaceSection(
            "Without landmarks", _failure_note(picked), tuple(_failure_tile(row, finished) for row in picked.failed)
        ),
    )
    total = picked.found_count + picked.failed_count
    profiles = f"{picked.profile_count} profiles (yaw above {PROFILE_YAW:.0f}°)"
    note = f"detector {finished.detector} · {picked.found_count} of {total} samples with landmarks · {profiles}"
    with atomic_path(out) as temporary:
        write_png(temporary, compose(f"Landmarks of {finished.title}", note, sections))


def pick_rows(rows: Iterable[Row], count: int) -> SheetRows:
    """Choose the sheet's rows in one pass, keeping at most ``count`` of each kind in memory."""
    random, failed, doubtful = list[Row](), list[Row](), list[tuple[_Doubt, Row]]()
    found_count = profile_count = failed_count = unreadable_count = 0
    for row in rows:
        if row.found:
            found_count += 1
            profile_count += row.profile
            if len(random) < count:
                random.append(row)
            _push(doubtful, row, count)
        else:
            failed_count += 1
            unreadable_count += row.reason in _UNREADABLE
            if len(failed) < count and row.reason not in _UNREADABLE:
                failed.append(row)
    ordered = [row for _, row in sorted(doubtful, key=lambda item: item[0], reverse=True)]
    counts = found_count, profile_count, failed_count, unreadable_count
    return SheetRows(tuple(random), tuple(ordered), tuple(failed), *counts)


@dataclass(frozen=True, order=True)
class _Doubt:
    """Sorts rows by :data:`RANKING`, the most doubtful largest."""

    unsure: float
    rung: int
    turned: float
    sample_id: str


def _push(heap: list[tuple[_Doubt, Row]], row: Row, count: int) -> None:
    turned = float(abs(row.pose[0]) + abs(row.pose[1]))
    item = (_Doubt(-row.score, row.rung, turned, row.sample.sample_id), row)
    if len(heap) < count:
        heapq.heappush(heap, item)
    elif item[0] > heap[0][0]:
        heapq.heapreplace(heap, item)


def _face_tile(row: Row, work: FinishedWork) -> FaceTile:
    photo = load_photo(work.manifest.root / row.sample.path, row.sha256)
    picture = notice_picture(photo) if isinstance(photo, str) else face_picture(photo, [(row.points, WHITE)])
    facts = f"score {row.score:.2f} · rung {row.rung} · yaw {round(float(row.pose[0])):+d}°"
    facts += " · profile" if row.profile else ""
    return FaceTile(picture, (row.sample.sample_id, row.sample.label, facts))


def _failure_tile(row: Row, work: FinishedWork) -> FaceTile:
    photo = load_photo(work.manifest.root / row.sample.path, row.sha256)
    picture = notice_picture(photo) if isinstance(photo, str) else whole_picture(photo)
    return FaceTile(picture, (row.sample.sample_id, row.sample.label, row.reason.key))


def _failure_note(picked: SheetRows) -> str:
    if not picked.failed_count:
        return "none: every sample has landmarks"
    note = f"{len(picked.failed)} of {picked.failed_count}: the first in hash order"
    return note + (f"; {picked.unreadable_count} have no photo to show" if picked.unreadable_count else "")
