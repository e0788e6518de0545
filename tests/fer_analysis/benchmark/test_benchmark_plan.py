from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from aupipe.fer_analysis.benchmark import preflight
from aupipe.fer_analysis.benchmark.plan import (
    GridRequest,
    ablation_network,
    parse_layer_sets,
    parse_methods,
    parse_pairs,
    parse_weights,
    plan_grid,
    training_key,
    trainings,
)
from aupipe.fer_analysis.benchmark.published import load_published
from aupipe.fer_data.errors import FerError, RunError, UserInputError
from aupipe.fer_data.shards import Store
from aupipe.fer_models.methods import METHODS
from aupipe.fer_models.methods.base import Prediction
from aupipe.fer_models.methods.cam import CAM
from aupipe.fer_models.training.config import TrainConfig
from aupipe.fer_models.training.run_record import describe_run, save_record

BASE = TrainConfig(backbone="test_resnet", crop_size=48, device="cpu")


class Negative(CAM):
    trains_as = "cam"

    def cam(self, prediction: Prediction, class_index: torch.Tensor) -> torch.Tensor:
        return -super().cam(prediction, class_index)


class Fussy(CAM):
    @classmethod
    def check(cls, backbone: object) -> None:
        raise UserInputError("it wants a backbone with tokens.")


@pytest.fixture(autouse=True)
def methods(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "negative", Negative)
    monkeypatch.setitem(METHODS, "fussy", Fussy)


def request(**changes: object) -> GridRequest:
    return replace(GridRequest(("cam",), 2, base=BASE), **changes)  # type: ignore[arg-type]


def names(grid: GridRequest) -> list[str]:
    return [run.name for run in plan_grid(grid)]


def test_runs_are_named_by_what_they_vary_seed_by_seed() -> None:
    assert names(request()) == [
        "cam-test_resnet-w0-s0", "cam-test_resnet-w4-s0", "cam-test_resnet-w0-s1", "cam-test_resnet-w4-s1",
    ]  # fmt: skip
    assert names(request(seeds=1, weights=(0.5,), backbones={"cam": "hf-hub:a/b.c"})) == ["cam-hf_hub_a_b.c-w0.5-s0"]


def test_a_run_that_several_tables_need_is_trained_once() -> None:
    grid = request(seeds=1, layers=("last", "4", "5,4"), lambdas=(0.0, 1.0, 4.0), targets=("class", "mean"))
    assert names(grid) == [
        "cam-test_resnet-w0-s0", "cam-test_resnet-w4-s0", "cam-test_resnet-w4-layers4-s0",
        "cam-test_resnet-w4-layers5+4-s0", "cam-test_resnet-w1-s0", "cam-test_resnet-w4-target-mean-s0",
    ]  # fmt: skip
    runs = plan_grid(grid)
    assert len(trainings(runs)) == len(runs) == len({run.folder for run in runs})
    assert runs[3].config.align_layers == "5,4" and runs[5].config.align_target == "mean"


def test_read_outs_share_a_training() -> None:
    runs = plan_grid(request(methods=("cam", "negative", "fussy"), seeds=1, options={"negative": ""}))
    plan = trainings(runs)
    assert [(one.name, [run.output for run in one.runs]) for one in plan] == [
        ("cam-test_resnet-w0-s0", ["cam-test_resnet-w0-s0", "cam-test_resnet-w0-s0/negative"]),
        ("cam-test_resnet-w4-s0", ["cam-test_resnet-w4-s0", "cam-test_resnet-w4-s0/negative"]),
        ("fussy-test_resnet-w0-s0", ["fussy-test_resnet-w0-s0"]),
        ("fussy-test_resnet-w4-s0", ["fussy-test_resnet-w4-s0"]),
    ]
    assert all(one.config.method in ("cam", "fussy") for one in plan)


def test_a_read_out_alone_is_trained_as_its_method() -> None:
    (run,) = plan_grid(request(methods=("negative",), seeds=1, weights=(4.0,)))
    assert (run.name, run.folder, run.output) == (
        "negative-test_resnet-w4-s0", "cam-test_resnet-w4-s0", "cam-test_resnet-w4-s0/negative",
    )  # fmt: skip
    assert run.config.method == "negative" and run.training.method == "cam"


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({"method": "negative"}, True),
        ({"device": "cuda"}, True),
        ({"seed": 1}, False),
        ({"align_weight": 0.0}, False),
        ({"align_layers": "4"}, False),
        ({"align_target": "mean"}, False),
        ({"method": "fussy"}, False),
        ({"lr": 0.1}, False),
        ({"backbone": "test_vit"}, False),
    ],
)
def test_the_training_key_is_what_is_trained(changes: dict[str, object], same: bool) -> None:
    assert (training_key(replace(BASE, **changes)) == training_key(BASE)) is same  # type: ignore[arg-type]


def test_without_guidance_the_target_and_the_layers_do_not_matter() -> None:
    plain = replace(BASE, align_weight=0.0)
    assert training_key(replace(plain, align_layers="4", align_target="mean")) == training_key(plain)


def test_a_backbone_or_option_of_one_method_leaves_the_others_alone() -> None:
    runs = plan_grid(request(methods=("cam", "fussy"), backbones={"fussy": "resnet18"}, options={"fussy": "a=1"}))
    assert {(run.config.method, run.config.backbone, run.config.method_options) for run in runs} == {
        ("cam", "test_resnet", ""), ("fussy", "resnet18", "a=1"),
    }  # fmt: skip


def test_what_the_command_line_gives_is_read() -> None:
    assert parse_methods("all")[0] == "cam" and set(parse_methods("all")) == set(METHODS)
    assert parse_methods("fussy, cam,cam") == ("cam", "fussy")
    assert parse_weights("4,0,4,0.5", "lambdas") == (4.0, 0.0, 0.5) and parse_weights("", "lambdas") == ()
    assert parse_pairs(["cam=kmax=0.5,alpha=0.6"], "option-for") == {"cam": "kmax=0.5,alpha=0.6"}
    assert parse_layer_sets(["last", "5", "4,5", " 4", ""], 5) == ("last", "5,4", "4") and parse_layer_sets([], 5) == ()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: parse_methods("cam,negativ"), "Did you mean 'negative'"),
        (lambda: parse_weights("0,x", "align-weight"), "--align-weight cannot be read"),
        (lambda: parse_weights("-1", "lambdas"), "--lambdas cannot be read"),
        (lambda: parse_pairs(["cam"], "backbone-for"), "METHOD=VALUE"),
        (lambda: parse_layer_sets(["6"], 5), "not layers of this network"),
        (lambda: request(weights=(0.0,), layers=("last",)), "vary guided runs"),
        (lambda: request(methods=()), "a method"),
        (lambda: plan_grid(request(targets=("nose",))), "--align-target cannot be 'nose'"),
    ],
)
def test_what_makes_no_grid_is_refused(call: object, message: str) -> None:
    with pytest.raises(UserInputError, match=message):
        call()  # type: ignore[operator]


def test_a_network_that_does_not_fit_is_refused_before_training(store: Store) -> None:
    preflight.check_networks(plan_grid(request(methods=("cam", "negative"))), store)
    with pytest.raises(UserInputError, match=r"1 of the grid's methods.*fussy on test_resnet.*tokens.*--backbone-for"):
        preflight.check_networks(plan_grid(request(methods=("cam", "fussy"))), store)
    with pytest.raises(UserInputError, match="layers to align"):
        preflight.check_networks(plan_grid(request(layers=("7",))), store)


def test_a_folder_with_another_configuration_is_refused(store: Store, tmp_path: Path) -> None:
    plan = trainings(plan_grid(request(seeds=1)))
    folder = tmp_path / "runs" / plan[0].name
    save_record(folder, describe_run(store, folder, replace(plan[0].config, epochs=7)))
    with pytest.raises(RunError, match="other settings: epochs"):
        preflight.check_folders(plan, tmp_path, store)


def test_published_figures_stand_beside_the_same_dataset_only(store: Store) -> None:
    assert load_published("auto", store) is None and load_published("none", store) is None
    raf = Store(store.folder, replace(store.index, provenance={"layout": "rafdb"}))
    found = load_published("auto", raf)
    assert found is not None and found.methods["cam"]["cl"] == (88.20, 88.95) and found.layers["5,4"] == (88.78, 0.67)
    assert "cam_cos" not in found.methods["apvit"] and len(found.methods) == 11
    affect = load_published("affectnet7", store)
    assert affect is not None and affect.methods["gradcampp"]["att_cos"] == (0.65, 0.82)
    eight = replace(store.index, provenance={"layout": "affectnet"}, classes=(*store.index.classes, "contempt"))
    assert load_published("auto", Store(store.folder, eight)) is None
    with pytest.raises(UserInputError, match="Unknown published table 'rafbd'"):
        load_published("rafbd", store)


def test_layers_are_those_of_the_method_s_own_network() -> None:
    """APViT leaves the last ones out, a network of fixed input size takes the grid's crop alone."""
    base = TrainConfig(backbone="resnet18", crop_size=64)
    counted = [preflight.layers_of(ablation_network(request(base=base, ablation=name)), 7) for name in ("cam", "apvit")]
    assert counted[0] == 5 > counted[1]


def test_what_would_end_a_training_at_its_start_ends_the_grid_before(store: Store) -> None:
    def check(**changes: object) -> None:
        preflight.check_settings(trainings(plan_grid(request(base=replace(BASE, **changes)))), store)

    for changes, message in (
        ({"batch_size": 100_000}, "larger than the"),
        ({"weights": "/nowhere.pt"}, "does not exist"),
    ):
        with pytest.raises(FerError, match=message):
            check(**changes)
    with pytest.raises(UserInputError, match=r"other_face.*--aus fused"):
        preflight.check_settings(trainings(plan_grid(request(targets=("class", "other_face")))), store)


def test_a_limit_of_steps_shortens_the_estimate(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "_measure", lambda *_: (10.0, 0.0))

    def seconds(steps: int | None) -> float:
        grid = request(seeds=1, base=replace(BASE, batch_size=store.index.rows("train"), epochs=30, max_steps=steps))
        planned = trainings(plan_grid(grid))
        return preflight.estimate_seconds(planned, tmp_path, store, "test", 1) / len(planned)

    assert (seconds(None), seconds(3)) == (300.0, 30.0)
