"""``aupipe compare --maps``: the published study from outside, and folders with all that can be wrong in them."""

from __future__ import annotations

import csv
import json
import os
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from scipy.cluster.hierarchy import linkage

from aupipe.commands import cli
from aupipe.fer_analysis.comparison import figures
from aupipe.fer_analysis.comparison.map_files import (
    UnfitMapError,
    network_and_word,
    read_grey,
    read_maps,
    read_masks,
)
from aupipe.fer_analysis.comparison.run import compare_folder
from aupipe.fer_analysis.comparison.similarity import OVERALL, correlations, grow_trees, make_tree
from aupipe.fer_data.errors import UserInputError
from aupipe.fer_data.shards import Store
from drawings import read_drawing

EXPRESSIONS = ("anger", "disgust", "fear", "happiness", "sadness", "surprise")
STUDY_IOU = """
SilNet .2443 .3828 .3654 .1015 .2948 .2859 .2791
WeiNet .2148 .3352 .2549 .1011 .2996 .1581 .2273
AlexNet .3311 .1873 .1259 .0910 .3175 .1869 .2066
SongNet .3520 .2338 .0864 .2636 .2943 .1632 .2322
InceptionV3 .3073 .6412 .2444 .2261 .2755 .2513 .3243
VGG19 .1240 .6320 .1294 .1727 .1109 .3050 .2457
VGG16 .1164 .5752 .1273 .1523 .1171 .2936 .2303
ResNet50 .1944 .5156 .2226 .2797 .4236 .3252 .3269
ResNet101V2 .1811 .5697 .2004 .2793 .3446 .3152 .3150
Xception .1545 .4139 .2026 .2315 .2732 .2510 .2544
MobileNetV3Large .3322 .5250 .2594 .1849 .1039 .2555 .2768
EfficientNetV2B0 .2401 .7212 .2069 .2583 .0990 .3242 .3083
"""
STUDY_HEIGHTS = """
anger .045 .060 .103 .131 .162 .196 .235 .346 .412 .555 .869
disgust .020 .047 .058 .079 .106 .148 .176 .208 .223 .368 .431
fear .006 .027 .045 .049 .070 .097 .154 .181 .218 .369 .529
happiness .009 .013 .014 .026 .031 .038 .042 .058 .147 .189 .361
sadness .025 .027 .035 .041 .047 .116 .121 .157 .229 .250 .549
surprise .040 .059 .063 .103 .114 .129 .177 .203 .369 .455 .577
"""


def table(text: str) -> dict[str, list[float]]:
    lines = [line.split() for line in text.split("\n") if line]
    return {line[0]: [float(value) for value in line[1:]] for line in lines}


def read_csv(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


@pytest.fixture(scope="module")
def study(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("study")
    compare_folder(shared / "comparison_maps", None, out, pictures=False)
    return out


@pytest.mark.shared
def test_the_published_iou_table(study: Path) -> None:
    header, *rows = read_csv(study / "iou.csv")
    assert header == ["network", *EXPRESSIONS, "mean"]
    found = {row[0]: [float(value) for value in row[1:]] for row in rows}
    wanted = table(STUDY_IOU)
    assert set(found) == set(wanted)
    for network, values in wanted.items():
        assert found[network] == pytest.approx(values, abs=1e-4), network


@pytest.mark.shared
def test_the_published_merge_heights_and_clusters(study: Path) -> None:
    rows = {row[0]: [float(value) for value in row[1:]] for row in read_csv(study / "merge_heights.csv")[1:]}
    for expression, values in table(STUDY_HEIGHTS).items():
        assert rows[expression] == pytest.approx(values, abs=5.1e-4), expression
    clusters = json.loads((study / "comparison.json").read_text())["two_clusters"]
    scratch = {"AlexNet", "SilNet", "SongNet", "WeiNet"}
    assert [set(clusters[name][0]) == scratch for name in EXPRESSIONS] == [False, True, False, True, True, True]


@pytest.mark.shared
def test_the_published_controls(study: Path) -> None:
    found = json.loads((study / "comparison.json").read_text())["controls"]
    assert found["mean_iou"] == pytest.approx(0.2689, abs=5e-5)
    assert found["all_ones"] == pytest.approx(0.2575, abs=5.1e-5)
    assert found["fixed_threshold"] == pytest.approx(0.318, abs=5e-4)
    assert found["chance"] == pytest.approx(0.142, abs=5e-4)
    assert found["area_matched"] == pytest.approx(0.285, abs=5e-4)
    assert found["permutation"]["orders"] == 720 and found["permutation"]["p"] == pytest.approx(0.39, abs=5e-3)


def blob(x: float, y: float, size: float = 6) -> np.ndarray:
    ys, xs = np.mgrid[:40, :32]
    return np.asarray(np.rint(255 * np.exp(-((xs - x) ** 2 + (ys - y) ** 2) / (2 * size**2))), np.uint8)


def write(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)


CENTRES = {"Anger": (8, 8), "Fear": (24, 10), "Happy": (16, 30)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three networks on three expressions: b is a a little shifted, c looks elsewhere."""
    for name, (x, y) in CENTRES.items():
        write(tmp_path / "maps" / f"a_{name}_heatmap.png", blob(x, y))
        write(tmp_path / "maps" / f"b_{name}.png", blob(x + 1, y))
        write(tmp_path / "maps" / "c" / f"{name}.png", blob(31 - x, 39 - y))
        write(tmp_path / "masks" / f"{name}_gt.png", (blob(x, y) > 100).astype(np.uint8) * 255)
    return tmp_path


def test_a_generated_study(folder: Path, tmp_path: Path) -> None:
    found = compare_folder(folder / "maps", str(folder / "masks"), tmp_path / "out", pictures=False)
    assert found.maps.networks == ("a", "b", "c") and found.maps.expressions == ("anger", "fear", "happiness")
    assert found.maps.left_out == ()
    _, *rows = read_csv(tmp_path / "out" / "iou.csv")
    for row, (network, shift) in zip(rows, (("a", 0), ("b", 1)), strict=False):
        for cell, (x, y) in zip(row[1:4], CENTRES.values(), strict=True):
            values, mask = blob(x + shift, y), blob(x, y) > 100
            on = values > cv2.threshold(values, 0, 255, cv2.THRESH_OTSU)[0]
            assert float(cell) == pytest.approx((on & mask).sum() / (on | mask).sum(), abs=1e-6)
        assert row[0] == network
        assert float(row[4]) == pytest.approx(np.mean([float(cell) for cell in row[1:4]]), abs=1e-6)
    assert float(rows[2][4]) < 0.1
    anger = np.stack([blob(8, 8), blob(9, 8), blob(23, 31)]).reshape(3, -1)
    distance = [1 - np.corrcoef(anger)[i, j] for i, j in ((0, 1), (0, 2), (1, 2))]
    heights = {
        row[0]: [float(value) for value in row[1:]] for row in read_csv(tmp_path / "out" / "merge_heights.csv")[1:]
    }
    assert heights["anger"] == pytest.approx([distance[0], (distance[1] + distance[2]) / 2], abs=1e-6)
    assert set(heights) == {"anger", "fear", "happiness", OVERALL}
    assert found.trees[0].two_clusters() == (("a", "b"), ("c",))


def test_the_overall_distance_is_the_mean_over_expressions(folder: Path) -> None:
    maps = read_maps(folder / "maps")
    mean = np.mean([correlations(maps.maps[:, at]) for at in range(3)], 0)
    wanted = linkage([1 - mean[0, 1], 1 - mean[0, 2], 1 - mean[1, 2]], "average")[:, 2]
    assert grow_trees(maps)[-1].heights == pytest.approx(wanted)


def test_without_masks_networks_are_still_compared(folder: Path, tmp_path: Path) -> None:
    for path in (folder / "masks").iterdir():
        path.unlink()
    (folder / "masks").rmdir()
    found = compare_folder(folder / "maps", None, tmp_path / "out", pictures=False)
    assert found.scoring is None and len(found.trees) == 4
    assert not (tmp_path / "out" / "iou.csv").exists()


def test_what_cannot_be_compared_is_listed_with_its_reason(folder: Path, tmp_path: Path) -> None:
    maps = folder / "maps"
    write(maps / "d_Anger.png", blob(5, 5)[:20])
    write(maps / "e_Anger.png", np.full((40, 32), 7, np.uint8))
    write(maps / "f_Anger.png", cv2.applyColorMap(blob(5, 5), cv2.COLORMAP_JET))
    write(maps / "g_Anger.png", blob(7, 9).astype(np.uint16) * 257)
    write(maps / "h_Rage.png", blob(5, 5))
    write(maps / "i_Surprise.png", blob(5, 5))
    write(maps / "a_angry.png", blob(5, 5))
    (maps / "k_Anger.png").write_bytes(b"no picture")
    write(folder / "masks" / "Disgust_gt.png", np.full((40, 32), 255, np.uint8))
    found = compare_folder(maps, str(folder / "masks"), tmp_path / "out", pictures=False)
    reasons = {(one.what, one.expression): one.reason for one in found.maps.left_out}
    assert reasons["d", "anger"] == "32 x 20 pixels, the others 32 x 40 (maps are never resized)"
    assert reasons["e", "anger"] == "the same value everywhere"
    assert "in colour" in reasons["f", "anger"]
    assert reasons["g", "fear"] == reasons["g", "happiness"] == "no map"
    assert "'Rage'" in reasons["h_Rage.png", ""]
    assert reasons["all networks", "surprise"] == "no mask"
    assert reasons["i", ""] == "no map of an expression with a mask" and "i" not in found.maps.networks
    assert "second map of a" in reasons["a_angry.png", "anger"]
    assert reasons["k", "anger"] == "not a picture that can be read"
    assert reasons["mask", "disgust"] == "it covers everything or nothing"
    assert np.array_equal(found.maps.maps[found.maps.networks.index("g"), 0], blob(7, 9))
    rows = {row[0]: row[1:] for row in read_csv(tmp_path / "out" / "iou.csv")}
    assert rows["g"][0] and rows["g"][1:] == ["", "", ""]
    assert found.scoring is not None and found.scoring.controls is not None and found.scoring.controls.networks == 3
    page = (tmp_path / "out" / "results.md").read_text()
    assert "| e | anger | the same value everywhere |" in page and "Otsu" in page


@pytest.mark.parametrize(
    ("stem", "network", "word"),
    [
        ("ResNet_50_Anger", "ResNet_50", "Anger"),
        ("netA_happily_surprised", "netA", "happily_surprised"),
        ("net_a_sad", "net_a", "sad"),
        ("net_dog", "net", "dog"),
        ("Fear", "", "Fear"),
    ],
)
def test_a_map_is_of_the_longest_expression_its_name_ends_in(stem: str, network: str, word: str) -> None:
    assert network_and_word(stem) == (network, word)


def test_options_that_would_have_no_effect_are_refused(folder: Path, tmp_path: Path) -> None:
    for given, said in (
        (["--maps", folder, "--explainer", "cam", "--images", 3], "--explainer, --images. They say how maps are made"),
        (["run", "--input-size", 64], "--input-size. They belong to --model"),
    ):
        done = CliRunner().invoke(cli.cli, ["compare", *map(str, given), "--out", str(tmp_path / "new")])
        assert done.exit_code == 2 and said in done.output and not (tmp_path / "new").exists()


def test_folders_that_hold_nothing_are_told_in_a_paragraph(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match="does not exist"):
        read_maps(folder / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserInputError, match=r"no picture that can be used.*NETWORK_EXPRESSION"):
        read_maps(tmp_path / "empty")
    with pytest.raises(UserInputError, match="no picture that can be used"):
        read_masks(folder / "maps" / "c" / "..")
    write(tmp_path / "other" / "anger.png", np.eye(8, dtype=np.uint8) * 255)
    with pytest.raises(UserInputError, match=r"Expected: 32 x 40\. Got: 8 x 8"):
        compare_folder(folder / "maps", str(tmp_path / "other"), tmp_path / "out")
    write(tmp_path / "third" / "disgust.png", (blob(3, 3) > 9).astype(np.uint8) * 255)
    with pytest.raises(UserInputError, match="No expression has both"):
        compare_folder(folder / "maps", str(tmp_path / "third"), tmp_path / "out")


def test_transparency_and_odd_types_are_no_maps(tmp_path: Path) -> None:
    clear = np.full((4, 4, 4), 9, np.uint8)
    write(tmp_path / "a.png", clear)
    with pytest.raises(UnfitMapError, match="transparent"):
        read_grey(tmp_path / "a.png")
    clear[..., 3] = 255
    write(tmp_path / "b.png", clear)
    assert (read_grey(tmp_path / "b.png") == 9).all()
    write(tmp_path / "c.tif", np.ones((4, 4), np.float32))
    with pytest.raises(UnfitMapError, match="float32"):
        read_grey(tmp_path / "c.tif")


def test_a_gigapixel_or_no_file_is_no_map(tmp_path: Path) -> None:
    header = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBB", 13, b"IHDR", 60_000, 60_000, 8, 0, 0, 0, 0)
    (tmp_path / "a_fear.png").write_bytes(header)
    os.mkfifo(tmp_path / "b_fear.png")
    (tmp_path / "c_fear.png").mkdir()
    for name, message in (("a", "60000 x 60000 pixels"), ("b", "not a regular file"), ("c", "regular file|directory")):
        with pytest.raises(UnfitMapError, match=message):
            read_grey(tmp_path / f"{name}_fear.png")


def test_a_dendrogram_is_drawn_at_its_true_heights() -> None:
    r = np.array([[1, 0.9, 0.2], [0.9, 1, 0.4], [0.2, 0.4, 1]])
    tree = make_tree("anger", ("first", "second", "third"), r)
    assert tree.heights == pytest.approx([0.1, 0.7])
    figure = figures.draw_dendrogram(tree, 1.5)
    axis = figure.axes[0]
    assert axis.get_xlim() == (0, 1.5)
    drawn = sorted({float(x) for line in axis.lines for x in np.asarray(line.get_xdata())})
    assert drawn == pytest.approx([0, 0.1, 0.7])
    labels = [(label.get_text(), label.get_position()[1]) for label in axis.get_yticklabels()]
    assert {name for name, _ in labels} == {"first", "second", "third"}
    feet = {float(y) for line in axis.lines for x, y in line.get_xydata() if x == 0}
    assert feet == {float(y) for _, y in labels}


def test_the_command_writes_every_file(folder: Path, tmp_path: Path) -> None:
    (folder / "maps" / "b_Fear.png").unlink()
    arguments = ["compare", "--maps", folder / "maps", "--out", tmp_path / "out", "--json"]
    done = CliRunner().invoke(cli.cli, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    content = json.loads(done.stdout)
    assert content == json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert content["left_out"] == [{"what": "b", "expression": "fear", "reason": "no map"}]
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"iou.csv", "scores.csv", "merge_heights.csv", "results.md", "maps.png"} <= names
    assert {"dendrogram_anger.png", "dendrogram_overall.png", "correlation_happiness.png"} <= names
    for name in (name for name in names if name.endswith("png")):
        read_drawing(tmp_path / "out" / name)
    printed = CliRunner().invoke(cli.cli, [str(argument) for argument in arguments[:-1]]).output.splitlines()
    head = next(line for line in printed if line.startswith("IoU"))
    assert head.split() == ["IoU", *content["expressions"], "mean"]
    row = next(line.split() for line in printed if line.startswith("b "))
    assert row[1 + content["expressions"].index("fear")] == row[-1] == "-"
    assert "-: no map (b fear)" in printed and "-: a mean is only that of a network with every expression" in printed


def test_a_single_network_is_scored_and_has_no_tree(folder: Path, tmp_path: Path) -> None:
    write(tmp_path / "one" / "only_Anger.png", blob(8, 8))
    found = compare_folder(tmp_path / "one", str(folder / "masks"), tmp_path / "out", pictures=False)
    assert found.trees == () and found.scoring is not None
    assert "two networks" in (tmp_path / "out" / "results.md").read_text()


def test_nothing_of_an_earlier_comparison_is_left(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    compare_folder(folder, str(folder / "masks"), out)
    assert {"iou.csv", "scores.csv", "maps.png"} <= {path.name for path in out.iterdir()}
    (out / "notes.txt").write_text("mine")
    write(tmp_path / "elsewhere" / "one" / "only_Anger.png", blob(8, 8))
    compare_folder(tmp_path / "elsewhere" / "one", None, out, pictures=False)
    assert {path.name for path in out.iterdir()} == {
        ".lock", "comparison.json", "merge_heights.csv", "notes.txt", "results.md"
    }  # fmt: skip


def test_a_folder_of_something_else_is_not_written_to(folder: Path, store: Store, tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match="store"):
        compare_folder(folder, None, store.folder)
