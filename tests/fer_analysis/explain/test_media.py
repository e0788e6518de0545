"""Videos and photos as people have them: odd times, odd names."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from aupipe.fer_analysis.explain.inputs import InputPicture, open_source

IMAGE = cv2.resize(np.random.default_rng(3).integers(0, 256, (6, 8, 3), np.uint8), (64, 48))


def write_clip(path: Path, frames: int, codec: str = "MJPG", rate: int = 10) -> Path:
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), rate, (IMAGE.shape[1], IMAGE.shape[0]))
    assert video.isOpened()
    for _ in range(frames):
        video.write(IMAGE)
    video.release()
    return path


def retime(clip: Path, times: list[int]) -> Path:
    """Give the frames of a Matroska file that was written at 10 a second, up to five of them, these times in ms."""
    data = clip.read_bytes()
    for number, time in enumerate(times):  # a block: track 1, time, flags, and here a JPEG
        old = b"\x81" + struct.pack(">h", 100 * number) + b"\x80\xff\xd8"
        assert data.count(old) == 1
        data = data.replace(old, b"\x81" + struct.pack(">h", time) + b"\x80\xff\xd8")
    clip.write_bytes(data)
    return clip


def seconds(clip: Path, every: int = 1) -> list[float | None]:
    pictures = list(open_source(clip, every=every).pictures())
    assert all(isinstance(picture, InputPicture) for picture in pictures), pictures
    return [picture.seconds for picture in pictures if isinstance(picture, InputPicture)]


def test_frames_have_the_times_of_the_container(tmp_path: Path) -> None:
    clip = retime(write_clip(tmp_path / "vfr.mkv", 5), [0, 40, 100, 700, 1500])
    assert seconds(clip) == [0.0, 0.04, 0.1, 0.7, 1.5]
    assert seconds(clip, every=3) == [0.0, 0.7]


def test_a_video_whose_header_promises_too_many_frames_is_whole(tmp_path: Path) -> None:
    """Matroska has a length and a rate, but no number of frames: half as many frames, as long apart, are no damage."""
    clip = retime(write_clip(tmp_path / "slow.mkv", 4), [0, 1000, 2000, 3000])
    data = clip.read_bytes()
    at = data.index(b"\x44\x89\x88") + 3
    clip.write_bytes(data[:at] + struct.pack(">d", 3100.0) + data[at + 8 :])
    video = cv2.VideoCapture(str(clip))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) > 8
    assert seconds(clip) == [0.0, 1.0, 2.0, 3.0]


def test_times_without_one_in_the_container_go_on(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mpg", 6, "mpg1", 25)  # its last frame has none
    times = [time for time in seconds(clip) if time is not None]
    assert len(times) == 6 and (np.diff(times) > 0).all()


@pytest.mark.parametrize("name", ["cam.mts", "phone.3gp", "old.flv", "tv.ts"])
def test_a_video_by_another_name(tmp_path: Path, name: str) -> None:
    source = open_source(write_clip(tmp_path / name, 4, "FLV1" if name.endswith("flv") else "mp4v"))
    assert source.kind == "video" and len(list(source.pictures())) == 4


@pytest.mark.parametrize("name", ["clip", "clip.dat"])
def test_what_the_decoder_opens_is_a_video(tmp_path: Path, name: str) -> None:
    clip = write_clip(tmp_path / "clip.avi", 3).rename(tmp_path / name)
    assert open_source(clip).kind == "video"
    assert seconds(clip) == [0.0, 0.1, 0.2]


@pytest.mark.parametrize("name", ["photo", "photo.dat", "photo.jfif", "photo.gif"])
def test_a_photo_is_no_video_whatever_its_name(tmp_path: Path, name: str) -> None:
    data = cv2.imencode(".gif" if name.endswith("gif") else ".jpg", IMAGE)[1].tobytes()
    (tmp_path / name).write_bytes(data)
    (picture,) = open_source(tmp_path / name).pictures()
    assert isinstance(picture, InputPicture) and picture.seconds is None and picture.image.shape == IMAGE.shape


def test_heic_is_named_and_no_video(tmp_path: Path) -> None:
    (tmp_path / "IMG_1").write_bytes(b"\0\0\0\x1cftypheic\0\0\0\0mif1heicmiaf" + bytes(100))
    source = open_source(tmp_path / "IMG_1")
    (failure,) = source.pictures()
    assert source.kind == "image" and "HEIC" in getattr(failure, "detail", "")


def test_a_folder_takes_every_photo_that_can_be_decoded(tmp_path: Path) -> None:
    for name, form in {"a.gif": ".gif", "b.JFIF": ".jpg", "c": ".png", "d.avif": ".avif", "e.jpg": ".jpg"}.items():
        (tmp_path / name).write_bytes(cv2.imencode(form, IMAGE)[1].tobytes())
    (tmp_path / "note").write_text("hello")
    source = open_source(tmp_path)
    assert source.photos == ("a.gif", "b.JFIF", "c", "d.avif", "e.jpg") and source.ignored == 1
    assert all(isinstance(picture, InputPicture) for picture in source.pictures())
