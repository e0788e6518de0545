"""People's own tables and folders, as other programs leave them: read rightly, or refused with the way out."""

from __future__ import annotations

import csv
import json
import os
import sys
import unicodedata
from pathlib import Path
from zlib import crc32

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from aupipe.commands.manifest import manifest
from aupipe.fer_data.errors import ManifestError, UserInputError
from aupipe.fer_data.image_names import is_image_name
from aupipe.fer_data.image_size import image_size
from aupipe.fer_data.images import decode_image
from aupipe.fer_data.manifest import BuildReport, build_manifest, check_manifest, read_manifest, write_manifest
from aupipe.fer_data.manifest.content import content_keys
from aupipe.fer_data.manifest.layouts.boxes import read_size
from aupipe.fer_data.manifest.layouts.cells import to_box
from aupipe.fer_data.manifest.screen import screen_rows
from aupipe.fer_data.types import Box, Sample
from manifest_trees import VOTES, image, labels_of, problems


def sized(path: Path, value: int, width: int = 200, height: int = 100) -> Path:
    """An image of some extent, so that boxes can lie in it."""
    import cv2

    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, np.full((height, width), value, np.uint8))[1].tobytes())
    return path


def classes(root: Path, *names: str, each: int = 3, suffix: str = ".png") -> Path:
    """Class folders with some images each; no two are the same."""
    for name in names:
        for index in range(each):
            image(root / name / f"{index}{suffix}", crc32(f"{root.name}/{name}/{index}".encode()))
    return root


def notes(report: BuildReport) -> str:
    return "\n".join(report.lines())


def refused(layout: str, root: Path, out: Path) -> str:
    with pytest.raises(ManifestError) as error:
        build_manifest(layout, root, out)
    return str(error.value)


# System files


def test_system_files_are_passed_over_and_counted_once(root: Path, out: Path) -> None:
    classes(root, "train/anger", "train/sadness")
    for name in ("._0.png", ".DS_Store", "Thumbs.db", "desktop.ini"):
        (root / "train" / "anger" / name).write_bytes(b"\0\5\x16\7")
    image(root / "__MACOSX" / "train" / "anger" / "._0.png", 1)
    report = build_manifest("auto", root, out)
    assert (report.samples, report.problems) == (6, {})
    assert "5 system files (such as ._*, .DS_Store, Thumbs.db) were passed over" in report.notes


def test_system_files_beside_tables_and_label_files(root: Path, out: Path) -> None:
    image(root / "a.png", 1)
    (root / "labels.csv").write_text("path,label\na.png,happy\n")
    (root / "._labels.csv").write_bytes(b"\0\5\x16\7")
    (root / "._a.png").write_bytes(b"\0\5\x16\7")
    assert build_manifest("auto", root, out).problems == {}


@pytest.mark.parametrize(
    "name",
    [
        *(".thumbnails/a.png", ".git/happy/a.png", "happy/.0.png.icloud", "happy/~$0.png", "@eaDir/0.png/a.jpg"),
        *("lost+found/a.png", "#recycle/sad/0.png", "happy/Thumbs.db:encryptable", ".Trash-1000/files/0.png"),
    ],
)
def test_what_other_systems_leave_is_passed_over(root: Path, out: Path, name: str) -> None:
    classes(root, "happy", "sad")
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(png(7))
    report = build_manifest("auto", root, out)
    assert (report.samples, report.problems) == (6, {}) and "1 system files" in notes(report)


# Unicode


def test_names_labels_and_aliases_are_compared_composed(root: Path, out: Path) -> None:
    classes(root, unicodedata.normalize("NFD", "dégoût"), unicodedata.normalize("NFD", "colère"))
    report = build_manifest("auto", root, out, aliases={"dégoût": "disgust", "colère": "anger"})
    assert report.counts["train"].keys() == {"anger", "disgust"}
    read = read_manifest(out)
    assert all((read.root / sample.path).is_file() for sample in read.samples)


def test_a_table_in_nfc_finds_files_in_nfd(root: Path, out: Path) -> None:
    image(root / unicodedata.normalize("NFD", "été.png"), 1)
    (root / "faces.csv").write_text(unicodedata.normalize("NFC", "path,label,person\nété.png,joy,Zoé\n"))
    report = build_manifest("csv", root, out)
    assert report.samples == 1 and "in another Unicode form" in notes(report)
    assert read_manifest(out).samples[0].subject == unicodedata.normalize("NFC", "Zoé")


# Boxes


def boxes(root: Path, header: str, rows: list[str]) -> Path:
    for number in range(len(rows)):
        sized(root / f"{number}.png", number)
    text = "".join(f"{n}.png,{'sad' if n % 2 else 'happy'},{row}\n" for n, row in enumerate(rows))
    (root / "faces.csv").write_text(f"path,label,{header}\n{text}")
    return root


def test_the_form_of_boxes_is_found_over_the_whole_table(root: Path, out: Path) -> None:
    boxes(root, "bbox", ['"[120, 10, 60, 70]"', '"[10, 20, 60, 70]"'])
    report = build_manifest("auto", root, out)
    assert "boxes read as x, y, width, height: 100% lie inside their images" in report.notes
    assert {sample.box for sample in read_manifest(out).samples} == {Box(120, 10, 180, 80), Box(10, 20, 70, 90)}


@pytest.mark.parametrize(
    ("header", "cells"),
    [
        ("cx,cy,w,h", "60,40,20,30"),
        ("x_center,y_center,width,height", "60,40,20,30"),
        ("bbox_x1,bbox_y1,bbox_x2,bbox_y2", "50,25,70,55"),
        ("xtl,ytl,xbr,ybr", "50,25,70,55"),
        ("bbox", '"50 25 70 55"'),
        ("bounding_box", '"(50, 25, 70, 55)"'),
        ("bbox", "0.3 0.4 0.1 0.3"),
        ("x_center,y_center,width,height", "0.3,0.4,0.1,0.3"),
        ("x,y,x2,y2", "50,25,70,55"),
        ("x1,y1,w,h", "50,25,20,30"),
        ("top_left_x,top_left_y,bottom_right_x,bottom_right_y", "50,25,70,55"),
        ("xc,yc,w,h", "60,40,20,30"),
        ("bbox_xywh", "50 25 20 30"),
        ("roi", "50|25|70|55"),
        ("bbox", '"[[50, 25], [70, 55]]"'),
    ],
)
def test_boxes_under_many_names(root: Path, out: Path, header: str, cells: str) -> None:
    build_manifest("csv", boxes(root, header, [cells]), out)
    box = read_manifest(out).samples[0].box
    assert box is not None
    assert (box.x0, box.y0, box.x1, box.y1) == pytest.approx((50, 25, 70, 55))


def test_a_box_format_that_is_told(root: Path, out: Path) -> None:
    boxes(root, "bbox", ["25 50 55 70", "20 40 50 60"])
    report = build_manifest("csv", root, out, box_format="yxyx")
    assert read_manifest(out).samples[0].box == Box(50, 25, 70, 55) and "y0, x0, y1, x1: 100%" in notes(report)
    with pytest.raises(UserInputError, match="Unknown box format 'xyyx'"):
        build_manifest("csv", root, out, box_format="xyyx")


def test_boxes_that_could_be_meant_in_two_ways_are_said_to(root: Path, out: Path) -> None:
    report = build_manifest("csv", boxes(root, "bbox", ["10 10 60 60", "20 10 70 60"]), out)
    assert "as x, y, width, height they would as well: --box-format xywh" in notes(report)


def test_contradictory_boxes_are_refused(root: Path, out: Path) -> None:
    boxes(root, "bbox", ["150 60 40 30", "100 10 190 90"] * 6)
    message = refused("csv", root, out)
    assert "do not lie inside their images" in message and "xywh (x, y, width, height) 50%" in message


def test_boxes_against_their_header_are_refused_with_the_way_out(root: Path, out: Path) -> None:
    boxes(root, "x0,y0,x1,y1", ["150,60,40,30", "120,10,60,70"])
    assert "--box-format xywh" in refused("csv", root, out)


# What auto says


def test_auto_reads_classes_below_other_folders(root: Path, out: Path) -> None:
    classes(root / "images" / "train", "angry", "happy")
    classes(root / "images" / "validation", "angry", "happy", each=5)
    report = build_manifest("auto", root, out)
    assert report.layout == "folder" and report.counts.keys() == {"train", "val"}


def test_auto_names_a_dataset_below(root: Path, out: Path) -> None:
    image(root / "deep" / "down" / "a.png", 1)
    (root / "deep" / "down" / "labels.csv").write_text("path,label\na.png,happy\n")
    message = refused("auto", root, out)
    assert f"There is a dataset in {root}/deep" in message and "--alias" not in message


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("filename;label\r\nMüller.jpg;sad\r\n".encode("cp1252"), "labels.csv, line 2. Got: 'Müller.jpg;sad'"),
        (b"bild,klasse\na.png,sad\n", "Line 1 names bild,klasse, and no column for the images' paths"),
        (b"image,kind\na.png,sad\n", "no column for the labels (label, emotion"),
        (b"", "Line 1 names nothing"),
    ],
)
def test_auto_says_why_a_table_is_not_read(root: Path, out: Path, content: bytes, said: str) -> None:
    image(root / "a.png", 1)
    (root / "labels.csv").write_bytes(content)
    message = refused("auto", root, out)
    assert "labels.csv was seen but not read" in message and said in message and "--alias" not in message


def test_a_table_beside_class_folders_that_cannot_be_read_is_named(root: Path, out: Path) -> None:
    classes(root, "happy", "sad")
    (root / "labels.csv").write_bytes("path,label\nMüller.jpg,sad\n".encode("cp1252"))
    (root / "more.xlsx").write_bytes(b"PK")
    text = notes(build_manifest("auto", root, out))
    assert "labels.csv lies beside the class folders and was not read: A table is not UTF-8" in text
    assert "more.xlsx lies beside the class folders and was not read: It is a workbook" in text


def hf_parquet(file: Path, images: list[object], labels: list[object], names: str = "happy sad") -> Path:
    """A Parquet file as Hugging Face's datasets library writes it."""
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    file.parent.mkdir(parents=True, exist_ok=True)
    feature = {"label": {"names": names.split(), "_type": "ClassLabel"}, "image": {"_type": "Image"}}
    said = {b"huggingface": json.dumps({"info": {"features": feature}}).encode()} if names else None
    parquet.write_table(pyarrow.table({"image": images, "label": labels}).replace_schema_metadata(said), file)
    return file


def png(value: int) -> bytes:
    import cv2

    return cv2.imencode(".png", np.full((8, 8), value, np.uint8))[1].tobytes()


def test_parquet_with_images_is_written_out(root: Path, out: Path) -> None:
    for part in ("train", "test"):
        images = [{"bytes": png(n + 10 * len(part)), "path": f"x{n}.PNG" if n else None} for n in range(4)]
        hf_parquet(root / "data" / f"{part}-00000-of-00001.parquet", images, [0, 1, 0, 1])  # type: ignore[arg-type]
    report = build_manifest("auto", root, out, val_fraction=0)
    assert report.title == "Parquet files with images" and report.problems == {}
    assert labels_of(out)["data/test-00000-of-00001/000003"] == ("sadness", "test")
    read = read_manifest(out)
    assert (read.root / read.samples[0].path).read_bytes() == png(40) and read.root.name == "M_images"


def test_parquet_of_plain_bytes_and_words(root: Path, out: Path) -> None:
    file = hf_parquet(root / "faces.parquet", [png(1), png(2), None, png(4)], ["happy", "sad", "sad", None], "")
    report = build_manifest("csv", file, out)
    assert report.samples == 2 and problems(out) == [
        ("faces.parquet, line 3", "", "sad", "bad_row"),
        ("faces.parquet, line 4", "", "", "bad_row"),
    ]


def test_a_parquet_table_beside_its_images(root: Path, out: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    for part in ("train", "test"):
        for number in range(3):
            image(root / part / f"{number}.png", number + len(part) * 10)
        columns = {"file_name": ["0.png", "1.png", "2.png"], "label": ["sad", "happy", "happy"]}
        parquet.write_table(pyarrow.table(columns), root / part / "metadata.parquet")
    report = build_manifest("auto", root, out, val_fraction=0)
    assert report.title == "Hugging Face imagefolder" and labels_of(out)["test/0"] == ("sadness", "test")


def test_parquet_that_is_not_read_is_named(root: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = hf_parquet(root / "data" / "train-0.parquet", [1, 2], [0, 1])
    assert "train-0.parquet was seen but not read: It holds image, label: no column of images" in refused(
        "auto", root, out
    )
    whole = hf_parquet(file, [png(1), png(2)], [0, 1]).read_bytes()
    for damaged in (b"PAR1", whole[:-20], whole[:60] + b"\xff" * 90 + whole[150:]):
        file.write_bytes(damaged)
        refused("auto", root, out)
    file.write_bytes(whole)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    assert "pip install 'aupipe[parquet]'" in refused("auto", root, out)


def test_a_table_without_header_several_tables_and_archives_are_named(root: Path, out: Path) -> None:
    image(root / "a.png", 1)
    (root / "labels.csv").write_text("a.png,happy\n")
    assert "Line 1 is a row already: write the names of the columns above it" in refused("auto", root, out)
    for name in ("labels.csv", "old.csv"):
        (root / name).write_text("path,label\na.png,happy\n")
    assert "Several tables were seen" in refused("auto", root, out)
    for file in root.iterdir():
        file.unlink()
    (root / "archive.zip").write_bytes(b"PK")
    assert "archive.zip was seen but not read: It is an archive: unpack it" in refused("auto", root, out)


def test_tables_of_text_are_read_and_other_texts_passed_over(root: Path, out: Path) -> None:
    for name in ("a.png", "b.png"):
        image(root / name, ord(name[0]))
    (root / "README.txt").write_text("Faces of our lab\n")
    (root / "labels.txt").write_text("path\tlabel\na.png\thappy\nb.png\tsad\n", encoding="utf-16")
    assert build_manifest("auto", root, out).samples == 2


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("0_angry", "1_happy"), "--alias 0_angry=anger --alias 1_happy=happiness"),
        (("happyness", "suprise"), "--alias happyness=happiness --alias suprise=surprise"),
    ],
)
def test_auto_writes_the_alias_to_type(root: Path, out: Path, names: tuple[str, ...], said: str) -> None:
    message = refused("auto", classes(root, *names), out)
    assert said in message
    aliases = dict(word.split("=") for word in message.split() if "=" in word for word in [word.rstrip(".")])
    assert build_manifest("auto", root, out, aliases=aliases).samples == 6


def test_folders_of_videos_are_named(root: Path, out: Path) -> None:
    for name in ("happy", "sad"):
        (root / name).mkdir()
        (root / name / "1.mp4").write_bytes(b"\0\0\0\x18ftypmp42")
    assert "named like an image (.mp4); of videos give frames" in refused("auto", root, out)


def test_auto_names_the_layout_that_reads_numbered_folders(root: Path, out: Path) -> None:
    message = refused("auto", classes(root / "train", "1", "7").parent, out)
    assert "aupipe manifest build rafdb" in message and "fer2013" not in message.partition("Expected")[0]
    assert "--alias" not in message


def test_auto_names_the_folder(root: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image(root / "a.png", 1)
    monkeypatch.chdir(root)
    message = refused("auto", Path(), out)
    assert f"No known dataset layout in {root}." in message and "lie in no class folder" in message


# Published forms


def test_rafdb_as_kaggle_has_it(root: Path, out: Path) -> None:
    for label in range(1, 8):
        image(root / "DATASET" / "train" / str(label) / f"train_{label:05d}_aligned.jpg", label)
    (root / "train_labels.csv").write_text("image,label\ntrain_00001_aligned.jpg,1\n")
    (root / "test_labels.csv").write_text("image,label\ntest_0001_aligned.jpg,1\n")
    report = build_manifest("auto", root, out, val_fraction=0)
    assert report.layout == "rafdb" and labels_of(out)["DATASET/train/1/train_00001_aligned"] == ("surprise", "train")


def test_ferplus_as_its_own_program_writes_it(root: Path, out: Path) -> None:
    for part, number in (("FER2013Train", 1), ("FER2013Valid", 2), ("FER2013Test", 3)):
        votes = [line.split(",", 2)[2] for line in VOTES[:3]]
        rows = [f'fer{number}{n}.png,"(0, 0, 48, 48)",{row}' for n, row in enumerate(votes)]
        for n in range(3):
            image(root / part / f"fer{number}{n}.png", 10 * number + n)
        (root / part / "label.csv").write_text("\n".join(rows) + "\n")
    report = build_manifest("auto", root, out)
    assert report.layout == "ferplus" and report.problems == {"no_majority": 3}
    assert labels_of(out)["FER2013Valid/fer21"] == ("contempt", "val")


def test_images_with_yolo_label_files(root: Path, out: Path) -> None:
    (root / "data.yaml").write_text("nc: 2\nnames: ['Anger', 'Happy']\n")
    for part in ("train", "valid"):
        for number, name in enumerate("abc"):
            sized(root / part / "images" / f"{name}.png", number + 10 * len(part[:-1]) + (part == "valid") * 50)
            (root / part / "labels").mkdir(exist_ok=True)
            (root / part / "labels" / f"{name}.txt").write_text(f"{number} 0.3 0.4 0.1 0.3\n")
    report = build_manifest("auto", root, out)
    assert "YOLO" in report.title and report.problems == {"bad_row": 2}
    sample = read_manifest(out).samples[0]
    assert (sample.label, sample.split) == ("anger", "train") and sample.box is not None
    assert (sample.box.x0, sample.box.x1) == pytest.approx((50, 70))


def test_the_size_of_a_large_turned_tiff_is_that_of_the_upright_image(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.tif", compression="tiff_lzw", tiffinfo={274: 6})
    data = (tmp_path / "a.tif").read_bytes()
    assert image_size(data[: 1 << 18]) is None and read_size(tmp_path / "a.tif") == (400, 300)


def test_yolo_names_and_sizes_that_are_hard_to_read(root: Path, out: Path) -> None:
    (root / "images").mkdir(parents=True)
    (root / "labels").mkdir()
    (root / "data.yaml").write_text("names: [anger, happy]\n")
    bare, names = np.zeros((100, 200, 3), np.uint8), (b"a.ppm", b"b.ppm", b"caf\xe9.ppm", b"c.ppm")
    for number, name in enumerate(names):
        photo = root / "images" / os.fsdecode(name)
        photo.write_bytes(cv2.imencode(".ppm", bare + number)[1].tobytes())
        label = root / "labels" / photo.with_suffix(".txt").name
        label.write_text(f"{number % 2} 0.3 0.4 0.1 0.3\n")
    (root / "images" / "c.ppm").write_bytes(b"P6")
    build_manifest("auto", root, out, val_fraction=0, test_fraction=0)
    boxes = [sample.box for sample in read_manifest(out).samples]
    assert [box.x0 for box in boxes if box is not None] == pytest.approx([50, 50])
    told = {row[1]: row[3] for row in problems(out)}
    assert told["images/c.ppm"] == "bad_row" and sorted(told.values()) == ["bad_row", "bad_row"]


@pytest.mark.parametrize(
    ("images", "labels", "names"),
    [
        ("images/train", "labels/train", "any.yaml"),
        ("images", "labels", "data.yaml"),
        ("train", "train", "classes.txt"),
        ("x/images", "x/labels", "obj.names"),
    ],
)
def test_yolo_in_other_folders(root: Path, out: Path, images: str, labels: str, names: str) -> None:
    for number in range(4):
        sized(root / images / f"{number}.png", number)
        (root / labels).mkdir(parents=True, exist_ok=True)
        (root / labels / f"{number}.txt").write_text(f"{number % 2} 0.3 0.4 0.1 0.3\n")
    assert "nothing names" in refused("auto", root, out) or "no data.yaml" in refused("auto", root, out)
    (root / names).write_text("names: [anger, happy]\n" if names.endswith("yaml") else "anger\nhappy\n")
    report = build_manifest("auto", root, out, val_fraction=0, test_fraction=0)
    assert report.counts == {"train": {"anger": 2, "happiness": 2}} and "YOLO" in report.title


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_hugging_face_imagefolder(root: Path, out: Path, suffix: str) -> None:
    for part in ("train", "test"):
        for number in range(3):
            image(root / part / f"{number}.png", number + len(part) * 10)
        pairs = [(f"{number}.png", "happy" if number else "sad") for number in range(3)]
        lines = ["file_name,label", *map(",".join, pairs)]
        if suffix == "jsonl":
            lines = [f'{{"file_name": "{name}", "label": "{label}"}}' for name, label in pairs]
        (root / part / f"metadata.{suffix}").write_text("\n".join(lines) + "\n")
    report = build_manifest("auto", root, out, val_fraction=0)
    assert report.title == "Hugging Face imagefolder" and labels_of(out)["test/0"] == ("sadness", "test")
    assert report.samples == 6


def test_a_jsonl_record_may_lack_what_others_have(root: Path, out: Path) -> None:
    said = ['{"file_name": "0.png", "label": "happy"}', '{"file_name": "1.png", "label": "sad", "subject": "7"}']
    for number in range(2):
        image(root / f"{number}.png", number)
    (root / "metadata.jsonl").write_text("\n".join(said) + "\n")
    build_manifest("auto", root, out, val_fraction=0)
    assert {sample.path: sample.subject for sample in read_manifest(out).samples} == {"0.png": "", "1.png": "7"}


def test_a_jsonl_line_that_is_none_is_named(root: Path, out: Path) -> None:
    image(root / "0.png", 0)
    (root / "metadata.jsonl").write_text('{"file_name": "0.png", "label": "happy"}\n{"file_name": \n')
    with pytest.raises(ManifestError, match=r"(?s)A line of a table is no JSON object.*metadata.jsonl, line 2"):
        build_manifest("auto", root, out)


def test_a_person_called_0_in_parquet_is_known(root: Path, out: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    columns = {"image": [png(n) for n in range(4)], "label": ["happy", "sad"] * 2, "subject": [0, 0, 1, None]}
    parquet.write_table(pyarrow.table(columns), root / "faces.parquet")
    build_manifest("auto", root, out, val_fraction=0)
    assert sorted(sample.subject for sample in read_manifest(out).samples) == ["", "0", "0", "1"]


@pytest.mark.parametrize(("orientation", "x"), [(1, (50, 70)), (3, (50, 70)), (6, (25, 35)), (8, (25, 35))])
def test_boxes_are_of_the_image_as_it_is_shown(tmp_path: Path, orientation: int, x: tuple[int, int]) -> None:
    """200 x 100 pixels, but 100 x 200 where EXIF turns it by a quarter, as the decoder does."""
    tags = Image.Exif()
    tags[0x112] = orientation
    Image.new("RGB", (200, 100)).save(tmp_path / "a.jpg", exif=tags)
    size = read_size(tmp_path / "a.jpg")
    assert size is not None and size == decode_image((tmp_path / "a.jpg").read_bytes()).shape[:2]
    box = to_box((0.3, 0.4, 0.1, 0.3), "yolo", size)
    assert box is not None and (box.x0, box.x1) == pytest.approx(x)


def test_a_table_for_each_split(root: Path, out: Path) -> None:
    for number in range(4):
        image(root / f"{number}.png", number)
    (root / "train.csv").write_text("file_name,label\n0.png,happy\n1.png,sad\n")
    (root / "test.csv").write_text("file_name,label\n2.png,happy\n3.png,sad\n")
    build_manifest("auto", root, out, val_fraction=0)
    assert labels_of(out)["3"] == ("sadness", "test")


def test_jaffe_converted_in_place(root: Path, out: Path) -> None:
    for number, name in enumerate(("KA.AN1.39.tiff.jpg", "KL.HA1.40.tiff.jpg", "KM-SA1-41.jpg")):
        image(root / name, number)
    report = build_manifest("auto", root, out)
    assert (report.layout, report.samples) == ("jaffe", 3)


def test_splits_under_other_names(root: Path, out: Path) -> None:
    classes(root / "Train_Aligned_Faces", "Angry", "Sad ")
    classes(root / "Val_Aligned_Faces", "Angry", "Sad ", each=4)
    report = build_manifest("auto", root, out)
    assert report.counts.keys() == {"train", "val"} and report.samples == 14


@pytest.mark.parametrize("suffix", [".gif", ".avif", ".jfif", ".pnm"])
def test_suffixes_of_the_decoder(suffix: str) -> None:
    assert is_image_name(f"a{suffix}")


@pytest.mark.parametrize("word", ["phase", "Usage", "set", "subset", "data_split", "mode", "which"])
def test_a_split_column_under_another_name(root: Path, out: Path, word: str) -> None:
    for number in range(4):
        image(root / f"{number}.png", number)
    rows = "".join(f"{n}.png,{'sad' if n % 2 else 'happy'},{'val' if n > 1 else 'train'},x\n" for n in range(4))
    (root / "faces.csv").write_text(f"img_path,labels,{word},hat\n{rows}")
    report = build_manifest("auto", root, out)
    assert report.counts == {"train": {"happiness": 1, "sadness": 1}, "val": {"happiness": 1, "sadness": 1}}
    assert "columns of faces.csv that are not used: hat" in report.notes and "names no splits" not in notes(report)


def test_folds_with_numbers_are_no_splits(root: Path, out: Path) -> None:
    image(root / "a.png", 1)
    (root / "faces.csv").write_text("path,label,fold\na.png,happy,3\n")
    report = build_manifest("auto", root, out)
    assert report.samples == 1 and "columns of faces.csv that are not used: fold" in report.notes


def test_notes_on_splits_are_true(root: Path, out: Path) -> None:
    classes(root, "happy", "sad", each=5)
    for options, said in (
        ({}, "names no splits: test and validation samples were cut"),
        ({"val_fraction": 0.0}, "names no splits: test samples were cut"),
        ({"val_fraction": 0.0, "test_fraction": 0.0}, "names no splits: all samples are train"),
    ):
        assert said in notes(build_manifest("folder", root, out, **options))  # type: ignore[arg-type]


# Paths


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("C:\\Users\\me\\faces\\{label}\\img{n}.png", "without C:/Users/me/faces/"),
        ("/mnt/data/{label}/img{n}.png", "without /mnt/data/"),
        ("../faces/{label}/img{n}.png", "without ../faces/"),
        ("{Label}\\IMG{n}.PNG", "when upper and lower case do not count"),
        ("D:\\Faces\\{Label}\\IMG{n}.PNG", "without D:/Faces/, when upper and lower case do not count"),
        ("{label}/img{n}", "when the suffix does not count"),
        ("{label}/img{n}.jpeg", "when the suffix does not count"),
        ("{label}/img00{n}.png", "when leading zeros and the suffix do not count"),
    ],
)
def test_paths_of_another_system(root: Path, out: Path, written: str, said: str) -> None:
    rows = ["path,label"]
    for label in ("happy", "sad"):
        for n in range(3):
            image(root / "imgs" / label / f"img{n}.png", n + 10 * (label == "sad"))
            rows.append(f"{written.format(label=label, Label=label.title(), n=n)},{label}")
    (root / "imgs" / "faces.csv").write_text("\n".join(rows) + "\n")
    report = build_manifest("csv", root / "imgs", out)
    assert report.samples == 6 and f"6 of 6 paths that lead nowhere were found {said}: " in notes(report)
    assert {sample.path for sample in read_manifest(out).samples} == {
        f"{label}/img{n}.png" for label in ("happy", "sad") for n in range(3)
    }


@pytest.mark.parametrize(
    ("written", "file", "said"),
    [
        ('"""img{n}.png"""', "img{n}.png", "without quotes"),
        ("img%20{n}.png", "img {n}.png", "%20 as a space"),
        ("{n}", "{label}/000{n}.jpg", "in folders that the table leaves out, when leading zeros"),
        ("img{n}.png", "{label}/img{n}.png", "in folders that the table leaves out"),
    ],
)
def test_paths_as_other_programs_write_them(root: Path, out: Path, written: str, file: str, said: str) -> None:
    rows = ["path,label"]
    for n in range(4):
        label = "sad" if n % 2 else "happy"
        image(root / file.format(label=label, n=n), n)
        rows.append(f"{written.format(label=label, n=n)},{label}")
    (root / "faces.csv").write_text("\n".join(rows) + "\n")
    report = build_manifest("csv", root, out)
    assert report.samples == 4 and said in notes(report)


def test_a_rule_may_leave_missing_files_or_find_the_rest(root: Path, out: Path) -> None:
    for n in range(8):
        image(root / f"{n}.png", n)
    rows = [f"/old/{n}.png,{'sad' if n % 2 else 'happy'}" for n in range(10)]
    (root / "faces.csv").write_text("\n".join(["path,label", *rows]) + "\n")
    assert build_manifest("csv", root, out).problems == {"bad_row": 2}  # their own paths lead out of the folder
    assert read_manifest(out).samples[7].path == "7.png"
    rows = [row.removeprefix("/old/") if n < 4 else row for n, row in enumerate(rows[:8])]
    (root / "faces.csv").write_text("\n".join(["path,label", *rows]) + "\n")
    assert build_manifest("csv", root, out).samples == 8


def test_a_file_of_another_split_is_never_taken(root: Path, out: Path) -> None:
    for n in range(4):
        image(root / "test" / f"{n}.png", n)
    (root / "faces.csv").write_text("path,label\n" + "".join(f"train/{n}.png,happy\n" for n in range(4)))
    assert "Not one usable image" in refused("csv", root, out)


def test_images_below_a_folder_that_the_table_leaves_out(root: Path, out: Path) -> None:
    image(root / "images" / "a.png", 1)
    (root / "faces.csv").write_text("path,label\na.png,happy\n")
    assert "found below images/: a.png is images/a.png" in notes(build_manifest("csv", root, out))


def test_where_no_rule_fits_the_nearest_file_is_named(root: Path, out: Path) -> None:
    for name in ("a.png", "b.png", "face_0001.png"):
        image(root / name, ord(name[0]))
    (root / "faces.csv").write_text("path,label\na.png,happy\nb.png,sad\nface_1.jpg,sad\nnowhere.png,sad\n")
    build_manifest("csv", root, out)
    with out.with_name("M.problems.csv").open(newline="") as file:
        details = [row["detail"] for row in csv.DictReader(file) if row["reason"] == "missing_file"]
    assert details == ["no such file; face_0001.png is there", "no such file"]


def test_files_outside_the_folder_are_never_taken(root: Path, out: Path) -> None:
    image(root.parent / "secret.png", 1)
    image(root / "a.png", 2)
    (root / "faces.csv").write_text(f"path,label\na.png,happy\n../secret.png,sad\n{root.parent}/secret.png,sad\n")
    report = build_manifest("csv", root, out)
    assert report.samples == 1 and report.problems == {"bad_row": 2}


# Round trips


@pytest.mark.parametrize(
    "text",
    [
        "sep=;\r\npath;label;x0;y0;x1;y1\r\n0.png;1,0;10,5;20;30;40\r\n1.png;2.0;10,5;20;30;40\r\n",
        "path\tlabel\tx0\ty0\tx1\ty1\r\n0.png\t1\t10,5\t20\t30\t40\r\n1.png\t2\t10,5\t20\t30\t40\r\n",
        ',path,label,x0,y0,x1,y1\n0,0.png,"""1""",10.5,20,30,40\n1,1.png,"""2""",10.5,20,30,40\n',
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
def test_tables_as_excel_and_pandas_write_them(root: Path, out: Path, text: str, encoding: str) -> None:
    for number in range(2):
        sized(root / f"{number}.png", number)
    (root / "faces.csv").write_text(text, encoding=encoding, newline="")
    build_manifest("csv", root, out, labels={"1": "happy", "2": "sad"})
    samples = read_manifest(out).samples
    assert [sample.label for sample in samples] == ["happiness", "sadness"]
    assert {sample.box for sample in samples} == {Box(10.5, 20, 30, 40)}


def edited(out: Path, old: str, new: str, encoding: str = "utf-8") -> None:
    out.write_text(out.read_text(encoding="utf-8").replace(old, new), encoding=encoding)


@pytest.fixture
def persons(tmp_path: Path) -> Path:
    """A manifest of four samples of the persons NA and Bo, with landmarks."""
    for number in range(4):
        image(tmp_path / f"{number}.png", number)
    samples = [
        Sample(str(n), f"{n}.png", "fear", "fear", "train", "NA" if n < 2 else "Bo", None, n if n < 3 else None)
        for n in range(4)
    ]
    points = np.random.default_rng(0).random((3, 68, 2)).astype(np.float32)
    write_manifest(tmp_path / "M.csv", samples, root=tmp_path, layout="csv", landmarks=points)
    return tmp_path / "M.csv"


@pytest.mark.parametrize("change", ["pandas", "semicolons", "bom", "utf-16", "index"])
def test_a_manifest_survives_other_programs(persons: Path, change: str) -> None:
    before = read_manifest(persons).samples
    text = persons.read_text()
    if change == "pandas":
        text = "\n".join(f"{line}.0" if line[-1:].isdigit() else line for line in text.splitlines())
    if change == "semicolons":
        text = "sep=;\n" + text.replace(",", ";")
    if change == "index":
        text = "\n".join(f"{n or ''},{line}" for n, line in enumerate(text.splitlines()))
    persons.write_text(text, encoding={"bom": "utf-8-sig", "utf-16": "utf-16"}.get(change, "utf-8"))
    assert read_manifest(persons).samples == before
    assert check_manifest(persons).ok


def test_check_sees_lost_persons_and_a_table_that_shrank(persons: Path) -> None:
    assert not check_manifest(persons).findings
    edited(persons, ",NA,", ",,")
    edited(persons, "3,3.png,fear,fear,train,Bo,\n", "")
    found = {item.kind: item.message for item in check_manifest(persons).findings}
    assert "4 samples were built, 3 are here" in found["fewer_samples"]
    assert "2 were built, 1 are here, and 2 samples have none" in found["fewer_persons"]


def test_a_manifest_that_is_not_utf8_names_the_line(persons: Path) -> None:
    edited(persons, ",Bo,", ",Zoé,", "cp1252")
    with pytest.raises(ManifestError, match=r"not UTF-8 text\. Where: .*M\.csv, line 4"):
        read_manifest(persons)


# Persons


def test_ck48_class_folders_keep_persons_together(root: Path, out: Path) -> None:
    for person in range(10, 16):
        for label in ("anger", "happy"):
            for frame in (17, 18, 19):
                image(
                    root / "CK+48" / label / f"S0{person}_004_{frame:08d}.png",
                    crc32(f"{person}{label}{frame}".encode()),
                )
    report = build_manifest("auto", root, out)
    assert report.layout == "ckplus" and {s.subject for s in read_manifest(out).samples} >= {"S010", "S015"}
    assert check_manifest(out).findings == ()


def persons_in_folders(root: Path) -> Path:
    for person in range(4):
        for number in range(3):
            image(root / ("sad" if number % 2 else "happy") / f"sub{person:02d}_{number}.png", 10 * person + number)
    return root


def test_persons_that_file_names_tell_stay_in_one_split(root: Path, out: Path) -> None:
    report = build_manifest("auto", persons_in_folders(root), out)
    assert "4 names like sub00 in sub00_0" in notes(report)
    assert {sample.subject for sample in read_manifest(out).samples} == {f"sub{person:02d}" for person in range(4)}
    assert check_manifest(out).findings == ()
    report = build_manifest("auto", root, out, subject_pattern="()")
    assert "persons are unknown" in notes(report) and not any(item.subject for item in read_manifest(out).samples)


def test_persons_in_file_names_are_proposed_and_checked_where_splits_are_named(root: Path, out: Path) -> None:
    for part in ("train", "test"):
        persons_in_folders(root / part)
        for number, path in enumerate(sorted((root / part).glob("*/*.png"))):
            image(path, 100 * len(part) + number)
    report = build_manifest("auto", root, out)
    assert "persons are unknown" in notes(report) and "if sub00 in sub00_0 is a person" in notes(report)
    found = next(item for item in check_manifest(out).findings if item.kind == "unknown_persons")
    pattern = found.message.partition("--subject '")[2].partition("'")[0]
    build_manifest("auto", root, out, subject_pattern=pattern)
    assert {sample.subject for sample in read_manifest(out).samples} == {f"sub{person:02d}" for person in range(4)}


def test_persons_that_folders_tell_stay_in_one_split(root: Path, out: Path) -> None:
    for person in range(5):
        for n in range(4):
            image(root / f"subject{person}" / ("sad" if n % 2 else "happy") / f"{n}.png", 10 * person + n)
    report = build_manifest("auto", root, out)
    assert "5 names like subject0" in notes(report) and check_manifest(out).findings == ()
    assert {sample.subject for sample in read_manifest(out).samples} == {f"subject{n}" for n in range(5)}


@pytest.mark.parametrize("name", ["{label}_{n}", "img_{n}", "{n}", "train_{n}"])
def test_names_that_tell_no_person(root: Path, out: Path, name: str) -> None:
    for number in range(9):
        label = ("happy", "sad", "angry")[number % 3]
        image(root / label / f"{name.format(label=label, n=number)}.png", number)
    report = build_manifest("auto", root, out)
    assert "give them with --subject PATTERN" in notes(report) and check_manifest(out).findings == ()


# Classes


def run(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(manifest, [str(argument) for argument in arguments], standalone_mode=False)
    return done.return_value if done.exception is None else 1, done.output


def test_a_misspelt_class_is_named_with_what_to_type(root: Path, out: Path) -> None:
    classes(root, "happyness", "sad", "angry")
    code, said = run("build", "folder", root, "-o", out)
    assert code == 3 and "did you mean happiness? Then add --alias happyness=happiness" in said
    assert "Not one image is left of happyness" in said
    code, said = run("build", "folder", root, "-o", out, "--alias", "happyness=happiness")
    assert code == 0 and "WARN" not in said


def test_more_faults_than_allowed_exit_3(root: Path, out: Path) -> None:
    for number in range(8):
        image(root / f"{number}.png", number)
    rows = "".join(f"{n}.png,{'sad' if n % 2 else 'happy'}\n" for n in range(12))
    (root / "faces.csv").write_text(f"path,label\n{rows}")
    assert run("build", "csv", root, "-o", out)[0] == 3
    assert run("build", "csv", root, "-o", out, "--max-failures", "0.5")[0] == 0


def test_classes_that_will_disappoint_are_warned_of(root: Path, out: Path) -> None:
    classes(root / "train", "happy", "sad")
    classes(root / "test", "happy")
    image(root / "train" / "fear" / "x.png", 999)
    assert build_manifest("folder", root, out, val_fraction=0).warnings == (
        "fear has a single image, which is in one split only: add some, or leave it out: --alias fear=drop",
        "test has no image of sadness: figures of test say nothing of it",
        "there is no validation split, and `aupipe train` needs one to choose the best epoch: --val-fraction 0.1 "
        "cuts one",
    )
    classes(root.parent / "one", "happy")
    report = build_manifest("folder", root.parent / "one", out)
    assert report.warnings == ("there is a single class, happiness: nothing can be trained on it",)


def test_the_advice_on_a_validation_split_is_true(root: Path, out: Path) -> None:
    classes(root, "happy", "sad", each=2)
    warning = build_manifest("folder", root, out).warnings[-1]
    assert "there is no validation split" in warning
    fraction = float(warning.partition("--val-fraction ")[2].split()[0])
    report = build_manifest("folder", root, out, val_fraction=fraction)
    assert {"train", "val"} <= report.counts.keys() and report.warnings == ()
    persons = build_manifest("folder", root, out, subject_pattern="^(.)").manifest
    one = build_manifest("folder", root, persons, subject_pattern=r"()\d")
    assert one.counts.keys() == {"train"}
    (root / "happy" / "1.png").unlink()
    (root / "sad" / "1.png").unlink()
    assert "too few images, or persons" in build_manifest("folder", root, out, subject_pattern="^(0)").warnings[-1]


def test_a_class_whose_files_are_no_images_is_lost(root: Path, out: Path) -> None:
    classes(root, "happy", "sad")
    for n in range(3):
        (root / "fear").mkdir(exist_ok=True)
        (root / "fear" / f"{n}.raw").write_bytes(b"x")
    code, said = run("build", "folder", root, "-o", out)
    assert code == 3 and "Not one image is left of fear" in said


def test_images_without_a_suffix_are_found_by_their_content(root: Path, out: Path) -> None:
    for name in ("happy", "sad"):
        for n in range(3):
            image(root / name / f"{n}.png", n + 10 * len(name)).rename(root / name / str(n))
        (root / name / "NOTES").write_text("x")
    report = build_manifest("auto", root, out)
    assert report.samples == 6 and report.problems == {"not_an_image_name": 2}


def test_classes_of_ones_own(root: Path, out: Path) -> None:
    classes(root, "boredom", "High Engagement", "happy")
    report = build_manifest("folder", root, out)
    assert "classes of your own, no known expressions: boredom 3, high_engagement 3" in notes(report)
    assert read_manifest(out).classes == ("happiness", "boredom", "high_engagement")
    assert check_manifest(out).ok
    own = {"boredom": "tired", "high engagement": "pride"}
    with pytest.raises(UserInputError, match="Did you mean 'surprise'"):
        build_manifest("folder", root, out, aliases=own)
    build_manifest("folder", root, out, aliases={"boredom": "pain"})
    assert read_manifest(out).classes == ("happiness", "high_engagement", "pain")


def test_a_class_that_looks_like_another_word_is_taken_when_said(root: Path, out: Path) -> None:
    classes(root, "pride", "happy")
    assert build_manifest("folder", root, out).lost_classes == ("pride",)
    build_manifest("folder", root, out, aliases={"pride": "pride"})
    assert read_manifest(out).classes == ("happiness", "pride")


def test_numbers_and_words_for_nothing_never_become_classes(root: Path, out: Path) -> None:
    classes(root, "happy", "7", "unknown")
    assert build_manifest("folder", root, out).problems == {"unknown_label": 6}


# Duplicates


def test_only_files_alike_at_both_ends_are_read_whole(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    block = bytes(range(256)) * 64
    contents = {"a": block, "b": block, "c": block[:8000] + b"x" + block[8001:], "d": b"y" + block[1:], "e": b"z"}
    for name, content in contents.items():
        (root / name).write_bytes(content)
    read = list[str]()
    from aupipe.fer_data.manifest import content as module

    whole = module.sha256_file
    monkeypatch.setattr(module, "sha256_file", lambda path: read.append(path.name) or whole(path))  # type: ignore[func-returns-value]
    keys = content_keys(root, {name: len(content) for name, content in contents.items()})
    assert keys["a"] == keys["b"] and len(set(keys.values())) == 4 and read == ["a", "b", "c"]


def test_thousands_of_equal_files_take_no_square_of_time(root: Path, out: Path) -> None:
    from time import process_time

    from aupipe.fer_data.manifest.labels import Vocabulary
    from aupipe.fer_data.manifest.layouts.base import DatasetListing, RawRow
    from aupipe.fer_data.manifest.problems import Place

    image(root / "a.png", 1)
    rows = [RawRow("a.png", "sad" if n % 2 else "happy", Place("faces.csv", n)) for n in range(40_000)]
    started = process_time()
    screened = screen_rows(DatasetListing(root, tuple(rows)), Vocabulary())
    assert len(screened.problems) == 40_000 and process_time() - started < 10
    assert screened.problems[0].detail.endswith("and 39996 more")


def test_problems_keep_their_places(root: Path, out: Path) -> None:
    classes(root, "happy", "sad")
    (root / "happy" / "notes.txt").write_text("x")
    build_manifest("folder", root, out)
    assert problems(out) == [("happy/notes.txt", "happy/notes.txt", "happy", "not_an_image_name")]
