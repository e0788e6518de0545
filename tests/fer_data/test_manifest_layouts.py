"""Every layout as a small tree of generated images: what is read, what is listed, what is refused."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from aupipe.fer_data.errors import ManifestError, UserInputError
from aupipe.fer_data.manifest import build_manifest, layout_names, read_manifest
from aupipe.fer_data.manifest.descriptors import collect_descriptors, get_descriptor, load_descriptors, parse_descriptor
from aupipe.fer_data.manifest.layouts.base import get_reader, register_reader, relative_path
from aupipe.fer_data.manifest.layouts.folder import FolderReader
from aupipe.fer_data.manifest.layouts.pixels import parse_pixels
from manifest_trees import fer2013_csv, image, labels_of, legend, problems, rafdb


def zipped(name: str) -> bytes:
    """An archive with one file."""
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        archive.writestr(name, b"\xff\xd8\xff")
    return memory.getvalue()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "set"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out" / "M.csv"


def test_folder_with_splits_and_other_words(root: Path, out: Path) -> None:
    image(root / "Training" / "Happy" / "a.png", 1)
    image(root / "valid" / "sad" / "deep" / "b.png", 2)
    image(root / "anger" / "test" / "c.png", 3)
    report = build_manifest("folder", root, out)
    assert labels_of(out) == {
        "Training/Happy/a": ("happiness", "train"),
        "valid/sad/deep/b": ("sadness", "val"),
        "anger/test/c": ("anger", "test"),
    }
    assert report.rows_read == report.samples == 3 and problems(out) == []
    assert read_manifest(out).samples[0].source_label == "Happy"


@pytest.mark.parametrize(("around", "split"), [("images/train", "train"), ("subject7", ""), ("", "")])
def test_classes_of_ones_own_lie_beside_the_known_ones(root: Path, out: Path, around: str, split: str) -> None:
    for number, name in enumerate(("happy", "sad", "boredom", "hapiness") * 2):
        image(root / around / name / "deep" / f"{number}.png", number)
    build_manifest("folder", root, out, val_fraction=0, test_fraction=0)
    read = {sample.source_label: sample.split for sample in read_manifest(out).samples}
    assert read == dict.fromkeys(("happy", "sad", "boredom"), split or "train")
    assert [(row[2], row[3]) for row in problems(out)] == [("hapiness", "unknown_label")] * 2


def test_classes_of_ones_own_where_depths_are_mixed(root: Path, out: Path) -> None:
    places = ("happy", "boredom/s1", "boredom/s2", "posed/happy", "posed/sad", "posed/fear", "posed/calm")
    for number, place in enumerate(places * 2):
        image(root / place / f"{number}.png", number)
    build_manifest("folder", root, out, val_fraction=0, test_fraction=0)
    assert {sample.source_label for sample in read_manifest(out).samples} == {
        "happy", "boredom", "sad", "fear", "calm"
    }  # fmt: skip


def test_folder_lists_odd_files(root: Path, out: Path) -> None:
    image(root / "happy" / "a.png", 1)
    image(root / "loose.png", 2)
    (root / "happy" / "notes.db").write_text("x")
    (root / "README.txt").write_text("x")
    image(root / "happy" / "tab\there.png", 3)
    report = build_manifest("folder", root, out)
    assert problems(out) == [
        ("happy/notes.db", "happy/notes.db", "happy", "not_an_image_name"),
        ("happy/tab\\there.png", "happy/tab\\there.png", "happy", "not_an_image_name"),
        ("loose.png", "loose.png", "", "unlisted_file"),
    ]
    assert (report.rows_read, report.problem_rows, report.problem_files) == (1, 0, 3)


def test_folder_names_in_any_script(root: Path, out: Path) -> None:
    for number, name in enumerate(["été", "顔\u3000一", "no\u00a0break", 'a,"b"']):
        image(root / "happy" / f"{name}.png", number)
    assert build_manifest("folder", root, out).problems == {}
    manifest = read_manifest(out)
    assert all((manifest.root / sample.path).is_file() for sample in manifest.samples)


@pytest.mark.parametrize("as_file", [True, False])
@pytest.mark.parametrize("delimiter", [",", ";"])
def test_csv_with_header_names_of_its_own(root: Path, out: Path, as_file: bool, delimiter: str) -> None:
    for number in range(3):
        image(root / "img" / f"{number}.png", number)
    rows = [
        ["Emotion", "File Name", "Usage", "person", "x0", "y0", "x1", "y1"],
        ["joy", "img/0.png", "training", "p1", "0", "1", "5", "5.5"],
        ["Fear", "img\\1.png", "dev", "p2", "", "", "", ""],
        ["FEAR", str(root.absolute() / "img/2.png"), "test", "p3", "", "", "", ""],
    ]
    (root / "faces.csv").write_text("\ufeff" + "\n".join(delimiter.join(row) for row in rows), encoding="utf-8")
    build_manifest("csv", root / "faces.csv" if as_file else root, out)
    lines = out.read_text().splitlines()
    assert lines == [
        "sample_id,path,label,source_label,split,subject,x0,y0,x1,y1",
        "img/0,img/0.png,happiness,joy,train,p1,0,1,5,5.5",
        "img/1,img/1.png,fear,Fear,val,p2,,,,",
        "img/2,img/2.png,fear,FEAR,test,p3,,,,",
    ]


def test_csv_box_column_gives_one_sample_a_face(root: Path, out: Path) -> None:
    image(root / "two.png", 1)
    (root / "faces.csv").write_text(
        'path,label,box\ntwo.png,happy,0 0 3 3\ntwo.png,sad,"3, 0, 6, 3"\ntwo.png,sad,3 3 2 2\n'
    )
    report = build_manifest("csv", root, out, test_fraction=0, val_fraction=0)
    assert set(labels_of(out)) == {"two@0,0,3,3", "two@3,0,6,3"}
    assert report.problems == {"bad_row": 1}


def test_csv_bad_rows_are_listed_with_their_lines(root: Path, out: Path) -> None:
    image(root / "a.png", 1)
    rows = ["path,label,split", "a.png,happy,train", "", ",sad,train", "a.png,,train", "../a.png,sad,train"]
    rows += [
        "/etc/a.png,sad,train",
        "a.png,sad,nosplit",
        "a.png,sad,",
        '"a\tb.png",sad,train',
        f"{'a' * 300}.png,sad,val",
    ]
    (root / "faces.csv").write_text("\n".join(rows) + "\n")
    report = build_manifest("csv", root, out)
    assert [(where, reason) for where, _, _, reason in problems(out)] == [
        *((f"faces.csv, line {line}", "bad_row") for line in range(4, 11)),
        ("faces.csv, line 11", "missing_file"),
    ]
    assert report.rows_read == 9 == report.samples + report.problem_rows


def test_rebuilding_inside_the_dataset_ignores_own_manifest(root: Path) -> None:
    image(root / "a.png", 1)
    (root / "faces.csv").write_text("path,label\na.png,happy\n")
    first = build_manifest("csv", root, root / "M.csv")
    assert build_manifest("csv", root, root / "M.csv") == first


@pytest.mark.parametrize("below", ["", "basic"])
def test_rafdb(root: Path, out: Path, below: str) -> None:
    rafdb(root / below if below else root)
    report = build_manifest("rafdb", root, out, val_fraction=0)
    assert labels_of(out) == {
        "Image/aligned/train_00001_aligned": ("sadness", "train"),
        "Image/aligned/train_00002_aligned": ("happiness", "train"),
        "Image/aligned/train_00003_aligned": ("happiness", "train"),
        "Image/aligned/test_0001_aligned": ("neutral", "test"),
    }
    listed = ("EmoLabel/list_patition_label.txt, line 5", "Image/aligned/extra_1_aligned.jpg", "1", "bad_row")
    assert problems(out) == [listed]
    assert [count.ok for count in report.published] == [False, False]
    assert report.published[0].line().startswith("WARN train: 3 of 12271 published images (anger 0 of 705, ")
    assert read_manifest(out).root == (root / below).resolve()


def test_rafdb_original_images(root: Path, out: Path) -> None:
    build_manifest("rafdb", rafdb(root), out, variant="original")
    assert "Image/original/train_00001" in labels_of(out)
    with pytest.raises(UserInputError, match=r"Unknown variant 'orignal'.*Did you mean 'original'"):
        build_manifest("rafdb", root, out, variant="orignal")
    with pytest.raises(UserInputError, match="has no variants"):
        build_manifest("legend", legend(root), out, variant="original")


def test_options_that_a_reader_does_not_know_are_refused(root: Path, out: Path) -> None:
    for number, name in enumerate(("happy", "sad")):
        image(root / name / "1.png", number)
    with pytest.raises(UserInputError, match="has no variants"):
        build_manifest("folder", root, out, variant="apex3+neutral")
    with pytest.raises(UserInputError, match="what the boxes of a table are, and this is none"):
        build_manifest("folder", root, out, box_format="xywh")


@pytest.mark.parametrize("name", ["fer2013.csv", "icml_face_data.csv"])
def test_fer2013_pixels_become_images_beside_the_manifest(root: Path, out: Path, name: str) -> None:
    header = "emotion, Usage, pixels" if name.startswith("icml") else "emotion,pixels,Usage"
    fer2013_csv(root / name, header)
    build_manifest("fer2013", root, out)
    assert labels_of(out) == {
        "train/row_00000": ("anger", "train"),
        "train/row_00001": ("happiness", "train"),
        "val/row_00002": ("happiness", "val"),
        "test/row_00003": ("neutral", "test"),
    }
    assert [(where, reason) for where, _, _, reason in problems(out)] == [
        (f"{name}, line 6", "unknown_label"),
        (f"{name}, line 7", "bad_row"),
    ]
    manifest = read_manifest(out)
    assert manifest.root == out.with_name("M_images").resolve()
    stored = cv2.imread(str(manifest.root / "test/row_00003.png"), cv2.IMREAD_UNCHANGED)
    pixels = (root / name).read_text().splitlines()[4].split(",")[2 if name.startswith("icml") else 1]
    assert np.array_equal(stored.ravel(), np.array(pixels.split(), int))


def test_fer2013_images_are_not_written_again(root: Path, out: Path) -> None:
    fer2013_csv(root / "fer2013.csv")
    build_manifest("fer2013", root, out)
    written = out.with_name("M_images") / "test/row_00003.png"
    before = written.stat().st_mtime_ns
    build_manifest("fer2013", root / "fer2013.csv", out)
    assert written.stat().st_mtime_ns == before


def test_fer2013_folders(root: Path, out: Path) -> None:
    image(root / "train" / "3" / "a.png", 1)
    image(root / "test" / "angry" / "b.png", 2)
    report = build_manifest("fer2013", root, out)
    assert labels_of(out) == {"train/3/a": ("happiness", "train"), "test/angry/b": ("anger", "test")}
    assert [count.split for count in report.published] == ["train", "test"]


@pytest.mark.parametrize("text", ["", "1 2", "1 " * 2303 + "256", "1 " * 2303 + "-1", "1 " * 2303 + "x"])
def test_pixels_that_are_no_image(text: str) -> None:
    assert parse_pixels(text) is None


def test_legend_subjects(root: Path, out: Path) -> None:
    build_manifest("legend", legend(root), out)
    subjects = {sample.sample_id: sample.subject for sample in read_manifest(out).samples}
    assert subjects == {"images/Ann_Lee_0001": "Ann_Lee", "images/Ann_Lee_0002": "Ann_Lee", "images/Bo12": "Bo"}


def test_subject_pattern_given_by_the_user(root: Path, out: Path) -> None:
    for number, name in enumerate(["p1_a", "p1_b", "p2_a"]):
        image(root / "happy" / f"{name}.png", number)
    build_manifest("folder", root, out, subject_pattern="^(p[0-9])")
    assert [sample.subject for sample in read_manifest(out).samples] == ["p1", "p1", "p2"]
    for pattern in ("(", "p"):
        with pytest.raises(UserInputError, match="the subject pattern"):
            build_manifest("folder", root, out, subject_pattern=pattern)


def test_auto_with_words_of_the_user(root: Path, out: Path) -> None:
    image(root / "a.png", 1)
    (root / "faces.csv").write_text("file,expression\na.png,joie\n")
    for place in (root, root / "faces.csv"):
        report = build_manifest("auto", place, out, aliases={"Joie": "happy"})
        assert report.layout == "csv" and labels_of(out) == {"a": ("happiness", "train")}


def test_auto_says_what_it_looked_for_and_what_it_found(root: Path, out: Path) -> None:
    image(root / "holiday" / "a.png", 1)
    with pytest.raises(ManifestError) as error:
        build_manifest("auto", root, out)
    message = str(error.value)
    assert "EmoLabel/list_patition_label.txt" in message and "Got: holiday/." in message and "--alias" in message
    assert not out.exists() and not out.with_suffix(".problems.csv").exists()


def test_auto_does_not_guess_between_two(root: Path, out: Path) -> None:
    image(root / "happy" / "a.png", 1)
    (root / "faces.csv").write_text("path,label\nhappy/a.png,sad\n")
    with pytest.raises(ManifestError, match=r"Several dataset layouts fit .*csv .*folder .*Say which one"):
        build_manifest("auto", root, out)


@pytest.mark.parametrize("layout", layout_names())
@pytest.mark.parametrize("kind", ["missing", "empty", "file", "no image"])
def test_unusable_roots(root: Path, out: Path, layout: str, kind: str) -> None:
    if kind == "file":
        root.write_text("x")
    elif kind != "missing":
        root.mkdir()
    if kind == "no image":
        (root / "happy").mkdir()
        (root / "happy" / "notes.txt").write_text("x")
    with pytest.raises(ManifestError, match=r"Expected: .*Got: "):
        build_manifest(layout, root, out)
    assert not out.exists()


def test_nothing_usable_says_why(root: Path, out: Path) -> None:
    image(root / "hapy" / "a.png", 1)
    with pytest.raises(ManifestError, match=r"1 rows \(unknown_label 1; the first: hapy/a.png: Did you mean 'happy'"):
        build_manifest("folder", root, out)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a,b\n1,2\n", "no column for the path or for the label"),
        (b"path,label\n\xff,happy\n", "not UTF-8 text. Where: .*faces.csv, line 2"),
        (zipped("faces/happy/1.jpg"), "An archive is not read. Where: .*faces.csv. Unpack it"),
        (zipped("xl/workbook.xml"), "An Excel workbook is no text table. Where: .*faces.csv. Save it as"),
        (b"tar" * 34 + b"\xff" * 8, "not UTF-8 text"),
        (b"", "an empty file"),
        (b'path,label\n"' + b"x" * 200_000 + b'",a\n', "not CSV: field larger than field limit .*line 2"),
    ],
)
def test_tables_that_are_none(root: Path, out: Path, content: bytes, message: str) -> None:
    root.mkdir()
    (root / "faces.csv").write_bytes(content)
    with pytest.raises(ManifestError, match=message):
        build_manifest("csv", root, out)


def test_fer2013_table_without_a_column(root: Path, out: Path) -> None:
    root.mkdir()
    (root / "fer2013.csv").write_text("emotion,Usage\n1,Training\n")
    with pytest.raises(ManifestError, match=r"lacks a column.*fer2013\.csv, line 1.*Got: emotion,Usage"):
        build_manifest("fer2013", root, out)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a//b/../c.png", "a/c.png"), ("./a.png", "a.png"), ("..", None), ("a/../../b", None), (" ", None)],
)
def test_relative_path(text: str, expected: str | None) -> None:
    assert relative_path(text, Path("/data")) == expected


def test_descriptors_that_come_along_are_complete() -> None:
    for name, descriptor in load_descriptors().items():
        assert descriptor.name == name and descriptor.title and descriptor.source and descriptor.licence
        assert all(get_reader(form.reader) for form in descriptor.forms)


def test_published_counts_have_the_published_sums() -> None:
    totals = {
        (name, form.reader, variant, split): sum(row.values())
        for name, descriptor in load_descriptors().items()
        for form in descriptor.forms
        for variant, counts in {"": form.counts, **form.variant_counts}.items()
        for split, row in counts.items()
    }
    assert totals == {
        ("rafdb", "table", "", "train"): 12271,
        ("rafdb", "table", "", "test"): 3068,
        ("rafdb", "folder", "", "train"): 12271,
        ("rafdb", "folder", "", "test"): 3068,
        ("rafdb-compound", "table", "", "all"): 3954,
        ("affectnet", "arrays", "", "train"): 287651,
        ("affectnet", "arrays", "", "test"): 3999,
        ("affectnet", "table", "", "train"): 287651,
        ("affectnet", "table", "", "test"): 4000,
        ("fer2013", "pixels", "", "train"): 28709,
        ("fer2013", "pixels", "", "val"): 3589,
        ("fer2013", "pixels", "", "test"): 3589,
        ("fer2013", "folder", "", "train"): 28709,
        ("fer2013", "folder", "", "test"): 7178,
        ("ckplus", "sequences", "apex", "all"): 327,
        ("ckplus", "sequences", "apex3+neutral", "all"): 4 * 327,
        ("expw", "table", "", "all"): 91793,
        ("jaffe", "names", "", "all"): 213,
        ("kdef", "names", "straight", "all"): 980,
        ("kdef", "names", "all", "all"): 4900,
    }


HEAD = 'name = "x"\ntitle = "X"\nsource = "s"\nlicence = "l"\n'
FORM = '[[forms]]\nreader = "folder"\nlooks_for = "f"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = ", "not TOML"),
        (HEAD, r"no \[\[forms\]\]"),
        (HEAD + "lables = 1\n" + FORM, "Unknown key 'lables'.*Did you mean 'labels'"),
        (FORM, "lacks a key"),
        (HEAD + '[labels]\n0 = "hapiness"\n' + FORM, "Unknown expression 'hapiness'"),
        (HEAD + '[splits]\na = "tset"\n' + FORM, "Unknown split 'tset'"),
        (HEAD + FORM + 'split_pattern = "("\n', "not a regular expression"),
        (HEAD + FORM + 'subject_pattern = "a"\n', "has no group"),
        (HEAD + '[[forms]]\nreader = "names"\nlooks_for = "f"\npattern = "(a)"\n', "no group for the label"),
        (HEAD + FORM + "[forms.variant_counts.a.all]\nfear = 1\n", "Unknown variant 'a'"),
        (HEAD + FORM + '[forms.parts]\na = "tset"\n', "Unknown split 'tset'"),
        (HEAD + FORM + "[forms.counts.al]\nfear = 1\n", "Unknown split 'al'"),
    ],
)
def test_malformed_descriptors(text: str, message: str) -> None:
    with pytest.raises(ManifestError, match=message):
        parse_descriptor(text, "x.toml")


def test_registries_refuse_duplicates_and_suggest() -> None:
    with pytest.raises(ManifestError, match="described twice"):
        collect_descriptors({"a.toml": HEAD + FORM, "b.toml": HEAD + FORM})
    with pytest.raises(ManifestError, match="registered already"):
        register_reader("folder", FolderReader())
    with pytest.raises(ManifestError, match=r"Unknown layout 'rafd'.*Did you mean 'rafdb'"):
        get_descriptor("rafd")
    with pytest.raises(ManifestError, match="Unknown layout reader"):
        get_reader("tabel")
