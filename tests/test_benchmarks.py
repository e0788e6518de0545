"""The measuring programs still run: what they print is looked at by people, on a quiet machine."""

from __future__ import annotations

import importlib
import itertools
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from aupipe.fer_data.au_maps.codebook import load_codebook
from aupipe.fer_data.au_maps.heatmaps import render_maps

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
    assert len(re.findall(r"mean +([\d.]+ +){5}[\d.]+x +[\d.]+x   \(aim (?:10|40)x\)", capsys.readouterr().out)) == 4
    program = importlib.import_module("rasteriser")
    for points in program.faces(2, 0.3):
        shapes = program.reference_ellipses(points, "fear", BOOK)
        ways = [way(shapes, size) for way in (program.published_map, program.lean_map) for size in (64, 256)]
        for mine, theirs in itertools.pairwise([*ways[::2], render_maps(points[None], ["fear"], BOOK, 256, 64)[0]]):
            cosine = (mine * theirs).sum() / np.sqrt((mine**2).sum() * (theirs**2).sum())
            assert cosine > 0.99
        np.testing.assert_allclose(ways[1], ways[3], atol=1e-4)
