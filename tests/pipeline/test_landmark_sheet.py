from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aupipe.fer_data.errors import UserInputError
from aupipe.fer_data.files import sha256_file
from aupipe.fer_data.images import read_image
from aupipe.fer_data.landmark_parts import LandmarkRow
from aupipe.fer_data.types import Reason
from aupipe.pipeline.landmark_views import drawing, sheet, write_sheet
from aupipe.pipeline.landmark_views.sheet import pick_rows
from aupipe.pipeline.landmarks.work import open_work
from aupipe.pipeline.planning import hash_order
from landmark_works import failed, make_work, samples_of
from offline import Built

SIDE = drawing.SIDE


def doubts(number: int, row: LandmarkRow) -> LandmarkRow:
    """Score 0.5 for 2, 4, 6, 8, told apart by rung, then by pose; 0.4 for 7; failures 3 (no face) and 5 (no file)."""
    if number in (3, 5):
        return failed(row, Reason.NO_FACE if number == 3 else Reason.MISSING_FILE)
    score = {7: 0.4}.get(number, 0.9 if number % 2 else 0.5)
    yaw = {6: -40.0, 8: 10.0}.get(number, 0.0)
    pose = np.array([yaw, 0, 90], np.float32)
    return replace(row, score=score, rung=int(number == 4), pose=pose)


def names(rows: tuple[object, ...]) -> list[str]:
    return [row.sample.sample_id for row in rows]  # type: ignore[attr-defined]


def test_the_rows_of_a_sheet(tmp_path: Path) -> None:
    work = make_work(tmp_path, edit=doubts)
    picked = pick_rows(open_work(work).rows(), 5)
    order = [sample.sample_id for sample in hash_order(samples_of(10))]
    assert names(picked.random) == [key for key in order if key not in ("s/003", "s/005")][:5]
    assert names(picked.doubtful[:4]) == ["s/007", "s/004", "s/006", "s/008"]
    assert len(picked.doubtful) == 5
    assert names(picked.failed) == ["s/003"]
    assert (picked.found_count, picked.failed_count, picked.unreadable_count) == (8, 2, 1)


def test_profiles_are_counted_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def turned(number: int, row: LandmarkRow) -> LandmarkRow:
        return replace(row, pose=np.array([{2: 45.5, 4: -60, 6: 45}.get(number, 0), 0, 0], np.float32))

    drawn: list[tuple[str, list[str]]] = []

    def compose(title: str, note: str, sections: Sequence[drawing.FaceSection]) -> np.ndarray:
        facts = [tile.caption[0] for tile in sections[0].tiles if tile.caption[-1].endswith("profile")]
        drawn.append((note, facts))
        return np.zeros((8, 8, 3), np.uint8)

    monkeypatch.setattr(sheet, "compose", compose)
    write_sheet(make_work(tmp_path, edit=turned), tmp_path / "sheet.png")
    assert drawn[0][0].endswith("2 profiles (yaw above 45°)") and sorted(drawn[0][1]) == ["s/002", "s/004"]


def test_few_are_chosen_as_if_many_were(tmp_path: Path) -> None:
    rows = list(open_work(make_work(tmp_path, count=60)).rows())
    many, few = pick_rows(rows, 60), pick_rows(rows, 7)
    assert few.doubtful == many.doubtful[:7] and few.random == many.random[:7]


def test_a_sheet_is_drawn_and_the_same_twice(tmp_path: Path) -> None:
    work = make_work(tmp_path, count=30)
    write_sheet(work, tmp_path / "a.png", count=9)
    write_sheet(make_work(tmp_path, "other", count=30, part_size=7), tmp_path / "b.png", count=9)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    sheet = read_image(tmp_path / "a.png")
    assert sheet.shape[1] == 2 * 28 + 8 * SIDE + 7 * 14
    rows_of_tiles = 2 + 2 + 1
    assert sheet.shape[0] > rows_of_tiles * (SIDE + 3 * 17)
    assert (sheet[:, :20] == 255).all() and (sheet[:, -20:] == 255).all(), "the margins are empty"


def test_a_photo_that_is_gone_or_changed_is_a_grey_tile(tmp_path: Path) -> None:
    photo = tmp_path / "p.png"
    cv2.imwrite(str(photo), np.zeros((8, 9, 3), np.uint8))
    digest = sha256_file(photo)
    read = drawing.load_photo(photo, digest)
    assert isinstance(read, np.ndarray) and read.shape == (8, 9, 3)
    assert drawing.load_photo(photo, "0" * 64) == "photo changed"
    assert drawing.load_photo(tmp_path / "none.png", digest) == "photo missing"
    photo.write_text("no image")
    assert drawing.load_photo(photo, sha256_file(photo)) == "not readable"
    grey = drawing.notice_picture("photo missing")
    assert 0.7 < (grey == grey[0, 0]).all(-1).mean() < 1.0, "grey with something written on it"


def test_a_sheet_survives_missing_and_changed_photos(tmp_path: Path) -> None:
    work = make_work(tmp_path)
    write_sheet(work, tmp_path / "whole.png", count=4)
    for photo in (tmp_path / "faces" / "s").iterdir():
        photo.write_bytes(b"changed") if photo.stem < "005" else photo.unlink()
    write_sheet(work, tmp_path / "hurt.png", count=4)
    whole, hurt = read_image(tmp_path / "whole.png"), read_image(tmp_path / "hurt.png")
    assert whole.shape == hurt.shape and (whole != hurt).any()


def test_a_sheet_of_failures_only_and_of_none(tmp_path: Path) -> None:
    write_sheet(make_work(tmp_path, "a", edit=lambda _, row: failed(row, Reason.NO_FACE)), tmp_path / "a.png")
    write_sheet(make_work(tmp_path, "b", edit=lambda _, row: row), tmp_path / "b.png")
    assert read_image(tmp_path / "a.png").shape[0] < read_image(tmp_path / "b.png").shape[0]


def test_a_count_below_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match="at least 1"):
        write_sheet(make_work(tmp_path), tmp_path / "a.png", count=0)


@pytest.mark.parametrize("size", [40, 96, 700])
def test_points_are_drawn_where_they_lie(size: int) -> None:
    photo = np.zeros((size, size, 3), np.uint8)
    photo[round(0.3 * size), round(0.6 * size)] = (0, 255, 0)
    points = np.tile([[0.25 * size, 0.25 * size]], (68, 1))
    points[0] = (0.75 * size, 0.75 * size)
    points[1] = (round(0.6 * size), round(0.3 * size))
    picture = drawing.face_picture(photo, [(points, (255, 0, 255))], zoom=1.5).astype(float)
    pink = np.argwhere(picture[..., 0] > 128)
    low, high = pink[pink.sum(1) < SIDE * 0.8].mean(0), pink[pink.sum(1) > SIDE * 1.2].mean(0)
    # The square's side is 0.75 of the photo's, its centre the points' centre: dots at 1/6 and 5/6.
    slack = 1 + SIDE / size
    np.testing.assert_allclose(low, (SIDE / 6, SIDE / 6), atol=slack)
    np.testing.assert_allclose(high, (SIDE * 5 / 6, SIDE * 5 / 6), atol=slack)


def test_a_dot_sits_on_its_pixel() -> None:
    photo = np.zeros((20, 20, 3), np.uint8)
    photo[6, 13] = (255, 255, 255)
    points = np.tile([[5.0, 5.0]], (68, 1))
    points[0], points[1] = (15.0, 15.0), (13.0, 6.0)
    plain = drawing.face_picture(photo, [(points[[0, 2]], (255, 0, 0))])
    marked = drawing.face_picture(photo, [(points, (255, 0, 0))])
    pixel = (plain[..., 2].astype(float) > 100).nonzero()
    dot = (np.abs(marked.astype(float) - plain).sum(-1) > 200).nonzero()
    np.testing.assert_allclose(np.mean(dot, 1), np.mean(pixel, 1), atol=0.6)


def test_wild_points_ask_for_no_wild_picture() -> None:
    points = np.tile([[5.0, 5.0]], (68, 1))
    points[0] = (1e9, -1e9)
    assert drawing.face_picture(np.zeros((20, 30, 3), np.uint8), [(points, drawing.WHITE)]).shape == (SIDE, SIDE, 3)


@pytest.mark.parametrize("shape", [(48, 48), (1000, 30), (3, 500), (1, 1)])
def test_a_whole_photo_fits_its_tile(shape: tuple[int, int]) -> None:
    picture = drawing.whole_picture(np.zeros((*shape, 3), np.uint8))
    black = np.argwhere(picture.max(-1) < 20)
    assert picture.shape == (SIDE, SIDE, 3)
    assert (black.max(0) - black.min(0) + 1).max() == SIDE
    assert np.abs(black.min(0) + black.max(0) - (SIDE - 1)).max() <= 1, "centred"


@given(st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z", "M")), max_size=60), st.integers(30, 200))
def test_captions_fit(text: str, width: int) -> None:
    short = drawing.shorten(text, width)
    assert short == text or drawing.text_width(short, 12) <= width
    if "…" in short and "…" not in text:
        head, tail = short.split("…")
        assert text.startswith(head) and text.endswith(tail)
        assert len(tail) >= len(head)


def test_a_long_id_keeps_its_end() -> None:
    short = drawing.shorten("dataset/faces/aligned/person_one_of_many_00017.jpg", 120)
    assert short.startswith("da") and short.endswith("00017.jpg") and drawing.text_width(short, 12) > 100
    head, tail = short.split("…")
    assert len(tail) > 1.5 * len(head), "ids differ at their ends"


def test_a_sheet_of_a_real_run(built: Built, tmp_path: Path) -> None:
    write_sheet(built.work, tmp_path / "sheet.png", count=8)
    sheet = read_image(tmp_path / "sheet.png")
    # Three blocks of one row each; the portraits are coloured, the page is not.
    assert 3 * SIDE < sheet.shape[0] < 3 * (SIDE + 150) + 100
    assert (np.ptp(sheet.astype(int), axis=-1) > 40).mean() > 0.05
