"""A whole study of small networks: continued after losses to the same tables, whatever the number of processes."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from aupipe.commands.cli import cli
from aupipe.fer_analysis.comparison.global_maps import GlobalMap
from aupipe.fer_analysis.comparison.map_maker import MapOptions
from aupipe.fer_analysis.comparison.run import compare_networks
from aupipe.fer_analysis.study import StudyReport, StudyRequest, estimate, run_study
from aupipe.fer_analysis.study.plan import changed, parse_networks
from aupipe.fer_analysis.study.run import _Study
from aupipe.fer_data.errors import RunError, UserInputError
from aupipe.fer_data.shards import Store
from aupipe.fer_data.types import Silent
from aupipe.fer_models.backbones.create import timm
from aupipe.fer_models.training import run_record
from synthetic import store_of_persons

MAPS = MapOptions(images=2, samples=24, select="labelled", resamples=0, device="cpu")
TABLES = (
    "iou.csv",
    "scores.csv",
    "merge_heights.csv",
    "recognition.csv",
    "faces.csv",
    "folds.csv",
    "clusters.csv",
    "results.md",
)


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return store_of_persons(tmp_path_factory.mktemp("people"))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(5)
    torch.save(timm.create_model("test_resnet").state_dict(), folder / "test_resnet.pth")
    return folder


@pytest.fixture(scope="module")
def request_(weights: Path) -> StudyRequest:
    networks = changed(parse_networks("test_resnet,test_efficientnet,test_resnet:pretrained"), input_size=48)
    return StudyRequest(networks, folds=2, maps=MAPS, least=4, batch_size=16, max_steps=2, weights_from=weights)


@pytest.fixture(scope="module")
def done(people: Store, request_: StudyRequest, tmp_path_factory: pytest.TempPathFactory) -> StudyReport:
    return run_study(people.folder, tmp_path_factory.mktemp("study") / "out", request_, jobs=2, threads=1)


def tables(out: Path) -> dict[str, bytes]:
    return {name: (out / name).read_bytes() for name in TABLES}


def test_every_network_has_a_map_of_every_expression_over_both_folds(done: StudyReport) -> None:
    comparison = done.comparison
    assert comparison.maps.networks == ("test_resnet", "test_efficientnet", "test_resnet-pretrained")
    assert len(comparison.maps.expressions) == 6 and comparison.maps.present[:2].all() and not done.failed
    rows = list(csv.DictReader((done.out / "folds.csv").read_text().splitlines()))
    assert len(rows) == 18 and all(row["faces"] == "4" for row in rows)
    assert sum(bool(row["fold_1"] and row["fold_2"] and row["sd"]) for row in rows[:12]) > 9
    for row in csv.DictReader((done.out / "recognition.csv").read_text().splitlines()):
        assert row["faces"] == "98", "each face is tested once"
        assert row["start"] == ("pretrained" if row["network"].endswith("pretrained") else "scratch")
    page = (done.out / "index.html").read_text()
    assert done.sentence in page.replace("&#39;", "'") and "data:image/png" in page and "Left out" in page
    record = run_record.load_record(done.out / "runs" / "test_resnet-pretrained-fold2")
    assert record.config.fold == "2/2" and record.config.input_size == 48
    assert record.initial_weights["source"] == "file"


def test_only_faces_that_no_network_learned_from_are_explained(done: StudyReport, people: Store) -> None:
    learned = json.loads((done.out / "runs" / "test_resnet-fold1" / "metrics.json").read_text())
    other = json.loads((done.out / "runs" / "test_resnet-fold2" / "metrics.json").read_text())
    assert learned["n"] + other["n"] == 98 and learned["store_digest"] != other["store_digest"]
    with pytest.raises(UserInputError, match="different folds"):
        compare_networks([done.out / "runs" / f"test_resnet-fold{n}" for n in (1, 2)], None, done.out / "x", MAPS)


def test_what_was_lost_is_made_again_and_the_tables_are_the_same(
    done: StudyReport, people: Store, request_: StudyRequest, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(done.out, tmp_path / "again"))
    (out / "runs" / "test_efficientnet-fold2" / "best.pt").unlink()
    (out / "maps" / "fold1" / "test_resnet-fold1_fear.npz").unlink()
    (out / "maps" / "fold2" / "test_resnet-fold2_anger.npz").write_bytes(b"damaged")
    for name in TABLES:
        (out / name).unlink()
    kept = (out / "maps" / "fold1" / "test_resnet-fold1_anger.npz").stat().st_mtime_ns
    report = run_study(people.folder, out, request_, jobs=1, threads=1)
    assert not report.failed and tables(out) == tables(done.out)
    assert (out / "maps" / "fold1" / "test_resnet-fold1_anger.npz").stat().st_mtime_ns == kept


@pytest.mark.slow
def test_one_process_writes_what_two_do(
    done: StudyReport, people: Store, request_: StudyRequest, tmp_path: Path
) -> None:
    assert not run_study(people.folder, tmp_path / "one", request_, jobs=1, threads=1).failed
    assert tables(tmp_path / "one") == tables(done.out)


@pytest.mark.slow
def test_a_network_that_cannot_be_trained_is_named_and_the_others_go_on(
    people: Store, request_: StudyRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(timm.create_model("test_vit").state_dict(), tmp_path / "test_resnet.pth")
    real = estimate.memory_shortage

    def shortage(training: object, sizes: list[int], jobs: int) -> str | None:
        too_large = training.name.startswith("test_efficientnet")
        return "memory is too short" if too_large else real(training, sizes, jobs)  # type: ignore[arg-type]

    monkeypatch.setattr("aupipe.fer_analysis.study.run.memory_shortage", shortage)
    request = replace(request_, weights_from=tmp_path, maps=replace(MAPS, images=1), least=1)
    report = run_study(people.folder, tmp_path / "out", request, jobs=1)
    assert report.comparison.maps.networks == ("test_resnet",)
    assert report.failed["test_efficientnet"] == "memory is too short"
    assert "test_resnet" in report.failed["test_resnet-pretrained-fold1"]
    page = (tmp_path / "out" / "index.html").read_text()
    assert "not trained: memory is too short" in page
    assert "cannot be asked here" in report.sentence


def test_a_map_of_too_few_faces_does_not_count(people: Store, request_: StudyRequest, done: StudyReport) -> None:
    study = _Study(people.folder, done.out, replace(request_, least=5), 1, 1, Silent())
    folds, failed = study.explain({})
    assert not failed and all(isinstance(part, GlobalMap) for parts in folds.values() for part in parts)
    with pytest.raises(UserInputError, match="only 4 faces of all folds could be explained, fewer than 5"):
        study.compare(folds)


def test_other_settings_in_the_same_folder_are_refused(
    done: StudyReport, people: Store, request_: StudyRequest
) -> None:
    with pytest.raises(RunError, match="batch_size"):
        run_study(people.folder, done.out, replace(request_, batch_size=8))
    with pytest.raises(UserInputError, match="too few persons"):
        run_study(people.folder, done.out, replace(request_, folds=10))


@pytest.mark.slow
def test_the_command_plans_and_makes_it(people: Store, tmp_path: Path) -> None:
    words = [
        "study",
        str(people.folder),
        "--out",
        str(tmp_path / "out"),
        "--networks",
        "test_resnet",
        "--device",
        "cpu",
    ]
    planned = CliRunner().invoke(cli, [*words, "--dry-run", "--json"])
    found = json.loads(planned.stdout)
    assert found["trainings"] == 5 and found["maps"] == 30 and found["seconds"] > 0 and not (tmp_path / "out").exists()
    made = CliRunner().invoke(cli, [*words, "--smoke", "--input-size", "48", "--jobs", "1"])
    assert made.exit_code == 0, made.output
    assert "networks: 1; this call" in made.output and (tmp_path / "out" / "maps.png").is_file()
    assert run_record.load_record(tmp_path / "out" / "runs" / "test_resnet-fold1").config.input_size == 48


def test_folds_deal_the_same_persons_to_every_network(done: StudyReport) -> None:
    ids = []
    for name in ("test_resnet", "test_efficientnet"):
        rows = csv.DictReader((done.out / "runs" / f"{name}-fold1" / "predictions.csv").read_text().splitlines())
        ids.append([(row["sample_id"], row["group"]) for row in rows])
    assert ids[0] == ids[1] and len(set(ids[0])) == len(ids[0])
    assert np.unique([group for _, group in ids[0]]).size < 9


def test_a_study_is_not_written_over_by_what_looks_alike(done: StudyReport, people: Store) -> None:
    with pytest.raises(UserInputError, match="what `aupipe study` made"):
        compare_networks([done.out / "runs" / "test_resnet-fold1"], None, done.out, MAPS)
