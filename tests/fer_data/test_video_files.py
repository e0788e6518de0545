"""Videos that are written: what stands under the name is whole, and the same each time."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from aupipe.fer_data import video_files
from aupipe.fer_data.errors import FerError, UserInputError
from aupipe.fer_data.video_files import CODECS, VideoFacts, check_video_name, read_facts, write_video


def pictures(count: int, height: int = 48, width: int = 64) -> list[np.ndarray]:
    """Bars that move, so that every frame is another."""
    drawn = [np.full((height, width, 3), (200, 120, 40), np.uint8) for _ in range(count)]
    for number, image in enumerate(drawn):
        image[:, : 4 * number] = (20, 60, 220)
    return drawn


def write(path: Path, frames: list[np.ndarray], rate: float = 12.5) -> VideoFacts:
    with write_video(path, rate) as video:
        for frame in frames:
            video.add(frame)
    return video.facts


@pytest.mark.parametrize("ending", [*CODECS, ".MP4"])
@pytest.mark.parametrize("rate", [2.0, 29.97, 59.94])
def test_a_video_is_what_was_said_of_it(tmp_path: Path, ending: str, rate: float) -> None:
    facts = write(tmp_path / f"clip{ending}", pictures(9), rate)
    assert facts == VideoFacts(9, 64, 48, rate)
    found = read_facts(tmp_path / f"clip{ending}")
    assert (found.frames, found.width, found.height) == (9, 64, 48) and found.rate == pytest.approx(rate, rel=0.01)
    assert [path.name for path in tmp_path.iterdir()] == [f"clip{ending}"]


@pytest.mark.parametrize("ending", CODECS)
def test_the_pictures_come_back_in_their_colours(tmp_path: Path, ending: str) -> None:
    frames = pictures(5)
    write(tmp_path / f"clip{ending}", frames)
    video = cv2.VideoCapture(str(tmp_path / f"clip{ending}"))
    for frame in frames:
        ok, image = video.read()
        assert ok
        assert np.abs(cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(int) - frame).mean() < 8
    video.release()


@pytest.mark.parametrize("ending", CODECS)
def test_the_same_frames_give_the_same_bytes(tmp_path: Path, ending: str) -> None:
    for name in ("a", "b"):
        write(tmp_path / f"{name}{ending}", pictures(6))
    assert (tmp_path / f"a{ending}").read_bytes() == (tmp_path / f"b{ending}").read_bytes()


def test_what_ends_midway_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), write_video(tmp_path / "clip.mp4", 10) as video:
        video.add(pictures(1)[0])
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_video_that_lost_a_frame_is_not_kept(tmp_path: Path) -> None:
    frames = pictures(3)
    message = r"not read back.*Expected: 4 frames of 64 x 48 pixels, 10 a second\. Got: 3 frames"
    with pytest.raises(FerError, match=message), write_video(tmp_path / "clip.avi", 10) as video:
        for frame in frames:
            video.add(frame)
        video.add(np.zeros((20, 20, 3), np.uint8))  # which the encoder drops in silence
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_taken_or_unknown_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.mp4").write_bytes(b"mine")
    (tmp_path / "link.avi").symlink_to("nowhere")
    for name in ("mine.mp4", "link.avi"):
        with pytest.raises(UserInputError, match="is there already"):
            check_video_name(tmp_path / name)
    with pytest.raises(UserInputError, match=r"an ending of \.mp4, \.avi\. Got: '\.gif'"):
        check_video_name(tmp_path / "clip.gif")
    check_video_name(tmp_path / "new.mp4")
    assert {path.name for path in tmp_path.iterdir()} == {"mine.mp4", "link.avi"}


def test_a_codec_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(video_files.CODECS, ".mp4", "none")
    with pytest.raises(UserInputError, match=r"cannot write \.mp4 videos.*the codec none.*ends in \.avi"):
        check_video_name(tmp_path / "clip.mp4")
