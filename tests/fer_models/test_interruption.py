"""Runs that are stopped, killed or told to stop anywhere continue as if nothing had happened."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from aupipe.fer_data.shards import Store
from aupipe.fer_data.types import Silent
from aupipe.fer_models.training import run_log
from aupipe.fer_models.training.config import TrainConfig
from aupipe.fer_models.training.run import train
from aupipe.fer_models.training.stop_signal import Action, StopSignal
from forked import CONTEXT
from synthetic import synthetic_store

CONFIG = TrainConfig(
    backbone="test_resnet",
    align_layers="3",
    epochs=2,
    batch_size=7,
    crop_size=32,
    device="cpu",
    ema=0.9,
    checkpoint_steps=1,
)


class Tell(Silent):
    """Sends this process a signal in the middle of an epoch."""

    def __init__(self, number: signal.Signals, batches: int) -> None:
        self.number, self.left = number, batches

    def advance(self, count: int) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), self.number)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return synthetic_store(tmp_path_factory.mktemp("store"), train=28, val=7, test=0, size=32, map_size=8)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """The children's number of threads: another one adds numbers in another order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def undisturbed(small: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "whole"
    train(small.folder, run, replace(CONFIG, checkpoint_steps=0))
    return run


def saved(run: Path, name: str = "last.pt") -> dict[str, Any]:
    content: dict[str, Any] = torch.load(run / name, weights_only=True)
    return content


def assert_same(a: Path, b: Path) -> None:
    for file, parts in (("last.pt", ("model", "average")), ("best.pt", ("model",))):
        for part in parts:
            x, y = saved(a, file)[part], saved(b, file)[part]
            assert x.keys() == y.keys() and all(torch.equal(value, y[name]) for name, value in x.items())
    timing = {"seconds", "images_per_second", "wait_fraction"}
    rows = [[json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()] for run in (a, b)]
    for one, other in zip(*rows, strict=True):
        assert {key: one[key] for key in one.keys() - timing} == {key: other[key] for key in other.keys() - timing}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_told_to_stop_it_saves_where_it_is(
    number: signal.Signals, small: Store, undisturbed: Path, tmp_path: Path
) -> None:
    before = signal.getsignal(number)
    never = replace(CONFIG, checkpoint_steps=0)
    with pytest.raises(KeyboardInterrupt):
        train(small.folder, tmp_path, never, Tell(number, 5))
    assert signal.getsignal(number) == before
    state = saved(tmp_path)
    # The signal arrives after the fifth step; the run looks up after the sixth.
    assert (state["epoch"], state["batches"], state["step"]) == (1, 2, 6)
    report = train(small.folder, tmp_path, never)
    assert report.resumed and report.new_steps == 2
    assert_same(undisturbed, tmp_path)


def _train(store: Path, run: Path) -> None:
    torch.set_num_threads(1)
    train(store, run, CONFIG)


def test_killed_at_random_moments_it_ends_the_same(small: Store, undisturbed: Path, tmp_path: Path) -> None:
    """SIGKILL leaves no chance to save: what continues is the last checkpoint, here of every step."""
    moments, reached = random.Random(5), []
    for kill in [True] * 4 + [False]:
        child = CONTEXT.Process(target=_train, args=(small.folder, tmp_path / "run"))
        child.start()
        if kill:
            wait_for_a_step(tmp_path / "run" / "last.pt", child)
            child.join(moments.uniform(0, 0.05))
            child.kill()
            reached.append(saved(tmp_path / "run")["step"])
        child.join(120)
    assert child.exitcode == 0
    assert 0 < reached[0] < 8 and reached == sorted(reached)
    assert_same(undisturbed, tmp_path / "run")


def wait_for_a_step(path: Path, child: Any) -> None:
    """Until another checkpoint appears, or the child ends."""
    before = path.stat().st_mtime_ns if path.exists() else 0
    while child.is_alive() and (not path.exists() or path.stat().st_mtime_ns == before):
        child.join(0.005)


def test_wishes() -> None:
    by_steps = StopSignal(minutes=0, steps=3)
    by_steps.note_saved(10)
    assert [by_steps.next_action(step) for step in (11, 12, 13)] == [Action.GO_ON, Action.GO_ON, Action.SAVE]
    by_time = StopSignal(minutes=1e-9, steps=0)
    assert by_time.next_action(1) == Action.SAVE
    never = StopSignal(minutes=0, steps=0)
    assert never.next_action(10**6) == Action.GO_ON
    with pytest.raises(KeyboardInterrupt), never.watching():
        signal.raise_signal(signal.SIGTERM)
        assert never.next_action(0) == Action.STOP
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)


def test_threads_cannot_watch_signals() -> None:
    before, errors = signal.getsignal(signal.SIGTERM), list[str]()

    def watch() -> None:
        with StopSignal(0, 0).watching():
            if signal.getsignal(signal.SIGTERM) != before:
                errors.append("changed")

    thread = threading.Thread(target=watch)
    thread.start()
    thread.join()
    assert not errors


def test_a_run_without_mixed_precision_is_continued_with_it(
    small: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a scaler that is switched off has saved, one that is on refuses to load, as on CUDA."""
    run = tmp_path / "run"
    train(small.folder, run, replace(CONFIG, max_steps=1))
    empty = torch.amp.GradScaler("cpu", enabled=False).state_dict()
    with pytest.raises(RuntimeError):
        torch.amp.GradScaler("cpu", enabled=True).load_state_dict(empty)
    monkeypatch.setattr(torch.amp.GradScaler, "load_state_dict", lambda *_: pytest.fail("loads nothing"))
    assert train(small.folder, run, replace(CONFIG, max_steps=2)).steps == 2


@pytest.mark.parametrize("limit", [2, 1])
def test_a_run_stopped_before_its_row_was_written_gets_it(
    small: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    """Killed while it validates after the last step that --max-steps allows; then continued with fewer steps too."""
    run, config = tmp_path / "run", replace(CONFIG, max_steps=2, checkpoint_steps=1)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("aupipe.fer_models.training.run.validate", _killed)
        train(small.folder, run, config)
    assert saved(run)["step"] == 2 and not (run / "best.pt").exists()
    report = train(small.folder, run, replace(config, max_steps=limit))
    assert (report.steps, report.new_steps, report.best_epoch) == (2, 0, 1)
    train(small.folder, tmp_path / "whole", config)
    left, whole = (run_log.read_log(folder)[-1] for folder in (run, tmp_path / "whole"))
    assert {name: left[name] for name in ("step", "train_total", "val_ce")} == {
        name: whole[name] for name in ("step", "train_total", "val_ce")
    }
    assert train(small.folder, run, replace(config, max_steps=limit)).new_steps == 0


def _killed(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_the_last_weights_are_kept_where_the_steps_end_within_an_epoch(small: Store, tmp_path: Path) -> None:
    train(small.folder, tmp_path / "run", replace(CONFIG, select="last", max_steps=6))  # four steps are an epoch
    best = torch.load(tmp_path / "run" / "best.pt", weights_only=True)
    assert (best["epoch"], best["step"]) == (2, 6)
