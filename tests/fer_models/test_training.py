from __future__ import annotations

import contextlib
import csv
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from aupipe.fer_data.errors import FolderInUseError, RunError, UserInputError
from aupipe.fer_data.folders import RUN, output_folder
from aupipe.fer_data.loading.loader import Batch
from aupipe.fer_data.shards import Store
from aupipe.fer_data.types import Silent
from aupipe.fer_models.backbones import create_backbone
from aupipe.fer_models.methods import create_method
from aupipe.fer_models.training import run as training
from aupipe.fer_models.training.config import TrainConfig
from aupipe.fer_models.training.optim import MovingAverage, learning_rate
from aupipe.fer_models.training.run import _Step, train
from aupipe.fer_models.training.run_log import best_row
from aupipe.fer_models.training.selection import describe_selection, few_choose
from drawings import read_drawing
from synthetic import synthetic_store

CONFIG = TrainConfig(backbone="test_resnet", epochs=3, batch_size=14, crop_size=64, device="cpu")


class Stop(Silent):
    """Raises in the middle of an epoch."""

    def __init__(self, batches: int) -> None:
        self.left = batches

    def advance(self, count: int) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


def weights(run: Path, name: str = "last.pt") -> dict[str, torch.Tensor]:
    loaded: dict[str, torch.Tensor] = torch.load(run / name, weights_only=True)["model"]
    return loaded


def same_weights(a: Path, b: Path, name: str = "last.pt") -> bool:
    x, y = weights(a, name), weights(b, name)
    return x.keys() == y.keys() and all(torch.equal(value, y[key]) for key, value in x.items())


def log(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def finished(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "whole"
    report = train(store.folder, run, CONFIG)
    assert report.finished and not report.resumed and report.new_steps == report.steps == 12
    return run


def test_a_run_leaves_its_record(finished: Path, store: Store) -> None:
    record = json.loads((finished / "config.json").read_text())
    assert record["config"] == {**CONFIG.as_json(), "lr": CONFIG.learning_rate}
    assert record["store_digest"] == store.index.digest
    assert (finished / record["store"]).resolve() == store.folder.resolve()
    assert {"torch", "timm", "numpy", "python", "aupipe"} <= set(record["versions"])
    rows = log(finished)
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    with (finished / "log.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2", "3"]
    assert read_drawing(finished / "curves.png").shape == (300, 1000, 3)
    row = rows[1]
    assert row["train_total"] == pytest.approx(row["train_ce"] + 4 * row["train_align"], abs=1e-5)


def test_how_the_batches_are_read_is_no_part_of_a_run(store: Store, finished: Path, tmp_path: Path) -> None:
    train(store.folder, tmp_path / "run", replace(CONFIG, max_steps=5, loader_threads=2))
    report = train(store.folder, tmp_path / "run", replace(CONFIG, loader_threads=3, resident=True))
    assert report.resumed and report.finished and same_weights(tmp_path / "run", finished)
    record, other = (json.loads((run / "config.json").read_text()) for run in (tmp_path / "run", finished))
    assert record["config"] == other["config"] and not {"resident", "loader_threads"} & set(record["config"])


def test_the_best_checkpoint_is_the_best_validation_epoch(finished: Path) -> None:
    best = torch.load(finished / "best.pt", weights_only=True)
    rows = log(finished)
    wanted = max(rows, key=lambda row: (row["val_accuracy"], -row["val_ce"]))
    assert best["epoch"] == wanted["epoch"] and best["row"] == wanted


def test_a_finished_run_is_left_alone(finished: Path, store: Store) -> None:
    before = {path.name: path.read_bytes() for path in finished.iterdir()}
    report = train(store.folder, finished, CONFIG)
    assert report.resumed and report.finished and report.new_steps == 0
    assert {path.name: path.read_bytes() for path in finished.iterdir()} == before


@pytest.mark.parametrize("batches", [1, 6, 11])
def test_a_stopped_run_continues_exactly(batches: int, finished: Path, store: Store, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(store.folder, tmp_path / "run", CONFIG, Stop(batches))
    train(store.folder, tmp_path / "run", CONFIG)
    assert same_weights(finished, tmp_path / "run")
    assert same_weights(finished, tmp_path / "run", "best.pt")
    timing = ("seconds", "images_per_second", "wait_fraction")
    for a, b in zip(log(finished), log(tmp_path / "run"), strict=True):
        assert {k: v for k, v in a.items() if k not in timing} == {k: v for k, v in b.items() if k not in timing}


def test_max_steps_stops_validates_and_can_be_continued(finished: Path, store: Store, tmp_path: Path) -> None:
    run = tmp_path / "run"
    report = train(store.folder, run, replace(CONFIG, max_steps=6))
    assert report.steps == 6 and not report.finished
    assert [(row["epoch"], row["complete"]) for row in log(run)] == [(1, True), (2, False)]
    assert (run / "best.pt").is_file()
    again = train(store.folder, run, replace(CONFIG, max_steps=6))
    assert again.new_steps == 0 and again.steps == 6
    assert train(store.folder, run, CONFIG).finished
    assert same_weights(finished, run)
    assert same_weights(finished, run, "best.pt")
    assert [row["complete"] for row in log(run)] == [True] * 3


def test_an_epoch_cut_short_never_displaces_a_complete_one() -> None:
    rows = [
        {"epoch": 1, "step": 4, "complete": True, "val_accuracy": 0.5, "val_ce": 1.0},
        {"epoch": 2, "step": 6, "complete": False, "val_accuracy": 0.9, "val_ce": 0.5},
    ]
    assert best_row(rows, "accuracy") is rows[0]
    assert best_row(rows[1:], "accuracy") is rows[1]


def test_every_face_is_used_in_every_epoch_and_stopping_changes_nothing(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """56 images in batches of at most 13: five of 11 and 12 instead of four of 13 and four images left out."""
    uneven, seen = replace(CONFIG, batch_size=13, epochs=2, method="cutmix"), list[list[int]]()
    plain = _Step.forward

    def spy(self: _Step, batch: Batch) -> Any:
        seen.append(batch.index.tolist())
        return plain(self, batch)

    monkeypatch.setattr(_Step, "forward", spy)
    assert train(store.folder, tmp_path / "whole", uneven).steps == 10
    for epoch in (seen[:5], seen[5:]):
        assert sorted(map(len, epoch)) == [11, 11, 11, 11, 12]
        assert sorted(row for rows in epoch for row in rows) == list(range(56))
    with pytest.raises(KeyboardInterrupt):
        train(store.folder, tmp_path / "stopped", uneven, Stop(8))
    train(store.folder, tmp_path / "stopped", uneven)
    assert same_weights(tmp_path / "whole", tmp_path / "stopped")
    timing = ("seconds", "images_per_second", "wait_fraction")
    for a, b in zip(log(tmp_path / "whole"), log(tmp_path / "stopped"), strict=True):
        assert {k: v for k, v in a.items() if k not in timing} == {k: v for k, v in b.items() if k not in timing}


def test_the_logged_loss_is_the_mean_over_faces_whatever_the_batches(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def by_row(_: _Step, batch: Batch) -> tuple[torch.Tensor, ...]:
        return (torch.ones((), requires_grad=True) * batch.index.float().mean(),) * 3

    monkeypatch.setattr(_Step, "forward", by_row)
    train(store.folder, tmp_path, replace(CONFIG, batch_size=13, epochs=1))
    assert log(tmp_path)[0]["train_ce"] == pytest.approx(55 / 2)


@pytest.mark.parametrize(("select", "ema"), [("last", 0.0), ("last", 0.9), ("ema", 0.9), ("balanced_accuracy", 0.0)])
def test_what_becomes_best_is_a_choice(
    select: str, ema: float, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accuracies = iter((0.9, 0.3, 0.6) * 2)

    def made_up(*_: Any, **__: Any) -> dict[str, float]:
        value = next(accuracies)
        return dict.fromkeys(("val_ce", "val_align", "val_total"), 1.0) | {
            "val_accuracy": value, "val_balanced_accuracy": 1 - value
        }  # fmt: skip

    monkeypatch.setattr(training, "validate", made_up)
    config = replace(CONFIG, select=select, ema=ema)
    train(store.folder, tmp_path, replace(config, max_steps=6))
    report = train(store.folder, tmp_path, config)
    last, best = (torch.load(tmp_path / name, weights_only=True) for name in ("last.pt", "best.pt"))
    assert report.best_epoch == best["epoch"] == (2 if select == "balanced_accuracy" else 3)
    if select != "balanced_accuracy":
        kept = last["average" if select == "ema" else "model"]
        assert all(torch.equal(value, best["model"][name]) for name, value in kept.items())
    assert json.loads((tmp_path / "config.json").read_text())["config"]["select"] == select


def test_a_choice_by_few_faces_is_noted(store: Store, tmp_path: Path) -> None:
    notes: list[str] = []

    class Notes(Silent):
        def note(self, message: str) -> None:
            notes.append(message)

    faces = len(store.split("val"))
    said = few_choose(CONFIG, faces)
    assert said is not None and said.startswith(f"only {faces} validation faces choose the epoch")
    train(store.folder, tmp_path / "run", replace(CONFIG, max_steps=1), Notes())
    assert said in notes
    assert few_choose(CONFIG, 300) is None and few_choose(replace(CONFIG, select="last"), faces) is None
    assert "standard error of up to 5 points" in str(few_choose(CONFIG, 103))
    assert describe_selection(replace(CONFIG, select="ema", ema=0.9), faces) == (
        "moving average of the weights after the last epoch, chosen by nothing"
    )
    kept = "weights of the epoch with the best balanced accuracy on 1,000 faces of the validation split"
    assert describe_selection(replace(CONFIG, select="balanced_accuracy"), 1000) == kept
    with pytest.raises(UserInputError, match=r"--select cannot be 'ema'.*--ema 0\.999"):
        replace(CONFIG, select="ema")


def test_another_seed_gives_other_weights(finished: Path, store: Store, tmp_path: Path) -> None:
    train(store.folder, tmp_path / "run", replace(CONFIG, seed=1))
    assert not same_weights(finished, tmp_path / "run")


def test_alignment_brings_attention_to_the_maps(store: Store, tmp_path: Path) -> None:
    steady = replace(CONFIG, epochs=6, align_layers="3", augment=False, warmup_epochs=0)
    with_aus = train(store.folder, tmp_path / "with", steady)
    without = train(store.folder, tmp_path / "without", replace(steady, align_weight=0.0))
    rows = log(tmp_path / "with")
    assert rows[-1]["train_align"] < 0.7 * rows[0]["train_align"]
    assert rows[-1]["val_align"] < 0.8 * log(tmp_path / "without")[-1]["val_align"]
    assert with_aus.steps == without.steps


def test_another_configuration_or_store_is_refused(finished: Path, store: Store, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"align_weight, epochs.*align_weight = 4\.0; epochs = 3.*another --out"):
        train(store.folder, finished, replace(CONFIG, epochs=4, align_weight=1.0))
    other = synthetic_store(tmp_path, seed=5)
    with pytest.raises(RunError, match="other settings: store"):
        train(other.folder, finished, CONFIG)
    assert json.loads((finished / "config.json").read_text())["config"]["epochs"] == 3


def test_a_folder_in_use_is_refused(store: Store, tmp_path: Path) -> None:
    with output_folder(tmp_path, RUN), pytest.raises(FolderInUseError, match="in use"):
        train(store.folder, tmp_path, CONFIG)


def test_a_store_without_val_is_refused(tmp_path: Path) -> None:
    store = synthetic_store(tmp_path / "store", train=14, val=0, test=14)
    with pytest.raises(RunError, match=r"no val split.*never used for it"):
        train(store.folder, tmp_path / "run", CONFIG)


def test_wrong_layers_leave_no_run_behind(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match=r"1, 2, 3, 4, 5"):
        train(store.folder, tmp_path / "run", replace(CONFIG, align_layers="9"))
    assert not (tmp_path / "run" / "config.json").exists()


def test_a_loss_that_explodes_stops_the_run(store: Store, tmp_path: Path) -> None:
    wild = replace(CONFIG, lr=1e20, clip_grad=1e20, warmup_epochs=0)
    with pytest.raises(RunError, match=r"no longer finite.*smaller --lr"):
        train(store.folder, tmp_path / "run", wild)


def test_a_damaged_checkpoint_is_named(finished: Path, store: Store, tmp_path: Path) -> None:
    for name in ("config.json", "best.pt"):
        (tmp_path / name).write_bytes((finished / name).read_bytes())
    (tmp_path / "last.pt").write_bytes((finished / "last.pt").read_bytes()[:1000])
    record = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(record))
    with pytest.raises(RunError, match=r"cannot be read.*last\.pt"):
        train(store.folder, tmp_path, CONFIG)


@pytest.mark.parametrize(
    ("field", "value"),
    [("optimizer", "lion"), ("epochs", 0), ("lr", -1.0), ("align_weight", -1.0), ("flip", 1.5), ("max_steps", 0)],
)
def test_settings_are_checked(field: str, value: object) -> None:
    with pytest.raises(UserInputError, match="--" + field.replace("_", "-")):
        TrainConfig(**{field: value})  # type: ignore[arg-type]


def test_learning_rate_schedules() -> None:
    cosine = TrainConfig(lr=1.0, epochs=10, warmup_epochs=2)
    rates = [learning_rate(cosine, step, 5) for step in range(50)]
    assert rates[0] < 0.1 and max(rates) > 0.9 and rates[-1] < 0.01
    assert rates[:9] == sorted(rates[:9]) and rates[15:] == sorted(rates[15:], reverse=True)
    steps = TrainConfig(lr=1.0, schedule="step", warmup_epochs=0, step_epochs=4, step_gamma=0.9)
    assert [learning_rate(steps, epoch * 5, 5) for epoch in (0, 3, 4, 8)] == pytest.approx([1, 1, 0.9, 0.81])


def test_the_device_is_checked(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match="'tpu' is not available"):
        train(store.folder, tmp_path, replace(CONFIG, device="tpu"))


@pytest.fixture(scope="module")
def one_step(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "one-step"
    train(store.folder, run, replace(CONFIG, max_steps=1))
    return run


@pytest.mark.parametrize(
    "choice",
    [
        {"align_target": "mean"},
        {"align_target": "shuffled"},
        {"align_target": "landmarks"},
        {"neutral": "uniform"},
        {"align_average": "valid"},
    ],
    ids=str,
)
def test_what_is_aligned_with_is_a_choice(choice: dict[str, Any], store: Store, one_step: Path, tmp_path: Path) -> None:
    """The first step and the first validation already measure something else."""
    train(store.folder, tmp_path / "run", replace(CONFIG, max_steps=1, **choice))
    (row,), (plain,) = log(tmp_path / "run"), log(one_step)
    assert row["train_ce"] == plain["train_ce"]
    assert row["train_align"] != plain["train_align"] and row["val_align"] != plain["val_align"]
    with pytest.raises(RunError, match="other settings: " + next(iter(choice))):
        train(store.folder, tmp_path / "run", CONFIG)


def test_the_average_of_the_weights_is_validated_and_kept(finished: Path, store: Store, tmp_path: Path) -> None:
    train(store.folder, tmp_path, replace(CONFIG, epochs=1, ema=0.999))
    last, best = (torch.load(tmp_path / name, weights_only=True) for name in ("last.pt", "best.pt"))
    assert all(torch.equal(value, best["model"][name]) for name, value in last["average"].items())
    name = "head.weight"
    first = torch.load(finished / "last.pt", weights_only=True)["model"][name]
    assert not torch.equal(last["average"][name], last["model"][name]) and first.shape == last["model"][name].shape
    counter = "backbone.body.bn1.num_batches_tracked"
    assert last["average"][counter] == last["model"][counter] == 4


def test_the_average_is_the_recursion() -> None:
    model = create_method("cam", create_backbone("test_resnet"), 3)
    average = MovingAverage(model, 0.5)
    expected = model.head.weight.detach().clone()
    for step in (1, 2, 40):
        with torch.no_grad():
            model.head.weight += 1.0
        average.update(model, step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * model.head.weight.detach()
        assert torch.allclose(average.model.head.weight, expected)


def test_a_full_device_is_explained_with_a_batch_size_to_try(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has ...")

    monkeypatch.setattr("aupipe.fer_models.methods.base.Method.training_step", full)
    with pytest.raises(
        RunError, match=r"out of memory at --batch-size 14.*Got: CUDA out of memory\. Try --batch-size 7"
    ):
        train(store.folder, tmp_path / "run", CONFIG)
    with pytest.raises(RunError, match=r"Try a smaller --input-size.*or --amp"):
        train(store.folder, tmp_path / "one", replace(CONFIG, batch_size=1, amp=False))


def test_the_crop_fits_the_store_where_none_is_chosen(store: Store, tmp_path: Path) -> None:
    assert TrainConfig().fitted(256).crop_size == 224 and TrainConfig(crop_size=100).fitted(256).crop_size == 100
    train(store.folder, tmp_path / "run", replace(CONFIG, crop_size=0, max_steps=1))
    assert json.loads((tmp_path / "run" / "config.json").read_text())["config"]["crop_size"] == 56  # of 64
    again = train(store.folder, tmp_path / "run", replace(CONFIG, crop_size=0, max_steps=1))
    assert again.new_steps == 0


def test_a_crop_that_cuts_the_face_names_what_scales_it(store: Store, tmp_path: Path) -> None:
    notes: list[str] = []

    class Notes(Silent):
        def note(self, message: str) -> None:
            notes.append(message)

    train(store.folder, tmp_path / "cut", replace(CONFIG, crop_size=32, max_steps=1), Notes())
    (cut,) = [note for note in notes if "--input-size" in note]
    assert "a crop of 32 cuts 75% of the 64-pixel faces' area off" in cut and "--crop-size 56 --input-size 32" in cut
    notes.clear()
    train(store.folder, tmp_path / "scaled", replace(CONFIG, crop_size=56, input_size=32, max_steps=1), Notes())
    assert not any("--input-size" in note for note in notes)


def test_classes_without_images_are_named(tmp_path: Path) -> None:
    notes: list[str] = []

    class Notes(Silent):
        def note(self, message: str) -> None:
            notes.append(message)

    store = synthetic_store(tmp_path / "store", train=14, val=5, test=0, size=32, map_size=8)
    train(store.folder, tmp_path / "run", replace(CONFIG, crop_size=32, max_steps=1), Notes())
    assert "the val split has no images of surprise, neutral" in notes
    assert not any("train split" in note for note in notes)


def test_tensorboard_that_is_not_installed_is_named_at_once(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(RunError, match=r"--tensorboard needs.*pip install tensorboard.*log\.csv"):
        train(store.folder, tmp_path / "run", replace(CONFIG, tensorboard=True))
    assert not (tmp_path / "run" / "config.json").exists()


def test_tensorboard_gets_the_figures_of_the_log(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The interface of torch.utils.tensorboard.SummaryWriter, without the package."""
    written: dict[str, Any] = {}

    class Writer(contextlib.AbstractContextManager[Any]):
        def __init__(self, log_dir: str, purge_step: int) -> None:
            written["folder"], written["purge"] = log_dir, purge_step

        def add_scalar(self, name: str, value: float, step: int) -> None:
            written[name] = (value, step)

        def __exit__(self, *_: object) -> None:
            written["closed"] = True

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=Writer))
    train(store.folder, tmp_path, replace(CONFIG, max_steps=1, tensorboard=True))
    (row,) = log(tmp_path)
    assert written["folder"] == str(tmp_path / "tensorboard") and written["purge"] == 1 and written["closed"]
    assert written["val/accuracy"] == (row["val_accuracy"], 1) and written["train/total"] == (row["train_total"], 1)
