"""Two runs' dependence on the AU regions, from tables made by hand: every figure against arithmetic on the table."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from aupipe.commands.cli import cli
from aupipe.fer_analysis.faithfulness import (
    FAITHFULNESS,
    compare_faithfulness,
    measure_faithfulness,
    randomising,
    summary,
)
from aupipe.fer_data.errors import RunError, UserInputError
from aupipe.fer_data.files import sha256_file
from aupipe.fer_data.shards import Store
from aupipe.fer_models.metrics import resampling
from drawings import read_drawing
from run_files import rewrite

KINDS = ("inside", "outside_face", "outside_anywhere")
MEASURED = {
    "depends_on_picture": True,
    "curves": {
        name: {"control": "random", **{kind: {"auc": 0.3, "over_random": over} for kind in ("deletion", "insertion")}}
        for name, over in (("attention", {"mean": 0.0, "ci95": [-0.1, 0.1]}), ("random", None))
    },
    "regions": {"n": 0, "n_with_region": 0, "n_right": 0, "room": 0.1, "removed": {}, "fall_inside_over": {}},
    "randomisation": {"maps": {"attention": {"final": 0.1, "other_face": 0.2}}},
    "split": "test", "limit": 200, "store_digest": "s", "codebook_digest": "c", "crop_size": 56, "baseline": "blur",
    "seed": 0,
}  # fmt: skip


def faces(inside: float, seed: int = 0, count: int = 12) -> list[dict[str, Any]]:
    """Rows of ``faithfulness.csv``: three photos of each person, a room of .5, falls near the given share of it."""
    rng = np.random.default_rng(seed)
    person = rng.normal(0, 0.05, count)
    return [
        {
            "sample_id": f"f{number}", "group": f"p{number // 3}", "label": "fear", "predicted": "fear", "has_map": "1",
            "probability": 0.75, "probability_baseline": 0.25, "region_share": 0.2,
            "fall_inside": 0.5 * (inside + person[number // 3] + rng.normal(0, 0.01)),
            "fall_outside_face": 0.05, "fall_outside_anywhere": 0.025,
        }
        for number in range(count)
    ]  # fmt: skip


def measured(folder: Path, rows: list[dict[str, Any]], **changes: Any) -> Path:
    """Write a run's files as if its faithfulness had been measured."""
    folder.mkdir()
    with (folder / "faithfulness.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    digest = sha256_file(folder / "faithfulness.csv")
    (folder / FAITHFULNESS).write_text(json.dumps({**MEASURED, "faces_sha256": digest, **changes}))
    return folder


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """A run that misses two faces, adds little on a third, and has no AU region on a fourth."""
    rows = faces(0.2, seed=1)
    rows[0] |= {"predicted": "anger"}
    rows[4] |= {"predicted": "anger"}
    rows[5] |= {"probability_baseline": 0.7}
    rows[6] |= {"region_share": ""}
    return measured(tmp_path / "other", rows)


def own(tmp_path: Path, inside: float = 0.6, **changes: Any) -> Path:
    rows = faces(inside)
    rows[6] |= {"region_share": ""}
    rows[1] |= {"probability": 0.95}
    return measured(tmp_path / "own", rows, **changes)


def test_falls_are_shares_of_the_room_on_faces_that_both_get_right(tmp_path: Path, other: Path) -> None:
    run = own(tmp_path)
    result = compare_faithfulness(run, other)
    found = result.as_json()
    used = [1, 2, 3, 7, 8, 9, 10, 11]
    assert found["n"] == 8 and found["n_groups"] == 4 and found["n_with_region"] == 11
    assert found["n_right"] == {"run": 11, "other": 9, "both": 9}
    first, second = faces(0.6), faces(0.2, seed=1)
    first[1]["probability"] = 0.95
    shares = {
        kind: [
            np.array([row[f"fall_{kind}"] / (row["probability"] - 0.25) for row in (rows[at] for at in used)])
            for rows in (first, second)
        ]
        for kind in KINDS
    }
    for kind, values in shares.items():
        one = found["differences"][kind]
        assert [one["run"], one["other"]] == pytest.approx([value.mean() for value in values], abs=1e-5)
        assert one["difference"] == pytest.approx(one["run"] - one["other"])
        over = [inside - value for inside, value in zip(shares["inside"], values, strict=True)]
        if kind != "inside":
            entry = found["differences"][f"inside_over_{kind}"]
            assert entry["run"] == pytest.approx(over[0].mean(), abs=1e-5)
            group = np.array([at // 3 for at in used])
            interval = resampling.bootstrap_interval(over[0] - over[1], group=group)
            assert entry["ci95"] == pytest.approx(interval, abs=1e-5)
            assert entry["ci95"] != pytest.approx(resampling.bootstrap_interval(over[0] - over[1]), abs=1e-4)
    assert json.loads((run / "faithfulness-against-other.json").read_text()) == found
    read_drawing(run / "faithfulness-against-other.png")
    with (run / "faithfulness-against-other.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["sample_id"] for row in rows] == [f"f{at}" for at in used]
    assert [float(row["other_inside"]) for row in rows] == pytest.approx(shares["inside"][1], abs=1e-5)
    assert "8 faces of test that both name rightly" in result.lines()[0] and "4 persons" in result.lines()[0]


@pytest.mark.parametrize(
    ("inside", "words"), [(0.6, "depends more on"), (0.2, "cannot be told apart"), (0.05, "depends less on")]
)
def test_the_paired_interval_decides_the_sentence(tmp_path: Path, other: Path, inside: float, words: str) -> None:
    assert words in compare_faithfulness(own(tmp_path, inside), other).lines()[-1]


def test_without_a_face_that_both_get_right_nothing_is_compared(tmp_path: Path) -> None:
    pair = [measured(tmp_path / "a", faces(0.6)), measured(tmp_path / "b", [{**row, "label": "x"} for row in faces(1)])]
    with pytest.raises(RunError, match="their rows differ"):
        compare_faithfulness(*pair)
    none_right = [{**row, "predicted": "anger"} for row in faces(1)]
    result = compare_faithfulness(pair[0], measured(tmp_path / "c", none_right))
    assert result.as_json()["differences"] == {} and result.lines()[-1].endswith("nothing to compare.")
    assert (tmp_path / "a" / "faithfulness-against-c.png").is_file()


@pytest.mark.parametrize("name", ["store_digest", "split", "limit", "codebook_digest", "crop_size", "baseline", "seed"])
def test_runs_measured_otherwise_are_refused(tmp_path: Path, other: Path, name: str) -> None:
    value = 7 if isinstance(MEASURED[name], int) else "else"
    with pytest.raises(RunError, match=f"(?s)their {name.replace('_', ' ')} differ.*aupipe faithfulness {other}"):
        compare_faithfulness(own(tmp_path, **{name: value}), other)


def test_what_cannot_be_compared_is_refused_in_words(tmp_path: Path, other: Path) -> None:
    run = own(tmp_path)
    with pytest.raises(UserInputError, match="cannot be compared with itself"):
        compare_faithfulness(run, tmp_path / "other" / ".." / "own")
    with pytest.raises(RunError, match=f"(?s)was not measured.*aupipe faithfulness {tmp_path}` first"):
        compare_faithfulness(run, tmp_path)
    earlier = [{name: cell for name, cell in row.items() if name != "group"} for row in faces(0.2)]
    with pytest.raises(RunError, match="of an earlier version, which did not name the persons"):
        compare_faithfulness(run, measured(tmp_path / "earlier", earlier))
    (other / "faithfulness.csv").write_text("changed")
    with pytest.raises(RunError, match=r"(?s)does not belong to the faithfulness.json.*aupipe faithfulness"):
        compare_faithfulness(run, other)
    rewrite(other / FAITHFULNESS, drop="baseline")
    with pytest.raises(RunError, match="faithfulness figures are damaged, or of an older version"):
        compare_faithfulness(run, other)


def test_the_command_refuses_before_it_measures_and_compares_after(
    run: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(randomising, "DRAWS", 1)
    monkeypatch.setattr(summary, "NO_DEPENDENCE", 0)
    without = shutil.ignore_patterns("faithfulness*")  # which other tests may have left
    one, two = (Path(shutil.copytree(run, tmp_path / name, ignore=without)) for name in ("one", "two"))
    options = ["--store", str(store.folder), "--limit", "4", "--steps", "2", "--device", "cpu"]
    refused = CliRunner().invoke(cli, ["faithfulness", str(one), "--against", str(two), *options])
    assert "was not measured" in str(refused.exception) and not list(one.glob("faithfulness*"))
    measure_faithfulness(two, store.folder, limit=4, steps=2, device="cpu")
    otherwise = ["--against", str(two), *options, "--baseline", "mean"]
    refused = CliRunner().invoke(cli, ["faithfulness", str(one), *otherwise])
    assert "their baseline differ" in str(refused.exception) and not list(one.glob("faithfulness*"))
    done = CliRunner().invoke(cli, ["faithfulness", str(one), "--against", str(two), *options, "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)["against"]
    assert found == json.loads((one / "faithfulness-test-limit-4" / "faithfulness-against-two.json").read_text())
    assert all(entry["difference"] == 0 for entry in found["differences"].values())
