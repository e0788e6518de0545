"""The commands as functions: what is measured of runs, shown of pictures, and compared of networks."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aupipe.fer_data.errors import UserInputError
from aupipe.fer_data.folders import EXPLANATION, check_output
from aupipe.fer_data.shards import Store
from aupipe.fer_data.types import Progress
from aupipe.progress import shown_progress
from aupipe.stages import PathLike, store_place

if TYPE_CHECKING:
    from aupipe.fer_analysis.comparison.map_comparison import MapComparison
    from aupipe.fer_analysis.comparison.run import ExternalModel
    from aupipe.fer_analysis.evaluation import Evaluation
    from aupipe.fer_analysis.explain.run import ExplainReport
    from aupipe.fer_analysis.study import StudyReport
    from aupipe.runs import Run


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
    occlude: bool = False,
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
        estimate: What another program says of them, by file, sequence or person: a table such as
            ``aupipe landmarks --export csv`` writes.
        occlude: Also name the faces with their eyes, and with their mouth, hidden.
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

    place, shown = None if store is None else store_place(store), shown_progress(progress)
    codes, estimated, folder = (None if path is None else Path(path) for path in (aus, estimate, maps))
    more: dict[str, Any] = {"aus": codes, "estimate": estimated, "maps": folder, "occlude": occlude}
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

    if every is not None and every < 1:
        raise UserInputError(f"every must be 1 or more, and is {every}: each so-manieth frame of a video.")
    if out is None and video_out is None:
        raise UserInputError("Give a folder for the page (out), a file for an annotated video (video_out), or both.")
    source = open_source(Path(path), (5 if video_out is None else 1) if every is None else every)
    file, folder, video = (None if one is None else Path(one) for one in (model, out, video_out))
    if video is not None:
        check_film(source, video)
    if folder is not None:
        check_output(folder, EXPLANATION)
    if detector is not None:
        create_detector(detector, file).close()
    opened = open_run(
        _run_folder(run),
        store_folder=None if store is None else store_place(store),
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
    place = None if store is None else store_place(store)
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
    return run_study(
        store_place(store), Path(out), request, jobs=jobs, threads=threads, progress=shown_progress(progress)
    )


def _run_folder(run: Run | PathLike) -> Path:
    return Path(run) if isinstance(run, str | os.PathLike) else run.folder
