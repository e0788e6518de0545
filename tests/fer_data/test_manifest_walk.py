"""Folders of unknown content: links in circles, folders that cannot be read, odd names and odd things."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from aupipe.fer_data.errors import ManifestError
from aupipe.fer_data.manifest import build_manifest, check_manifest, read_manifest
from aupipe.fer_data.manifest.layouts.walk import scan, walk_files
from manifest_trees import affectnet_npy, image, problems


@pytest.fixture
def root(tmp_path: Path) -> Path:
    image(tmp_path / "set" / "happy" / "a.png", 1)
    return tmp_path / "set"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out" / "M.csv"


def lock(monkeypatch: pytest.MonkeyPatch, *folders: Path) -> None:
    """Make folders unreadable, also for the superuser."""
    scandir = os.scandir

    def refuse(path: str | Path) -> object:
        if Path(path) in folders:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)


def test_links_are_followed_but_not_in_a_circle(root: Path, out: Path) -> None:
    image(root / "real" / "b.png", 2)
    (root / "sad").symlink_to(root / "real")
    (root / "real" / "loop").symlink_to(root)
    (root / "happy" / "self").symlink_to(root / "happy")
    (root / "happy" / "up").symlink_to("..")
    found = list(walk_files(root))
    assert {"happy/a.png", "real/b.png", "sad/b.png"} <= set(found) and len(found) == len(set(found))
    report = build_manifest("folder", root, out)
    assert report.samples + report.problem_rows == report.rows_read
    assert {sample.path for sample in read_manifest(out).samples} >= {"happy/a.png"}


def test_folders_that_all_link_to_each_other(root: Path) -> None:
    names = [f"n{number}" for number in range(6)]
    for name in names:
        image(root / name / "x.png", 1)
    for name in names:
        for other in names:
            (root / name / f"to_{other}").symlink_to(root / other)
    # Every chain of up to three links, and not every order of six folders.
    assert sum(path.endswith("x.png") for path in walk_files(root)) == 6 * (1 + 5 + 5 * 4 + 5 * 4 * 3)


def test_links_to_nothing_and_to_themselves_are_missing_files(root: Path, out: Path) -> None:
    (root / "happy" / "gone.png").symlink_to("nowhere.png")
    (root / "happy" / "self.png").symlink_to("self.png")
    build_manifest("folder", root, out)
    assert [(path, reason) for _, path, _, reason in problems(out)] == [
        ("happy/gone.png", "missing_file"),
        ("happy/self.png", "missing_file"),
    ]


def test_folders_named_like_images(root: Path, out: Path) -> None:
    (root / "happy" / "empty.jpg").mkdir()
    image(root / "sad.jpg" / "b.png", 2)
    image(root / "happy" / "full.jpg" / "c.png", 3)
    report = build_manifest("folder", root, out)
    assert [sample.path for sample in read_manifest(out).samples] == ["happy/a.png", "happy/full.jpg/c.png"]
    assert [(path, reason) for _, path, _, reason in problems(out)] == [("sad.jpg/b.png", "unknown_label")]
    assert report.rows_read == 3


def test_things_that_are_no_files(root: Path, out: Path) -> None:
    os.mkfifo(root / "happy" / "pipe.png")
    build_manifest("folder", root, out)
    assert [(path, reason) for _, path, _, reason in problems(out)] == [("happy/pipe.png", "missing_file")]


@pytest.mark.parametrize("name", ["ünï-ço.png", "顔 一.png", "🙂.png", "e\u0301.png", "a'\"b.png", "-rf.png"])
def test_names_in_any_script_come_back(root: Path, out: Path, name: str) -> None:
    image(root / "happy" / name, 7)
    assert build_manifest("folder", root, out).problems == {}
    manifest = read_manifest(out)
    assert f"happy/{name}" in {sample.path for sample in manifest.samples}
    assert check_manifest(out).findings == ()


def test_names_that_are_not_utf8_are_listed(root: Path, out: Path) -> None:
    (Path(os.fsdecode(os.fsencode(root / "happy") + b"/\xff.png"))).write_bytes(b"x")
    build_manifest("folder", root, out)
    assert [(where, reason) for where, _, _, reason in problems(out)] == [("happy/\\udcff.png", "not_an_image_name")]


def test_folders_deeper_than_the_interpreter_recurses(root: Path) -> None:
    deep = [root]
    for _ in range(1500):
        deep.append(deep[-1] / "d")
        deep[-1].mkdir()
    (deep[-1] / "b.png").touch()
    try:
        assert list(walk_files(root)) == ["d/" * 1500 + "b.png", "happy/a.png"]
    finally:
        # Here and not by pytest, which would remove it by recursion.
        (deep[-1] / "b.png").unlink()
        for folder in reversed(deep[1:]):
            folder.rmdir()


def test_folders_that_cannot_be_read_are_listed(root: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image(root / "sad" / "b.png", 2)
    image(root / "happy" / "deep" / "c.png", 3)
    lock(monkeypatch, root / "sad", root / "happy" / "deep")
    report = build_manifest("folder", root, out)
    assert problems(out) == [
        ("happy/deep", "happy/deep", "", "unreadable_folder"),
        ("sad", "sad", "", "unreadable_folder"),
    ]
    assert (report.samples, report.rows_read, report.problem_files) == (1, 1, 2)


@pytest.mark.parametrize("layout", ["auto", "folder", "csv", "jaffe"])
def test_a_root_that_cannot_be_read(root: Path, out: Path, monkeypatch: pytest.MonkeyPatch, layout: str) -> None:
    lock(monkeypatch, root)
    with pytest.raises(ManifestError, match="a folder that cannot be listed: Permission denied"):
        build_manifest(layout, root, out)


def test_an_unreadable_part_of_affectnet(tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = affectnet_npy(tmp_path / "npy")
    lock(monkeypatch, root / "val_set" / "annotations")
    report = build_manifest("affectnet", root, out)
    assert report.problems == {"bad_row": 1, "dropped_label": 1, "unlisted_file": 3, "unreadable_folder": 1}


def test_scan_is_sorted_and_silent_without_a_listener(root: Path) -> None:
    for name in "cab":
        (root / name).touch()
    assert [entry.name for entry in scan(root)] == ["a", "b", "c", "happy"]
    assert scan(root / "a") == []
