"""Where a network looks on coded faces: its maps beside that of the coded action units, and in each one's region.

The region of an action unit is where its own map, drawn on this very face by the store's codebook, reaches
:data:`~aupipe.fer_models.metrics.localisation.REGION_THRESHOLD`. A map's score for it is the mean in the region over
the mean of the whole map: 1 for an even map, and for an empty one.

Maps: ``attention`` of the deepest layer, ``cam`` of the label and ``cam_predicted``; ``unit_maps`` of a network that
has a map of each action unit (``--guidance per-au``): an action unit's score is the mean of its own map in its region,
and their maximum has the cosine. Then what these are read against.
``label_map`` and ``predicted_map`` are AU maps of classes, ``untrained`` is the attention of a network of the same
architecture with random weights and ``untrained_unit_maps`` are its maps of single action units, ``true_map`` is the
map of the coded action units at the attention's size: no map of that size can do much better. ``another`` is the
attention against the codes of another person's face of the same class.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int64
from torch import Tensor

from aupipe.fer_analysis.evaluation.coded_faces import NOBODY, CodedFaces
from aupipe.fer_analysis.evaluation.measuring import one_pass, read
from aupipe.fer_data.action_units.face_weights import coded_weights
from aupipe.fer_data.action_units.facs import FacsCode, format_facs
from aupipe.fer_data.action_units.modes import DRAWN_AUS
from aupipe.fer_data.au_maps.codebook import Codebook
from aupipe.fer_data.au_maps.heatmaps import known_or_blank, render_faces, render_maps
from aupipe.fer_data.files import sha256_bytes
from aupipe.fer_data.loading.loader import Batch, TripletLoader
from aupipe.fer_data.recorded import write_recorded
from aupipe.fer_data.types import Progress
from aupipe.fer_display.tables import csv_of_columns, number_cells
from aupipe.fer_models.methods import Method
from aupipe.fer_models.metrics import localisation
from aupipe.fer_models.targets import cosine, resize_maps

TABLE = "coded.csv"


@dataclass(frozen=True)
class CodedMeasures:
    """What was measured on coded faces, in their order.

    ``predicted``: index of the class. ``cosines``: by map, with the map of the coded action units; 0 where a face shows
    none. ``scores``: by map, for each action unit of ``faces.numbers``; NaN where its region lies outside of the crop,
    or where nothing is known.
    """

    predicted: Int64[np.ndarray, "n"]
    cosines: Mapping[str, Float64[np.ndarray, "n"]]
    scores: Mapping[str, Float64[np.ndarray, "n k"]]


@dataclass(frozen=True)
class Networks:
    """The network that is measured, and one of its architecture that never learned anything."""

    trained: Method
    untrained: Method

    @property
    def last(self) -> str:
        """Name of the deepest layer."""
        return str(self.trained.backbone.n_layers)


@torch.no_grad()
def measure_coded(
    networks: Networks, loader: TripletLoader, faces: CodedFaces, book: Codebook, progress: Progress
) -> CodedMeasures:
    """Measure the maps on the coded faces of the loader's rows.

    Args:
        networks: The trained network and its untrained twin.
        loader: The rows, in their order and without augmentation.
        faces: Those to measure.
        book: Where action units act.
        progress: Told how many images are done.

    Raises:
        RunError: A batch does not fit into memory, or the output is not finite.
    """
    done: list[dict[str, np.ndarray]] = []
    with one_pass(loader, progress, "evaluate against the codes", len(faces)) as batches:
        for batch in batches:
            kept = np.flatnonzero(np.isin(batch.index.cpu().numpy(), faces.row))
            if len(kept):
                part = _some(batch, torch.from_numpy(kept).to(batch.label.device))
                done.append(_measure_batch(part, networks, loader, faces, book))
                progress.advance(len(part))
    joined = {name: np.concatenate([one[name] for one in done]) for name in done[0]}
    return CodedMeasures(
        predicted=joined["predicted"],
        cosines={name[4:]: np.asarray(value, np.float64) for name, value in joined.items() if name.startswith("cos/")},
        scores={name[6:]: value for name, value in joined.items() if name.startswith("score/")},
    )


def _some(batch: Batch, rows: Int64[Tensor, "r"]) -> Batch:
    fields = ("image", "label", "au_map", "has_map", "landmarks", "index")
    return replace(batch, **{name: getattr(batch, name)[rows] for name in fields}, aus=None)


def _measure_batch(
    batch: Batch, networks: Networks, loader: TripletLoader, faces: CodedFaces, book: Codebook
) -> dict[str, np.ndarray]:
    """Measure the columns of a batch of coded faces: ``cos/MAP``, ``score/MAP`` and ``predicted``."""
    place = np.searchsorted(faces.row, batch.index.cpu().numpy())
    classes, size, device = loader.reader.store.index.classes, int(batch.au_map.shape[-1]), batch.label.device
    drawing = _CropDrawing(book, batch.landmarks.cpu().numpy(), loader.config.crop_size, size, device)
    reading, untrained = read(networks.trained, batch), read(networks.untrained, batch)
    predicted = reading.probability.argmax(1).cpu().numpy()
    coded = drawing.of_weights(faces.weights[place])
    attention = reading.maps[networks.last]
    maps = {
        "attention": attention,
        **{name: reading.maps[name] for name in ("cam", "cam_predicted") if name in reading.maps},
        "label_map": drawing.of_classes([classes[number] for number in faces.label[place]]),
        "predicted_map": drawing.of_classes([classes[number] for number in predicted]),
        "untrained": untrained.maps[networks.last],
        "true_map": resize_maps(coded, (int(attention.shape[1]), int(attention.shape[2]))),
    }
    grown = {name: resize_maps(value, (size, size)) for name, value in maps.items()}
    regions = torch.stack([localisation.au_region(drawing.of_unit(number)) for number in faces.numbers], 1)
    columns = {f"cos/{name}": cosine(value, coded) for name, value in grown.items()}
    columns["cos/another"] = cosine(grown["attention"], drawing.of_weights(faces.weights_of_another[place]))
    columns |= {f"score/{name}": region_scores(value, regions) for name, value in grown.items()}
    for name, au_maps in (("unit_maps", reading.au_maps), ("untrained_unit_maps", untrained.au_maps)):
        if au_maps is not None:
            columns[f"cos/{name}"] = cosine(resize_maps(au_maps.amax(1), (size, size)), coded)
            columns[f"score/{name}"] = unit_scores(au_maps, faces.numbers, regions)
    return {"predicted": predicted, **{name: value.cpu().numpy() for name, value in columns.items()}}


def region_scores(maps: Float[Tensor, "b m m"], regions: Bool[Tensor, "b k m m"]) -> Float64[Tensor, "b k"]:
    """Compute the mean of each map in each region over its mean everywhere.

    1 for a map that is zero; NaN for a region without a pixel.
    """
    values, count = maps.double()[:, None], regions.sum((2, 3))
    inside = (values * regions).sum((2, 3)) / count
    whole = values.mean((2, 3)).expand_as(inside)
    return torch.where((whole > 0) | (count == 0), inside / whole, 1.0)


def unit_scores(
    maps: Float[Tensor, "b a h w"], numbers: Sequence[int], regions: Bool[Tensor, "b k m m"]
) -> Float64[Tensor, "b k"]:
    """Compute the mean of each action unit's own map in its region.

    NaN for one that has no map, and for a region without a pixel.

    Args:
        maps: Of :data:`~aupipe.fer_data.action_units.modes.DRAWN_AUS`.
        numbers: The action units.
        regions: Their regions.
    """
    size = (int(regions.shape[2]), int(regions.shape[3]))
    scores = torch.full((len(maps), len(numbers)), torch.nan, dtype=torch.float64, device=maps.device)
    for at, number in enumerate(numbers):
        if number in DRAWN_AUS:
            grown, region = resize_maps(maps[:, DRAWN_AUS.index(number)], size).double(), regions[:, at]
            scores[:, at] = (grown * region).sum((1, 2)) / region.sum((1, 2))
    return scores


@dataclass(frozen=True)
class _CropDrawing:
    """Maps drawn on the faces of a batch, at the size of its AU maps."""

    book: Codebook
    points: Float32[np.ndarray, "b 68 2"]
    crop: int
    size: int
    device: torch.device

    def of_unit(self, number: int) -> Float32[Tensor, "b m m"]:
        """Draw an action unit on every face."""
        return self.of_weights(coded_weights([[FacsCode(number)]] * len(self.points)))

    def of_weights(self, weights: Float64[np.ndarray, "b 99 2"]) -> Float32[Tensor, "b m m"]:
        """Draw each face's own action units."""
        return self._tensor(render_faces(self.points, weights, self.book, self.crop, self.size))

    def of_classes(self, names: Sequence[str]) -> Float32[Tensor, "b m m"]:
        """Draw the AU map of a class on each face; an empty one where the codebook does not know the class."""
        known = known_or_blank(self.book, names)
        return self._tensor(render_maps(self.points, known, self.book, self.crop, self.size))

    def _tensor(self, maps: Float32[np.ndarray, "b m m"]) -> Float32[Tensor, "b m m"]:
        return torch.from_numpy(maps).to(self.device)


def write_coded(
    path: Path,
    faces: CodedFaces,
    measured: CodedMeasures,
    classes: Sequence[str],
    codes: Mapping[str, tuple[FacsCode, ...]],
) -> str:
    """Write ``coded.csv``, every coded face with all that was measured on it, and return its SHA-256.

    Columns: ``sample_id, group, label, predicted, aus, another`` (the other face), ``cos_MAP`` and ``MAP_AU12``; six
    decimals, empty where there is nothing.
    """
    data = csv_of_columns(_columns(faces, measured, classes, codes)).encode()
    write_recorded(path, data)
    return sha256_bytes(data)


def _columns(
    faces: CodedFaces,
    measured: CodedMeasures,
    classes: Sequence[str],
    codes: Mapping[str, tuple[FacsCode, ...]],
) -> Iterator[tuple[str, Sequence[str]]]:
    yield "sample_id", faces.sample_id
    yield "group", faces.group
    yield "label", [classes[number] for number in faces.label]
    yield "predicted", [classes[number] for number in measured.predicted]
    yield "aus", [format_facs(codes[sample]) for sample in faces.sample_id]
    yield "another", ["" if place == NOBODY else faces.sample_id[place] for place in faces.another]
    for name, cosines in measured.cosines.items():
        shown = faces.shown_by_another if name == "another" else faces.shown
        yield f"cos_{name}", number_cells(cosines, np.asarray(shown.any(1)))
    for name, scores in measured.scores.items():
        for unit, number in enumerate(faces.numbers):
            yield f"{name}_AU{number}", number_cells(scores[:, unit], np.isfinite(scores[:, unit]))
