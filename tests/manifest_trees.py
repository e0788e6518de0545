"""Every dataset layout as a small tree of generated images, for the tests of the manifests."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from aupipe.fer_data.manifest import read_manifest


def image(path: Path, value: int) -> Path:
    """A small picture whose bytes depend on ``value``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(value).integers(0, 256, (6, 6), np.uint8)
    suffix = ".jpg" if path.suffix.lower() == ".jpg" else path.suffix
    path.write_bytes(cv2.imencode(suffix, pixels)[1].tobytes())
    return path


def points(value: int) -> np.ndarray:
    """68 points of no particular face, exact as text."""
    return np.random.default_rng(value).integers(0, 2000, (68, 2)).astype(np.float32) / 8


def problems(out: Path) -> list[tuple[str, str, str, str]]:
    """``(where, path, source_label, reason)`` of each listed problem."""
    with out.with_suffix(".problems.csv").open(newline="", encoding="utf-8") as file:
        return [(r["where"], r["path"], r["source_label"], r["reason"]) for r in csv.DictReader(file)]


def labels_of(out: Path) -> dict[str, tuple[str, str]]:
    """``{sample_id: (label, split)}`` of a manifest."""
    return {sample.sample_id: (sample.label, sample.split) for sample in read_manifest(out).samples}


def rafdb(root: Path) -> Path:
    names = ["train_00001.jpg 5", "train_00002.jpg 4", "train_00003.jpg 4", "test_0001.jpg 7", "extra_1.jpg 1"]
    (root / "EmoLabel").mkdir(parents=True)
    image(root / "Image" / "aligned" / "extra_1_aligned.jpg", 99)
    (root / "EmoLabel" / "list_patition_label.txt").write_text("\n".join(names) + "\n")
    for number, line in enumerate(names[:4]):
        stem = line.split(".")[0]
        image(root / "Image" / "aligned" / f"{stem}_aligned.jpg", number)
        image(root / "Image" / "original" / f"{stem}.jpg", 10 + number)
    return root


def rafdb_compound(root: Path) -> Path:
    names = ["train_0001.jpg 1", "train_0002.jpg 11", "train_0003.jpg 4", "test_0001.jpg 10", "test_0002.jpg 12"]
    (root / "EmoLabel").mkdir(parents=True)
    (root / "EmoLabel" / "list_patition_label.txt").write_text("\n".join(names) + "\n")
    for number, line in enumerate(names):
        image(root / "Image" / "aligned" / f"{line.split('.')[0]}_aligned.jpg", number)
    return root


def affectnet_npy(root: Path) -> Path:
    """Five faces in train_set (one uncertain, one unreadable label), three in val_set; landmarks of three kinds."""
    for number, (part, label) in enumerate(
        [("train_set", np.array("1"))] * 3
        + [("train_set", np.array("9")), ("train_set", np.array([{}], object))]
        + [("val_set", np.array(7)), ("val_set", np.array([0.0])), ("val_set", np.array("6"))]
    ):
        image(root / part / "images" / f"{number}.jpg", number)
        (root / part / "annotations").mkdir(exist_ok=True)
        at = root / part / "annotations"
        np.save(at / f"{number}_exp.npy", label, allow_pickle=True)
        np.save(at / f"{number}_val.npy", np.array("0.5"))
        if number != 7:
            found = points(number).astype(np.float64)
            np.save(at / f"{number}_lnd.npy", found if number % 2 else found.ravel())
    return root


AFFECTNET_HEADER = (
    "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal"
)


def affectnet_csv(root: Path) -> Path:
    """Four training rows with a header (one without expression), two validation rows without."""
    lines = []
    for number, label in enumerate([1, 3, 8, 6, 0, 7]):
        path = f"{number % 2}/{number}a.jpg"
        image(root / "Manually_Annotated_Images" / path, number)
        text = ";".join(f"{value:g}" for value in points(number).ravel())
        lines.append(f"{path},{number},2,30,40,{text},{label},0.1,-0.2")
    (root / "training.csv").write_text("\n".join([AFFECTNET_HEADER, *lines[:4]]) + "\n")
    (root / "validation.csv").write_text("\n".join(lines[4:]) + "\n")
    return root


FER_ROWS = [(0, "Training"), (3, "Training"), (3, "PublicTest"), (6, "PrivateTest"), (9, "Training")]


def fer2013_csv(path: Path, header: str = "emotion,pixels,Usage") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    lines = [header]
    names = [name.strip() for name in header.split(",")]
    for label, usage in FER_ROWS:
        values = " ".join(map(str, rng.integers(0, 256, 48 * 48)))
        cells = {"emotion": str(label), "pixels": values, "Usage": usage}
        lines.append(",".join(cells[name] for name in names))
    bad = {"emotion": "3", "pixels": "1 2 3", "Usage": "Training"}
    lines.append(",".join(bad[name] for name in names))
    path.write_text("\n".join(lines) + "\n")
    return path


VOTES_HEADER = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
VOTES = [
    "Training,fer0000000.png,4,0,0,1,3,1,1,0,0,0",  # neutral: 4 of the 7 that are left
    "Training,fer0000001.png,0,0,0,0,0,0,0,10,0,0",
    "PublicTest,fer0000002.png,5,5,0,0,0,0,0,0,0,0",
    "PrivateTest,fer0000003.png,0,0,0,0,0,0,6,0,4,0",
    "Training,,0,0,0,0,0,0,0,0,0,10",
    "Training,fer0000005.png,0,0,0,0,0,0,6,0,4,0",  # fear, but its image is broken
]


def ferplus(root: Path) -> Path:
    fer2013_csv(root / "fer2013.csv")
    (root / "fer2013new.csv").write_text("\n".join([VOTES_HEADER, *VOTES]) + "\n")
    return root


def ckplus(root: Path, images: str = "cohn-kanade-images", labels: str = "Emotion", marks: str = "Landmarks") -> Path:
    """Four subjects with two sequences of five frames; S010/002 has no label, S011/002 an odd one."""
    numbers = iter(range(1000))
    for subject, sequence, label in [
        ("S005", "001", "   3.0000000e+00\n"),
        ("S005", "002", "   7.0000000e+00\n"),
        ("S010", "001", "   1.0000000e+00\n"),
        ("S010", "002", ""),
        ("S011", "001", "   2.0000000e+00\n"),
        ("S011", "002", "about 3\n"),
        ("S014", "001", "   5.0000000e+00\n"),
        ("S014", "003", "   4.0000000e+00\n"),
    ]:
        stems = [f"{subject}_{sequence}_{frame:08d}" for frame in range(1, 6)]
        for stem in stems:
            image(root / images / subject / sequence / f"{stem}.png", next(numbers))
        (root / labels / subject / sequence).mkdir(parents=True)
        if label:
            (root / labels / subject / sequence / f"{stems[-1]}_emotion.txt").write_text(label)
        at = root / marks / subject / sequence
        at.mkdir(parents=True)
        text = "".join(f"   {x:.7e}   {y:.7e}\n" for x, y in points(next(numbers)))
        (at / f"{stems[-1]}_landmarks.txt").write_text(text if sequence != "003" else text[:-30])
    return root


def expw(root: Path) -> Path:
    lines = ["a_1.jpg 0 10 20 60 70 84.5 3", "a_1.jpg 1 10 120 160 70 60.1 6", "b_2.jpg 0 5 6 3 9 9.0 0"]
    lines += ["b_2.jpg 1 0 0 40 40 12.0 0", "c_3.jpg 0 1 1 5 5 30.0 7", "d_4.jpg 0 1 1 5 5 30.0 5"]
    (root / "label").mkdir(parents=True)
    (root / "label" / "label.lst").write_text("\n".join(lines) + "\n")
    for number, name in enumerate(["a_1", "b_2", "c_3"]):
        image(root / "image" / "origin" / f"{name}.jpg", number)
    return root


def jaffe(root: Path) -> Path:
    number = 0
    for subject in ("KA", "KL", "KM", "KR", "MK"):
        for label in ("AN1", "DI2", "FE3", "HA1", "NE2", "SA1", "SU3"):
            number += 1
            image(root / f"{subject}.{label}.{number}.tiff", number)
    image(root / "montage.tiff", 500)
    (root / "README").write_text("x")
    return root


def kdef(root: Path) -> Path:
    number = 0
    for person in ("F01", "F02", "M01", "M02"):
        for session in "AB":
            for label in ("AF", "AN", "DI", "HA", "NE", "SA", "SU"):
                for angle in ("S", "HL"):
                    number += 1
                    image(root / f"{session}{person}" / f"{session}{person}{label}{angle}.JPG", number)
    image(root / "AF01" / "AF01V.JPG", 9999)
    return root


def legend(root: Path) -> Path:
    rows = [("Ann_Lee_0001.jpg", "happiness"), ("Ann_Lee_0002.jpg", "SADNESS"), ("Bo12.jpg", "anger")]
    for number, (name, _) in enumerate(rows):
        image(root / "images" / name, number)
    (root / "data").mkdir()
    text = "".join(f"302,{name},{label}\r\n" for name, label in rows)
    (root / "data" / "legend.csv").write_text("user.id,image,emotion\r\n" + text, newline="")
    return root


def folder(root: Path) -> Path:
    for number, name in enumerate(["Happy/a", "Happy/b", "sad/c", "fearful/d"]):
        image(root / "train" / f"{name}.png", number)
    image(root / "test" / "Happy" / "e.png", 9)
    return root


def table(root: Path) -> Path:
    """A CSV with landmarks in columns and a box in one column; the last row has no landmarks."""
    names = [f"{axis}{number}" for number in range(68) for axis in "xy"]
    lines = [f"path,label,subject,bbox,{','.join(names)}"]
    for number, label in enumerate(["happy", "sad", "fear", "joyless"]):
        image(root / "img" / f"{number}.png", number)
        cells = [f"{value:g}" for value in points(number).ravel()] if number != 2 else [""] * 136
        lines.append(f"img/{number}.png,{label},p{number},0 0 {number + 2} 5,{','.join(cells)}")
    (root / "faces.csv").write_text("\n".join(lines) + "\n")
    return root


@dataclass(frozen=True)
class Tree:
    """A layout's tree, and what building its manifest must give."""

    layout: str
    make: Callable[[Path], Path]
    rows: int
    problems: dict[str, int]
    landmarks: int = 0
    subjects: int = 0
    variant: str | None = None

    @property
    def samples(self) -> int:
        files = ("unlisted_file", "not_an_image_name")
        return self.rows - sum(n for reason, n in self.problems.items() if reason not in files)


TREES = {
    "rafdb": Tree("rafdb", lambda root: rafdb(root / "basic"), 5, {"bad_row": 1}),
    "rafdb-compound": Tree("rafdb-compound", lambda root: rafdb_compound(root / "compound"), 5, {"unknown_label": 1}),
    "rafdb-compound-base": Tree("rafdb-compound", rafdb_compound, 5, {"unknown_label": 1}),
    "affectnet-npy": Tree("affectnet", affectnet_npy, 8, {"bad_row": 1, "dropped_label": 1}, landmarks=5),
    "affectnet-csv": Tree("affectnet", affectnet_csv, 6, {"dropped_label": 1}, landmarks=5),
    "fer2013": Tree("fer2013", lambda root: fer2013_csv(root / "fer2013.csv"), 6, {"bad_row": 1, "unknown_label": 1}),
    "icml": Tree(
        "fer2013",
        lambda root: fer2013_csv(root / "icml_face_data.csv", "emotion, Usage, pixels"),
        6,
        {"bad_row": 1, "unknown_label": 1},
    ),
    "ferplus": Tree("ferplus", ferplus, 6, {"bad_row": 1, "dropped_label": 1, "no_majority": 1}),
    "ckplus": Tree("ckplus", ckplus, 8, {"bad_row": 1, "no_label": 1}, landmarks=5, subjects=4),
    "ckplus-apex3": Tree(
        "ckplus", ckplus, 26, {"bad_row": 1, "no_label": 1}, landmarks=5, subjects=4, variant="apex3+neutral"
    ),
    "ckplus-folders": Tree(
        "ckplus",
        lambda root: ckplus(
            root, "extended-cohn-kanade-images/cohn-kanade-images", "Emotion_labels/Emotion", "Landmarks/Landmarks"
        ),
        8,
        {"bad_row": 1, "no_label": 1},
        landmarks=5,
        subjects=4,
    ),
    "expw": Tree("expw", expw, 6, {"bad_row": 1, "missing_file": 1, "unknown_label": 1}),
    "jaffe": Tree("jaffe", jaffe, 35, {"unlisted_file": 1}, subjects=5),
    "kdef": Tree("kdef", kdef, 112, {"not_chosen": 56, "unlisted_file": 1}, subjects=4),
    "kdef-all": Tree("kdef", kdef, 112, {"unlisted_file": 1}, subjects=4, variant="all"),
    "legend": Tree("legend", legend, 3, {}, subjects=2),
    "folder": Tree("folder", folder, 5, {}),
    "csv": Tree("csv", table, 4, {"unknown_label": 1}, landmarks=2, subjects=3),
}
