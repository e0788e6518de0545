"""A run's files are checked before they are believed, and what can be made again is."""

from __future__ import annotations

import json
import resource
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import aupipe
from aupipe.fer_data.cache import cache_folder
from aupipe.fer_data.errors import FerError, RunError, UserInputError
from aupipe.fer_data.loading.augment import AugmentConfig
from aupipe.fer_data.loading.loader import TripletLoader
from aupipe.fer_data.recorded import write_recorded
from aupipe.fer_data.shards import Store
from aupipe.fer_data.types import Silent
from aupipe.fer_models.backbones import create_backbone
from aupipe.fer_models.methods import option_defaults
from aupipe.fer_models.methods.apvit import APViT
from aupipe.fer_models.training import checkpoint, measured_run, run_log, run_record
from aupipe.fer_models.training.config import TrainConfig
from aupipe.fer_models.training.run import train
from run_files import forget_digests, rewrite
from synthetic import synthetic_store

CONFIG = TrainConfig(backbone="test_resnet", epochs=2, batch_size=14, crop_size=32, augment=False, device="cpu")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return synthetic_store(tmp_path_factory.mktemp("store"), train=28, val=7, test=7, size=48, map_size=16)


@pytest.fixture(scope="module")
def finished(small: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    train(small.folder, folder, CONFIG)
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


class Notes(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, message: str) -> None:
        self.lines.append(message)


def damage(path: Path, how: str) -> None:
    data = path.read_bytes()
    middle = len(data) // 2
    if how == "gone":
        path.unlink()
    elif how == "cut":
        path.write_bytes(data[:middle])
    else:
        path.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])


def choose_best(run: Path, epoch: int) -> None:
    """Make one epoch of a finished run the best one, in the last checkpoint and the log."""
    saved = torch.load(run / "last.pt", weights_only=True)
    for row in saved["rows"]:
        row["val_accuracy"] = float(row["epoch"] == epoch)
    checkpoint.save_checkpoint(run / "last.pt", {**saved, "history": saved["rows"]})
    run_log.write_log(run, saved["rows"])


@pytest.mark.parametrize("name", ["config.json", "last.pt", "best.pt", "log.jsonl"])
def test_every_file_of_a_run_has_its_digest(run: Path, name: str) -> None:
    damage(run / name, "bit")
    with pytest.raises(RunError, match=f"{name} is damaged"):
        if name == "log.jsonl":
            run_log.read_log(run)
        elif name == "last.pt":
            checkpoint.load_checkpoint(run / name, CPU, ())
        else:
            checkpoint.load_best(run, CPU)


def test_a_run_of_an_earlier_version_is_used_as_it_is(run: Path, small: Store) -> None:
    forget_digests(run)
    assert checkpoint.load_best(run, CPU)[2].epoch in (1, 2)
    assert train(small.folder, run, CONFIG).new_steps == 0


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", [1], {"model": 1, "epoch": 1}, {"model": {}, "epoch": "x"}])
def test_a_damaged_checkpoint_of_an_earlier_version_is_one_paragraph(run: Path, content: Any) -> None:
    forget_digests(run)
    if isinstance(content, bytes):
        (run / "best.pt").write_bytes(content)
    else:
        torch.save(content, run / "best.pt")
    with pytest.raises(RunError, match="checkpoint"):
        checkpoint.load_best(run, CPU)


@pytest.mark.parametrize(
    "change",
    [{"epoch": "x"}, {"rows": 3}, {"optimizer": {}}, {"model": {}}, {"sums": None}, {"sums": torch.zeros(7)}],
    ids=lambda change: next(iter(change)),
)
def test_a_damaged_last_checkpoint_says_the_way_out(run: Path, small: Store, change: dict[str, Any]) -> None:
    saved = torch.load(run / "last.pt", weights_only=True)
    checkpoint.save_checkpoint(run / "last.pt", {**saved, **change})
    with pytest.raises(RunError, match=r"last\.pt"):
        train(small.folder, run, CONFIG)


@pytest.mark.parametrize("how", ["gone", "cut", "bit"])
def test_the_best_weights_are_written_again_from_the_last_checkpoint(run: Path, small: Store, how: str) -> None:
    choose_best(run, 2)
    damage(run / "best.pt", how)
    notes = Notes()
    assert train(small.folder, run, CONFIG, notes).new_steps == 0
    assert any("best.pt was missing or damaged, and is written again" in line for line in notes.lines)
    best, last = (torch.load(run / name, weights_only=True) for name in ("best.pt", "last.pt"))
    assert best["epoch"] == 2 and all(torch.equal(value, last["model"][name]) for name, value in best["model"].items())
    assert checkpoint.load_best(run, CPU)[2].epoch == 2


def test_lost_weights_of_a_finished_run_are_named(run: Path, small: Store) -> None:
    choose_best(run, 1)
    damage(run / "best.pt", "gone")
    with pytest.raises(RunError, match=r"the weights of epoch 1, the best one.*remove last\.pt"):
        train(small.folder, run, CONFIG)


def test_lost_weights_of_an_unfinished_run_are_no_candidates(run: Path, small: Store) -> None:
    longer = replace(CONFIG, epochs=3)
    rewrite(run / "config.json", config=longer.as_json())
    choose_best(run, 1)
    damage(run / "best.pt", "bit")
    notes = Notes()
    report = train(small.folder, run, longer, notes)
    assert any("the weights of epoch 1 are lost" in line for line in notes.lines)
    assert report.new_steps == 2 and report.best_epoch == 3 and checkpoint.load_best(run, CPU)[2].epoch == 3
    assert [row.get("lost") for row in run_log.read_log(run)] == [True, True, None]


@pytest.mark.parametrize("how", ["gone", "cut"])
def test_the_log_is_written_again(run: Path, small: Store, how: str) -> None:
    before = (run / "log.jsonl").read_bytes()
    damage(run / "log.jsonl", how)
    train(small.folder, run, CONFIG)
    assert (run / "log.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    "text", ["3", "{}", '{"epoch": 1', "\n", '{"epoch": "1"}', "{" * 5000, '{"epoch": NaN}'], ids=range(7)
)
def test_a_damaged_log_of_an_earlier_version_is_one_paragraph(run: Path, text: str) -> None:
    forget_digests(run)
    with (run / "log.jsonl").open("a") as file:
        file.write(text + "\n")
    with pytest.raises(RunError, match=r"log is damaged.*aupipe train"):
        run_log.read_log(run)


@pytest.mark.parametrize(
    "change",
    [
        {"classes": "abc"}, {"channel_mean": [1, 2]}, {"image_size": "48"}, {"versions": 3}, {"config": []},
        {"config": {"lr": "x"}}, {"config": {"epochs": 1.5}}, {"store": None}, {"drop": "codebook"},
    ],
    ids=str,
)  # fmt: skip
def test_a_configuration_of_other_types_is_one_paragraph(run: Path, change: dict[str, Any]) -> None:
    rewrite(run / "config.json", **change)
    with pytest.raises(RunError, match="configuration is damaged"):
        run_record.load_record(run)


def test_weights_that_are_no_numbers_are_refused(run: Path) -> None:
    state = torch.load(run / "best.pt", weights_only=True)
    next(iter(state["model"].values())).fill_(float("nan"))
    checkpoint.save_checkpoint(run / "best.pt", state)
    with pytest.raises(RunError, match="not finite numbers"):
        checkpoint.load_best(run, CPU)


def test_a_full_disk_is_one_paragraph_and_costs_nothing(run: Path) -> None:
    before = (run / "best.pt").read_bytes()
    state = torch.load(run / "best.pt", weights_only=True)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(FerError, match="Could not write"):
            checkpoint.save_checkpoint(run / "best.pt", state)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (run / "best.pt").read_bytes() == before
    checkpoint.load_best(run, CPU)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("lr", float("inf")), ("lr", float("nan")), ("clip_grad", float("inf")), ("clip_grad", float("nan")),
        ("seed", 2**63), ("seed", -1), ("batch_size", 2.5), ("batch_size", True), ("epochs", "3"), ("flip", None),
        ("scale_jitter", 1.0), ("augment", 1), ("weights", 3), ("rotation", float("inf")), ("max_steps", 1.0),
    ],
)  # fmt: skip
def test_no_setting_ends_in_a_traceback(field: str, value: object) -> None:
    with pytest.raises(UserInputError, match="--" + field.replace("_", "-")):
        TrainConfig(**{field: value})  # type: ignore[arg-type]


def test_the_largest_seed_trains(small: Store, tmp_path: Path) -> None:
    train(small.folder, tmp_path, replace(CONFIG, seed=2**43 - 1, max_steps=1))


@pytest.mark.parametrize("arguments", [{"batch_size": 2.5}, {"seed": 1.5}, {"limit": "3"}, {"threads": None}])
def test_the_loader_checks_its_arguments(small: Store, arguments: dict[str, Any]) -> None:
    with pytest.raises(UserInputError, match=f"{next(iter(arguments))} must be a whole number"):
        TripletLoader(small.split("train"), **arguments)


@pytest.mark.parametrize("scale", [(0.0, 2.0), (1.2, 0.9), (float("nan"), 1.0), (1.0, float("inf"))])
def test_scales_of_an_augmentation_are_checked(scale: tuple[float, float]) -> None:
    with pytest.raises(UserInputError, match="cannot be scaled"):
        AugmentConfig(32, scale=scale).check(48)


APVIT = replace(CONFIG, method="apvit", method_options="depth=2,dim=32,heads=2", max_steps=1)


def of_an_earlier_version(run: Path) -> None:
    """Make a run's record what programs wrote before they recorded what settings mean."""
    record = json.loads((run / "config.json").read_text())
    for name in ("method_settings", "validation_faces", "semantics"):
        del record[name]
    record["config"]["select_on"] = record["config"].pop("select")
    write_recorded(run / "config.json", json.dumps(record).encode())


def test_a_run_records_what_its_method_and_its_settings_mean(small: Store, run: Path, tmp_path: Path) -> None:
    train(small.folder, tmp_path / "apvit", APVIT)
    record = json.loads((tmp_path / "apvit" / "config.json").read_text())
    assert record["method_settings"] == {
        "score": "abs_sum", "keep": 160 / 196, "depth": 2, "heads": 2, "dim": 32, "token_keep": 0.9
    }  # fmt: skip
    assert record["semantics"] == 2 and record["validation_faces"] == 7
    assert json.loads((run / "config.json").read_text())["method_settings"] == {"head": "auto"}


def test_a_run_keeps_its_methods_settings_when_a_default_changes(
    small: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Evaluated and continued, it is the network that was trained; a new one has the new default."""
    train(small.folder, tmp_path / "run", APVIT)
    defaults = {**option_defaults("apvit"), "score": "mean"}
    monkeypatch.setattr(run_record, "option_defaults", lambda _: defaults)
    net = checkpoint.load_best(tmp_path / "run", CPU)[1]
    assert isinstance(net, APViT) and net.score == "abs_sum"
    assert train(small.folder, tmp_path / "run", replace(APVIT, max_steps=2)).new_steps == 1
    assert json.loads((tmp_path / "run" / "config.json").read_text())["method_settings"]["score"] == "abs_sum"
    assert checkpoint.build_model(APVIT, 7, with_weights=False).score == "mean"


def test_an_older_run_is_read_where_it_means_the_same_and_refused_where_it_does_not(
    small: Store, run: Path, tmp_path: Path
) -> None:
    of_an_earlier_version(run)
    assert train(small.folder, run, CONFIG).new_steps == 0  # finished: left alone
    assert checkpoint.load_best(run, CPU)[0].config == replace(CONFIG, lr=CONFIG.learning_rate)
    assert run_record.load_record(run).semantics == 1
    begun = tmp_path / "begun"
    train(small.folder, begun, replace(CONFIG, max_steps=1))
    of_an_earlier_version(begun)
    weights = (begun / "last.pt").read_bytes()
    with pytest.raises(RunError, match=r"begun by an earlier version.*evaluated, but not continued.*new --out folder"):
        train(small.folder, begun, CONFIG)
    assert (begun / "last.pt").read_bytes() == weights and run_record.load_record(begun).semantics == 1
    checkpoint.load_best(begun, CPU)
    train(small.folder, tmp_path / "apvit", APVIT)
    of_an_earlier_version(tmp_path / "apvit")
    with pytest.raises(RunError, match=r"before the method apvit changed: patch pooling.*Train it again"):
        checkpoint.load_best(tmp_path / "apvit", CPU)


def test_a_batch_of_one_is_explained(small: Store, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="--batch-size 2 or more"):
        train(small.folder, tmp_path, replace(CONFIG, batch_size=1, max_steps=1))


@pytest.mark.parametrize("content", [b"root:x:0:0:root:/root:/bin/bash\n", b"", b"\x80\x04\x95", b"a" * 300])
def test_weights_that_are_no_weights(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "passwd").write_bytes(content)
    with pytest.raises(RunError, match="cannot be read"):
        create_backbone("test_resnet", weights=tmp_path / "passwd")


def test_a_run_from_a_url_remembers_it(small: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUPIPE_CACHE", str(tmp_path / "cache"))
    url = f"file://{small.folder}"
    settings = {"backbone": "test_resnet", "crop_size": 32, "batch_size": 14, "max_steps": 1, "device": "cpu"}
    aupipe.train(url, tmp_path / "run", **settings)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["store"] == f"{url}#sha256={small.index.digest}"
    monkeypatch.setenv("AUPIPE_CACHE", str(tmp_path / "elsewhere"))
    store = measured_run.run_store(tmp_path / "run", run_record.load_record(tmp_path / "run"), None)
    assert store.index.digest == small.index.digest and cache_folder() in store.folder.parents


def test_a_finished_run_keeps_the_versions_that_trained_it(run: Path, small: Store) -> None:
    record = run_record.load_record(run)
    run_record.save_record(run, replace(record, versions={**record.versions, "torch": "1.2.3"}))
    assert train(small.folder, run, CONFIG).new_steps == 0
    assert run_record.load_record(run).versions["torch"] == "1.2.3"


def test_weights_of_another_epoch_than_the_best_are_written_again(small: Store, tmp_path: Path) -> None:
    """Runs with `--select last` of earlier versions kept the last whole epoch where --max-steps ended in the next."""
    run, config = tmp_path / "run", replace(CONFIG, select="last", max_steps=3)  # two steps are an epoch
    train(small.folder, run, config)
    best = torch.load(run / "best.pt", weights_only=True)
    checkpoint.save_checkpoint(run / "best.pt", {**best, "epoch": 1, "step": 2})
    assert train(small.folder, run, config).new_steps == 0
    assert torch.load(run / "best.pt", weights_only=True)["epoch"] == best["epoch"] == 2


def test_a_damaged_epoch_of_the_best_weights_is_not_blamed_on_the_last(run: Path, small: Store) -> None:
    choose_best(run, 2)
    best = torch.load(run / "best.pt", weights_only=True)
    checkpoint.save_checkpoint(run / "best.pt", {**best, "epoch": "x"})
    assert train(small.folder, run, CONFIG).new_steps == 0
    assert checkpoint.load_best(run, CPU)[2].epoch == 2


def test_best_weights_of_an_epoch_that_comes_out_differently_are_not_kept(small: Store, tmp_path: Path) -> None:
    """A kill between best.pt and last.pt, and the epoch again on other hardware: then it is not the best any more."""
    run, config = tmp_path / "run", replace(CONFIG, epochs=4)
    train(small.folder, run, replace(config, max_steps=4))  # two epochs
    choose_best(run, 1)
    best = torch.load(run / "best.pt", weights_only=True)
    checkpoint.save_checkpoint(run / "best.pt", {**best, "epoch": 3, "step": 6})
    notes = Notes()
    report = train(small.folder, run, config, notes)
    assert any("best.pt held epoch 3, which came out differently" in line for line in notes.lines)
    assert report.best_epoch == checkpoint.load_best(run, CPU)[2].epoch > 2
    assert [row.get("lost", False) for row in run_log.read_log(run)] == [True, True, False, False]


def test_a_store_that_was_rebuilt_in_the_same_place_is_refused(run: Path, small: Store) -> None:
    record, notes = replace(run_record.load_record(run), store_digest="0" * 64), Notes()
    with pytest.raises(RunError, match=r"not the one that the run was trained on.*--store"):
        measured_run.run_store(run, record, None)
    assert measured_run.run_store(run, record, small.folder, notes).folder == small.folder
    assert any("figures are too good" in line for line in notes.lines)


def test_a_training_that_starts_afresh_means_what_this_program_means(run: Path, small: Store) -> None:
    rewrite(run / "config.json", semantics=1, method_settings={})
    assert run_record.describe_run(small, run, CONFIG).semantics == 1
    (run / "last.pt").unlink()
    fresh = run_record.describe_run(small, run, CONFIG)
    assert fresh.semantics == run_record.SEMANTICS and fresh.method_settings == run_record.method_settings(CONFIG)


def test_options_are_obeyed_without_the_method_s_name(small: Store, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(small.folder, run, replace(CONFIG, method="prm", method_options="layer=2", max_steps=1))
    for named in (None, "prm"):
        record = checkpoint.load_best(run, CPU, named, "map=response")[0]
        assert record.config.method == "prm" and record.config.method_options == "layer=2,map=response"
        assert record.method_settings == {"map": "response", "layer": 2}, "the rest is as trained"
    same = checkpoint.load_best(run, CPU, "prm", "layer=2")[0]
    assert same.config == run_record.load_record(run).config, "as a grid measures it"
    assert checkpoint.load_best(run, CPU, "prm", "layer=3")[0].config.method_options == "layer=3"
    with pytest.raises(UserInputError, match="nonsense"):
        checkpoint.load_best(run, CPU, None, "nonsense=1")


@pytest.mark.parametrize(
    ("method", "trained", "given", "kept"),
    [("wildcat", "maps=3,alpha=0.2", "kmax=0.1", "kmax=0.5"), ("acol", "width=16", "width=8", "width=16")],
)
def test_no_option_makes_another_network_of_a_trained_one(
    small: Store, tmp_path: Path, method: str, trained: str, given: str, kept: str
) -> None:
    run = tmp_path / "run"
    train(small.folder, run, replace(CONFIG, method=method, method_options=trained, max_steps=1))
    assert (
        checkpoint.load_best(run, CPU, method, trained)[0].method_settings
        == run_record.load_record(run).method_settings
    )
    with pytest.raises(UserInputError, match=f"belongs to the trained network.*Expected: {kept}"):
        checkpoint.load_best(run, CPU, None, given)


def test_the_trained_head_cannot_be_chosen_by_a_read_out(run: Path) -> None:
    assert checkpoint.load_best(run, CPU, "gradcam", "")[0].config.method == "gradcam"
    with pytest.raises(UserInputError, match=r"trained network.*Expected: head=auto.*Got: head=pooled"):
        checkpoint.load_best(run, CPU, "gradcam", "head=pooled")
