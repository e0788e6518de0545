"""Comparisons, as ``aupipe compare`` makes them: of maps that are there, or of networks whose maps it makes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from aupipe.fer_analysis.comparison.canonical import HEIGHT, WIDTH, canonical_face
from aupipe.fer_analysis.comparison.classifiers import Classifier, load_external, load_runs
from aupipe.fer_analysis.comparison.global_maps import GlobalMap
from aupipe.fer_analysis.comparison.map_comparison import ExtraTable, MapComparison, compare_maps
from aupipe.fer_analysis.comparison.map_files import read_maps
from aupipe.fer_analysis.comparison.map_maker import MapMaker, MapOptions, few_faces, map_set
from aupipe.fer_analysis.comparison.masks import canonical_masks, find_masks, masked_expressions
from aupipe.fer_analysis.comparison.report import write_comparison
from aupipe.fer_data.errors import UserInputError, paragraph
from aupipe.fer_data.folders import COMPARISON, output_folder
from aupipe.fer_data.shards import Store
from aupipe.fer_data.shards.preview import open_previewed, preview_store
from aupipe.fer_data.types import Progress, Silent
from aupipe.fer_models.devices import resolve_device
from aupipe.fer_models.training import measured_run, run_record


def compare_folder(
    maps_folder: Path, masks_from: str | None, out: Path, *, shape: str | None = None, pictures: bool = True
) -> MapComparison:
    """Compare anyone's maps.

    Args:
        maps_folder: The maps, in one of the layouts of :mod:`~aupipe.fer_analysis.comparison.map_files`.
        masks_from: ``study``, ``codebook``, or a folder of masks. None: the folder ``masks`` beside or inside the maps,
            if there is one.
        out: Folder for tables and figures.
        shape: The canonical face the maps lie on, for drawn masks and the in-face variant.
        pictures: Draw the figures as well as the tables.

    Returns:
        The comparison; without masks it has no scores.

    Raises:
        UserInputError: A folder holds nothing that can be used, or the maps do not lie on the canonical face.
    """
    maps = read_maps(maps_folder)
    beside = next((p for p in (maps_folder / "masks", maps_folder.parent / "masks") if p.is_dir()), None)
    wanted = masks_from or (str(beside) if beside is not None else None)
    face = canonical_face(shape) if shape is not None else None
    if face is not None and maps.maps.shape[2:] != (HEIGHT, WIDTH):
        raise UserInputError(
            paragraph(
                f"The maps do not lie on the canonical face {face.name!r}.",
                expected=f"{WIDTH} x {HEIGHT} pixels",
                got=f"{maps.maps.shape[3]} x {maps.maps.shape[2]}",
                fix="Leave out --shape.",
            )
        )
    masks = find_masks(wanted, face) if wanted is not None else None
    source = {"maps": str(maps_folder), "masks": wanted or "none", **({"canonical face": shape} if shape else {})}
    comparison = compare_maps(maps, masks, face.face if face is not None else None, source)
    with output_folder(out, COMPARISON):
        write_comparison(out, comparison, pictures=pictures)
    return comparison


@dataclass(frozen=True)
class ExternalModel:
    """Anyone's classifier: ``module:factory``, its weights, and how its images are prepared."""

    spec: str
    weights: Path | None = None
    input_size: int | None = None
    normalisation: str = "imagenet"


def compare_networks(
    runs: Sequence[Path],
    store_folder: Path | str | None,
    out: Path,
    options: MapOptions,
    externals: Sequence[ExternalModel] = (),
    progress: Progress | None = None,
    *,
    pictures: bool = True,
) -> MapComparison:
    """Make a global map per network and expression, then compare them.

    Finished maps are kept: the same call continues where it stopped.

    Args:
        runs: Folders of trained runs.
        store_folder: Faces to explain. None: the first run's store.
        out: Folder for maps, tables and figures.
        options: How to explain, and on which faces.
        externals: Anyone's classifiers to compare beside the runs.
        progress: Told of each face.
        pictures: Draw the figures as well as the tables.

    Returns:
        The comparison.

    Raises:
        UserInputError: A model, mask or setting that cannot be used, or no store.
        RunError: A run that cannot be loaded, or has other classes than the store.
        FolderInUseError: Another process works in ``out``.
        StoreError: The store is missing or damaged.
    """
    shown = progress or Silent()
    records = {run: run_record.load_record(run) for run in runs}
    place, fold = _find_store(records, store_folder)
    store = preview_store(place, fold)
    for run, record in records.items():
        measured_run.check_fold(run, record, store)
        measured_run.check_image_size(run, record, store)
        # The first run's store is the one to use where none is named.
        named = store_folder if store_folder is not None or run == next(iter(records)) else place
        measured_run.check_same_store(run, record, store, named, progress)
    store.split(options.split)
    face = canonical_face(options.shape)
    masks = canonical_masks(options.masks, face, store)
    classifiers = _load(runs, externals, store, options)
    names = masked_expressions(store.index.classes, masks)
    with output_folder(out, COMPARISON):
        store = open_previewed(place, store, progress)
        maker = MapMaker(store.split(options.split), face, masks, options, out / "maps", shown)
        found = {(one.name, name): maker.make(one, name) for one in classifiers for name in names}
        maps = map_set([one.name for one in classifiers], names, found, store.index.classes)
        source = _source(store, options, classifiers)
        table = _table(found)
        notes = few_faces(found, options.select)
        comparison = replace(compare_maps(maps, masks, face.face, source, (table,)), notes=notes)
        write_comparison(out, comparison, pictures=pictures)
    return comparison


def _find_store(records: Mapping[Path, run_record.RunRecord], folder: Path | str | None) -> tuple[Path | str, str]:
    """Find the store of the faces, and the fold that the runs leave for their test."""
    folds = {record.config.fold for record in records.values()}
    if len(folds) > 1:
        raise UserInputError(
            paragraph(
                "The runs were trained on different folds, so a face that one is tested on taught another.",
                got=", ".join(f"{run.name}: {record.config.fold or 'none'}" for run, record in records.items()),
                fix="Compare runs of one fold; `aupipe study` merges the maps of all folds.",
            )
        )
    if folder is None:
        if not records:
            raise UserInputError(paragraph("Which faces shall be explained?", fix="Give --store."))
        folder = measured_run.store_place(*next(iter(records.items())))
    return folder, next(iter(folds), "")


def _load(
    runs: Sequence[Path], externals: Sequence[ExternalModel], store: Store, options: MapOptions
) -> list[Classifier]:
    device, classes, size = resolve_device(options.device), store.index.classes, store.index.image_size
    loaded = load_runs(list(runs), classes, device)
    loaded += [
        load_external(
            other.spec,
            other.weights,
            len(classes),
            crop=size,
            input_size=other.input_size,
            normalisation=other.normalisation,
            device=device,
        )
        for other in externals
    ]
    specs = [other.spec for other in externals]
    for one, other in zip(loaded[len(runs) :], externals, strict=True):
        if other.weights is not None and specs.count(other.spec) > 1:
            one.name += f"-{other.weights.stem}"  # the same network with several weights
    for one in loaded:
        one.name = re.sub(r"[^\w.-]", "-", one.name)
        if one.crop > size:
            raise UserInputError(
                paragraph(
                    f"{one.name} was trained on larger crops than the store's images.",
                    expected=f"{one.crop} pixels",
                    got=size,
                    fix="Explain it on the store it was trained on.",
                )
            )
    names = [one.name for one in loaded]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        fix = "Rename the folders of runs, and the --weights files of models."
        raise UserInputError(paragraph(f"Several networks have the same name: {', '.join(twice)}.", fix=fix))
    return loaded


def _source(store: Store, options: MapOptions, classifiers: Sequence[Classifier]) -> dict[str, str]:
    return {
        "networks": "; ".join(one.description for one in classifiers),
        "store": f"{store.folder}, split {options.split}, digest {store.index.digest[:16]}",
        "faces": f"up to {options.images} an expression, {options.select}",
        "explainer": options.explainer_words,
        "canonical face": options.shape,
        "masks": options.masks,
    }


def _table(found: dict[tuple[str, str], GlobalMap | str]) -> ExtraTable:
    rows = []
    for (network, name), made in found.items():
        if isinstance(made, GlobalMap):
            fit = "" if made.fit is None else f"{made.fit:.4f}"
            interval = ["", ""] if made.interval is None else [f"{value:.4f}" for value in made.interval]
            rows.append((network, name, str(made.available), str(made.used), fit, *interval))
        else:
            rows.append((network, name, "0", "0", "", "", ""))
    header = ("network", "expression", "available", "used", "mean_r2", "iou_low", "iou_high")
    return ExtraTable(
        "faces", "Faces explained, fit of the surrogates, 95 % of the IoU over faces", header, tuple(rows)
    )
