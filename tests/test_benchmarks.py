"""The measuring programs still run: what they print is looked at by people, on a quiet machine."""

from __future__ import annotations

import importlib
import itertools
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from aupipe.fer_data.au_maps.codebook import load_codebook
from aupipe.fer_data.au_maps.heatmaps import render_maps
from aupipe.fer_data.shards import TripletRow
from aupipe.fer_demo.portrait import write_portrait_dataset
from synthetic import CLASSES, synthetic_store

FOLDER = Path(__file__).parents[1] / "benchmarks"
BOOK = load_codebook("reference")
NAMES = sorted(path.stem for path in FOLDER.glob("*.py"))


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """Some programs choose their number of threads when they are imported."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    yield
    torch.set_num_threads(before[0])
    cv2.setNumThreads(before[1])


def run(name: str, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "path", [str(FOLDER), str(FOLDER.parent), *sys.path])
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    module = importlib.import_module(name)
    if arguments:
        module.main()


@pytest.mark.parametrize("name", NAMES)
def test_a_program_finds_all_it_imports(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run(name, monkeypatch)


def test_writing_is_timed_part_by_part(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run("writing", monkeypatch, "--images", "6", "--repeats", "1")
    printed = capsys.readouterr().out
    raw = printed.partition("raw: ")[2].partition("jpeg: ")[0]
    assert re.match(r"\d+ images/s \(runs: \d+; the first, uncounted: \d+\), \d+ a processor second\n", raw)
    parts = dict(re.findall(r"^ {4}(.*?) +([\d.]+) ms an image", raw, re.MULTILINE))
    measured = set(importlib.import_module("writing").PARTS) - {"encode JPEG"} | {"rest"}
    assert {name for name, value in parts.items() if float(value) > 0} == measured
    assert "maps only: " in printed


def test_the_rasteriser_is_timed_beside_the_reference(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run("rasteriser", monkeypatch, "--faces", "4", "--repeats", "1")
    means = re.findall(r"^ +(\d+) +mean +(?:[\d.]+ +){5}(?:[\d.]+x *){3}(\(aim 40x\))?$", capsys.readouterr().out, re.M)
    assert means == [("256", ""), ("64", "(aim 40x)")] * 2
    program = importlib.import_module("rasteriser")
    for points in program.faces(2, 0.3):
        shapes = program.reference_ellipses(points, "fear", BOOK)
        ways = [way(shapes, size) for way in (program.published_map, program.lean_map) for size in (64, 256)]
        for mine, theirs in itertools.pairwise([*ways[::2], render_maps(points[None], ["fear"], BOOK, 256, 64)[0]]):
            cosine = (mine * theirs).sum() / np.sqrt((mine**2).sum() * (theirs**2).sum())
            assert cosine > 0.99
        np.testing.assert_allclose(ways[1], ways[3], atol=1e-4)


MOVED = """
schema = 1
name = "moved"
regions = "default"
[expressions]
ANY
[[au]]
number = 6
name = "cheek raiser"
gaussians = [{ points = [8], sigma = [0.1, 0.1], mirror = false }]
""".replace("ANY", "\n".join(f"{name} = [6]" for name in CLASSES))
"""A codebook that draws AU 6 on the chin."""


def coded_store(folder: Path) -> tuple[Path, Path]:
    """Eight persons show every class once; the codes are `default`'s, but the first person shows AU 9 alone."""
    default = load_codebook("default")

    def sequence(row: TripletRow) -> TripletRow:
        split, number = row.sample_id.split("/")
        person, label = divmod(int(number), len(CLASSES))
        return replace(row, sample_id=f"S{person}_{label}_{1 if split == 'train' else 2}")

    synthetic_store(folder / "store", train=56, val=0, test=14, size=48, change=sequence)
    lines = ["sequence,subject,emotion,aus"]
    for person, (label, name) in itertools.product(range(8), enumerate(CLASSES)):
        aus = [9] if person == 0 else default.expressions[name]
        lines.append(f"S{person}_{label},S{person},{name},{'+'.join(map(str, aus))}")
    (folder / "facs.csv").write_text("\n".join(lines), encoding="utf-8")
    return folder / "store", folder / "facs.csv"


def test_codebooks_are_measured_by_what_people_coded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    store, codes = coded_store(tmp_path)
    (tmp_path / "moved.toml").write_text(MOVED, encoding="utf-8")
    books = ["default", "emfacs", str(tmp_path / "moved.toml")]
    run("codebooks", monkeypatch, *books, "--store", str(store), "--codes", str(codes), "--regions")
    printed = capsys.readouterr().out
    assert "48 faces of 8 persons" in printed and re.search(r"^default +0\.599 ", printed, re.MULTILINE)
    assert re.search(r"^6 \(14\) +[\d.]+ +[\d.]+ \(-[\d.]+ to [+-][\d.]+\)$", printed, re.MULTILINE)
    assert len(re.findall(r"^(?:default|emfacs|ckplus\*) +[\d.]+ +[\d.]+ to [\d.]+ ", printed, re.MULTILINE)) == 3
    program = importlib.import_module("codebooks")
    faces = program.read_faces(store, codes)
    assert sum(face.aus == {9} for face in faces) == 6 and len(faces) == 48
    default = load_codebook("default")
    found = program.coded_cosines(dict.fromkeys((f"S{n}" for n in range(8)), default), faces)["coded"]
    assert found[6:] == pytest.approx(1) and found[:6].max() < 0.7
    others = program.of_other_persons(faces)
    assert {au for aus in others["S0"].expressions.values() for au in aus} == {
        au for name in program.BASIC for au in default.expressions[name]
    }
    assert others["S1"].expressions["happiness"] == {6: 0.86, 9: 0.14, 12: 0.86, 25: 0.86}
    low, high = program.interval(found, [face.person for face in faces])
    assert low < found.mean() < high == pytest.approx(1)
    shown, scores = np.array([12 in face.aus for face in faces]), program.region_scores(default, 12, faces)
    assert program.area_under_curve(scores, shown) > 0.9  # the AUs shine through the noise of these faces
    assert program.auc_difference(scores, -scores, shown, [face.person for face in faces])[1] < -0.8


@pytest.mark.slow
def test_a_whole_dataset_is_timed_stage_by_stage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    write_portrait_dataset(tmp_path / "faces", train=4, test=2)
    run("whole_dataset", monkeypatch, str(tmp_path / "faces"), "--shares", "1", "--workers", "0", "--batch-size", "7")
    printed = capsys.readouterr().out
    lines = re.findall(r"^([a-z -]+?)((?: +[\d.]+){6})$", printed, re.MULTILINE)
    assert [name for name, _ in lines] == ["manifest build", "landmarks", "build-maps", "verify", "train", "evaluate"]
    for name, numbers in lines:
        took, each, growth, _, ratio, memory = map(float, numbers.split())
        assert took > 0 and each > 0 and growth == 1 and ratio >= 1 and memory > 10, name
