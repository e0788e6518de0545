"""Comparisons, as ``aupipe compare`` makes them: of maps that are there, or of networks whose maps it makes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from aupipe.fer_analysis.comparison import masks as drawn_masks
from aupipe.fer_analysis.comparison.canonical import HEIGHT, WIDTH, CanonicalFace, canonical_face
from aupipe.fer_analysis.comparison.classifiers import Classifier, load_external, load_runs
from aupipe.fer_analysis.comparison.explainers import Explainer, Settings, create_explainer, explainer_name
from aupipe.fer_analysis.comparison.global_maps import (
    SELECTIONS,
    GlobalMap,
    choose_rows,
    explain_expression,
    load_map,
    predict,
    save_map,
)
from aupipe.fer_analysis.comparison.map_files import LeftOut, MapSet, MaskSet, read_maps, read_masks
from aupipe.fer_analysis.comparison.report import write_comparison
from aupipe.fer_analysis.comparison.study import ExtraTable, MapComparison, compare_maps
from aupipe.fer_data.errors import UserInputError, paragraph, unknown_name
from aupipe.fer_data.files import digest
from aupipe.fer_data.folders import COMPARISON, output_folder
from aupipe.fer_data.shards import SplitReader, Store
from aupipe.fer_data.shards.preview import open_previewed, preview_store
from aupipe.fer_data.types import Progress, Silent
from aupipe.fer_models.devices import resolve_device


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
    write_comparison(out, comparison, pictures=pictures)
    return comparison


def find_masks(wanted: str, face: CanonicalFace | None, store: Store | None = None) -> MaskSet:
    """Draw masks on a canonical face, or read them from a folder.

    Args:
        wanted: ``study``, ``codebook`` or a folder.
        face: The face to draw them on.
        store: Whose codebook ``codebook`` means. None: ours.

    Returns:
        A mask for each expression.

    Raises:
        UserInputError: They must be drawn and no face is known, or the folder cannot be used.
    """
    if wanted not in drawn_masks.MASK_KINDS:
        return read_masks(Path(wanted))
    if face is None:
        raise UserInputError(
            paragraph(
                f"The {wanted} masks are drawn on a canonical face, and which one the maps lie on is not known.",
                fix="Say it with --shape own or --shape uib, or give a folder of masks.",
            )
        )
    if wanted == "study":
        return drawn_masks.study_masks(face)
    from aupipe.fer_data.au_maps.codebook import load_codebook

    return drawn_masks.codebook_masks(face, store.codebook if store is not None else load_codebook("default"))


@dataclass(frozen=True)
class RunOptions:
    """Settings of a comparison of networks; the command's options say what they mean."""

    explainer: str = "lime"
    images: int = 100
    select: str = "correct"
    split: str = "test"
    samples: int = 1000
    seed: int = 0
    shape: str = "own"
    masks: str = "study"
    device: str = "auto"
    batch: int = 64
    resamples: int = 200

    def __post_init__(self) -> None:
        """Check the values. Raises :class:`UserInputError` for one that no comparison can use."""
        object.__setattr__(self, "explainer", explainer_name(self.explainer))
        if self.select not in SELECTIONS:
            raise UserInputError(unknown_name("selection", self.select, list(SELECTIONS)))
        for name, least in (("images", 1), ("samples", 2), ("batch", 1), ("resamples", 0)):
            if getattr(self, name) < least:
                raise UserInputError(paragraph(f"--{name} is too small.", expected=f"{least} or more"))


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
    options: RunOptions,
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
    place = _find_store(runs, store_folder)
    store = preview_store(place)
    store.split(options.split)
    face = canonical_face(options.shape)
    masks = find_masks(options.masks, face, store)
    classifiers = _load(runs, externals, store, options)
    names = [name for name in store.index.classes if name in masks.expressions]
    if not names:
        raise UserInputError(
            paragraph(
                "None of the store's classes has a mask.",
                expected=", ".join(masks.expressions),
                got=", ".join(store.index.classes),
            )
        )
    with output_folder(out, COMPARISON):
        store = open_previewed(place, store, progress)
        maker = _MapMaker(store.split(options.split), face, masks, options, out / "maps", shown)
        found = {(one.name, name): maker.make(one, name) for one in classifiers for name in names}
        maps = _map_set([one.name for one in classifiers], names, found, store)
        source = _source(store, options, classifiers)
        table = _table(found)
        comparison = compare_maps(maps, masks, face.face, source, (table,))
        write_comparison(out, comparison, pictures=pictures)
    return comparison


def _find_store(runs: Sequence[Path], folder: Path | str | None) -> Path | str:
    if folder is None:
        if not runs:
            raise UserInputError(paragraph("Which faces shall be explained?", fix="Give --store."))
        from aupipe.fer_models.training import checkpoint

        return checkpoint.store_place(runs[0], checkpoint.load_record(runs[0]))
    return folder


def _load(
    runs: Sequence[Path], externals: Sequence[ExternalModel], store: Store, options: RunOptions
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
        raise UserInputError(
            paragraph(f"Several networks have the same name: {', '.join(twice)}.", fix="Rename the folders.")
        )
    return loaded


class _MapMaker:
    """The maker of one comparison's global maps, or their reader where they are there."""

    def __init__(
        self,
        reader: SplitReader,
        face: CanonicalFace,
        masks: MaskSet,
        options: RunOptions,
        folder: Path,
        progress: Progress,
    ) -> None:
        self.reader, self.face, self.masks, self.options = reader, face, masks, options
        self.folder, self.progress = folder, progress
        settings = Settings(options.samples, options.batch, options.seed)
        self.explainer: Explainer = create_explainer(options.explainer, settings)
        self._predicted: tuple[str, np.ndarray] = ("", np.zeros(0, np.int64))

    def make(self, classifier: Classifier, expression: str) -> GlobalMap | int:
        """Make or load the map; where there is no face to explain, return 0: how many there were."""
        name = f"{classifier.name}_{expression}"
        mask = self.masks.masks[self.masks.expressions.index(expression)]
        settings = {key: value for key, value in asdict(self.options).items() if key not in ("device", "batch")}
        key = digest([classifier.identity, self.reader.store.index.digest, settings, np.packbits(mask).tolist()])
        if (kept := load_map(self.folder, name, key)) is not None:
            return kept
        target = self.reader.store.index.classes.index(expression)
        options = self.options
        rows, available = choose_rows(
            self.reader, self._predictions(classifier), target, options.select, options.images, options.seed
        )
        if not rows:
            return 0
        self.progress.start(f"{name}: {options.explainer}", len(rows), "faces")
        made = explain_expression(
            classifier,
            self.explainer,
            self.reader,
            rows,
            available,
            target,
            self.face,
            mask,
            options.resamples,
            self.progress,
        )
        self.progress.finish()
        save_map(self.folder, name, made, key)
        return made

    def _predictions(self, classifier: Classifier) -> np.ndarray:
        if self._predicted[0] != classifier.name:
            self._predicted = classifier.name, predict(classifier, self.reader, self.progress, self.options.batch)
        return self._predicted[1]


def _map_set(
    networks: list[str], names: list[str], found: dict[tuple[str, str], GlobalMap | int], store: Store
) -> MapSet:
    maps = np.zeros((len(networks), len(names), HEIGHT, WIDTH), np.uint8)
    present = np.zeros(maps.shape[:2], bool)
    left_out = [LeftOut("all networks", one, "no mask") for one in store.index.classes if one not in names]
    for (network, name), made in found.items():
        at = networks.index(network), names.index(name)
        if not isinstance(made, GlobalMap):
            left_out.append(LeftOut(network, name, "no face to explain: none was selected"))
        elif made.picture.max() == made.picture.min():
            left_out.append(LeftOut(network, name, "the same value everywhere"))
        else:
            maps[at], present[at] = made.picture, True
    if not present.any():
        raise UserInputError(
            paragraph(
                "No network has a map for any expression.",
                got="; ".join(f"{one.what}, {one.expression}: {one.reason}" for one in left_out[:4]),
                fix="Try --select labelled, or another --split.",
            )
        )
    return MapSet(tuple(networks), tuple(names), maps, present, tuple(left_out))


def _source(store: Store, options: RunOptions, classifiers: Sequence[Classifier]) -> dict[str, str]:
    how = f"{options.explainer}, seed {options.seed}"
    if options.explainer in ("lime", "rise"):
        how += f", {options.samples} samples a face"
    return {
        "networks": "; ".join(one.description for one in classifiers),
        "store": f"{store.folder}, split {options.split}, digest {store.index.digest[:16]}",
        "faces": f"up to {options.images} an expression, {options.select}",
        "explainer": how,
        "canonical face": options.shape,
        "masks": options.masks,
    }


def _table(found: dict[tuple[str, str], GlobalMap | int]) -> ExtraTable:
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
