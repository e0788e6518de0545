"""The report: every figure on it is one of the files', every picture the right one, nothing from outside."""

from __future__ import annotations

import base64
import contextlib
import copy
import csv
import html
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from aupipe.fer_analysis.evaluation import evaluate
from aupipe.fer_analysis.faithfulness import measure_faithfulness, summary_line
from aupipe.fer_analysis.report import write_report
from aupipe.fer_analysis.report.reading import reading
from aupipe.fer_analysis.report.run_part import chosen_faces, load_evaluated
from aupipe.fer_analysis.report.store_part import average_rows
from aupipe.fer_data.errors import RunError, StoreError, UserInputError
from aupipe.fer_data.recorded import write_recorded
from aupipe.fer_data.shards import Store, open_store
from aupipe.fer_display.overlays import overlay
from aupipe.fer_models.training import checkpoint
from aupipe.fer_models.training.config import TrainConfig
from aupipe.fer_models.training.run import train
from run_files import forget_digests, rewrite
from synthetic import synthetic_store

CONFIG = TrainConfig(backbone="test_resnet", epochs=2, batch_size=14, crop_size=48, device="cpu")


@pytest.fixture(scope="module")
def run(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report") / "my <run>"
    train(store.folder, folder, CONFIG)
    evaluate(folder)
    return folder


@pytest.fixture(scope="module")
def page(run: Path) -> str:
    out = run.parent / "report.html"
    assert write_report(run, out, device="cpu").kind == "run"
    return out.read_text(encoding="utf-8")


class Checked(HTMLParser):
    """Every element is closed, in order; what the page refers to is collected."""

    VOID = frozenset({"meta", "img", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.cells: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th", "dd"):
            self.cells.append(data)


def parsed(text: str) -> Checked:
    checked = Checked()
    checked.feed(text)
    checked.close()
    assert checked.open == []
    return checked


def test_the_page_is_whole_and_needs_nothing_else(page: str) -> None:
    checked = parsed(page)
    assert checked.sources and all(source.startswith("data:image/jpeg;base64,") for source in checked.sources)
    assert "<script" not in page and "http" not in re.sub(r"base64,[^\"]+", "", page)
    assert "Run my &lt;run&gt;" in page and "my <run>" not in page


def test_figures_are_those_of_the_evaluation(page: str, run: Path) -> None:
    content = json.loads((run / "metrics.json").read_text())
    cells = parsed(page).cells
    for value in (content["att_cos"]["5"], content["cam_cos"], content["controls"]["mean_map"]):
        assert f"{value:.3f}" in cells
    flat = [str(count) for counts in content["confusion"]["matrix"] for count in counts]
    assert any(cells[start : start + 7] == flat[:7] for start in range(len(cells)))
    for values in content["cosine_matrix"]["values"]:
        shown = [f"{value:.3f}" for value in values]
        assert any(cells[start : start + len(shown)] == shown for start in range(len(cells)))
    assert content["store_digest"] in page and content["predictions_sha256"] in page


def test_it_says_what_decided_on_the_weights(page: str) -> None:
    assert "weights of the epoch with the best accuracy on 14 faces of the validation split (only 14 " in page


def test_best_and_worst_faces_are_those_of_the_table(page: str, run: Path) -> None:
    with (run / "predictions.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["has_map"] == "1"]
    evaluated = load_evaluated(run)
    assert evaluated is not None
    best, worst, mistakes = (
        [evaluated.predictions.rows[row] for row in choice.rows] for choice in chosen_faces(evaluated, 3)
    )
    cosines = sorted(float(row["att5_cos"]) for row in rows)
    assert [float(row["att5_cos"]) for row in best] == cosines[:-4:-1]
    assert [float(row["att5_cos"]) for row in worst] == cosines[:3]
    confident = sorted(float(row["confidence"]) for row in evaluated.predictions.rows if row["correct"] == "0")
    assert [float(row["confidence"]) for row in mistakes] == confident[:-4:-1]
    assert all(row["correct"] == "0" for row in mistakes)
    for row in (*best, *worst):
        assert row["sample_id"] in page and f"cosine {float(row['att5_cos']):.2f}" in page


def test_a_face_is_never_both_best_and_worst(run: Path) -> None:
    evaluated = load_evaluated(run)
    assert evaluated is not None
    best, worst, _ = chosen_faces(evaluated, 50)
    assert best.rows and worst.rows and not set(best.rows) & set(worst.rows)


def test_averages_are_drawn_from_the_evaluations_own(page: str, run: Path) -> None:
    """The overlay of the average AU map of anger, as the page shows it, but for JPEG's loss."""
    content = np.load(run / "average_maps.npz")
    face = cv2.resize(np.rint(content["face"][0] * 255).astype(np.uint8), (144, 144), interpolation=cv2.INTER_CUBIC)
    section = page[page.index("<h2>Average maps</h2>") :]
    pictures = re.findall(r'base64,([^"]+)" width="144" height="144" alt="([^"]+)"', section)
    assert [caption for _, caption in pictures[:4]] == ["average face", "AU map", "attention", "CAM"]
    for place, values in ((1, content["au_map"][0]), (2, content["attention"][-1][0]), (3, content["cam"][0])):
        raw = np.frombuffer(base64.b64decode(pictures[place][0]), np.uint8)
        drawn = cv2.cvtColor(cv2.imdecode(raw, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        assert np.abs(drawn.astype(float) - overlay(face, values)).mean() < 4


def test_a_stores_page(tmp_path: Path, store: Store) -> None:
    out = tmp_path / "store.html"
    report = write_report(store.folder, out, examples=1)
    text = out.read_text(encoding="utf-8")
    checked = parsed(text)
    assert report.kind == "store"
    assert len(checked.sources) == 7 * 2 + 7 * 2, "a face and its map of each expression, and the averages"
    assert store.index.digest in text and all(entry.sha256 in text for entry in store.index.shards)
    assert html.escape("Nothing: every sample of the manifest is in the store.") in text
    assert ["8", "2", "2"] in [checked.cells[start : start + 3] for start in range(len(checked.cells))]


def test_what_was_left_out_is_counted_and_listed(tmp_path: Path, built: Any) -> None:
    folder = tmp_path / "store"
    shutil.copytree(built.store, folder)
    index = open_store(folder).index
    assert index.failed, "the embedded faces hold some that fail"
    write_report(folder, tmp_path / "a.html", examples=1)
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    with (folder / "failures.csv").open(newline="") as file:
        failures = list(csv.DictReader(file))
    assert failures and all(html.escape(row["sample_id"]) in text for row in failures)
    for reason, count in index.failed.items():
        cells = parsed(text).cells
        place = cells.index(reason.replace("_", " "))
        assert cells[place + 1] == str(count)
    (folder / "failures.csv").write_text("sample_id,path,reason,detail\n")
    write_report(folder, tmp_path / "b.html", examples=1)
    assert "was changed since the store was built" in (tmp_path / "b.html").read_text(encoding="utf-8")


def test_average_of_rows(store: Store) -> None:
    reader = store.split("train")
    rows = [0, 1, 6]  # anger, disgust, neutral: two of them have a map
    averages = average_rows(reader, rows)
    assert averages.with_map == 2
    assert np.allclose(averages.au_map, (reader.au_map(0) + reader.au_map(1)) / 2)
    faces = np.stack([reader.image(row) for row in rows]).astype(float)
    assert np.abs(averages.face - faces.mean(0)).max() <= 0.5


def test_a_run_without_evaluation_or_store_says_so(tmp_path: Path, run: Path) -> None:
    folder = tmp_path / "moved"
    shutil.copytree(run, folder)
    (folder / "metrics.json").unlink()
    rewrite(folder / "config.json", store="gone")
    report = write_report(folder, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "was not evaluated" in report.notes[0] and "--store" in report.notes[1]
    assert all(note.split(".")[0] in html.unescape(text) for note in report.notes)
    assert "Cross-entropy" in text and "Confusion" not in text
    with pytest.raises(StoreError, match="gone does not exist"):
        write_report(folder, tmp_path / "report.html", store=tmp_path / "gone")


def test_faithfulness_is_one_line_of_it(tmp_path: Path, run: Path, page: str) -> None:
    assert "aupipe faithfulness" in page
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    record = json.loads((folder / "config.json").read_text())
    store = (run / record["store"]).resolve()
    measured = measure_faithfulness(folder, store, limit=7, steps=4, device="cpu", out=folder)
    write_report(folder, tmp_path / "report.html", store=store, device="cpu")
    assert html.escape(summary_line(measured.as_json())) in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_figures_of_another_store_are_left_out(tmp_path: Path, run: Path) -> None:
    other = synthetic_store(tmp_path / "other", seed=5)
    report = write_report(run, tmp_path / "report.html", store=other.folder, device="cpu")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "measured on another store" in report.notes[0] and "measured on another store" in text
    assert "Attention closest" not in text and "Confusion" not in text and "Average AU maps" in text


def test_figures_of_other_weights_are_left_out(tmp_path: Path, run: Path, store: Store) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    metrics = json.loads((folder / "metrics.json").read_text())
    curve = {"auc": 0.5, "over_random": {"mean": 0.1, "ci95": [0.05, 0.2]}}
    area = {"control": "random", "deletion": curve, "insertion": curve}
    measured = {
        **{name: metrics[name] for name in ("split", "limit", "store_digest", "checkpoint_sha256", "epoch")},
        "curves": {"attention": area, "random": area},
        "depends_on_picture": True,
        "regions": {
            "n": 0,
            "n_with_region": 0,
            "n_right": 0,
            "room": 0.1,
            "removed": {},
            "fall_inside_over": {},
        },
        "randomisation": {"maps": {"attention": {"final": 0.1, "other_face": None}}},
    }
    write_recorded(folder / "faithfulness.json", json.dumps(measured).encode())
    write_report(folder, tmp_path / "report.html", store=store.folder, device="cpu")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "in the order of attention deletion .50, above random order" in text
    state = torch.load(folder / "best.pt", weights_only=True)
    checkpoint.save_checkpoint(folder / "best.pt", {**state, "epoch": 9})
    report = write_report(folder, tmp_path / "report.html", store=store.folder, device="cpu")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "measured with other weights" in report.notes[0] and "Confusion" not in text
    evaluate(folder, store.folder, device="cpu")
    assert write_report(folder, tmp_path / "report.html", store=store.folder, device="cpu").notes == ()
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Confusion" in text and "faithfulness figures are not of this run as it is now" in text


def test_a_run_without_a_mean_map_is_read_all_the_same(run: Path) -> None:
    over = {"uniform": [0.1, 0.2], "mean_map": None, "predicted_map": None}
    said = sentences(run, controls__mean_map=None, controls__uniform=0.5, intervals__att_cos_over=over)
    assert "more than an even map (0.500); there is no mean AU map" in said


@pytest.mark.parametrize("name", ["config.json", "best.pt", "../photo.html"])
def test_only_a_report_is_written_over(tmp_path: Path, run: Path, store: Store, name: str) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    (tmp_path / "photo.html").write_text("<!doctype html>")
    before = (folder / name).read_bytes()
    with pytest.raises(UserInputError, match="was not written over"):
        write_report(folder, folder / name, store=store.folder)
    assert (folder / name).read_bytes() == before
    write_report(store.folder, folder / "report.html", examples=1)
    write_report(store.folder, folder / "report.html", examples=1)


@pytest.mark.parametrize(
    "name", ["metrics.json", "log.jsonl", "average_maps.npz", "faithfulness.json", "predictions.csv"]
)
@pytest.mark.parametrize("recorded", [True, False])
def test_damaged_files_are_one_paragraph(tmp_path: Path, run: Path, store: Store, name: str, recorded: bool) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    (folder / "faithfulness.json").write_text("{}")
    if not recorded:
        forget_digests(folder)
    data = (folder / name).read_bytes()
    for damaged in (b"", data[: len(data) // 2], b"[]", b"\xff" * 20, data[:200] + b"9" + data[201:]):
        (folder / name).write_bytes(damaged)
        with contextlib.suppress(RunError):  # a changed digit in a file of an earlier version is not seen
            write_report(folder, tmp_path / "report.html", store=store.folder, examples=1, device="cpu")
            assert not recorded or name == "faithfulness.json", "the report believed it"


def test_neither_run_nor_store(tmp_path: Path, run: Path) -> None:
    with pytest.raises(UserInputError, match="not a run or a store"):
        write_report(tmp_path, tmp_path / "report.html")
    folder = tmp_path / "old"
    shutil.copytree(run, folder)
    write_recorded(folder / "metrics.json", b'{"accuracy": 1}')
    with pytest.raises(RunError, match="older version"):
        write_report(folder, tmp_path / "report.html")


def sentences(run: Path, **changes: Any) -> str:
    content = copy.deepcopy(json.loads((run / "metrics.json").read_text()))
    for name, value in changes.items():
        part, _, key = name.partition("__")
        content[part] = {**content[part], key: value} if key else value
    return " ".join(reading(content))


def test_the_reading_is_decided_by_intervals(run: Path) -> None:
    """The paired intervals of the lead over each control decide, not the controls' own values."""
    over = {"uniform": [0.1, 0.2], "mean_map": [0.01, 0.1], "predicted_map": [-0.2, 0.1]}
    base = {"accuracy_ci95": [0.4, 0.6], "intervals__att_specificity": [0.01, 0.05]}

    def said(**leads: list[float] | None) -> str:
        return sentences(run, **base, intervals__att_cos_over={**over, **leads})

    assert "it resembles no AU map" in said(uniform=[-0.2, -0.01])
    assert "which is not shown to be more than an even map has" in said(uniform=[-0.01, 0.2])
    assert "it resembles where faces move, not what" in said(mean_map=[-0.2, -0.01])
    assert "rather than where faces move is not shown" in said(mean_map=[-0.01, 0.2])
    assert "resembles a map of the expression's AUs" in said() and "points at" not in said()
    assert "shows that guidance took, not that attention explains" in said()
    plain = {**base, "align_weight": 0.0, "intervals__att_cos_over": {**over, "predicted_map": [-0.2, -0.1]}}
    assert "resembles the face's AU map no more than that" in sentences(run, **plain)
    assert "guidance took" not in sentences(run, **plain) + said(uniform=[-0.1, 0.1])
    assert "more than that (by 0.010 to 0.100)" in said(predicted_map=[0.01, 0.1])
    assert "On the same face it is closer" in said()
    base = {"intervals__att_specificity": [-0.01, 0.05], "accuracy_ci95": [0.1, 0.6]}
    assert "not shown to be closer to the expression's own map" in said() and "no better than always naming" in said()
    base["intervals__att_specificity"] = [-0.05, -0.01]
    assert "no closer to the expression's own map" in said()
    last = max(json.loads((run / "metrics.json").read_text())["att_cos"], key=int)
    assert "No face has an AU map" in sentences(run, **base, intervals__att_cos=None, **{f"att_cos__{last}": None})
    one_person = sentences(run, **base, intervals__att_cos=None)
    assert "too few, or of one person, to compare" in one_person and "even map" not in one_person
