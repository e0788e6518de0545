"""A small grid from beginning to end, in one process and in two."""

from __future__ import annotations

import csv
import io
import multiprocessing
import threading
import time
from pathlib import Path

import pytest

from aupipe.fer_analysis.benchmark import state
from aupipe.fer_analysis.benchmark.collect import TIMES
from aupipe.fer_analysis.benchmark.plan import GridRequest, plan_grid, trainings
from aupipe.fer_analysis.benchmark.processes import run_trainings, spoken
from aupipe.fer_analysis.benchmark.run import BenchmarkSettings, GridReport, estimate, run_benchmark
from aupipe.fer_analysis.benchmark.worker import Order
from aupipe.fer_data.recorded import write_recorded
from aupipe.fer_data.shards import Store
from aupipe.fer_models.training.config import TrainConfig
from run_files import rewrite
from synthetic import synthetic_store

BASE = TrainConfig(backbone="test_resnet", epochs=1, batch_size=14, crop_size=48, device="cpu")
GRID = GridRequest(("cam", "gradcam"), 1, base=BASE)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return synthetic_store(tmp_path_factory.mktemp("small"), train=14, val=7, test=7)


class Lines:
    """A progress that keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.advanced = 0

    def start(self, label: str, total: int, unit: str) -> None:
        self.total = total

    def advance(self, count: int) -> None:
        self.advanced += count

    def note(self, message: str) -> None:
        self.notes.append(message)

    def finish(self) -> None:
        pass


def run(store: Store, out: Path, jobs: int, lines: Lines | None = None) -> GridReport:
    return run_benchmark(store.folder, out, GRID, BenchmarkSettings(jobs, threads=1, command="aupipe benchmark"), lines)


@pytest.fixture(scope="module")
def out(small: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A grid whose first training cannot go on: its checkpoint is damaged."""
    folder = tmp_path_factory.mktemp("grid")
    broken = folder / "runs" / "cam-test_resnet-w0-s0" / "last.pt"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"no checkpoint")
    lines = Lines()
    report = run(small, folder, 2, lines)
    assert (
        list(report.failed) == ["cam-test_resnet-w0-s0"] and "cannot be read" in report.failed["cam-test_resnet-w0-s0"]
    )
    assert report.finished == 2 and "cannot be read" in (folder / "results.md").read_text()
    assert any("FAILED" in line for line in lines.notes) and lines.total == 2 and lines.advanced == 1
    assert any("1 of 2 finished" in line for line in lines.notes)
    broken.unlink()
    return folder


def modified(out: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in (out / "runs").rglob("*") if path.suffix in (".pt", ".json")}


def rows(out: Path) -> list[dict[str, str]]:
    read = csv.DictReader(io.StringIO((out / "results.csv").read_text()))
    return [{name: value for name, value in row.items() if name not in TIMES} for row in read]


@pytest.mark.slow
def test_a_grid_is_continued_and_finished_runs_are_left_alone(small: Store, out: Path, tmp_path: Path) -> None:
    before = {path: time for path, time in modified(out).items() if "-w4-" in path}
    lines = Lines()
    report = run(small, out, 1, lines)
    assert report.failed == {} and report.finished == 4 and report.trainings == 2
    assert lines.notes[0] == "1 of 2 trainings are finished already"
    after = modified(out)
    assert before.items() <= after.items() and len(after) == 2 * len(before) == 14
    assert run(small, out, 2).finished == 4 and modified(out) == after
    text = (out / "results.md").read_text()
    assert "| kept | weights of the epoch with the best accuracy on " in text
    assert "4 of 4 finished, from 2 trainings" in text and small.index.digest[:16] in text and "GradCAM" in text
    for path in report.files:
        assert path.is_file() and path.name in {"results.md", "results.csv"} | {one.name for one in out.iterdir()}
    assert {"table-1.png", "table-1.csv", "methods.png", "matrices-cam.png", "matrices-gradcam.png"} <= {
        path.name for path in report.files
    }
    figures = {row["run"]: row for row in rows(out)}
    one, other = figures["cam-test_resnet-w4-s0"], figures["gradcam-test_resnet-w4-s0"]
    assert one["accuracy"] == other["accuracy"] and other["trained_as"] == "cam-test_resnet-w4-s0"
    assert run(small, tmp_path / "alone", 1).finished == 4
    assert rows(tmp_path / "alone") == rows(out)


def test_stale_figures_are_measured_again(small: Store, out: Path) -> None:
    plan = plan_grid(GRID)
    digest = small.index.digest
    assert all(state.metrics_current(out, one, "test", digest) for one in plan)
    assert not any(state.metrics_current(out, one, "val", digest) for one in plan)
    assert not any(state.metrics_current(out, one, "test", "other") for one in plan)
    one = plan[0]
    path = out / "runs" / one.output / "metrics.json"
    data = path.read_bytes()
    for changes in ({"seed": 9}, {"checkpoint_sha256": "0" * 64}, {"drop": "localisation"}):
        rewrite(path, **changes)
        assert not state.metrics_current(out, one, "test", digest)
        write_recorded(path, data)
        assert state.metrics_current(out, one, "test", digest)
    path.write_bytes(data[:-9])
    assert not state.metrics_current(out, one, "test", digest)
    path.write_bytes(data)


def test_a_damaged_log_is_work_left_to_do(small: Store, out: Path) -> None:
    plan = plan_grid(GRID)
    path = out / "runs" / plan[0].folder / "log.jsonl"
    data = path.read_bytes()
    path.write_bytes(data[:-9])
    assert state.epochs_done(path.parent) == 0 and not state.training_finished(path.parent, plan[0].training)
    assert not state.metrics_current(out, plan[0], "test", small.index.digest)
    path.write_bytes(data)
    assert state.training_finished(path.parent, plan[0].training)


@pytest.mark.parametrize("name", ["metrics.json", "best.pt", "log.jsonl"])
def test_a_report_names_damaged_runs_and_goes_on_with_the_rest(small: Store, out: Path, name: str) -> None:
    spoiled = "cam-test_resnet-w0-s0"
    path = out / "runs" / spoiled / name
    data = path.read_bytes()
    path.write_bytes(data[:90] + bytes([data[90] ^ 1]) + data[91:])
    try:
        report = run_benchmark(small.folder, out, GRID, BenchmarkSettings(1), train=False)
    finally:
        path.write_bytes(data)
    assert f"{name} is damaged" in report.failed[spoiled] and report.finished < 4
    assert spoiled in "\n".join(report.lines()) and f"{name} is damaged" in (out / "results.md").read_text()
    assert "cam-test_resnet-w4-s0" in {row["run"] for row in rows(out)}


def test_a_report_names_figures_of_other_weights(small: Store, out: Path) -> None:
    path = out / "runs" / "cam-test_resnet-w0-s0" / "metrics.json"
    data = path.read_bytes()
    rewrite(path, checkpoint_sha256="0" * 64)
    try:
        report = run_benchmark(small.folder, out, GRID, BenchmarkSettings(1), train=False)
    finally:
        write_recorded(path, data)
    assert list(report.failed) == ["cam-test_resnet-w0-s0"] and report.finished == 3
    assert "other weights" in report.failed["cam-test_resnet-w0-s0"]


def test_a_report_of_sound_runs_names_none(small: Store, out: Path) -> None:
    report = run_benchmark(small.folder, out, GRID, BenchmarkSettings(1), train=False)
    assert report.failed == {} and report.finished == 4


def order(store: Store, out: Path) -> Order:
    return Order(store.folder, out, "test", 1, "cpu")


def test_ctrl_c_leaves_no_process_behind(small: Store, tmp_path: Path) -> None:
    class Impatient(Lines):
        def note(self, message: str) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_trainings(trainings(plan_grid(GRID)), order(small, tmp_path), small.index.digest, 2, Impatient())
    assert multiprocessing.active_children() == []


def test_a_process_that_dies_is_a_failure_and_is_replaced(small: Store, tmp_path: Path) -> None:
    """The only process is killed at the first of two trainings; another one does the second."""

    class Killer(Lines):
        def start(self, label: str, total: int, unit: str) -> None:
            super().start(label, total, unit)
            threading.Thread(target=self.kill).start()

        def kill(self) -> None:
            while not multiprocessing.active_children():
                time.sleep(0.01)
            multiprocessing.active_children()[0].kill()

    plan, lines = trainings(plan_grid(GRID)), Killer()
    first, second = run_trainings(plan, order(small, tmp_path), small.index.digest, 1, lines)
    assert (first.name, second.name) == (plan[0].name, plan[1].name)
    assert "signal 9" in first.reason and "fewer --jobs" in first.reason and second.reason == ""
    assert [line.split(": ")[1].split()[0] for line in lines.notes] == ["started", "FAILED", "started", "done"]
    assert multiprocessing.active_children() == []


def test_the_plan_is_told_beforehand_with_its_time(small: Store, tmp_path: Path) -> None:
    planned = estimate(small.folder, tmp_path / "new", GRID, BenchmarkSettings(2, threads=1))
    assert planned.as_json()["runs"] == 4 and len(planned.trainings) == 2 and planned.seconds > 0
    assert "  cam-test_resnet-w0-s0  (read out as gradcam too)" in planned.lines()
    assert not (tmp_path / "new").exists()


def test_durations_are_spoken() -> None:
    assert [spoken(value) for value in (42, 130, 600, 5400)] == ["42 s", "2 min 10 s", "10 min", "1 h 30 min"]
