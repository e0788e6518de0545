"""One of everything the program writes or reads, small: what the attacks are made on. Every path is relative."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import cv2
import numpy as np
import safetensors.torch
import torch

from aupipe.fer_data.au_maps.mean_face import mean_face
from aupipe.fer_data.manifest import read_manifest, write_manifest
from aupipe.fer_data.types import Sample
from aupipe.fer_models.backbones.create import create_backbone
from aupipe.pipeline.detectors.model_file import find_model
from fuzz.calls import aupipe
from manifest_trees import TREES, image
from own_codebook import GAUSSIAN
from planted_models import mouth_reader

SIDE, COUNT = 64, 18
LABELS = ("anger", "happiness", "neutral")
SPLITS = ("train", "val", "test")
FORMATS = ("png", "jpg", "bmp", "webp", "gif")
TRAIN = ("--backbone", "test_resnet", "--epochs", 1, "--batch-size", 2, "--crop-size", 40, "--device", "cpu")
COMPARE = ("--explainer", "cam", "--images", 1, "--select", "labelled", "--resamples", 0, "--device", "cpu")
LAYOUTS = ("rafdb", "affectnet-npy", "affectnet-csv", "fer2013", "ferplus", "ckplus", "expw", "jaffe", "kdef", "csv")
"""Datasets as they lie on people's disks: the trees of the manifest's tests."""


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Work in ``folder``, so that results do not depend on where it lies."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def done(*words: object) -> None:
    said = aupipe(*words)
    assert said.code == 0 and not said.traceback, (words, said)


def build_scene(folder: Path) -> None:
    """Fill an empty folder."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with inside(folder):
        for build in (_photos, _data, _runs, _inputs):
            build()


def _photos() -> None:
    """Faces of three expressions in five file formats, with points; every third in another split."""
    rng, samples = np.random.default_rng(0), list[Sample]()
    points = np.zeros((COUNT, 68, 2), np.float32)
    Path("faces").mkdir()
    for number in range(COUNT):
        label, split = LABELS[number % 3], SPLITS[number // 3 % 3]
        name = f"{number:02d}.{FORMATS[number % len(FORMATS)]}"
        pixels = rng.integers(60, 90, (SIDE, SIDE, 3), np.uint8) + np.uint8(40 * (number % 3))
        assert cv2.imwrite(f"faces/{name}", pixels)
        points[number] = mean_face(SIDE) + rng.normal(0, 0.5, (68, 2))
        samples.append(Sample(f"s{number:02d}", name, label, label, split, landmarks_row=number))
    write_manifest(Path("m.csv"), samples, root=Path("faces"), layout="folder", landmarks=points)


def _data() -> None:
    done("landmarks", "m.csv", "--out", "work", "--detector", "dataset", "--workers", 0)
    size = ("--image-size", 48, "--map-size", 16, "--rows-per-shard", 4, "--workers", 0)
    done("build-maps", "work", "--out", "store", *size)
    done("build-maps", "work", "--out", "jpeg", "--encoding", "jpeg", *size)
    done("landmarks", "m.csv", "--out", "part", "--detector", "dataset", "--faces", "largest", "--workers", 0)
    done("export", "store", "--to", "webdataset", "--out", "tars")


def _runs() -> None:
    samples = read_manifest(Path("m.csv")).samples[::9]
    write_manifest(Path("two.csv"), samples, root=Path("faces"), layout="folder", landmarks=Path("m.landmarks.npy"))
    for name, seed in (("run", 0), ("other", 1)):
        done("train", "store", "--out", name, "--seed", seed, "--max-steps", 1, *TRAIN)
        done("evaluate", name, "--occlude", "--device", "cpu")
        done("faithfulness", name, "--device", "cpu", "--steps", 2)
        done("explain", name, "two.csv", "--out", f"explained-{name}", "--device", "cpu")
    for weight in (0, 4):  # what `aupipe benchmark` leaves
        folder = f"grid/runs/cam-test_resnet-w{weight}-s0"
        done("train", "store", "--out", folder, "--align-weight", weight, "--max-steps", 1, *TRAIN)
        done("evaluate", folder, "--device", "cpu")
    done("compare", "run", "other", "--out", "compared", *COMPARE)


def _inputs() -> None:
    """What people bring: codebook, weights, a video, maps and masks, label maps, datasets in every layout."""
    folder = Path("inputs")
    folder.mkdir()
    (folder / "mine.toml").write_text(GAUSSIAN.replace("happiness = [12]", "happiness = [12]\nanger = [12]"))
    (folder / "codes.csv").write_text("file,AU01_r,AU12_r,AU12_c\n0.png,0.1,2.5,1\n1.png,1.2,0,0\n2.png,0,0,0\n")
    (folder / "labels.txt").write_text("happy=happiness\nsad=sadness\n")
    shutil.copy(find_model(), folder / "face.task")
    for name in ("kdef.toml", "ckplus.toml"):
        (folder / name).write_bytes(files("aupipe.manifests").joinpath(name).read_bytes())
    torch.manual_seed(0)
    for name, network in (("backbone", create_backbone("test_resnet").body), ("mouth", mouth_reader(3))):
        torch.save(network.state_dict(), folder / f"{name}.pt")
        safetensors.torch.save_file(network.state_dict(), folder / f"{name}.safetensors")
    _video(folder / "clip.avi")
    rng = np.random.default_rng(1)
    for name in ("maps/One_Anger.png", "maps/Two_Anger.png", "masks/anger.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        assert cv2.imwrite(str(folder / name), rng.integers(0, 256, (24, 20), np.uint8))
    (folder / "given").mkdir()
    for number in range(COUNT):  # maps made elsewhere; every second as a picture
        values = rng.integers(0, 256, (20, 20), np.uint8)
        path = folder / "given" / f"s{number:02d}"
        assert cv2.imwrite(f"{path}.png", values) if number % 2 else np.save(f"{path}.npy", values / 8) is None
    for name in LAYOUTS:
        (folder / name).mkdir()
        TREES[name].make(folder / name)
    facs = folder / "ckplus" / "FACS" / "S005" / "001" / "S005_001_00000005_facs.txt"
    facs.parent.mkdir(parents=True)
    facs.write_text("   1.2000000e+01   3.0000000e+00\n   2.5000000e+01   0.0000000e+00\n")
    _yolo(folder / "yolo")


def _yolo(root: Path) -> None:
    """Images with label files, a form of the layout ``csv``."""
    for number, name in enumerate("abc"):
        image(root / "train" / "images" / f"{name}.png", 700 + number)
        (root / "train" / "labels").mkdir(exist_ok=True)
        (root / "train" / "labels" / f"{name}.txt").write_text(f"{number % 2} 0.5 0.5 0.6 0.6\n")
    (root / "data.yaml").write_text("nc: 2\nnames: ['anger', 'happiness']\n")


def _video(path: Path) -> None:
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 5, (SIDE, SIDE))
    for number in range(6):
        video.write(np.full((SIDE, SIDE, 3), 30 * number, np.uint8))
    video.release()
