from __future__ import annotations

import re
from collections import Counter
from dataclasses import asdict, replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from aupipe.fer_data.errors import StoreError
from aupipe.fer_data.geometry import inter_ocular
from aupipe.fer_data.types import Reason
from aupipe.pipeline.landmark_views import write_summary
from aupipe.pipeline.landmark_views.page import describe_attempt
from aupipe.pipeline.landmark_views.summary import summarise
from aupipe.pipeline.landmarks.tasks import shared_detector
from aupipe.pipeline.landmarks.work import open_work, withdraw_report
from landmark_works import failed, make_work, samples_of
from offline import Built

VOID = {"meta", "br", "link", "img"}


class Page(HTMLParser):
    """Checks that tags are balanced; collects tags, attributes and each table's rows of cells."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str | None]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.heading = self.title = ""
        self.text = path.read_text(encoding="utf-8")
        self.feed(self.text)
        assert not self.stack

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += attrs
        if tag not in VOID:
            self.stack.append(tag)
        if tag == "tr":
            self.tables.setdefault(self.heading, []).append([])
        if tag in ("td", "th"):
            self.tables[self.heading][-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        here = self.stack[-1] if self.stack else ""
        if here == "h2":
            self.heading = data
        elif here == "title" and "svg" not in self.stack:
            self.title += data
        elif here in ("td", "th"):
            self.tables[self.heading][-1][-1] += data


def page_of(work: Path) -> Page:
    write_summary(work, work / "summary.html")
    return Page(work / "summary.html")


def numbers(row: list[str]) -> list[int]:
    return [int(cell.replace(",", "")) for cell in row[1:] if re.fullmatch(r"[\d,]+", cell)]


def test_every_sample_is_counted(tmp_path: Path) -> None:
    page = page_of(make_work(tmp_path, count=40))
    assert page.tables["Outcome"][1:] == [
        ["with landmarks", "38", "95.0%"],
        ["missing_file", "1", "2.5%"],
        ["no_face", "1", "2.5%"],
    ]
    labels = {row[0]: numbers(row) for row in page.tables["Expressions"][1:]}
    assert list(labels) == ["anger", "happiness", "neutral", "all"]
    assert labels["all"] == [sum(column) for column in zip(*(labels[key] for key in list(labels)[:-1]), strict=True)]
    for at, split in enumerate(("train", "val", "test")):
        members = [sample for sample in samples_of(40) if sample.split == split]
        lost = [sample for sample in members if sample.sample_id in ("s/003", "s/005")]
        assert labels["all"][2 * at : 2 * at + 2] == [len(members) - len(lost), len(lost)]
    assert sum(numbers(row)[0] for row in page.tables["Tries of the ladder"][1:]) == 38
    assert [row[0] for row in page.tables["Without landmarks"][1:]] == ["s/003", "s/005"]


def test_the_page_stands_alone_and_has_its_landmarks(tmp_path: Path) -> None:
    page = page_of(make_work(tmp_path))
    assert page.title == "Landmarks of faces"
    assert ("lang", "en") in page.attributes and page.text.startswith("<!doctype html>")
    assert page.tags["main"] == page.tags["header"] == page.tags["h1"] == 1
    assert page.tags["svg"] == 5
    assert not {"script", "link", "img", "iframe"} & page.tags.keys()
    assert not re.search(r"https?:|url\(|@import|src=", page.text)
    labelled = {value for name, value in page.attributes if name == "aria-labelledby"}
    assert labelled == {value for name, value in page.attributes if name == "id"} and len(labelled) == 7
    assert page.text.count('role="img" aria-label="Histogram of') == 5
    assert "prefers-color-scheme: dark" in page.text and "width=device-width" in page.text


def test_names_from_the_dataset_are_escaped(tmp_path: Path) -> None:
    evil = '"><script>alert(1)</script>'
    samples = samples_of(4)
    samples[2] = replace(samples[2], sample_id=evil)
    work = make_work(tmp_path / "<b>&amp;", samples=samples, edit=lambda _, row: failed(row, Reason.NO_FACE))
    work = work.rename(tmp_path / "work")
    meta = work / "manifest.meta.json"
    meta.write_text(meta.read_text().replace("../faces", "../<i>faces & co"))
    page = page_of(work)
    assert "<script" not in page.text and "<i>" not in page.text
    assert page.title == "Landmarks of <i>faces & co"
    assert evil in [row[0] for row in page.tables["Without landmarks"]]


def test_the_sheet_is_linked_where_it_lies(tmp_path: Path) -> None:
    work = make_work(tmp_path)
    assert 'href="sheet.png"' not in page_of(work).text
    (work / "sheet.png").write_bytes(b"")
    assert 'href="sheet.png"' in page_of(work).text
    (work / "landmarks.csv").write_bytes(b"")
    withdraw_report(work)  # as every part does that is made anew
    assert not {"summary.html", "sheet.png", "landmarks.csv", "landmarks.json"} & {path.name for path in work.iterdir()}


def test_no_faces_at_all(tmp_path: Path) -> None:
    page = page_of(make_work(tmp_path, edit=lambda _, row: failed(row, Reason.MISSING_FILE)))
    assert page.text.count("no faces") == 5
    assert "No photo could be read" in page.text and "nan" not in page.text.lower()


def test_the_first_hundred_failures_by_name(tmp_path: Path) -> None:
    work = make_work(tmp_path, count=450, part_size=64, edit=lambda _, row: failed(row, Reason.NO_FACE))
    page = page_of(work)
    listed = [row[0] for row in page.tables["Without landmarks"][1:]]
    assert listed == [f"s/{number:03d}" for number in range(100)]
    assert "The first 100 of 450" in page.text


def test_the_same_landmarks_give_the_same_page(tmp_path: Path) -> None:
    first, second = make_work(tmp_path, "a", count=30), make_work(tmp_path, "b", count=30, part_size=7)
    assert page_of(first).text == page_of(second).text


def test_measures_are_those_of_the_faces(tmp_path: Path) -> None:
    work = make_work(tmp_path)
    measures = summarise(open_work(work).rows()).measures
    parts = list(open_work(work).parts())
    found = np.concatenate([[reason is Reason.OK for reason in part.reasons] for part in parts])
    pose, points = (np.concatenate([getattr(part, name) for part in parts]) for name in ("pose", "landmarks"))
    np.testing.assert_array_equal(np.stack([measures[key] for key in ("yaw", "pitch", "roll")], 1), pose[found])
    np.testing.assert_allclose(measures["inter_ocular"], inter_ocular(points[found]), rtol=1e-6)


def test_an_unfinished_stage_has_no_page(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="an empty folder, not a landmarks folder"):
        write_summary(tmp_path, tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_a_page_of_a_real_run(built: Built, tmp_path: Path) -> None:
    write_summary(built.work, tmp_path / "summary.html")
    page = Page(tmp_path / "summary.html")
    total = sum(numbers(row)[0] for row in page.tables["Outcome"][1:])
    assert total == len(built.dataset.manifest.samples)
    assert page.tables["Tries of the ladder"][1][-1].startswith("plain photo, threshold 0.5")


def test_every_rung_of_the_ladder_is_described_as_it_looks() -> None:
    ladder = [asdict(attempt) for attempt in shared_detector("mediapipe", None).ladder]
    told = [describe_attempt(attempt) for attempt in ladder]
    assert len(set(told)) == len(told) and sum("overlapping tiles" in one for one in told) == 1
    assert [one.count("score at least") for one in told] == [int(one["min_score"] > 0) for one in ladder]
