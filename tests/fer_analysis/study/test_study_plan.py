"""Which networks a study trains, and how; what memory refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest

from aupipe.fer_analysis.comparison.map_maker import MapOptions
from aupipe.fer_analysis.study import StudyRequest, estimate
from aupipe.fer_analysis.study.plan import changed, parse_networks, plan_trainings
from aupipe.fer_data.errors import UserInputError
from aupipe.fer_data.shards import StoreIndex
from aupipe.fer_models.backbones.zoo import ZOO


def test_all_are_the_study_s_twelve_with_their_own_schedules() -> None:
    networks = parse_networks("all")
    assert [one.name for one in networks] == [entry.name for entry in ZOO]
    assert {one.name for one in networks if not one.pretrained} == {"AlexNet", "SilNet", "WeiNet", "SongNet"}
    plan = plan_trainings(StudyRequest(networks), 256)
    assert len(plan) == 60 and len({one.name for one in plan}) == 60
    by_name = {one.name: one.config for one in plan}
    for name, optimizer, lr, epochs, size in (
        ("VGG16", "adam", 1e-4, 2, 224), ("MobileNetV3Large", "adam", 1e-6, 15, 224), ("SilNet", "adam", 1e-4, 10, 150),
        ("EfficientNetV2B0", "adam", 1e-6, 10, 224), ("WeiNet", "rmsprop", 1e-4, 10, 64),
        ("SongNet", "rmsprop", 1e-4, 25, 224),
    ):  # fmt: skip
        config = by_name[f"{name}-fold4"]
        assert (config.optimizer, config.lr, config.epochs, config.input_size) == (optimizer, lr, epochs, size)
        assert (config.fold, config.crop_size, config.batch_size) == ("4/5", 256, 128)
        assert not config.augment and config.schedule == "constant" and config.select == "last"
        assert config.align_weight == 0 and config.weight_decay == 0


def test_any_backbone_may_take_part_and_start_from_imagenet_or_not() -> None:
    networks = parse_networks("songnet, resnet18,resnet18:pretrained,VGG16:scratch")
    assert [(one.name, one.backbone, one.pretrained) for one in networks] == [
        ("SongNet", "songnet", False), ("resnet18", "resnet18", False), ("resnet18-pretrained", "resnet18", True),
        ("VGG16-scratch", "vgg16.tv_in1k", False),
    ]  # fmt: skip
    (own,) = parse_networks("nets:small:scratch")
    assert (own.name, own.backbone, own.pretrained) == ("nets:small", "nets:small", False)
    assert not any(one.pretrained for one in parse_networks("all,resnet18", pretrained=False))
    with pytest.raises(UserInputError, match="no network starts from ImageNet"):
        parse_networks("resnet18:pretrained", pretrained=False)
    assert {one.schedule.epochs for one in changed(networks, epochs=7)} == {7}


def test_the_networks_from_scratch_may_be_made_for_smaller_images() -> None:
    small, own = parse_networks("silnet_64,silnet")
    assert (small.name, small.backbone, small.input_size, small.pretrained) == ("SilNet-64", "silnet_64", 64, False)
    assert small.schedule == own.schedule and (own.name, own.backbone, own.input_size) == ("SilNet", "silnet", 150)
    assert sum(estimate.tensor_sizes(small, 6)) // 4 == 184_852_038 - 512 * 64 * (75**2 - 32**2), "a smaller head"


@pytest.mark.parametrize(("text", "said"), [("resnet18,resnet18", "each once"), ("", "each once")])
def test_what_cannot_be_planned_is_refused(text: str, said: str) -> None:
    with pytest.raises(UserInputError, match=said):
        StudyRequest(parse_networks(text))


def test_weights_come_from_a_folder_where_one_is_given(tmp_path: Path) -> None:
    request = StudyRequest(parse_networks("resnet18:pretrained,resnet18"), folds=2, weights_from=tmp_path)
    with pytest.raises(UserInputError, match=r"no weights of resnet18-pretrained.*resnet18\.safetensors"):
        plan_trainings(request, 64)
    (tmp_path / "resnet18.pth").write_bytes(b"weights")
    first, second = plan_trainings(request, 64)[:2]
    assert first.config.weights == str((tmp_path / "resnet18.pth").resolve()) and not first.config.pretrained
    assert second.config.weights is None and not second.config.pretrained


def test_a_network_too_large_for_the_memory_is_refused_with_the_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    (network,) = parse_networks("silnet")
    (training,) = plan_trainings(StudyRequest((network,), folds=2), 256)[:1]
    sizes = estimate.tensor_sizes(network, 6)
    assert sum(sizes) == 4 * 184_852_038
    monkeypatch.setattr(estimate, "available_memory", lambda: 7 * 10**9)
    assert estimate.memory_shortage(training, sizes, 1) is None
    reason = estimate.memory_shortage(training, sizes, 2)
    assert reason is not None and "3.7 GB" in reason and "3.5 GB" in reason and "fewer --jobs" in reason
    small = replace(training, config=replace(training.config, optimizer="rmsprop"))
    assert estimate.memory_shortage(small, sizes, 2) is None


@pytest.mark.parametrize("entry", ZOO, ids=lambda entry: entry.name)
def test_weights_are_counted_without_making_them(entry: object) -> None:
    (network,) = parse_networks(entry.name)  # type: ignore[attr-defined]
    count = sum(estimate.tensor_sizes(network, 6)) // 4
    assert count == pytest.approx(entry.weights, rel=0.02)  # type: ignore[attr-defined]


def test_the_time_counts_all_that_is_learned_from_passed_and_explained() -> None:
    """1,000 faces in two folds: 450 learned and 50 passed an epoch, 500 tested twice, 6 x 10 x 100 passed for maps."""
    (network,) = changed(parse_networks("songnet"), epochs=4)
    request = StudyRequest((network,), folds=2, maps=MapOptions(select="predicted", images=10, samples=100))
    cost = estimate.NetworkCost(network.name, 0, train_seconds=10, pass_seconds=1)
    index = Mock(StoreIndex, splits=("train", "test"), rows={"train": 800, "test": 200}.__getitem__)

    def seconds(asked: StudyRequest) -> float:
        return estimate.total_seconds(asked, [cost], {network.name: 2}, index, 6)

    assert seconds(request) == 2 * (4 * 450 * 10 + 4 * 50 + 2 * 500 + 6 * 10 * 100)
    short = replace(request, max_steps=9, batch_size=100)
    assert seconds(short) == 2 * (900 * 10 + 2 * 50 + 2 * 500 + 6 * 10 * 100), "two epochs"
