"""Explaining photos of which one ends the process that looks at it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import deadly_videos
from aupipe.fer_analysis.explain import OpenRun, explain, open_source
from aupipe.fer_data import videos
from aupipe.fer_data.images import read_image, write_png
from aupipe.fer_data.preparation import AlignedFace, MissedFace
from aupipe.fer_data.processes import Death
from aupipe.fer_data.types import Reason, Silent
from aupipe.pipeline import isolated_photos
from aupipe.pipeline.isolated_photos import IsolatedPreparer
from aupipe.pipeline.isolation import Isolated
from aupipe.pipeline.photos import PhotoPreparer
from deadly_photos import deadly_if_dark
from explain_runs import Trained


def test_the_other_process_finds_the_same(trained: Trained, opened: OpenRun, preparer: PhotoPreparer) -> None:
    photo = read_image(trained.built.dataset.root / "test" / "happiness" / "happiness0.png")
    made = IsolatedPreparer(opened.preparation)
    (there,), (here,) = made(photo, None, None), preparer(photo, None, None)
    made.close()
    assert isinstance(there, AlignedFace) and isinstance(here, AlignedFace) and made.notes == preparer.notes
    for name in ("image", "landmarks", "points", "to_source", "pose"):
        np.testing.assert_array_equal(getattr(there, name), getattr(here, name))


def test_a_deadly_photo_costs_itself_alone(opened: OpenRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("a", 90), ("b", 0), ("c", 90)):
        write_png(tmp_path / "photos" / f"{name}.png", np.full((40, 40, 3), value, np.uint8))
    monkeypatch.setattr(isolated_photos, "_Preparing", lambda *_: deadly_if_dark)
    find = IsolatedPreparer(opened.preparation)
    report = explain(opened, open_source(tmp_path / "photos"), tmp_path / "out", find, Silent())
    find.close()
    assert [one.reason for one in report.failures] == ["no_face", "worker_died", "no_face"]
    assert "signal 11" in (tmp_path / "out" / "failures.csv").read_text()


def test_a_deadly_video_is_explained_as_far_as_it_goes(
    opened: OpenRun, preparer: PhotoPreparer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "clip.avi").write_bytes(b"RIFF")
    monkeypatch.setattr(videos, "_frames", deadly_videos.dies_after_two)
    report = explain(opened, open_source(tmp_path / "clip.avi"), tmp_path / "out", preparer, Silent())
    assert [(one.sample_id, one.reason) for one in report.failures] == [
        ("clip.avi/frame-000000", "no_face"),
        ("clip.avi/frame-000001", "no_face"),
        ("clip.avi/frame-000002", "worker_died"),
    ]
    assert (tmp_path / "out" / "index.html").is_file()


def test_a_detector_of_the_user_s_own_works_in_this_process(opened: OpenRun, monkeypatch: pytest.MonkeyPatch) -> None:
    find = IsolatedPreparer(opened.preparation)
    monkeypatch.setattr(type(find._here.detector), "__module__", "my_script")
    own = IsolatedPreparer(opened.preparation)
    monkeypatch.setattr(Isolated, "__call__", lambda *_: Death(-11, 0.0))
    grey = np.full((40, 40, 3), 90, np.uint8)
    assert own(grey, None, None) == (MissedFace(Reason.NO_FACE),)
    assert find(grey, None, None) == (MissedFace(Reason.WORKER_DIED, str(Death(-11, 0.0))),)
    find.close()
    own.close()
