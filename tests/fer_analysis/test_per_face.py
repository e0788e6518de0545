"""One entry in the table of figures, and the figure is measured, averaged, printed and written everywhere."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aupipe.fer_analysis.evaluation import evaluate, per_face
from aupipe.fer_analysis.evaluation.per_face import FIGURES, DerivedFigure, FaceFigure, MapsOnFaces, Shown
from aupipe.fer_analysis.report import write_report
from aupipe.fer_data.shards import Store
from aupipe.fer_models.training.config import TrainConfig
from aupipe.fer_models.training.run import train

CONFIG = TrainConfig(backbone="test_resnet", epochs=1, batch_size=14, crop_size=48, device="cpu", max_steps=1)


def half(of: MapsOnFaces) -> object:
    """The share of a map's mass in its upper half."""
    return of.maps[:, : of.maps.shape[1] // 2].sum((1, 2)).double() / of.maps.sum((1, 2)).clamp_min(1e-9)


@pytest.fixture
def run(store: Store, tmp_path: Path) -> Path:
    train(store.folder, tmp_path / "run", CONFIG)
    return tmp_path / "run"


def test_an_added_figure_is_shown_everywhere(run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = evaluate(run, out=tmp_path / "before").as_json()
    chance = lambda share: np.full(len(share), 0.5)  # noqa: E731
    monkeypatch.setitem(
        FIGURES, "upper", FaceFigure("upper", half, needs="region", chance=chance, shown=Shown("upper half"))
    )
    monkeypatch.setitem(FIGURES, "lower", DerivedFigure(lambda mean: 1 - (mean("upper") or 0), Shown("lower half")))
    done = evaluate(run)
    where = done.as_json()["localisation"]
    with (done.out / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))

    for owner, entry in {"cam": where["cam"], "uniform": where["controls"]["uniform"]}.items():
        values = [float(row[f"{owner}_upper"]) for row in rows if row["label"] == "fear"]
        assert entry["by_class"]["fear"]["upper"] == pytest.approx(np.mean(values), abs=2e-6)
        assert entry["all"]["lower"] == pytest.approx(1 - entry["all"]["upper"])
    assert where["controls"]["uniform"]["all"]["upper"] == pytest.approx(0.5) == where["chance"]["upper"]
    assert all(row["att5_upper"] == "" for row in rows if row["label"] == "neutral")

    heads, *lines = done.lines()[5:21]
    assert heads.split()[-4:] == ["upper", "half", "lower", "half"]
    table = {line.split("  ")[0]: line.split() for line in lines}
    assert table["control: uniform map"][-2:] == ["0.500", "0.500"] and table["chance"][-1] == "0.500"
    write_report(run, tmp_path / "report.html")
    assert "upper half" in (tmp_path / "report.html").read_text()

    after = {**where["cam"]["all"]}
    assert [after.pop("upper"), after.pop("lower")] and after == before["localisation"]["cam"]["all"]


def test_the_table_says_what_is_shown_where() -> None:
    assert list(per_face.headings().values()) == [
        "cosine", "normalised", "specificity", "nearest", "pointing", "energy", "pixel AP",
    ]  # fmt: skip
    columns = [figure.column for _, figure in per_face.face_figures()]
    assert len(set(columns)) == len(columns)
    for name, figure in FIGURES.items():
        assert replace(figure) == figure, name
