from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from aupipe.commands.cli import cli
from aupipe.fer_analysis.evaluation import compare, evaluate
from aupipe.fer_data.errors import RunError
from aupipe.fer_data.shards import Store
from aupipe.fer_models.training.config import TrainConfig
from aupipe.fer_models.training.run import train
from run_files import rewrite
from synthetic import synthetic_store

CONFIG = TrainConfig(backbone="test_resnet", batch_size=14, crop_size=48, device="cpu", max_steps=1)


@pytest.fixture(scope="module")
def runs(store: Store, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("pair")
    for seed, name in enumerate(("plain", "au")):
        train(store.folder, folder / name, replace(CONFIG, seed=seed))
        evaluate(folder / name)
    return folder / "plain", folder / "au"


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "predictions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_differences_are_those_of_the_two_evaluations(runs: tuple[Path, Path]) -> None:
    result = compare(*runs)
    found, pair = result.as_json(), [rows(folder) for folder in runs]
    own = [json.loads((folder / "metrics.json").read_text()) for folder in runs]
    for name, one in found["differences"].items():
        if "specificity" not in name:
            values = [content[name] if name != "att_cos" else content[name]["5"] for content in own]
            assert [one["run"], one["other"]] == pytest.approx(values, abs=2e-6)
        assert one["difference"] == pytest.approx(one["run"] - one["other"])
        assert one["ci95"][0] <= one["difference"] <= one["ci95"][1]
    assert len(found["differences"]) == 6
    right = np.array([[row["correct"] == "1" for row in table] for table in pair])
    table = found["paired_test"]
    assert table["first_only"] == (right[0] & ~right[1]).sum() and table["second_only"] == (~right[0] & right[1]).sum()
    assert json.loads((runs[0] / "against-au.json").read_text()) == found
    assert any("McNemar" in line for line in result.lines())


def test_where_persons_repeat_persons_are_resampled(runs: tuple[Path, Path], tmp_path: Path) -> None:
    """The same faces, seven photos of each of two persons: wider intervals, another test, and it is said."""
    known = synthetic_store(
        tmp_path / "known", change=lambda row: replace(row, group=f"p{int(row.sample_id[-4:]) % 2}")
    )
    folders = [Path(shutil.copytree(run, tmp_path / run.name)) for run in runs]
    by_face = json.loads((folders[0] / "metrics.json").read_text())
    done = [evaluate(folder, store_folder=known.folder) for folder in folders]
    content = done[0].as_json()
    assert content["n_groups"] == 2 and by_face["n_groups"] == by_face["n"] == content["n"] == 14
    assert (
        "persons resampled" in content["intervals"]["method"] and "14 images of test of 2 persons" in done[0].lines()[0]
    )
    assert {row["group"] for row in rows(folders[0])} == {"p0", "p1"}
    assert content["att_cos"] == by_face["att_cos"] and content["intervals"] != by_face["intervals"]
    assert content["accuracy_ci95"] == content["intervals"]["accuracy"]
    found = compare(*folders).as_json()
    assert found["n_groups"] == 2 and found["paired_test"]["method"] == "permutation by person"


def test_a_run_against_itself_differs_nowhere(runs: tuple[Path, Path]) -> None:
    found = compare(runs[0], runs[0]).as_json()
    assert found["paired_test"]["p_value"] == 1
    assert all(one["ci95"] == [0, 0] for one in found["differences"].values())


@pytest.mark.parametrize(
    ("name", "value"), [("split", "val"), ("store_digest", "0"), ("codebook_digest", "0"), ("crop_size", 56)]
)
def test_other_faces_or_maps_are_refused(runs: tuple[Path, Path], tmp_path: Path, name: str, value: object) -> None:
    other = copy(runs[1], tmp_path)
    rewrite(other / "metrics.json", **{name: value})
    with pytest.raises(RunError, match=f"their {name.replace('_', ' ')} differ"):
        compare(runs[0], other)


def test_other_rows_are_refused(runs: tuple[Path, Path], tmp_path: Path) -> None:
    from aupipe.fer_data.files import sha256_file

    other = copy(runs[1], tmp_path)
    lines = (other / "predictions.csv").read_text().splitlines(keepends=True)
    (other / "predictions.csv").write_text("".join([lines[0], lines[2], lines[1], *lines[3:]]))
    with pytest.raises(RunError, match="does not belong to the metrics"):
        compare(runs[0], other)
    rewrite(other / "metrics.json", predictions_sha256=sha256_file(other / "predictions.csv"))
    with pytest.raises(RunError, match="their rows differ"):
        compare(runs[0], other)


def test_an_unmeasured_run_is_refused_with_the_command_to_run(runs: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(RunError, match=f"aupipe evaluate {tmp_path}"):
        compare(runs[0], tmp_path)


def test_the_command_compares(runs: tuple[Path, Path]) -> None:
    plain, au = runs
    done = CliRunner().invoke(cli, ["evaluate", str(au), "--against", str(plain), "--batch-size", "7", "--json"])
    assert done.exit_code == 0, done.output
    content = json.loads(done.stdout)
    assert content["against"]["differences"]["accuracy"]["run"] == pytest.approx(content["accuracy"])
    assert content["against"]["other"] == str(plain)


def test_figures_of_other_weights_are_refused(runs: tuple[Path, Path], tmp_path: Path) -> None:
    other = copy(runs[1], tmp_path)
    shutil.copy(runs[1] / "best.pt", other)
    compare(runs[0], other)
    shutil.copy(runs[0] / "best.pt", other)
    with pytest.raises(RunError, match=f"measured with other weights.*aupipe evaluate {other} --split test"):
        compare(runs[0], other)


def test_another_split_or_some_rows_do_not_replace_the_figures(runs: tuple[Path, Path]) -> None:
    plain, au = runs
    before = {path: path.read_bytes() for path in plain.iterdir() if path.is_file() and path.name != "digests.json"}
    for options, name in ((["--split", "val"], "evaluation-val"), (["--limit", "3"], "evaluation-test-limit-3")):
        args = ["evaluate", str(au), *options, "--against", str(plain)]
        refused = CliRunner().invoke(cli, args)
        assert f"aupipe evaluate {plain}` first" in str(refused.exception)
        assert CliRunner().invoke(cli, ["evaluate", str(plain), *options]).exit_code == 0
        done = CliRunner().invoke(cli, [*args, "--json"])
        found = json.loads((au / name / "against-plain.json").read_text())
        assert json.loads(done.stdout)["against"] == found and found["n"] == len(rows(plain / name))
    assert before == {path: path.read_bytes() for path in before}


def copy(run: Path, tmp_path: Path) -> Path:
    other = tmp_path / "other"
    other.mkdir()
    for name in ("metrics.json", "predictions.csv"):
        shutil.copy(run / name, other / name)
    return other
