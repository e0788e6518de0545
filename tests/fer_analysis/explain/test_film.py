"""The annotated video: every frame that was looked at, with what was seen, or why nothing was."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

import aupipe
import deadly_videos
from aupipe.commands import cli
from aupipe.fer_analysis.explain import InputPicture, OpenRun, Source, explain, open_source
from aupipe.fer_analysis.explain.film import Film, check_film
from aupipe.fer_analysis.explain.film_frame import ROWS, film_frame, looked_at
from aupipe.fer_analysis.explain.seen import SeenPicture, seen_pictures
from aupipe.fer_data import videos
from aupipe.fer_data.errors import UserInputError
from aupipe.fer_data.images import read_image, write_png
from aupipe.fer_data.types import Failure, Silent
from aupipe.fer_data.video_files import VideoFacts, read_facts
from aupipe.pipeline.photos import PhotoPreparer
from explain_runs import Trained

HOUSE = Path(__file__).parents[3] / ".house"
GREY = np.full((120, 150, 3), 90, np.uint8)


def face_frame(trained: Trained, expression: str = "happiness") -> np.ndarray:
    """A face of the test photos on a grey ground."""
    face = read_image(trained.built.dataset.root / "test" / expression / f"{expression}0.png")
    frame = GREY.copy()
    frame[10:110, 20:120] = cv2.resize(face, (100, 100))
    return frame


@pytest.fixture(scope="module")
def clip(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four frames with a face, one without, then three with another, at 12.5 a second."""
    path = tmp_path_factory.mktemp("clip") / "clip.avi"
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 12.5, (150, 120))
    for frame in [face_frame(trained)] * 4 + [GREY] + [face_frame(trained, "fear")] * 3:
        video.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    video.release()
    return path


def frames_of(path: Path) -> list[np.ndarray]:
    video = cv2.VideoCapture(str(path))
    frames = []
    while (got := video.read())[0]:
        frames.append(cv2.cvtColor(got[1], cv2.COLOR_BGR2RGB))
    video.release()
    return frames


def pictures_of(opened: OpenRun, preparer: PhotoPreparer, clip: Path) -> list[SeenPicture]:
    return list(seen_pictures(opened, open_source(clip), preparer))


def test_every_frame_passes_through_and_says_what_was_seen(
    clip: Path, opened: OpenRun, preparer: PhotoPreparer, tmp_path: Path
) -> None:
    report = explain(opened, open_source(clip), None, preparer, Silent(), video=tmp_path / "seen.mp4")
    facts = report.video_facts
    assert facts is not None and facts == VideoFacts(8, 480, facts.height, 12.5) and facts.height > 384
    assert f"  video: {tmp_path / 'seen.mp4'}: 8 frames of 480 x {facts.height} pixels, 12.5 a second" in report.lines()
    assert (report.pictures, report.explained, report.faces, report.files) == (8, 7, 7, ())
    assert [failure.reason for failure in report.failures] == ["no_face"]
    assert [path.name for path in tmp_path.iterdir()] == ["seen.mp4"]
    frames = frames_of(tmp_path / "seen.mp4")
    seen = pictures_of(opened, preparer, clip)
    for one, frame in zip(seen, frames, strict=True):
        assert one.picture is not None
        drawn = film_frame(opened, one, one.picture.image)
        assert np.abs(drawn.astype(int) - frame).mean() < 6  # what the codec loses
    assert np.abs(frames[4][:384].astype(int) - 90).max() < 12, "a frame without a face passes as it is"
    assert frames[4][384:].max() > 150, "with a word below"
    assert np.abs(frames[0][:384].astype(int) - frames[4][:384]).mean() > 20


def test_the_words_are_the_prediction_and_the_units_of_most_attention(
    clip: Path, opened: OpenRun, preparer: PhotoPreparer, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    monkeypatch.setattr(
        "aupipe.fer_analysis.explain.film_frame._write", lambda image, text, *_: written.append(text) or None
    )
    seen = pictures_of(opened, preparer, clip)
    for one in (seen[0], seen[4]):
        assert one.picture is not None
        film_frame(opened, one, one.picture.image)
    (result,) = seen[0].faces
    predicted = opened.record.classes[result.prediction.predicted]
    said = " ".join(written[: written.index(next(row for row in written if row.startswith("colour:")))])
    assert said.startswith(f"{predicted} {result.confidence():.0%}, looks most at AU ")
    best = max(result.card.action_units, key=lambda unit: unit.lift)
    assert f"most at AU {best.number} {best.name} " in said and f"{best.lift:.1f} ×" in said
    assert written[-2:] == ["no face", written[-1]]


def test_places_are_named_once_and_only_above_chance(clip: Path, opened: OpenRun, preparer: PhotoPreparer) -> None:
    (result,) = pictures_of(opened, preparer, clip)[0].faces
    units = result.card.action_units
    shared = next(group for group in result.card.shared if len(group) > 2)
    even = [dataclasses.replace(u, attention=dataclasses.replace(u.attention, share=u.chance)) for u in units]
    assert looked_at(dataclasses.replace(result.card, action_units=tuple(even)), 3) == ""
    twice = [dataclasses.replace(u, attention=dataclasses.replace(u.attention, share=2 * u.chance)) for u in units]
    high = [two if two.number in shared else one for one, two in zip(even, twice, strict=True)]
    said = looked_at(dataclasses.replace(result.card, action_units=tuple(high)), 3)
    assert said.count("AU") == 1 and all(str(number) in said for number in shared) and "2.0" in said


def test_a_model_that_knows_nothing_says_so_in_every_frame(
    clip: Path, opened: OpenRun, preparer: PhotoPreparer, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    monkeypatch.setattr(
        "aupipe.fer_analysis.explain.film_frame._write", lambda image, text, *_: written.append(text) or None
    )
    knowing_nothing = dataclasses.replace(opened, standing=("This model knows nothing that could be explained: 14 %.",))
    film_frame(knowing_nothing, pictures_of(opened, preparer, clip)[4], GREY)
    assert " ".join(written).startswith("This model knows nothing that could be explained. no face")


def test_several_faces_are_numbered(
    trained: Trained, opened: OpenRun, preparer: PhotoPreparer, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = np.concatenate([face_frame(trained), face_frame(trained, "fear")], 1)

    class Given(Source):
        def pictures(self):  # type: ignore[no-untyped-def]
            yield InputPicture("clip/frame-000000", frame, frame=0)

    preparer_of_all = PhotoPreparer(opened.preparation, faces="all")
    (seen,) = seen_pictures(opened, Given(Path("clip.avi"), "video", 1), preparer_of_all)
    preparer_of_all.close()
    assert len(seen.faces) == 2
    written: list[str] = []
    monkeypatch.setattr(
        "aupipe.fer_analysis.explain.film_frame._write", lambda image, text, *_: written.append(text) or None
    )
    film_frame(opened, seen, frame)
    labels, below = written[:4:2], written[4:]  # each label twice: its shadow, then itself
    classes = [opened.record.classes[result.prediction.predicted] for result in seen.faces]
    assert [label.split("\u00a0")[0] for label in labels] == [f"1 {classes[0]}", f"2 {classes[1]}"]
    assert below[0].startswith("most looked at: (1) AU ") and len(below) <= ROWS + 1


@pytest.mark.parametrize(
    ("shape", "width"), [((30, 21), 336), ((480, 640), 640), ((1080, 1921), 1920), ((1200, 3841), 1920)]
)
def test_frames_are_large_enough_to_read_and_even(opened: OpenRun, shape: tuple[int, int], width: int) -> None:
    seen = SeenPicture(None, (), (Failure("a", "a", "no_face", "x" * 300),))
    drawn = film_frame(opened, seen, np.full((*shape, 3), 7, np.uint8))
    assert drawn.shape[1] == width and drawn.shape[0] % 2 == 0 and drawn.dtype == np.uint8


@pytest.mark.parametrize("every", [2, 1500])
def test_frames_that_are_lost_at_the_start_are_there_at_any_rate(
    clip: Path, opened: OpenRun, tmp_path: Path, every: int
) -> None:
    lost = SeenPicture(None, (), (Failure("a", "a", "unreadable", "damaged"),))
    seen = SeenPicture(InputPicture("b", np.full((64, 64, 3), 9, np.uint8)), (), (Failure("b", "b", "no_face", ""),))
    film = Film(opened, open_source(clip, every), tmp_path / "seen.mp4")
    assert list(film.watch([lost, lost, seen, lost])) == [lost, lost, seen, lost]
    assert film.facts is not None and film.facts.frames == read_facts(tmp_path / "seen.mp4").frames == 4


def test_page_and_video_are_made_of_one_look(
    clip: Path, opened: OpenRun, preparer: PhotoPreparer, tmp_path: Path
) -> None:
    out, video = tmp_path / "out", tmp_path / "out" / "seen.mp4"
    report = explain(opened, open_source(clip, 3), out, preparer, Silent(), video=video)
    assert report.video_facts is not None and report.video_facts.frames == 3
    assert report.video_facts.rate == pytest.approx(12.5 / 3, abs=0.001)
    assert json.loads((out / "explain.json").read_text())["video"]["frames"] == 3
    assert (out / "faces.csv").is_file() and read_facts(video).frames == 3


def test_the_same_video_gives_the_same_bytes(
    clip: Path, opened: OpenRun, preparer: PhotoPreparer, tmp_path: Path
) -> None:
    for name in ("a.mp4", "b.mp4"):
        explain(opened, open_source(clip, 2), None, preparer, Silent(), video=tmp_path / name)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_what_cannot_be_decoded_is_grey_and_says_so(
    opened: OpenRun, preparer: PhotoPreparer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "clip.avi").write_bytes(b"RIFF")
    monkeypatch.setattr(videos, "_frames", deadly_videos.dies_after_two)
    film = tmp_path / "seen.mp4"
    report = explain(opened, open_source(tmp_path / "clip.avi"), None, preparer, Silent(), video=film)
    assert [one.reason for one in report.failures] == ["no_face", "no_face", "worker_died"]
    assert len(frames_of(film)) == 3
    nothing = tmp_path / "nothing.avi"
    nothing.write_bytes(b"RIFF")
    monkeypatch.undo()
    report = explain(opened, open_source(nothing), None, preparer, Silent(), video=tmp_path / "none.mp4")
    assert report.video_facts is None and report.notes[-1] == "No frame can be decoded, so no video was written."
    assert not (tmp_path / "none.mp4").exists()


def test_a_frame_of_another_size_is_fitted(opened: OpenRun, tmp_path: Path) -> None:
    film = Film(opened, Source(Path("clip.avi"), "video", 2, rate=5.0), tmp_path / "seen.avi")
    stream = [
        SeenPicture(InputPicture("a", GREY, frame=0), (), ()),
        SeenPicture(InputPicture("b", np.full((33, 77, 3), 200, np.uint8), frame=1), (), ()),
    ]
    assert list(film.watch(stream)) == stream
    assert film.facts is not None and read_facts(film.path).frames == 2
    first, second = frames_of(film.path)
    assert first.shape == second.shape and second[:384].mean() > 190


def test_a_face_lies_where_it_is_in_a_frame_of_another_size(
    trained: Trained, opened: OpenRun, preparer: PhotoPreparer, tmp_path: Path
) -> None:
    large = cv2.resize(face_frame(trained), None, fx=2, fy=2)
    write_png(tmp_path / "large.png", large)
    (seen,) = seen_pictures(opened, open_source(tmp_path / "large.png"), preparer)
    fitted = cv2.resize(large, (150, 120), interpolation=cv2.INTER_AREA)
    own, other = film_frame(opened, seen, large), film_frame(opened, seen, fitted)
    assert seen.faces and own.shape == other.shape
    changed = [np.abs(one[:384, :480].astype(int) - cv2.resize(large, (480, 384))).max(2) > 60 for one in (own, other)]
    assert (changed[0] & changed[1]).sum() > 0.7 * (changed[0] | changed[1]).sum()


def test_a_stop_in_between_leaves_no_file(
    clip: Path, opened: OpenRun, preparer: PhotoPreparer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stopping(Silent):
        def advance(self, step: int, **about: object) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        explain(opened, open_source(clip), None, preparer, Stopping(), video=tmp_path / "seen.mp4")
    assert list(tmp_path.iterdir()) == []


def test_a_killed_process_leaves_no_half_video(tmp_path: Path) -> None:
    program = (
        "import os, sys, numpy as np; from pathlib import Path\n"
        "from aupipe.fer_data.video_files import write_video\n"
        "with write_video(Path(sys.argv[1]), 10) as video:\n"
        "    for _ in range(30): video.add(np.zeros((64, 64, 3), np.uint8))\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "seen.mp4")]
    done = subprocess.run(command, check=False, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(HOUSE)})
    assert done.returncode == -9
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".seen.mp4.")] == []


def test_what_is_no_video_is_refused(tmp_path: Path, trained: Trained) -> None:
    root = trained.built.dataset.root
    photo = root / "test" / "happiness" / "happiness0.png"
    for place, what in ((photo, "a photo"), (root, "a folder")):
        with pytest.raises(UserInputError, match=f"made of a video.*Got: {what}"):
            check_film(open_source(place), tmp_path / "seen.mp4")
    with pytest.raises(UserInputError, match="Give a folder for the page"):
        aupipe.explain(trained.run, photo)


def test_the_command_makes_only_the_video(clip: Path, trained: Trained, tmp_path: Path) -> None:
    words = ["explain", str(trained.run), str(clip), "--video-out", str(tmp_path / "seen.mp4"), "--device", "cpu"]
    done = CliRunner().invoke(cli.cli, [*words, "--json"])
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert said["video"]["frames"] == 8 and said["pictures"] == 8 and "page" not in said
    again = CliRunner().invoke(cli.cli, words)
    assert isinstance(again.exception, UserInputError) and "is there already" in str(again.exception)
    assert CliRunner().invoke(cli.cli, words[:3]).exit_code == 2
