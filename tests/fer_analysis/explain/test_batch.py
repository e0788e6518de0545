"""Whole inputs: folders with all that can be wrong, manifests, videos, reruns."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from aupipe.fer_analysis.evaluation import evaluate
from aupipe.fer_analysis.evaluation.predictions import load_metrics
from aupipe.fer_analysis.evaluation.text import beside_the_majority, knows_something
from aupipe.fer_analysis.explain import ExplainReport, InputPicture, OpenRun, Source, explain, open_run, open_source
from aupipe.fer_analysis.explain import run as explain_run
from aupipe.fer_analysis.explain.pictures import photo_picture
from aupipe.fer_analysis.explain.result import face_notes
from aupipe.fer_analysis.explain.run import REPORT
from aupipe.fer_analysis.explain.timeline import draw_timeline
from aupipe.fer_data import videos
from aupipe.fer_data.errors import UserInputError
from aupipe.fer_data.images import read_image, write_png
from aupipe.fer_data.manifest import build_manifest, write_manifest
from aupipe.fer_data.preparation import AlignedFace
from aupipe.fer_data.types import Failure, Reason, Sample, Silent
from aupipe.fer_data.videos import LostFrame
from aupipe.pipeline.photos import PhotoPreparer
from drawings import read_drawing
from explain_runs import Trained
from offline import snapshot
from run_files import rewrite


def portrait(trained: Trained, expression: str = "happiness") -> np.ndarray:
    return read_image(trained.built.dataset.root / "test" / expression / f"{expression}0.png")


def strict(path: Path) -> Any:
    def refuse(value: str) -> None:
        raise AssertionError(f"{value} is not JSON")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def write_video(path: Path, frames: list[np.ndarray]) -> Path:
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (frames[0].shape[1], frames[0].shape[0]))
    for frame in frames:
        video.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    video.release()
    return path


@pytest.fixture(scope="module")
def photos(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One good photo, one in a folder of its own, two faces in one photo, and what cannot be explained."""
    folder = tmp_path_factory.mktemp("photos")
    face = portrait(trained)
    write_png(folder / "b.png", face)
    write_png(folder / "more" / "ü <i>.png", portrait(trained, "fear"))
    write_png(folder / "two.png", np.concatenate([face, face[:, ::-1]], 1))
    write_png(folder / "empty.png", np.full((64, 64, 3), 90, np.uint8))
    write_png(folder / "tiny.png", cv2.resize(face, (14, 14), interpolation=cv2.INTER_AREA))
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff and then nothing")
    (folder / "notes.txt").write_text("no photo")
    (folder / ".hidden.png").write_bytes(b"")
    return folder


@pytest.fixture(scope="module")
def done(
    photos: Path, opened: OpenRun, preparer: PhotoPreparer, tmp_path_factory: pytest.TempPathFactory
) -> ExplainReport:
    out = tmp_path_factory.mktemp("explained")
    return explain(opened, open_source(photos), out, preparer, Silent())


def test_a_folder_is_explained_in_order_and_what_is_left_out_has_a_reason(done: ExplainReport) -> None:
    with (done.out / "faces.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["sample_id"], row["face"]) for row in rows] == [
        ("b.png", "1"),
        ("more/ü <i>.png", "1"),
        ("two.png", "1"),
        ("two.png", "2"),
    ]
    reasons = {failure.sample_id: failure.reason for failure in done.failures}
    assert reasons.pop("tiny.png") in ("face_too_small", "implausible_face")
    assert reasons == {"broken.jpg": "unreadable", "empty.png": "no_face"}
    assert (done.pictures, done.explained, done.faces) == (6, 3, 4)
    assert done.failed_share == pytest.approx(0.5)
    assert "1 files of the folder" in done.notes[-1]
    assert sum(done.predicted.values()) == 4


def test_each_face_has_its_files_and_they_agree(done: ExplainReport, opened: OpenRun) -> None:
    for name in ("b.png.face1", "more/ü <i>.png.face1", "two.png.face2"):
        content = strict(done.out / "faces" / f"{name}.json")
        assert read_drawing(done.out / "faces" / f"{name}.png").shape == (800, 1100, 3)
        assert sum(content["probabilities"].values()) == pytest.approx(1)
        assert content["confidence"] == max(content["probabilities"].values())
        assert content["predicted"] == max(content["logits"], key=content["logits"].get)
        assert opened.calibration is not None
        assert content["calibration"]["temperature"] == opened.calibration.temperature
        assert content["calibration"]["applied"] == opened.calibration.helps
        seen = {unit["number"] for unit in content["action_units"]}
        assert seen | set(content["outside"]) == set(opened.codebook.action_units) and [5, 7, 43] in content["shared"]
        assert np.shape(content["landmarks"]["points"]) == (68, 2) and content["label"] is None
        assert content["expected"] == sorted(opened.codebook.expressions[content["predicted"]])
        assert content["limits"] and content["landmarks"]["rung"] >= 0
        units = {unit["number"]: unit for unit in content["action_units"]}
        assert set(content["observed"]["shown"]) <= set(map(int, content["observed"]["probability"]))
        assert content["observed"]["not_told"] == [10, 16]
        assert units[12]["attention"]["share"] == pytest.approx(units[12]["lift"] * units[12]["chance"])
    sides = [strict(done.out / "faces" / f"two.png.face{n}.json")["landmarks"]["points"][30][0] > 128 for n in (1, 2)]
    assert sorted(sides) == [False, True]


def test_a_model_that_knows_nothing_is_said_to_first(trained: Trained, preparer: PhotoPreparer, tmp_path: Path) -> None:
    """Also that nothing is said where the figures are of other weights, and that damaged figures are told."""
    run, photo = tmp_path / "run", tmp_path / "face.png"
    shutil.copytree(trained.run, run)
    write_png(photo, portrait(trained))
    evaluate(run, trained.built.store, device="cpu")
    said = load_metrics(run)
    sentence = f"{said['accuracy']:.1%} of {said['n']} faces, {beside_the_majority(said)}."
    assert not knows_something(said)
    report = explain(open_run(run, device="cpu"), open_source(photo), tmp_path / "out", preparer, Silent())
    assert sentence in report.notes[0] and sentence in report.lines()[1]
    text = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert 0 < text.index(sentence) < text.index("Model: test_resnet")
    assert sentence in strict(tmp_path / "out" / "faces" / "face.png.face1.json")["notes"][0]
    rewrite(run / "metrics.json", checkpoint_sha256="0" * 64)
    assert open_run(run, device="cpu").notes == ()
    (run / "metrics.json").write_text("{")
    assert "cannot be told" in open_run(run, device="cpu").notes[0]


def test_the_page_stands_alone_and_says_what_it_shows(done: ExplainReport) -> None:
    text = (done.out / "index.html").read_text(encoding="utf-8")
    assert not re.findall(r"(?:src|href)=\"(?!data:)", text) and "http" not in text and "<script" not in text
    assert text.count("<section>") == 4 and text.count('class="wide photo"') == 1
    images = re.findall(r"<img [^>]*>", text)
    assert len(images) == 4 * 3 + 1 and all(re.search(r'alt="[^"]{10,}"', image) for image in images)
    assert "ü &lt;i&gt;.png" in text and "<i>.png" not in text
    assert "broken.jpg: unreadable" in text and "What this does not say" in text
    assert "expected calibration error" in text


def test_again_gives_the_same_and_removes_what_is_no_longer_made(
    done: ExplainReport, photos: Path, opened: OpenRun, preparer: PhotoPreparer, tmp_path: Path
) -> None:
    out, fewer = tmp_path / "out", tmp_path / "photos"
    shutil.copytree(done.out, out)
    (out / "mine.txt").write_text("not made by a run")
    shutil.copytree(photos, fewer)
    for name in ("two.png", "more/ü <i>.png"):
        (fewer / name).unlink()
    explain(opened, open_source(fewer), out, preparer, Silent())
    left, before = snapshot(out), snapshot(done.out)
    assert {name for name in left if name.startswith("faces/")} == {"faces/b.png.face1.json", "faces/b.png.face1.png"}
    assert "mine.txt" in left and left["faces/b.png.face1.json"] == before["faces/b.png.face1.json"]
    assert left["faces/b.png.face1.png"] == before["faces/b.png.face1.png"]


def test_an_interrupted_run_leaves_no_page_and_no_faces_for_ever(
    done: ExplainReport, photos: Path, opened: OpenRun, preparer: PhotoPreparer, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    out = Path(shutil.copytree(done.out, tmp_path / "out"))
    with monkeypatch.context() as patched:

        def interrupted(*_: object) -> None:
            raise KeyboardInterrupt

        patched.setattr(explain_run, "_finish", interrupted)
        with pytest.raises(KeyboardInterrupt):
            explain(opened, open_source(photos), out, preparer, Silent())
    assert not {"index.html", "faces.csv", "explain.json"} & {path.name for path in out.iterdir()}
    explain(opened, open_source(photos / "empty.png"), out, preparer, Silent())
    assert not [path for path in (out / "faces").rglob("*") if path.is_file()]


def test_what_an_earlier_report_names_outside_of_the_folder_stays(
    photos: Path, opened: OpenRun, preparer: PhotoPreparer, tmp_path: Path
) -> None:
    precious = tmp_path / "precious.txt"
    precious.write_text("keep")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "explain.json").write_text(json.dumps({"files": ["../precious.txt", str(precious)]}))
    explain(opened, open_source(photos / "empty.png"), tmp_path / "out", preparer, Silent())
    assert precious.exists()


def test_every_face_of_the_page_is_a_face(
    photos: Path, opened: OpenRun, preparer: PhotoPreparer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aupipe.fer_analysis.explain.run.MAX_SECTIONS", 3)
    report = explain(opened, open_source(photos), tmp_path, preparer, Silent())
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert report.faces == 4 and page.count("the face with its 68") == 3
    assert "The page shows the first 3 faces only; faces.csv and faces/ hold all 4." in report.notes


def test_the_whole_photo_numbers_its_faces_as_their_sections_do(
    photos: Path, opened: OpenRun, preparer: PhotoPreparer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[list[int]] = []
    monkeypatch.setattr(
        "aupipe.fer_analysis.explain.run.photo_picture",
        lambda image, corners, name: drawn.append(list(corners)) or photo_picture(image, corners, name),
    )

    def third_first(image: np.ndarray, box: object, known: object) -> list[AlignedFace | Failure]:
        return [Failure("", "", "implausible_face"), *preparer(image, None, None)]

    write_png(tmp_path / "a$x_$y.png", read_image(photos / "two.png"))
    report = explain(opened, open_source(tmp_path / "a$x_$y.png"), tmp_path / "out", third_first, Silent())
    assert report.faces == 2 and drawn == [[2, 3]]
    assert (tmp_path / "out" / "faces" / "a$x_$y.png.face3.png").is_file()


def test_a_manifest_brings_labels(trained: Trained, opened: OpenRun, preparer: PhotoPreparer, tmp_path: Path) -> None:
    few = tmp_path / "few"
    shutil.copytree(trained.built.dataset.root / "test" / "happiness", few / "happiness")
    build_manifest("folder", few, tmp_path / "few.csv")
    report = explain(opened, open_source(tmp_path / "few.csv"), tmp_path / "out", preparer, Silent())
    assert (report.kind, report.pictures, report.faces) == ("manifest", 1, 1)
    (path,) = (tmp_path / "out" / "faces").rglob("*.json")
    assert strict(path)["label"] == "happiness"
    assert "(labelled happiness)" in (tmp_path / "out" / "index.html").read_text(encoding="utf-8")


def test_a_video_gives_a_timeline_with_gaps(
    trained: Trained, opened: OpenRun, preparer: PhotoPreparer, tmp_path: Path
) -> None:
    grey = np.full((128, 128, 3), 90, np.uint8)
    frames = [portrait(trained), grey, grey, grey, portrait(trained, "fear"), grey]
    clip = write_video(tmp_path / "clip.avi", frames)
    report = explain(opened, open_source(clip, every=2), tmp_path / "out", preparer, Silent())
    assert (report.kind, report.pictures, report.explained) == ("video", 3, 2)
    assert [failure.sample_id for failure in report.failures] == ["clip.avi/frame-000002"]
    with (tmp_path / "out" / "faces.csv").open(newline="") as file:
        assert [(row["frame"], row["seconds"]) for row in csv.DictReader(file)] == [("0", "0.0"), ("4", "0.4")]
    assert read_drawing(tmp_path / "out" / "timeline.png").shape == (400, 1100, 3)
    assert "over time" in (tmp_path / "out" / "index.html").read_text(encoding="utf-8")


def test_a_video_that_breaks_off_or_is_none(opened: OpenRun, preparer: PhotoPreparer, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    clip = write_video(tmp_path / "clip.avi", [rng.integers(0, 255, (64, 64, 3), np.uint8) for _ in range(8)])
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    none = tmp_path / "none.mp4"
    none.write_bytes(b"not a video")
    report = explain(opened, open_source(none), tmp_path / "out", preparer, Silent())
    assert (report.pictures, report.explained, report.failures[0].reason) == (1, 0, "unreadable")
    assert "timeline.png" not in report.files and (tmp_path / "out" / "index.html").is_file()
    last = list(open_source(clip, every=100).pictures())[-1]
    assert getattr(last, "reason", "") == "unreadable" and "breaks off" in getattr(last, "detail", "")


def test_the_timeline_leaves_gaps_and_names_every_class() -> None:
    probability = np.array([[0.2, 0.8], [np.nan, np.nan], [0.6, 0.4]])
    axes = draw_timeline(np.arange(3.0), probability, ["calm", "happy"]).axes[0]
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["calm", "happy", "no face"]
    assert np.isnan(axes.lines[0].get_ydata()[1]) and axes.lines[2].get_xdata().tolist() == [1.0]
    assert len({(line.get_color(), line.get_linestyle()) for line in axes.lines}) == 3


def test_a_frame_that_cannot_be_decoded_leaves_a_gap_in_the_timeline(
    trained: Trained, opened: OpenRun, preparer: PhotoPreparer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pictures(_: object) -> list[InputPicture | Failure]:
        frames = [InputPicture(f"f{n}", portrait(trained), frame=n, seconds=n / 10) for n in (0, 2)]
        return [frames[0], Failure("f1", "clip.avi", "unreadable"), frames[1]]

    drawn: list[np.ndarray] = []
    monkeypatch.setattr("aupipe.fer_analysis.explain.inputs.Source.pictures", pictures)
    monkeypatch.setattr(
        "aupipe.fer_analysis.explain.run.draw_timeline",
        lambda times, probability, classes: drawn.append(probability) or draw_timeline(times, probability, classes),
    )
    explain(opened, Source(Path("clip.avi"), "video", 3, rate=10.0), tmp_path, preparer, Silent())
    assert np.isnan(drawn[0]).any(1).tolist() == [False, True, False]


def test_a_method_without_a_class_map_shows_its_attention(
    photos: Path, opened: OpenRun, preparer: PhotoPreparer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(opened.model), "has_cam", False)
    report = explain(opened, open_source(photos / "b.png"), tmp_path, preparer, Silent())
    content = strict(tmp_path / "faces" / "b.png.face1.json")
    assert report.faces == 1 and content["cam"] is None and content["action_units"][0]["cam"] is None
    assert (tmp_path / "index.html").read_text(encoding="utf-8").count("<img") == 2


@pytest.mark.parametrize("content", ["nothing", "other files"])
def test_an_empty_folder_is_told(tmp_path: Path, content: str) -> None:
    if content == "other files":
        (tmp_path / "a.txt").write_text("")
    with pytest.raises(UserInputError, match="no photos"):
        open_source(tmp_path)
    with pytest.raises(UserInputError, match=r"nowhere\.png does not exist"):
        open_source(tmp_path / "nowhere.png")


def test_what_makes_landmarks_less_reliable_is_said(
    photos: Path, opened: OpenRun, preparer: PhotoPreparer, tmp_path: Path
) -> None:
    (face,) = preparer(read_image(photos / "b.png"), None, None)
    assert isinstance(face, AlignedFace) and face_notes(face) == ()
    doubtful = replace(
        face, rung=4, pose=np.array([-41, 0, 0], np.float32), to_source=face.to_source * [[0.15, 0.15, 1]]
    )
    tried, turned, small = face_notes(doubtful)
    assert "rung 4" in tried and "41 degrees" in turned and "enlarged" in small


def test_ids_of_any_kind_share_no_file(
    trained: Trained, opened: OpenRun, preparer: PhotoPreparer, tmp_path: Path
) -> None:
    write_png(tmp_path / "faces" / "a.png", portrait(trained))
    ids = ("a/b", "a//b", "x" * 250, "../up")
    samples = [Sample(name, "a.png", "fear", "fear", "test") for name in ids]
    write_manifest(tmp_path / "m.csv", samples, root=tmp_path / "faces", layout="csv", options={})
    report = explain(opened, open_source(tmp_path / "m.csv"), tmp_path / "out", preparer, Silent())
    assert report.faces == len(ids)
    written = {strict(path)["sample_id"]: path for path in (tmp_path / "out" / "faces").rglob("*.json")}
    assert set(written) == set(ids) and len(set(written.values())) == len(ids)


def test_a_folder_s_odd_files_cost_themselves_alone(
    trained: Trained, opened: OpenRun, preparer: PhotoPreparer, tmp_path: Path
) -> None:
    folder = tmp_path / "photos"
    write_png(folder / "a.png", portrait(trained))
    shutil.copy(folder / "a.png", os.fsencode(folder) + b"/na\xefve.png")
    with (folder / "large.png").open("wb") as sparse:
        sparse.truncate(2**30)
    os.mkfifo(folder / "fifo.png")
    (folder / "zero.png").symlink_to("/dev/zero")
    report = explain(opened, open_source(folder), tmp_path / "out", preparer, Silent())
    assert report.faces == 2 and [(one.sample_id, one.reason) for one in report.failures] == [
        ("large.png", "too_large")
    ]
    with (tmp_path / "out" / "failures.csv").open(newline="") as file:
        assert [row["detail"] for row in csv.DictReader(file)] == [f"a file of {2**30:,} bytes"]
    with pytest.raises(UserInputError, match="a device, a FIFO"):
        open_source(folder / "fifo.png")


def test_failures_are_listed_before_the_folder_is_released(
    photos: Path, opened: OpenRun, preparer: PhotoPreparer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aupipe.fer_analysis.explain.run.write_json", lambda path, _: path.name == REPORT and 1 / 0)
    with pytest.raises(ZeroDivisionError):
        explain(opened, open_source(photos / "empty.png"), tmp_path, preparer, Silent())
    assert "empty.png,empty.png,no_face" in (tmp_path / "failures.csv").read_text()


def test_a_video_of_huge_or_no_frames_has_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = write_video(tmp_path / "clip.avi", [np.zeros((64, 64, 3), np.uint8)] * 3)
    monkeypatch.setattr(videos, "FRAME_LIMIT", 64 * 64 - 1)
    assert list(videos.decoded_frames(clip, 1)) == [LostFrame(None, Reason.TOO_LARGE, "frames of 64 x 64 pixels")]
    empty = write_video(tmp_path / "empty.avi", [np.zeros((64, 64, 3), np.uint8)])
    empty.write_bytes(empty.read_bytes()[:300])
    (failure,) = open_source(empty).pictures()
    assert isinstance(failure, Failure) and failure.reason == "unreadable"
