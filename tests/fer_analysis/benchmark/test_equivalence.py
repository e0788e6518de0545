"""Whether two targets of the guidance are as good as one another: planted differences."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aupipe.fer_analysis.benchmark.collect import Result, Results
from aupipe.fer_analysis.benchmark.equivalence import accuracy_difference, equivalence_table
from aupipe.fer_analysis.benchmark.plan import GridRequest, plan_grid
from aupipe.fer_analysis.evaluation.predictions import PREDICTIONS
from aupipe.fer_data.errors import RunError
from aupipe.fer_data.files import sha256_file
from aupipe.fer_models.training.config import TrainConfig

GRID = GridRequest(
    ("cam",), 2, base=TrainConfig(backbone="test_resnet", device="cpu"), targets=("class", "mean", "shuffled")
)
FACES = 4000


def random_differences(share: float, seeds: int = 3, shift: float = 0.0) -> np.ndarray:
    """Differences of being right: ``share`` of the faces differ, ``shift`` more of them in favour of the first."""
    rng = np.random.default_rng(7)
    signs = np.where(rng.random((seeds, FACES)) < 0.5 + shift / 2, 1.0, -1.0)
    return np.asarray(signs * (rng.random((seeds, FACES)) < share))


def test_equal_different_and_not_told() -> None:
    group = np.arange(FACES)
    equal = accuracy_difference(random_differences(0.01), group)
    assert equal.verdict == "equal within 1 point" and abs(equal.difference) < 0.2 and equal.margin < 1
    other = accuracy_difference(random_differences(0.2, shift=0.3), group)
    assert other.verdict == "different" and other.difference == pytest.approx(6, abs=1)
    assert other.interval[0] < other.difference < other.interval[1]
    vague = accuracy_difference(random_differences(0.5), group)
    assert vague.verdict == "not told" and vague.interval[0] < 0 < vague.interval[1] and vague.margin > 1


def test_trainings_that_disagree_and_faces_of_one_person_widen_the_interval() -> None:
    values, group = random_differences(0.2), np.arange(FACES)

    def width(differences: np.ndarray, persons: np.ndarray) -> float:
        low, high = accuracy_difference(differences, persons).interval
        return high - low

    disagreeing = values.copy()
    disagreeing[0, :400], disagreeing[1, :400] = 1, -1
    assert width(disagreeing, group) > 2 * width(values, group)
    assert width(np.repeat(values[:, ::10], 10, 1), group // 10) > 2 * width(values, group)


def write_run(out: Path, right: dict[str, np.ndarray]) -> Results:
    """Finished runs with these faces right, by the label of their cell."""
    results = []
    for run in plan_grid(GRID):
        folder = out / "runs" / run.output
        folder.mkdir(parents=True, exist_ok=True)
        rows = [f"face{at},face{at},{int(one)}" for at, one in enumerate(right[run.cell.label])]
        (folder / PREDICTIONS).write_text("\n".join(["sample_id,group,correct", *rows]) + "\n")
        metrics = {"predictions_sha256": sha256_file(folder / PREDICTIONS)}
        results.append(Result(run, metrics, 3, 1.0))
    return Results(results)


def test_every_target_is_compared_with_the_class_s_map(tmp_path: Path) -> None:
    truth = np.arange(200) % 2 == 0
    worse = truth & (np.arange(200) >= 100)
    results = write_run(
        tmp_path,
        {"cam-w0": worse, "cam-w4": truth, "cam-w4-target-mean": truth, "cam-w4-target-shuffled": worse},
    )
    table = equivalence_table(GRID, results, tmp_path)
    assert table is not None
    assert [(row[0], row[1], row[2], row[5]) for row in table.rows] == [
        ("nothing", "2", "-25.0", "different"),
        ("the mean AU map, the same for every class", "2", "+0.0", "equal within 1 point"),
        ("another expression's AU map", "2", "-25.0", "different"),
    ]
    assert "-25.0" in table.markdown() and "table-6" in table.key


def test_there_is_no_table_without_targets_and_none_of_changed_files(tmp_path: Path) -> None:
    right = {label: np.ones(9, bool) for label in ("cam-w0", "cam-w4", "cam-w4-target-mean", "cam-w4-target-shuffled")}
    results = write_run(tmp_path, right)
    assert equivalence_table(replace(GRID, targets=()), results, tmp_path) is None
    path = next(tmp_path.glob(f"runs/*/{PREDICTIONS}"), None) or next(tmp_path.rglob(PREDICTIONS))
    path.write_text(path.read_text().replace("1\n", "0\n", 1))
    with pytest.raises(RunError, match="does not belong"):
        equivalence_table(GRID, results, tmp_path)


def test_one_training_or_one_person_tells_nothing() -> None:
    values = random_differences(0.2, shift=0.3)
    for some, persons in ((values[:1], np.arange(FACES)), (values, np.zeros(FACES, np.int64))):
        assert accuracy_difference(some, persons).verdict == "too few to tell"
