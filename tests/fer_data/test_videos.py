"""Videos that end the process that decodes them, or keep it for ever."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

import deadly_videos
from aupipe.fer_data import videos
from aupipe.fer_data.types import Reason
from aupipe.fer_data.videos import LostFrame, VideoFrame, VideoHeader, video_frames, video_header

CLIP = Path("clip.avi")


def test_a_video_that_ends_the_decoder_is_read_as_far_as_it_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(videos, "_frames", deadly_videos.dies_after_two)
    *frames, lost = video_frames(CLIP, 1)
    assert [frame.number for frame in frames] == [0, 1]
    assert isinstance(lost, LostFrame) and (lost.number, lost.reason) == (2, Reason.WORKER_DIED)
    assert "signal 11" in lost.detail


def test_a_decoder_that_dies_late_did_not_stand_still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(videos, "_frames", deadly_videos.dies_after_two)
    frames = video_frames(CLIP, 1)
    next(frames)
    time.sleep(0.2)  # who looks at the frames takes longer than the decoder may keep silent
    monkeypatch.setattr(videos, "PATIENCE", 0.1)
    *_, lost = frames
    assert isinstance(lost, LostFrame) and "signal 11" in lost.detail


def test_a_decoder_that_stands_still_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(videos, "_frames", deadly_videos.stands_still_after_one)
    frames = video_frames(CLIP, 1)
    assert isinstance(next(frames), VideoFrame)
    monkeypatch.setattr(videos, "PATIENCE", 0.1)
    (lost,) = frames
    assert isinstance(lost, LostFrame) and lost.number == 1 and "no sign of life" in lost.detail


def test_a_file_whose_head_ends_the_decoder_is_a_video(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(videos, "_header", deadly_videos.dies)
    assert video_header(CLIP) == VideoHeader(True, 1)
