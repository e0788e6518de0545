from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import aupipe
from aupipe.commands.cli import cli
from aupipe.fer_analysis.evaluation import Evaluation, compare, evaluate
from aupipe.fer_analysis.evaluation.pairing import difference_rows
from aupipe.fer_data.errors import RunError, StoreError, UserInputError
from aupipe.fer_data.files import sha256_file
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


def test_a_comparison_goes_with_the_figures_it_was_made_of(
    runs: tuple[Path, Path], store: Store, tmp_path: Path
) -> None:
    first, second, third = (
        Path(shutil.copytree(runs[at], tmp_path / name / "run")) for at, name in ((0, "a"), (1, "b"), (1, "c"))
    )
    for other in (second, third, second):
        compare(first, other)
    found = sorted(first.glob("against-run*.json"))
    assert [json.loads(path.read_text())["other"] for path in found] == [str(third), str(second)]
    weights = json.loads((second / "metrics.json").read_text())["checkpoint_sha256"]
    assert {json.loads(path.read_text())["other_checkpoint_sha256"] for path in found} == {weights}
    notes = first / "against-all-odds.txt"
    notes.write_text("mine")
    (first / "against-them.json").mkdir()
    evaluate(first, store_folder=store.folder)
    assert {path.name for path in first.glob("against-*")} == {notes.name, "against-them.json"}


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


def measured(runs: Iterable[Path]) -> list[int]:
    return [(run / "metrics.json").stat().st_mtime_ns for run in runs]


def test_only_what_is_out_of_date_is_measured(runs: tuple[Path, Path], store: Store, tmp_path: Path) -> None:
    plain, au = (Path(shutil.copytree(run, tmp_path / run.name)) for run in runs)
    args = ["evaluate", str(au), "--against", str(plain), "--store", str(store.folder)]
    before = measured([plain, au])
    done = CliRunner().invoke(cli, args)
    assert done.exit_code == 0 and measured([plain, au]) == before
    head, first = done.output.splitlines()[:2]
    assert head.startswith(f"{au} against {plain}: 14 images of test")
    assert first.split() == ["au", "plain", "difference", "95", "%,", "paired"]
    (plain / "predictions.csv").write_text("cut")
    done = CliRunner().invoke(cli, args)
    assert f"{plain} is measured: its predictions.csv is not the one of its figures" in done.output
    changed = measured([plain, au])
    assert changed[0] > before[0] and changed[1] == before[1]
    rewrite(au / "metrics.json", store_digest="0")
    assert f"{au} is measured: its figures are of another store" in CliRunner().invoke(cli, args).output
    shutil.copy(au / "best.pt", plain)
    assert f"{plain} is measured: The figures of {plain} are not of this run" in CliRunner().invoke(cli, args).output
    (plain / "metrics.json").unlink()
    assert f"{plain} is measured: {plain} was not evaluated" in CliRunner().invoke(cli, args).output


def test_what_is_no_run_is_refused_before_anything_is_measured(runs: tuple[Path, Path], tmp_path: Path) -> None:
    before = measured(runs)
    done = CliRunner().invoke(cli, ["evaluate", str(runs[0]), "--against", str(tmp_path)])
    assert "an empty folder, not a run" in str(done.exception) and measured(runs) == before


def test_an_interval_has_digits_enough_to_tell_0_from_its_ends() -> None:
    near = {"run": 0.5, "other": 0.4996, "difference": 0.0004, "ci95": [0.0002, 0.0006]}
    rows = difference_rows("a/run", "b/run", {"att_cos": near, "accuracy": {**near, "ci95": [0.0, 0.1234]}})
    assert rows[0] == ("", "a/run", "b/run", "difference", "95 %, paired")
    assert rows[1] == ("ATT-COS", "0.500", "0.500", "+0.0004", "+0.0002 to +0.0006")
    assert rows[2] == ("accuracy, %", "50.0", "50.0", "+0.0", "+0.0 to +12.3")


def test_requests_that_contradict_themselves_are_refused_from_python_too(runs: tuple[Path, Path]) -> None:
    with pytest.raises(UserInputError, match="--maps is measured alone"):
        aupipe.evaluate(runs[0], maps="maps", aus="faces.csv")
    with pytest.raises(UserInputError, match="give these with --aus"):
        aupipe.evaluate(runs[0], estimate="faces.csv")
    given = Evaluation(runs[0], {"maps_from": {"name": "saliency"}}, runs[0])
    with pytest.raises(UserInputError, match="compared by their own maps"):
        given.against(runs[1])


def test_tables_of_an_earlier_version_are_read_by_their_columns_former_names(
    runs: tuple[Path, Path], tmp_path: Path
) -> None:
    now = compare(*runs).as_json()
    old = [Path(shutil.copytree(run, tmp_path / run.name)) for run in runs]
    for run in old:
        table = run / "predictions.csv"
        head, rest = table.read_text().split("\n", 1)
        table.write_text(head.replace(",label,", ",true,").replace(",confidence,", ",probability,") + "\n" + rest)
        assert ",true," in table.read_text()
        rewrite(run / "metrics.json", predictions_sha256=sha256_file(table))
    assert compare(*old).as_json()["differences"] == now["differences"]


def test_a_store_that_was_moved_is_called_moved(runs: tuple[Path, Path], tmp_path: Path) -> None:
    elsewhere = Path(shutil.copytree(runs[0], tmp_path / "far" / "away" / "plain"))
    with pytest.raises(StoreError, match=r"not where it was: it was moved or removed\..*Give its place with --store\."):
        evaluate(elsewhere)
