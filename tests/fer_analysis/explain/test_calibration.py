"""Temperature: recovered where it is known, kept with the run, refused where it cannot be had."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from aupipe.fer_analysis.explain import OpenRun, open_run
from aupipe.fer_analysis.explain.calibration import TEMPERATURE_RANGE, calibrate, fit_temperature, softmax
from aupipe.fer_data.errors import RunError, UserInputError
from explain_runs import Trained
from run_files import rewrite


def honest(n: int = 4000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits at temperature 1 whose labels are drawn from their own probabilities."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (n, 5))
    drawn = (softmax(logits).cumsum(1) < rng.random((n, 1))).sum(1)
    return logits, np.minimum(drawn, 4)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_a_known_temperature_is_recovered(temperature: float) -> None:
    logits, label = honest()
    assert fit_temperature(logits * temperature, label) == pytest.approx(temperature, rel=0.1)


def test_calibration_mends_what_is_too_sure_and_changes_no_prediction() -> None:
    logits, label = honest()
    found = calibrate(logits * 4, label, "weights")
    assert found.ece_before > 0.2 and found.ece_after < 0.04 and found.nll_after < found.nll_before
    assert (softmax(logits, 7.0).argmax(1) == logits.argmax(1)).all()
    assert softmax(logits, 7.0).sum(1) == pytest.approx(1)


def test_a_split_without_an_error_claims_no_certainty() -> None:
    logits = np.eye(3)[np.arange(30) % 3] * 5.0
    found = calibrate(logits, np.arange(30) % 3, "weights")
    assert found.temperature == pytest.approx(TEMPERATURE_RANGE[0], rel=0.01)
    assert "So few images" in found.sentence() and "30 validation images" in found.sentence()


def test_each_half_is_measured_at_the_other_halfs_temperature() -> None:
    """The halves disagree about the temperature, so held out both are worse than each at its own."""
    logits, label = honest(400)
    scaled = logits * np.where(np.arange(400) % 2, 4.0, 0.5)[:, None]
    found = calibrate(scaled, label, "weights")
    assert found.nll_after > found.nll_before
    assert not found.helps and "so it is not applied" in found.sentence()
    assert calibrate(logits * 4, label, "weights").helps


def test_it_is_kept_with_the_run_and_made_again_for_other_weights(trained: Trained, opened: OpenRun) -> None:
    path = trained.run / "calibration.json"
    kept = json.loads(path.read_text())
    assert opened.calibration is not None and kept["temperature"] == opened.calibration.temperature
    assert kept["n"] == 3 or kept["n"] > 1
    rewrite(path, temperature=2.25)
    assert open_run(trained.run, device="cpu").calibration.temperature == 2.25  # type: ignore[union-attr]
    changes = ({"checkpoint": "other"}, {"temperature": 0}, {"temperature": "2"}, {"drop": "n"}, {"ece_after": [0]})
    for change in changes:
        rewrite(path, **change)
        assert open_run(trained.run, device="cpu").calibration == opened.calibration
    for damaged in ("", "{", json.dumps({**kept, "temperature": 3.0})):
        path.write_text(damaged)
        assert open_run(trained.run, device="cpu").calibration == opened.calibration


def test_without_the_store_what_is_kept_is_used_and_what_is_not_is_told(moved: Path, opened: OpenRun) -> None:
    assert open_run(moved, device="cpu").calibration == opened.calibration
    (moved / "calibration.json").unlink()
    bare = open_run(moved, device="cpu")
    assert bare.calibration is None and "not calibrated" in bare.notes[0]
    assert bare.preparation.landmarks == opened.preparation.landmarks


def test_a_temperature_that_makes_held_out_images_worse_is_not_applied(moved: Path, opened: OpenRun) -> None:
    image = np.random.default_rng(0).integers(0, 256, (1, *[opened.preparation.image_size] * 2, 3), np.uint8)
    for ece, applied in ((0.1, 2.25), (0.3, 1.0)):
        rewrite(moved / "calibration.json", temperature=2.25, ece_before=0.2, ece_after=ece, nll_before=1, nll_after=1)
        found = open_run(moved, device="cpu")
        face = found.predict_images(image)[0]
        assert found.temperature == applied
        assert face.probability == pytest.approx(softmax(face.logits[None], applied)[0])


def test_an_older_run_needs_its_store(moved: Path, trained: Trained) -> None:
    rewrite(moved / "config.json", drop="preparation")
    with pytest.raises(RunError, match="--store"):
        open_run(moved, device="cpu")
    found = open_run(moved, store_folder=trained.built.store, device="cpu")
    assert found.preparation.landmarks["detector"] == "mediapipe" and found.notes == ()


def test_a_layer_that_is_not_there_is_refused(trained: Trained) -> None:
    with pytest.raises(UserInputError, match="1 to 5"):
        open_run(trained.run, layer=6, device="cpu")
    assert open_run(trained.run, layer=2, device="cpu").layer == 2


def test_a_run_on_a_full_disk_is_calibrated_all_the_same(trained: Trained, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained.run, run)
    (run / "calibration.json").unlink()
    (run / "calibration.json").mkdir()  # nothing can be put in its place
    found = open_run(run, store_folder=trained.built.store, device="cpu")
    assert found.calibration is not None
