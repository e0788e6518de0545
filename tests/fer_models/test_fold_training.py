"""Cross-validation, scaled inputs and the study's optimizers: a run and everything that opens it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from aupipe.fer_analysis.comparison.map_maker import MapOptions
from aupipe.fer_analysis.comparison.run import compare_networks
from aupipe.fer_analysis.evaluation import evaluate
from aupipe.fer_analysis.explain import open_run
from aupipe.fer_analysis.faithfulness import measure_faithfulness
from aupipe.fer_data.errors import RunError, UserInputError
from aupipe.fer_data.shards import Store
from aupipe.fer_data.shards.chosen_rows import few_of_each_class
from aupipe.fer_data.shards.folds import fold_store
from aupipe.fer_data.types import Silent
from aupipe.fer_models.training import checkpoint, run_record
from aupipe.fer_models.training.config import TrainConfig
from aupipe.fer_models.training.optim import learning_rate, make_optimizer
from aupipe.fer_models.training.preflight import without_persons
from aupipe.fer_models.training.run import train
from synthetic import store_of_persons

CONFIG = TrainConfig(
    backbone="test_resnet", epochs=2, batch_size=16, crop_size=64, input_size=48, device="cpu", fold="2/3",
    optimizer="rmsprop", schedule="constant", warmup_epochs=0.0, select="last",
)  # fmt: skip


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return store_of_persons(tmp_path_factory.mktemp("people"))


@pytest.fixture(scope="module")
def run(people: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "run"
    train(people.folder, folder, CONFIG)
    return folder


def test_it_is_tested_on_its_fold_by_every_command(run: Path, people: Store) -> None:
    fold = fold_store(people, "2/3")
    found = evaluate(run).content
    assert found["n"] == len(fold.split("test")) and found["store_digest"] == fold.index.digest
    ids = [line.split(",")[0] for line in (run / "predictions.csv").read_text().splitlines()[1:]]
    assert ids == fold.split("test").sample_ids
    opened = open_run(run, device="cpu")
    assert opened.calibration is not None and run_record.load_record(run).store_digest == fold.index.digest
    assert measure_faithfulness(run, limit=4, device="cpu").content["store_digest"] == fold.index.digest


def test_an_interrupted_fold_ends_the_same(run: Path, people: Store, tmp_path: Path) -> None:
    for steps in (3, None):
        train(people.folder, tmp_path / "run", replace(CONFIG, max_steps=steps))
    whole, continued = (torch.load(one / "last.pt", weights_only=True)["model"] for one in (run, tmp_path / "run"))
    assert all(torch.equal(value, continued[name]) for name, value in whole.items())
    with pytest.raises(RunError, match="fold"):
        train(people.folder, tmp_path / "run", replace(CONFIG, fold="1/3"))


def test_the_network_sees_the_whole_crop_at_its_own_size(run: Path) -> None:
    _, model, _ = checkpoint.load_best(run, torch.device("cpu"))
    images = torch.rand(3, 3, 64, 64)
    small = torch.nn.functional.interpolate(images, (48, 48), mode="bilinear", align_corners=False, antialias=True)
    with torch.no_grad():
        assert torch.equal(model(images).logits, model(small).logits)
        assert not torch.equal(model(images).logits, model(images[:, :, 8:56, 8:56]).logits), "nothing is cut off"
    assert model.backbone.grids[-1] == tuple(model(images).features[-1].shape[2:])


@pytest.mark.parametrize("name", ["adam", "rmsprop", "adamw", "sgd"])
def test_the_optimizers_do_what_their_name_says(name: str) -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    config = replace(CONFIG, optimizer=name, lr=0.1, weight_decay=0.0, momentum=0.0)
    optimizer = make_optimizer(model, config)
    before = model.weight.item()
    (3 * model.weight).sum().backward()
    optimizer.step()
    step = before - model.weight.item()
    # A first step: the rate times the gradient over its own size; RMSprop's mean square starts from 0.
    expected = {"sgd": 0.3, "rmsprop": 0.1 / np.sqrt(0.1)}.get(name, 0.1)
    assert step == pytest.approx(expected, rel=1e-4)


def test_a_constant_rate_stays_where_it_is() -> None:
    config = replace(CONFIG, lr=0.01)
    assert {learning_rate(config, step, 10) for step in range(20)} == {0.01}


def test_what_is_no_setting_is_refused() -> None:
    for wrong in ({"fold": "3"}, {"input_size": -1}, {"optimizer": "lion"}, {"schedule": "linear"}):
        with pytest.raises(UserInputError):
            replace(CONFIG, **wrong)  # type: ignore[arg-type]
    record = json.loads(json.dumps(CONFIG.as_json()))
    older = {name: value for name, value in record.items() if name not in ("fold", "input_size")}
    assert TrainConfig.from_json(older).fold == "" and TrainConfig.from_json(record) == replace(CONFIG, lr=5e-4)


def test_another_store_may_hold_persons_that_it_learned_from(run: Path, tmp_path: Path) -> None:
    other = store_of_persons(tmp_path / "other", test=14)
    with pytest.raises(RunError, match="learned from all but fold 2/3 of another store"):
        evaluate(run, other.folder)
    with pytest.raises(RunError, match="another store"):
        compare_networks([run], other.folder, tmp_path / "out", MapOptions(images=1, samples=4, device="cpu"))


def test_a_run_may_learn_from_a_few_faces(people: Store, tmp_path: Path) -> None:
    class Notes(Silent):
        def note(self, message: str) -> None:
            notes.append(message)

    notes = list[str]()
    few = replace(CONFIG, fold="", faces_per_class=4, epochs=1)
    train(people.folder, tmp_path / "run", few, Notes())
    classes = len(people.index.classes)
    assert f"learns from {4 * classes} of {people.index.rows('train')} faces, 4 of each class" in notes
    assert evaluate(tmp_path / "run").content["n"] == people.index.rows("test"), "tested on all"
    with pytest.raises(RunError, match="faces_per_class"):
        train(people.folder, tmp_path / "run", replace(few, faces_per_class=8))


def test_a_run_that_was_begun_keeps_its_crop(people: Store, tmp_path: Path) -> None:
    """The usual one may have been another when it was begun: 224 pixels, whatever the store."""
    begun = replace(CONFIG, fold="", crop_size=48, max_steps=1)
    train(people.folder, tmp_path / "run", begun)
    train(people.folder, tmp_path / "run", replace(begun, crop_size=0, max_steps=2))
    assert run_record.load_record(tmp_path / "run").config.crop_size == 48
    train(people.folder, tmp_path / "new", replace(begun, crop_size=0))
    assert run_record.load_record(tmp_path / "new").config.crop_size == 56


def test_what_is_looked_at_is_up_to_date_when_a_run_goes_on(run: Path, people: Store) -> None:
    whole = (run / "log.csv").read_bytes()
    (run / "log.csv").write_bytes(whole.splitlines(keepends=True)[0])
    train(people.folder, run, CONFIG)
    assert (run / "log.csv").read_bytes() == whole


def test_few_faces_of_known_persons_are_not_called_strangers(tmp_path: Path) -> None:
    store = store_of_persons(tmp_path / "store")
    split = fold_store(store, "1/3").split("train")
    assert without_persons(split) is None
    assert without_persons(few_of_each_class(split, 1, 0)) is None
