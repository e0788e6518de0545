"""Tables from hand-made metrics: the numbers are checked against arithmetic done by hand."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aupipe.fer_analysis.benchmark import figures
from aupipe.fer_analysis.benchmark.collect import Mean, Result, Results, check_together, mean_of, results_csv
from aupipe.fer_analysis.benchmark.plan import GridRequest, RunSpec, plan_grid
from aupipe.fer_analysis.benchmark.published import Published, load_published
from aupipe.fer_analysis.benchmark.report import GridProvenance, write_report
from aupipe.fer_analysis.benchmark.tables import ARROW, ResultTable, all_tables, bold_best, control_values, shown
from aupipe.fer_data.errors import RunError
from aupipe.fer_data.shards import Store
from aupipe.fer_display.table_picture import draw_table
from aupipe.fer_models.training.config import TrainConfig

BASE = TrainConfig(backbone="test_resnet", device="cpu")
GRID = GridRequest(("cam",), 3, base=BASE, layers=("last", "4"), lambdas=(0.0, 4.0), targets=("class", "mean"))

FIGURES = {  # cell -> (accuracy, CAM-COS, ATT-COS of layer 5) of seeds 0, 1, 2
    "cam-w0": [(0.40, 0.50, 0.55), (0.42, 0.52, 0.57), (0.44, 0.54, 0.56)],
    "cam-w4": [(0.41, 0.60, 0.80), (0.44, 0.61, 0.82), (0.47, 0.65, 0.84)],
    "cam-w4-layers4": [(0.39, 0.55, 0.60), (0.45, 0.57, 0.62), (0.45, 0.53, 0.61)],
    "cam-w4-target-mean": [(0.40, 0.58, 0.78), (0.40, 0.60, 0.79), (0.43, 0.62, 0.80)],
}
CLASSES = ("anger", "neutral")


def content(accuracy: float, cam: float, attention: float, **changes: Any) -> dict[str, Any]:
    mapped = {"att_cos": {"1": 0.3, "5": attention}, "cam_cos": cam}
    return {
        "accuracy": accuracy,
        "accuracy_ci95": [accuracy - 0.1, accuracy + 0.1],
        "cam_cos": cam,
        "att_cos": {"1": 0.3, "5": attention},
        "controls": {
            "uniform": 0.45, "centre": 0.6, "mean_map": 0.77, "predicted_map": 0.88, "wrong_class": 0.59,
            "ceiling": 0.9,
        },
        "confusion": {"classes": list(CLASSES), "matrix": [[3, 1], [2, 2]]},
        "per_class": {"anger": mapped, "neutral": {"att_cos": {"1": None, "5": None}, "cam_cos": None}},
        "store_digest": "s", "codebook_digest": "c", "split": "test", "limit": None, "n": 8,
        **changes,
    }  # fmt: skip


def result(run: RunSpec, **changes: Any) -> Result:
    return Result(run, content(*FIGURES[run.cell.label][run.config.seed], **changes), 3, 12.5)


@pytest.fixture
def results() -> Results:
    return Results([result(run) for run in plan_grid(GRID)])


def tables(results: Results, grid: GridRequest = GRID) -> dict[str, ResultTable]:
    return {table.key: table for table in all_tables(grid, results, None, 5)}


def read(table: ResultTable) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(table.csv())))


def test_the_spread_is_that_of_a_sample() -> None:
    assert mean_of([0.40, 0.42, 0.44]) == Mean(pytest.approx(0.42), pytest.approx(0.02), 3)
    assert mean_of([0.4]) == Mean(0.4, None, 1) and mean_of([]) is None
    assert shown(Mean(-0.0004, 0.01, 2), 3, sign=True) == "+0.000 ± 0.010" and shown(None, 1) == "–"


def test_the_best_is_bold_where_there_is_a_choice() -> None:
    first, second = Mean(0.5, None, 1), Mean(0.7, None, 1)
    assert bold_best([first, None, second], 2) == ["0.50", "–", "**0.70**"]
    assert bold_best([first, first], 2) == ["**0.50**", "**0.50**"] and bold_best([None, second], 2) == ["–", "0.70"]


def test_table_1(results: Results) -> None:
    table = tables(results)["table-1"]
    assert table.rows[0] == (
        "CAM", "test_resnet", "3",
        "42.0 ± 2.0 → 44.0 ± 3.0", "+2.0 ± 1.0",
        "0.520 ± 0.020 → 0.620 ± 0.026", "+0.100 ± 0.010",
        "0.560 ± 0.010 → 0.820 ± 0.020", "+0.260 ± 0.017",
    )  # fmt: skip
    assert table.rows[3] == ("control: mean AU map", "", "", "", "", "0.770", "", "0.770", "")
    assert [row[0] for row in table.rows[1:]] == [
        "control: uniform map", "control: centred Gaussian", "control: mean AU map",
        "control: AU map of the prediction", "control: another expression's map", "control: ceiling of test_resnet",
    ]  # fmt: skip
    without, guided = read(table)
    assert float(guided["cl"]) == pytest.approx(44) and float(guided["gain_att_cos_sd"]) == pytest.approx(0.017320508)
    assert without["gain_cl"] == "" and guided["seeds"] == "3" and float(without["cam_cos_sd"]) == pytest.approx(0.02)
    assert "| CAM | test_resnet | 3 |" in table.markdown()


def test_a_difference_takes_only_the_seeds_that_both_have(results: Results) -> None:
    some = Results([one for one in results.all if one.spec.name != "cam-test_resnet-w0-s2"])
    row = tables(some)["table-1"].rows[0]
    assert row[2] == "2/3" and row[3] == "41.0 ± 1.4 → 44.0 ± 3.0" and row[4] == "+1.5 ± 0.7"


def test_a_cell_without_results_is_an_empty_one(results: Results) -> None:
    plain = Results([one for one in results.all if one.spec.cell.weight == 0])
    assert tables(plain)["table-1"].rows[0][2:5] == ("3/0", "42.0 ± 2.0 → –", "–")


def test_the_layer_ablation(results: Results) -> None:
    table = tables(results)["table-3"]
    assert [row[0] for row in table.rows] == ["none", "5", "4"]
    assert [row[6] for row in table.rows] == ["0.560 ± 0.010", "**0.820 ± 0.020**", "0.610 ± 0.010"]
    assert table.rows[2][2:4] == ("43.0 ± 3.5", "+1.0 ± 2.0") and table.rows[0][3] == ""


def test_the_sweep_and_the_target_controls(results: Results) -> None:
    found = tables(results)
    assert [row[:3] for row in found["table-4-lambda"].rows] == [
        ("0", "3", "42.0 ± 2.0"), ("4", "3", "**44.0 ± 3.0**"),
    ]  # fmt: skip
    mean_map = found["table-5-targets"].rows[2]
    assert mean_map[0].startswith("the mean AU map") and mean_map[6:8] == ("0.790 ± 0.010", "+0.230 ± 0.010")


def test_what_the_localisation_is_worth_appears_where_it_was_measured(results: Results) -> None:
    assert "table-2" not in tables(results)
    where = {"attention": {"5": {"all": {"normalised": 0.5, "specificity": 0.125, "pointing": 0.75}}}, "cam": None}
    more = Results([result(run, localisation=where) for run in plan_grid(GRID)])
    table = tables(more)["table-2"]
    assert table.head[3::2] == ("ATT normalised", "ATT specificity", "ATT pointing")
    assert table.rows[0][5] == "0.125 ± 0.000 → 0.125 ± 0.000"
    assert "ATT specificity" in tables(more)["table-3"].head


@pytest.fixture
def paper(store: Store) -> Published:
    """The figures beside a store that was built with the published maps' codebook."""
    found = load_published("rafdb", store)
    assert found is not None and not found.comparable
    return replace(found, comparable=True)


def as_published(results: Results) -> Results:
    where = {"attention": {"5": {"all": {"cos_paper": 0.75}}}, "cam": {"all": {"cos_paper": 0.625}}}
    return Results([replace(one, metrics={**one.metrics, "localisation": where}) for one in results.all])


def beside(results: Results, paper: Published) -> tuple[ResultTable, ResultTable]:
    found = {table.key: table for table in all_tables(GRID, results, paper, 5)}
    assert "paper" not in found["table-1"].head and "arXiv" not in found["table-1"].markdown()
    return found["table-1-paper"], found["table-3"]


def test_only_cosines_by_the_papers_conventions_stand_beside_its_own(results: Results, paper: Published) -> None:
    first, third = beside(as_published(results), paper)
    assert first.head[3:] == ("CL %", "paper", "CAM-COS as published", "paper", "ATT-COS as published", "paper")
    assert first.rows == (
        (
            "CAM", "test_resnet", "3", "42.0 ± 2.0 → 44.0 ± 3.0", "88.20 → 88.95",
            "0.625 ± 0.000 → 0.625 ± 0.000", "0.55 → 0.70", "0.750 ± 0.000 → 0.750 ± 0.000", "0.57 → 0.85",
        ),
    )  # fmt: skip
    assert third.head[-2:] == ("CAM-COS as published", "paper: CL %, CAM-COS")
    assert [row[-2:] for row in third.rows] == [
        ("0.625 ± 0.000", "88.20, 0.55"), ("0.625 ± 0.000", "88.95, 0.70"), ("0.625 ± 0.000", "88.62, 0.61"),
    ]  # fmt: skip
    assert "arXiv 2402.00281" in first.markdown() and "may not be compared" in third.markdown()
    assert float(read(first)[1]["att_cos_paper"]) == 0.75


def test_a_store_of_another_codebook_has_dashes_beside_published_cosines(results: Results, paper: Published) -> None:
    first, third = beside(as_published(results), replace(paper, comparable=False))
    assert first.rows[0][3:] == ("42.0 ± 2.0 → 44.0 ± 3.0", "88.20 → 88.95", "–", "0.55 → 0.70", "–", "0.57 → 0.85")
    assert [row[-2] for row in third.rows] == ["–"] * 3 and "att_cos_paper" not in read(first)[0]
    assert all("codebook `reference`, and this store has others" in table.markdown() for table in (first, third))


def test_runs_that_were_evaluated_before_have_dashes_and_are_named(results: Results, paper: Published) -> None:
    first, third = beside(results, paper)
    assert first.rows[0][5::2] == ("– → –", "– → –") and third.rows[1][-2] == "–"
    assert "not measured yet" in first.markdown() and "cam-test_resnet-w0-s0" in first.markdown()


def test_what_a_method_does_otherwise_is_a_footnote(results: Results, paper: Published) -> None:
    grid = replace(GRID, methods=("cam", "adl", "prm"))
    tables = {table.key: table for table in all_tables(grid, results, paper, 5)}
    notes = tables["table-1-paper"].notes
    assert [note.split(":")[0] for note in notes[-2:]] == ["ADL", "PRM"] and not any(
        note.startswith("CAM:") for note in notes
    )


@pytest.mark.parametrize("name", ["store_digest", "codebook_digest", "split", "n"])
def test_figures_of_different_stores_are_never_averaged(name: str, results: Results) -> None:
    other = replace(results.all[0], metrics={**results.all[0].metrics, name: "other"})
    with pytest.raises(RunError, match=f"their {name} differs"):
        check_together([*results.all, other])


def test_every_figure_of_every_run_is_in_the_csv(results: Results) -> None:
    rows = list(csv.DictReader(io.StringIO(results_csv(results))))
    assert [row["run"] for row in rows] == [run.name for run in plan_grid(GRID)]
    assert rows[1]["att_cos.5"] == "0.8" and rows[1]["accuracy_ci95.1"] == "0.51" and rows[0]["epochs"] == "3"
    assert rows[1]["per_class.anger.cam_cos"] == "0.6" and not any("matrix" in name for name in rows[0])


def test_average_maps_are_weighted_by_their_faces(tmp_path: Path, results: Results) -> None:
    runs = [one for one in results.all if one.spec.cell.label == "cam-w4"]
    counts, levels = ([1, 2], [3, 2], [0, 0]), (0.1, 0.5, 0.9)
    for run, count, level in zip(runs, counts, levels, strict=True):
        folder = tmp_path / "runs" / run.spec.output
        folder.mkdir(parents=True)
        maps = np.full((2, 4, 4), level, np.float32)
        np.savez(
            folder / "average_maps.npz", classes=np.array(CLASSES), count=np.array(count), au_map=maps,
                count_with_map=np.array(count),
            face=np.ones((2, 8, 8, 3), np.float32), attention=np.stack([maps * 0, maps]), cam=maps,
        )  # fmt: skip
    means = figures.mean_maps(runs, tmp_path)
    assert means is not None
    assert np.allclose(means["attention"][0], (0.1 + 3 * 0.5) / 4) and np.allclose(means["cam"][1], 0.3)
    assert figures.draw_average_maps("cam", (0.0, 4.0), results, tmp_path) is not None
    assert figures.mean_maps(runs, tmp_path / "elsewhere") is None


def test_confusions_and_cosines_of_a_method_are_drawn(results: Results) -> None:
    values, names = figures.class_by_layer([result(run) for run in plan_grid(GRID)[:2]], CLASSES)
    assert names == ["layer 1", "layer 5", "CAM"]
    assert np.allclose(values[0], [0.3, 0.675, 0.55]) and np.isnan(values[1]).all()
    figure = figures.draw_method_matrices("cam", (0.0, 4.0), results)
    assert figure is not None and len(figure.axes) == 4
    assert figures.draw_method_matrices("acol", (0.0, 4.0), results) is None


def test_each_size_of_a_last_layer_has_its_own_ceiling(results: Results) -> None:
    def ceilings(*runs: Result) -> dict[str, float]:
        found = control_values(Results([*results.all, *runs]))
        return {title: mean.mean for title, mean in found.items() if title.startswith("ceiling")}

    assert ceilings() == {"ceiling of test_resnet": 0.9}
    spec = plan_grid(GridRequest(("apvit",), 1, base=BASE))[0]
    finer = Result(spec, content(0.5, 0.5, 0.5, controls={**content(0, 0, 0)["controls"], "ceiling": 0.98}), 3, 1.0)
    assert ceilings(finer) == {"ceiling of test_resnet in CAM": 0.9, "ceiling of test_resnet in APViT": 0.98}


def test_a_report_leaves_no_table_of_an_earlier_one(store: Store, tmp_path: Path) -> None:
    own = {"table-1-notes.txt", "table-for-the-paper.csv", "methods-poster.png", "matrices-old.png"}
    old = {"table-1-w8.csv", "table-1-paper-w0.5.png", "table-6-equal.csv", "methods-w8.png", "matrices-cam.png"}
    for name in own | old:
        (tmp_path / name).write_bytes(b"of another call")
    how = GridProvenance("aupipe benchmark", "test", 1.0, {})
    files = write_report(GRID, plan_grid(GRID), Results([]), store, tmp_path, how, None, 5)
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in files} | own


def test_a_drawn_table_is_bold_where_its_markdown_is() -> None:
    rows = (("CAM", "**0.70 ± 0.01** → 0.80 ± 0.02"), ("ACoL", "0.5 → **0.9 ± 0.1**"), ("control: x", "0.532"))
    axis = draw_table("Title", ("method", "CAM-COS"), rows, ARROW).axes[0]
    texts = [text for text in axis.texts if text.get_position()[1] > 1]
    assert {text.get_text() for text in texts if text.get_weight() == "bold"} == {"0.70 ± 0.01", "0.9 ± 0.1"}
    assert {text.get_text() for text in texts if text.get_weight() != "bold"} == {
        "CAM", "ACoL", "control: x", "0.80 ± 0.02", "0.5", "0.532", "→"
    }  # fmt: skip
    for line in ({"0.80 ± 0.02", "0.9 ± 0.1", "0.532"}, {"0.70 ± 0.01", "0.5"}, {"→"}):
        assert len({text.get_position()[0] for text in texts if text.get_text() in line}) == 1, line
