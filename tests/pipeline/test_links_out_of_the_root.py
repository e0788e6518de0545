from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from aupipe.fer_data.au_maps.codebook import load_codebook
from aupipe.fer_data.errors import ManifestError
from aupipe.fer_data.manifest import read_manifest
from aupipe.fer_data.types import Reason, Silent
from aupipe.pipeline.executors import SerialExecutor
from aupipe.pipeline.landmarks.run import run_landmarks
from aupipe.pipeline.landmarks.tasks import detect_sample, shared_detector
from aupipe.pipeline.landmarks.work import open_work
from aupipe.pipeline.maps.run import run_maps
from aupipe.pipeline.maps.tasks import MapConfig
from simulated_detectors import simulated_config, simulated_manifest


def test_links_are_followed_only_when_asked_and_by_both_stages_alike(tmp_path: Path) -> None:
    manifest, work, config = simulated_manifest(tmp_path, 3), tmp_path / "work", simulated_config()
    photo = manifest.root / manifest.samples[0].path
    photo.rename(tmp_path / "elsewhere.png")
    photo.symlink_to(tmp_path / "elsewhere.png")
    with pytest.raises(ManifestError, match="--follow-links"):
        run_landmarks(manifest, work, config, SerialExecutor(), Silent())
    assert not work.exists()
    following = replace(config, follow_links=True)
    assert run_landmarks(manifest, work, following, SerialExecutor(), Silent()).ok == 3
    assert open_work(work).manifest.options["follow_links"] is True
    maps = MapConfig(dict(load_codebook("default").content), image_size=32, map_size=16)
    assert run_maps(work, tmp_path / "store", maps, SerialExecutor(), Silent()).ok == 3
    photo.unlink()
    (tmp_path / "elsewhere.png").rename(photo)
    run_landmarks(manifest, work, config, SerialExecutor(), Silent())
    photo.rename(tmp_path / "elsewhere.png")
    photo.symlink_to(tmp_path / "elsewhere.png")
    with pytest.raises(ManifestError, match="--follow-links"):
        run_maps(work, tmp_path / "other", maps, SerialExecutor(), Silent())


def test_a_photo_that_is_there_and_cannot_be_read_is_not_called_missing(tmp_path: Path) -> None:
    manifest, config = simulated_manifest(tmp_path, 2), simulated_config()
    first, second = manifest.samples
    (manifest.root / first.path).unlink()
    (manifest.root / second.path).unlink()
    (manifest.root / second.path).mkdir()
    detector = shared_detector(config.detector, config.model)
    reasons = [detect_sample(sample, manifest.root, detector, config).reason for sample in (first, second)]
    assert reasons == [Reason.MISSING_FILE, Reason.NO_ACCESS]
    assert read_manifest(tmp_path / "faces.csv").samples == manifest.samples
