"""The commands as functions: from a manifest to landmarks, a store and a run.

Where a command and a function have the same option, it has the same name and default, but for ``workers``: 0 here, so
that a script needs no ``if __name__ == "__main__"``. What a call finished is kept, and the same call continues there.
"""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aupipe.fer_data.action_units.modes import AuMissing, AuMode
from aupipe.fer_data.au_maps.codebook import Codebook, load_codebook
from aupipe.fer_data.errors import UserInputError, unknown_name
from aupipe.fer_data.manifest import Manifest, read_manifest
from aupipe.fer_data.shards import Store, open_store
from aupipe.fer_data.types import Progress
from aupipe.pipeline.executors import create_executor
from aupipe.pipeline.landmarks.work import FinishedWork, open_work
from aupipe.progress import shown_progress

if TYPE_CHECKING:
    from aupipe.fer_models.training.run_log import TrainReport

PathLike = str | os.PathLike[str]


def detect_landmarks(
    manifest: Manifest | PathLike,
    out: PathLike,
    *,
    detector: str = "mediapipe",
    model: PathLike | None = None,
    faces: str = "auto",
    mirror: bool = False,
    follow_links: bool = False,
    overwrite: bool = False,
    workers: int | None = 0,
    scheduler: str | None = None,
    progress: bool | Progress = False,
) -> FinishedWork:
    """Detect 68 facial landmarks for every image of a manifest.

    Args:
        manifest: What :func:`read_manifest` gives, or the path of a manifest.
        out: Work folder for the landmarks.
        detector: ``mediapipe``, ``dlib``, or ``dataset``: the points that ship with it.
        model: The detector's model file, if not found by itself.
        faces: Which face is meant where there are several: ``auto`` (the one in the manifest's box, or else the one
            that is large and near the middle), ``box`` (or else the largest), ``largest``, ``central``, or ``error``:
            none.
        mirror: Look at every face in the mirror image too, for twice the time.
        follow_links: Also take photos that links lead out of the manifest's root.
        overwrite: Replace finished landmarks that were found with other options.
        workers: At most so many processes on this machine; 0: in this process; None: one for each core it may use.
        scheduler: Address of a running Dask cluster to use instead, ``tcp://head:8786``.
        progress: True shows a bar on stderr.

    Returns:
        The finished work folder: ``rows()`` yields every image with its points or the reason why there are none,
        ``to_pandas()`` gives one table.

    Raises:
        UserInputError: An option that cannot be used, or a manifest without rows.
        ManifestError: The manifest cannot be read, or links lead photos out of its root.
        ModelFileError: The detector's model is not on this machine.
        FolderInUseError: ``out`` belongs to another manifest, or holds landmarks that were found with other options.

    Example:
        >>> work = aupipe.detect_landmarks("faces.csv", "work")
        >>> work
        landmarks of 42 images by mediapipe in work
        >>> work.to_pandas()["reason"].value_counts().to_dict()
        {'ok': 42}
    """
    from aupipe.pipeline.landmarks.faces import POLICIES
    from aupipe.pipeline.landmarks.run import run_landmarks
    from aupipe.pipeline.landmarks.tasks import LandmarkConfig

    if faces not in POLICIES:
        raise UserInputError(unknown_name("choice of faces", faces, list(POLICIES)))
    found = None if model is None else Path(model).resolve()
    config = LandmarkConfig(detector, found, faces, mirror, follow_links=follow_links)
    rows = manifest if isinstance(manifest, Manifest) else read_manifest(manifest)
    shown = shown_progress(progress)
    executor = create_executor(workers, scheduler, shown.note)
    run_landmarks(rows, Path(out), config, executor, shown, overwrite=overwrite)
    return open_work(Path(out))


def build_maps(
    work: FinishedWork | PathLike,
    out: PathLike,
    *,
    codebook: Codebook | PathLike = "default",
    aus: AuMode = "class",
    aus_missing: AuMissing = "fused",
    image_size: int = 256,
    map_size: int = 64,
    rows_per_shard: int = 2048,
    encoding: str = "raw",
    jpeg_quality: int = 95,
    images_from: PathLike | None = None,
    estimate: PathLike | None = None,
    overwrite: bool = False,
    workers: int | None = 0,
    scheduler: str | None = None,
    progress: bool | Progress = False,
) -> Store:
    """Build a store: crop the faces and draw the AU map of each one's expression, or of its own action units.

    Args:
        work: What :func:`detect_landmarks` gives, or its folder.
        out: Folder of the store.
        codebook: What :func:`load_codebook` gives, the name of a built-in one, or a TOML file.
        aus: The action units that are drawn: those of the label (``class``), those that people coded on the face
            (``annotated``), those estimated from its blendshapes (``estimated``), or label and estimate together
            (``fused``).
        aus_missing: With ``annotated``, the map of a face that nobody coded: ``fused``, ``class`` or ``none``.
        image_size: Side of the aligned crop in pixels.
        map_size: Side of the AU map in pixels.
        rows_per_shard: Faces in a file.
        encoding: Images as pixels (``raw``) or as ``jpeg``; ``auto``: pixels where they take at most half of the
            memory there is.
        jpeg_quality: 1 to 100.
        images_from: A store with the same crops, whose images are taken over: only the maps are drawn.
        estimate: A table in which OpenFace, LibreFace, py-feat or another program says which action units each face
            shows, to take in place of the blendshapes with ``estimated`` or ``fused``.
        overwrite: Replace a store that was built with other options.
        workers: At most so many processes on this machine; 0: in this process; None: one for each core it may use.
        scheduler: Address of a running Dask cluster to use instead.
        progress: True shows a bar on stderr.

    Returns:
        The store, as :func:`open_store` gives it. Images without a usable face stay out and are listed in
        ``OUT/failures.csv``.

    Raises:
        UserInputError: An option that cannot be used, or an expression that the codebook does not know.
        StoreError: The landmarks are not finished, or there is no face at all.
        FolderInUseError: ``out`` holds a store with other options.

    Example:
        >>> aupipe.build_maps("work", "store", image_size=96, map_size=24)
        Store store: 42 of 42 samples (train 28, val 7, test 7), images 96 x 96 raw, maps 24 x 24, codebook default
    """
    from aupipe.pipeline.maps.run import run_maps
    from aupipe.pipeline.maps.tasks import MapConfig

    chosen = codebook if isinstance(codebook, Codebook) else load_codebook(codebook)
    config = MapConfig(
        codebook=dict(chosen.content),
        aus=aus,
        aus_missing=aus_missing,
        image_size=image_size,
        map_size=map_size,
        rows_per_shard=rows_per_shard,
        encoding=encoding,
        jpeg_quality=jpeg_quality,
    )
    folder = work.folder if isinstance(work, FinishedWork) else Path(work)
    shown = shown_progress(progress)
    run_maps(
        folder.resolve(),
        Path(out).resolve(),
        config,
        create_executor(workers, scheduler, shown.note),
        shown,
        overwrite=overwrite,
        estimate=None if estimate is None else Path(estimate),
        images_from=None if images_from is None else Path(images_from).resolve(),
    )
    return open_store(Path(out))


def train(
    store: Store | PathLike, out: PathLike, *, preset: str = "", progress: bool | Progress = False, **settings: Any
) -> TrainReport:
    """Train a classifier on a store, guided by the AU maps.

    Args:
        store: What :func:`open_store` gives, a folder, or a URL.
        out: Folder of the run.
        preset: Published settings; those given beside it win.
        progress: True shows a bar on stderr.
        settings: The options of ``aupipe train``, listed below.

    Returns:
        What was done, and the figures of the best epoch.

    Raises:
        UserInputError: A setting that does not exist or that no run can use.
        RunError: The folder belongs to another run, there is no validation split, or the loss is not finite.
        StoreError: The store cannot be read.
        KeyboardInterrupt: Told to stop; the run is saved first.

    Example:
        >>> aupipe.train("store", "run", backbone="test_resnet", epochs=2, crop_size=80, batch_size=8, device="cpu")
        run: trained 2 epochs, 8 steps (8 now, ... s)
        kept epoch ...: validation accuracy ...%, cross-entropy ...
    """
    from aupipe.fer_models.training.config import TrainConfig
    from aupipe.fer_models.training.presets import preset_config
    from aupipe.fer_models.training.run import train as run_training

    known = [setting.name for setting in fields(TrainConfig)]
    for name in settings:
        if name not in known:
            raise UserInputError(unknown_name("setting", name, known))
    config = preset_config(preset, settings) if preset else TrainConfig(**settings)
    return run_training(store_place(store), Path(out), config, shown_progress(progress))


def store_place(store: Store | PathLike) -> Path | str:
    """Return a store's folder or URL, which is opened after everything else was checked."""
    return store.place if isinstance(store, Store) else store if isinstance(store, Path) else os.fspath(store)
