"""What holds for every dataset layout: it is recognised, its counts add up, it reads back, it is the same twice."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from aupipe.fer_data.manifest import BuildReport, build_manifest, check_manifest, layout_names, read_manifest
from manifest_trees import TREES, Tree, problems


def build(tree: Tree, tmp_path: Path, name: str = "out", seed: int = 0) -> tuple[BuildReport, Path]:
    root = tmp_path / "set"
    if not root.exists():
        root.mkdir()
        tree.make(root)
    out = tmp_path / name / "M.csv"
    return build_manifest("auto", root, out, variant=tree.variant, seed=seed), out


each_tree = pytest.mark.parametrize("tree", TREES.values(), ids=TREES.keys())


@each_tree
def test_auto_recognises_it_and_the_counts_add_up(tree: Tree, tmp_path: Path) -> None:
    report, out = build(tree, tmp_path)
    assert report.layout == tree.layout
    assert report.problems == tree.problems
    assert report.rows_read == tree.rows == report.samples + report.problem_rows
    assert report.samples == tree.samples == sum(sum(row.values()) for row in report.counts.values())
    assert len(problems(out)) == report.problem_rows + report.problem_files


@each_tree
def test_round_trip(tree: Tree, tmp_path: Path) -> None:
    report, out = build(tree, tmp_path)
    manifest = read_manifest(out)
    assert manifest.digest == report.digest == manifest.recorded_digest and len(manifest.samples) == report.samples
    assert all((manifest.root / sample.path).is_file() for sample in manifest.samples)
    checked = check_manifest(out)
    assert checked.ok and checked.findings == ()
    rows = [sample.landmarks_row for sample in manifest.samples if sample.landmarks_row is not None]
    assert rows == list(range(tree.landmarks))
    if tree.landmarks:
        assert manifest.landmarks == out.with_name("M.landmarks.npy").resolve()
        stored = np.load(manifest.landmarks)
        assert stored.shape == (tree.landmarks, 68, 2) and stored.dtype == np.float32 and np.isfinite(stored).all()
    else:
        assert manifest.landmarks is None and not out.with_name("M.landmarks.npy").exists()


@each_tree
def test_the_same_bytes_twice(tree: Tree, tmp_path: Path) -> None:
    contents = []
    for name in ("one", "two"):
        _, out = build(tree, tmp_path, name)
        contents.append({path.name: path.read_bytes() for path in out.parent.iterdir() if path.is_file()})
    assert contents[0] == contents[1] and {"M.csv", "M.meta.json", "M.problems.csv"} <= contents[0].keys()


@each_tree
@pytest.mark.parametrize("seed", [0, 1])
def test_no_person_is_in_two_splits(tree: Tree, tmp_path: Path, seed: int) -> None:
    _, out = build(tree, tmp_path, seed=seed)
    splits = defaultdict[str, set[str]](set)
    for sample in read_manifest(out).samples:
        if sample.subject:
            splits[sample.subject].add(sample.split)
    assert len(splits) == tree.subjects
    assert all(len(found) == 1 for found in splits.values())
    if tree.subjects > 3 and tree.samples > 20:
        assert set().union(*splits.values()) == {"train", "val", "test"}


def test_every_layout_has_a_tree() -> None:
    assert {tree.layout for tree in TREES.values()} == set(layout_names()) - {"auto"}
