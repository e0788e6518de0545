"""The commands as functions: from a manifest to landmarks, a store, a run, and what is measured and shown of it.

Where a command and a function have the same option, it has the same name and default, but for ``workers``: 0 here, so
that a script needs no ``if __name__ == "__main__"``. What a call finished is kept, and the same call continues there.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aupipe.fer_data.action_units.modes import AuMissing, AuMode
from aupipe.fer_data.au_maps.codebook import Codebook, load_codebook
from aupipe.fer_data.errors import UserInputError, unknown_name
from aupipe.fer_data.folders import EXPLANATION, check_output
from aupipe.fer_data.manifest import Manifest, read_manifest
from aupipe.fer_data.shards import Store, open_store
from aupipe.fer_data.types import Progress
from aupipe.pipeline.executors import create_executor
from aupipe.pipeline.landmarks.work import FinishedWork, open_work
from aupipe.progress import shown_progress

if TYPE_CHECKING:
    from aupipe.fer_analysis.comparison.map_comparison import MapComparison
    from aupipe.fer_analysis.comparison.run import ExternalModel
    from aupipe.fer_analysis.evaluation import Evaluation
    from aupipe.fer_analysis.explain.run import ExplainReport
    from aupipe.fer_analysis.study import StudyReport
    from aupipe.fer_models.training.run_log import TrainReport
    from aupipe.runs import Run

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
        FolderInUseError: ``out`` belongs to another manifest.

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
    run_landmarks(rows, Path(out), config, create_executor(workers, scheduler, shown.note), shown)
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
    return run_training(_place(store), Path(out), config, shown_progress(progress))


def evaluate(
    run: Run | PathLike,
    *,
    store: Store | PathLike | None = None,
    split: str = "test",
    limit: int | None = None,
    batch_size: int | None = None,
    maps: PathLike | None = None,
    device: str = "auto",
    aus: PathLike | None = None,
    estimate: PathLike | None = None,
    progress: bool | Progress = False,
) -> Evaluation:
    """Measure a run's best checkpoint and write ``RUN/metrics.json``, ``RUN/predictions.csv`` and figures.

    Those of another split than test, or of its first rows, go to a folder of their own, such as ``RUN/evaluation-val``.

    Args:
        run: What :func:`load_run` gives, or the run's folder.
        store: Another store. None: the one it was trained on.
        split: ``train``, ``val`` or ``test``.
        limit: Only the first rows, which lie in hash order.
        batch_size: Images at once. None: as in training.
        maps: Folder of maps made elsewhere, ``SAMPLE_ID.npy`` or ``.png``, that are measured in the place of the CAM.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        aus: Action units that were coded on the faces, to compare the attention with: a manifest with the column
            ``aus``, a table that names faces, or ``annotated``: those that the store carries.
        estimate: What another program says of them, by ``sample_id``: a table such as ``aupipe landmarks --export csv``
            writes.
        progress: True shows a bar on stderr.

    Returns:
        The figures (``content``; ``docs/evaluation.md`` says what they mean). ``to_pandas()`` gives them face by face,
        ``against(other_run)`` compares two evaluated runs.

    Raises:
        ManifestError: The action units cannot be read, or none of these faces has any.
        RunError: There is no such run, or its classes are not the store's.
        StoreError: The store cannot be read, or has no such split.

    Example:
        >>> result = aupipe.evaluate("run")
        >>> result.content["n"], sorted(result.to_pandas()["label"].unique())[:3]
        (7, ['anger', 'disgust', 'fear'])
    """
    from aupipe.fer_analysis.evaluation import evaluate as run_evaluation

    place, shown = None if store is None else _place(store), shown_progress(progress)
    codes, estimated, folder = (None if path is None else Path(path) for path in (aus, estimate, maps))
    more: dict[str, Any] = {"aus": codes, "estimate": estimated, "maps": folder}
    return run_evaluation(_run_folder(run), place, split, limit, device, shown, batch_size, **more)


def explain(
    run: Run | PathLike,
    path: PathLike,
    out: PathLike | None = None,
    *,
    video_out: PathLike | None = None,
    faces: str = "auto",
    every: int | None = None,
    layer: int | None = None,
    method: str | None = None,
    method_options: str = "",
    store: Store | PathLike | None = None,
    detector: str | None = None,
    model: PathLike | None = None,
    device: str = "auto",
    progress: bool | Progress = False,
) -> ExplainReport:
    """Explain photos or a video: expression, confidence, and which action units the network looked at.

    Writes ``OUT/index.html``, ``OUT/faces.csv``, ``OUT/failures.csv``, and a PNG and a JSON file per face. For arrays
    instead of files there is :func:`load_run`.

    Args:
        run: What :func:`load_run` gives, or the run's folder.
        path: A photo, a folder of photos, a manifest or a video.
        out: Folder for the page, the table and the files of each face. None: only the annotated video is written.
        video_out: A file for the frames of a video with what was seen in them: ``.mp4`` or ``.avi``. It is
            never written over another one.
        faces: Which face of a picture is meant, as in :func:`detect_landmarks`; ``all``: every one.
        every: Of a video, each N-th frame. None: 5, or with ``video_out`` 1.
        layer: Whose attention is shown. None: the deepest.
        method: Read the CAM out as another method with the same training.
        method_options: That method's settings.
        store: Where the run's store is now, if it was moved.
        detector: Another landmark detector. None: the store's.
        model: The detector's model file, if not found by itself.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        progress: True shows a bar on stderr.

    Returns:
        What was explained, what was left out, and the files that were written.

    Raises:
        UserInputError: There is nothing to explain, or an option that cannot be used.
        RunError: There is no such run, or nobody knows any more how its photos were prepared.

    Example:
        >>> report = aupipe.explain("run", "faces/test/fear", "explained")
        >>> report.pictures, report.faces
        (1, 1)
    """
    from aupipe.fer_analysis.explain import check_film, open_run, open_source
    from aupipe.fer_analysis.explain import explain as run_explain
    from aupipe.pipeline.detectors import create_detector
    from aupipe.pipeline.isolated_photos import IsolatedPreparer

    if out is None and video_out is None:
        raise UserInputError("Give a folder for the page (out), a file for an annotated video (video_out), or both.")
    source = open_source(Path(path), every or (5 if video_out is None else 1))
    file, folder, video = (None if one is None else Path(one) for one in (model, out, video_out))
    if video is not None:
        check_film(source, video)
    if folder is not None:
        check_output(folder, EXPLANATION)
    if detector is not None:
        create_detector(detector, file).close()
    opened = open_run(
        _run_folder(run),
        store_folder=None if store is None else _place(store),
        layer=layer,
        method=method,
        method_options=method_options,
        device=device,
    )
    preparer = IsolatedPreparer(opened.preparation, detector=detector, model=file, faces=faces)
    with contextlib.closing(preparer):
        return run_explain(opened, source, folder, preparer, shown_progress(progress), preparer.notes, video)


def compare(
    runs: Sequence[Run | PathLike],
    out: PathLike,
    *,
    maps: PathLike | None = None,
    masks: str | None = None,
    shape: str | None = None,
    store: Store | PathLike | None = None,
    split: str = "test",
    images: int = 100,
    select: str = "correct",
    explainer: str = "lime",
    samples: int = 1000,
    batch_size: int = 64,
    resamples: int = 200,
    seed: int = 0,
    device: str = "auto",
    models: Sequence[ExternalModel] = (),
    progress: bool | Progress = False,
) -> MapComparison:
    """Compare networks by one explanation map per network and expression: with masks, and with one another.

    Writes ``OUT/results.md``, tables and figures.

    Args:
        runs: Folders of runs, or what :func:`load_run` gives; their maps are made first. Empty with ``maps``.
        out: Folder of the results.
        maps: Compare the maps of this folder, ``NETWORK_EXPRESSION.png``, instead of making them.
        masks: ``study``, ``codebook``, or a folder. None: study; with ``maps``: those beside them.
        shape: Canonical face, ``own`` or ``uib``. None: own; with ``maps``: none.
        store: Faces to explain. None: the first run's store.
        split: ``train``, ``val`` or ``test``.
        images: Faces an expression.
        select: Which faces: ``correct``, ``predicted`` or ``labelled``.
        explainer: ``lime``, ``occlusion``, ``rise``, ``cam`` or ``attention``.
        samples: Of LIME and RISE, a face.
        batch_size: Perturbed images at once.
        resamples: For intervals over faces; 0: none.
        seed: Of selection and perturbation.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        models: Other torch classifiers to compare with.
        progress: True shows a bar on stderr.

    Returns:
        Everything that the report shows: maps, masks, scores, trees of similarity.

    Raises:
        UserInputError: Neither runs nor maps, both, or an option that cannot be used.
        RunError: There is no such run.
        StoreError: The store cannot be read.

    Example:
        >>> compared = aupipe.compare(["run"], "compared", explainer="cam", images=1, select="labelled", resamples=0)
        >>> compared.maps.networks, compared.maps.maps.shape
        (('run',), (1, 6, 275, 224))
    """
    from aupipe.fer_analysis.comparison.map_maker import MapOptions
    from aupipe.fer_analysis.comparison.run import compare_folder, compare_networks

    if (maps is not None) == bool(runs or models):
        raise UserInputError("Give either runs (or models), or maps.")
    if maps is not None:
        return compare_folder(Path(maps), masks, Path(out), shape=shape)
    options = MapOptions(
        explainer=explainer,
        images=images,
        select=select,
        split=split,
        samples=samples,
        seed=seed,
        shape=shape or "own",
        masks=masks or "study",
        device=device,
        batch=batch_size,
        resamples=resamples,
    )
    folders = [_run_folder(run) for run in runs]
    place = None if store is None else _place(store)
    return compare_networks(folders, place, Path(out), options, models, shown_progress(progress))


def study(
    store: Store | PathLike,
    out: PathLike,
    *,
    networks: str | Sequence[str] = "all",
    folds: int = 5,
    images: int = 100,
    samples: int = 1000,
    weights_from: str = "hub",
    select: str = "predicted",
    least: int = 30,
    explainer: str = "lime",
    masks: str = "study",
    shape: str = "own",
    epochs: int | None = None,
    input_size: int | None = None,
    batch_size: int = 128,
    align_weight: float = 0.0,
    jobs: int | None = None,
    threads: int | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: bool | Progress = False,
) -> StudyReport:
    """Train, explain and compare many networks: one map per network and expression, over folds of persons.

    Writes ``OUT/index.html``, ``OUT/results.md``, tables and figures. The same call continues what was interrupted.

    Args:
        store: What :func:`open_store` gives, a folder, or a URL.
        out: Folder of the study.
        networks: ``all`` (the study's twelve), or names: ``NAME``, ``NAME:pretrained``, ``NAME:scratch``.
        folds: Parts of the persons.
        images: Faces an expression and fold.
        samples: Of LIME and RISE, a face.
        weights_from: Pretrained weights: a folder of files, ``hub`` for timm's, or ``none``.
        select: Which faces: ``correct``, ``predicted`` or ``labelled``.
        least: Explained faces of all folds from which a map counts.
        explainer: ``lime``, ``occlusion``, ``rise``, ``cam`` or ``attention``.
        masks: ``study``, ``codebook``, or a folder.
        shape: Canonical face, ``own`` or ``uib``.
        epochs: Of every network. None: each one's own.
        input_size: Side to which faces are scaled, of every network. None: each one's own.
        batch_size: Images a training step.
        align_weight: Guidance by AU maps; the study has none.
        jobs: Processes. None: one a core, 4 at most; one a GPU.
        threads: Of each process. None: cores / jobs.
        seed: Of weights, order, selection and perturbation.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        progress: True shows a bar on stderr.

    Returns:
        The comparison with its scores, what failed, and whether pretrained networks stand apart.

    Raises:
        UserInputError: A network, or an option, that cannot be used.
        RunError: No network could be compared.
        StoreError: The store cannot be read.

    Example:
        >>> small = dict(folds=2, images=1, least=1, epochs=1, batch_size=8, input_size=48, explainer="cam")
        >>> done = aupipe.study("store", "study", networks="test_resnet", select="labelled", jobs=1, **small)
        >>> done.failed, done.comparison.maps.networks
        ({}, ('test_resnet',))
    """
    from aupipe.fer_analysis.comparison.map_maker import MapOptions
    from aupipe.fer_analysis.study import make_request, run_study

    options = MapOptions(
        explainer=explainer,
        images=images,
        select=select,
        samples=samples,
        seed=seed,
        shape=shape,
        masks=masks,
        device=device,
        resamples=0,
    )
    request = make_request(
        networks if isinstance(networks, str) else ",".join(networks),
        weights_from=weights_from,
        epochs=epochs,
        input_size=input_size,
        maps=options,
        folds=folds,
        least=least,
        batch_size=batch_size,
        align_weight=align_weight,
    )
    return run_study(_place(store), Path(out), request, jobs=jobs, threads=threads, progress=shown_progress(progress))


def _place(store: Store | PathLike) -> Path | str:
    """Return a store's folder or URL, which is opened after everything else was checked."""
    return store.place if isinstance(store, Store) else store if isinstance(store, Path) else os.fspath(store)


def _run_folder(run: Run | PathLike) -> Path:
    return Path(run) if isinstance(run, str | os.PathLike) else run.folder
