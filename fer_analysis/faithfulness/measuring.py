"""One pass over a split: curves of every map and control, and falls without the AU regions, face by face."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int64
from torch import Tensor

from aupipe.fer_analysis.evaluation.measuring import read, with_given
from aupipe.fer_analysis.faithfulness import perturbing, regions
from aupipe.fer_analysis.faithfulness.perturbing import curves, make_baseline, pixel_ranks, random_grid, random_maps
from aupipe.fer_analysis.given_maps import GivenMaps
from aupipe.fer_data.loading.loader import Batch, TripletLoader
from aupipe.fer_data.types import Progress
from aupipe.fer_models import metrics
from aupipe.fer_models.methods import Method
from aupipe.fer_models.targets import resize_maps

_REMOVED = ("fall", "correct", "strength")
"""Figures of each removal."""

CAM, GIVEN = "cam", "given"
"""The network's own map of the prediction, and the map made elsewhere in its place."""

AU_MAP = "au_map"
"""The control that only faces with an AU map have."""


@dataclass(frozen=True)
class PerturbedFaces:
    """Figures of each face before and after pixels were removed, in the order of the split's rows.

    ``group``: the person of each, or else the sample's id. ``whole``, ``empty``: probability of the predicted class on
    the face and on its baseline alone; ``kept``: whether the baseline alone is still predicted as that class.
    ``curves``: by map, deletion and insertion at ``steps + 1`` shares; those of ``au_map`` mean something where
    ``has_map``. ``controls``: the random order each map is compared with. ``fall`` (of the predicted class's
    probability), ``correct`` (after the removal) and ``strength`` by
    :data:`~aupipe.fer_analysis.faithfulness.regions.REMOVALS`, ``region_share`` and ``in_face``: where ``removable``.
    """

    sample_id: tuple[str, ...]
    group: tuple[str, ...]
    label: Int64[np.ndarray, "n"]
    predicted: Int64[np.ndarray, "n"]
    whole: Float64[np.ndarray, "n"]
    empty: Float64[np.ndarray, "n"]
    kept: Bool[np.ndarray, "n"]
    has_map: Bool[np.ndarray, "n"]
    curves: Mapping[str, Float64[np.ndarray, "n 2 s"]]
    controls: Mapping[str, str]
    removable: Bool[np.ndarray, "n"]
    region_share: Float64[np.ndarray, "n"]
    in_face: Float64[np.ndarray, "n"]
    fall: Mapping[str, Float64[np.ndarray, "n"]]
    correct: Mapping[str, Float64[np.ndarray, "n"]]
    strength: Mapping[str, Float64[np.ndarray, "n"]]
    pixels: int

    @cached_property
    def group_number(self) -> Int64[np.ndarray, "n"]:
        """Number of each face's person: what is resampled where persons repeat."""
        return np.asarray(np.unique(self.group, return_inverse=True)[1], np.int64)

    def rows(self, kind: str) -> Bool[np.ndarray, "n"]:
        """Tell on which faces a map's curves mean something."""
        return self.has_map if kind == AU_MAP else np.ones(len(self.label), bool)

    def areas(self, kind: str) -> Float64[np.ndarray, "n 2"]:
        """Compute the areas under a map's deletion and insertion curves."""
        return perturbing.area_under(self.curves[kind], self.pixels)


@dataclass(frozen=True)
class Perturbation:
    """Settings of the perturbation of pictures.

    ``baseline``: see :func:`~aupipe.fer_analysis.faithfulness.perturbing.make_baseline`; ``steps``: of the curves;
    ``seed``: of what is drawn at random.
    """

    baseline: str = "blur"
    steps: int = 20
    seed: int = 0


@torch.no_grad()
def measure(
    model: Method, loader: TripletLoader, settings: Perturbation, progress: Progress, given: GivenMaps | None = None
) -> PerturbedFaces:
    """Measure the loader's rows; maps ``given`` take the place of the CAM.

    Raises :class:`RunError` for scores that are not finite.
    """
    done: list[dict[str, np.ndarray]] = []
    controls: dict[str, str] = {}
    progress.start(f"perturb {loader.reader.split}", loader.rows, "images")
    try:
        with contextlib.closing(loader.epoch(0)) as batches:
            for batch in batches:
                columns, controls = _measure_batch(model, batch, settings, given)
                done.append(columns)
                progress.advance(len(batch))
    finally:
        progress.finish()
    return _join(done, controls, loader)


def probabilities(model: Method, images: Float32[Tensor, "b 3 c c"]) -> Float64[Tensor, "b k"]:
    """Compute the probability of every class, in double precision."""
    logits: Tensor = model(images).logits
    return logits.double().softmax(1)


def _measure_batch(
    model: Method, batch: Batch, settings: Perturbation, given: GivenMaps | None
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Measure the batch's faces, and name each map's random control; columns of several kinds are ``figure/kind``."""
    reading = with_given(read(model, batch), batch, given)
    predicted = reading.probability.argmax(1)
    rows = batch.index.cpu().numpy()
    baseline = make_baseline(settings.baseline, batch.image)
    own = {"attention": reading.maps[str(model.backbone.n_layers)]}
    if "cam_predicted" in reading.maps:
        own[CAM if given is None else GIVEN] = reading.maps["cam_predicted"]
    orders, controls = _orders(own, batch, rows, settings.seed)
    empty = probabilities(model, baseline)
    columns: dict[str, np.ndarray] = {
        "row": rows,
        "label": batch.label.cpu().numpy(),
        "predicted": predicted.cpu().numpy(),
        "kept": (empty.argmax(1) == predicted).cpu().numpy(),
        "has_map": batch.has_map.cpu().numpy(),
    }
    for kind, ranks in orders.items():
        chosen = batch.has_map if kind == AU_MAP else torch.ones_like(batch.has_map)
        columns[f"curve/{kind}"] = _curves(model, batch, baseline, ranks, predicted, chosen, settings.steps)
    return {**columns, **_falls(model, batch, baseline, rows, reading.probability, settings.seed)}, controls


def _orders(
    own: Mapping[str, Float32[Tensor, "b _ _"]], batch: Batch, rows: Int64[np.ndarray, "b"], seed: int
) -> tuple[dict[str, Int64[Tensor, "b c c"]], dict[str, str]]:
    """Rank the pixels by each map: the model's own, a random one of each grid, centre, AU map; and say who is whose."""
    size, device = batch.image.shape[-1], batch.image.device
    grown = {kind: resize_maps(values, (size, size)) for kind, values in own.items()}
    # Maps of another program may be as fine as the picture: they are compared with what the attention is.
    grids = {kind: random_grid(own["attention" if kind == GIVEN else kind]) for kind in own}
    controls = {kind: _random_name(grid) for kind, grid in grids.items()}
    chance = {
        _random_name(grid): resize_maps(random_maps(rows, grid, seed).to(device), (size, size))
        for grid in set(grids.values())
    }
    centre = torch.from_numpy(np.asarray(metrics.centre_map(size), np.float32)).to(device)
    others = {"centre": centre.expand(len(batch), -1, -1), AU_MAP: resize_maps(batch.au_map, (size, size))}
    controls |= dict.fromkeys(others, controls["attention"])
    maps = {**grown, **chance, **others}
    return {kind: pixel_ranks(values, chance[controls.get(kind, kind)]) for kind, values in maps.items()}, controls


def _random_name(grid: tuple[int, int]) -> str:
    return f"random_{grid[0]}x{grid[1]}"


def _curves(
    model: Method, batch: Batch, baseline: Tensor, ranks: Tensor, predicted: Tensor, chosen: Tensor, steps: int
) -> Float64[np.ndarray, "b 2 s"]:
    """Compute the curves of the chosen faces; 0 for the others."""
    result = np.zeros((len(batch), 2, steps + 1))
    if bool(chosen.any()):
        own = predicted[chosen, None]
        result[chosen.cpu().numpy()] = curves(
            lambda images: probabilities(model, images).gather(1, own)[:, 0],
            batch.image[chosen],
            baseline[chosen],
            ranks[chosen],
            steps,
        )
    return result


def _falls(
    model: Method, batch: Batch, baseline: Tensor, rows: Int64[np.ndarray, "b"], probability: Tensor, seed: int
) -> dict[str, np.ndarray]:
    """Measure what removing the AU regions does to the ``probability`` of whole faces; 0 where it cannot be done."""
    region = regions.region_of(batch.au_map, batch.image.shape[-1])
    chosen = regions.usable(region) & batch.has_map
    there = chosen.cpu().numpy()
    columns = {name: np.zeros(len(batch)) for name in ("region_share", "in_face")}
    columns |= {f"{name}/{kind}": np.zeros(len(batch)) for name in _REMOVED for kind in regions.REMOVALS}
    if there.any():
        whole = probability[chosen].cpu().numpy()
        removed = regions.remove_regions(
            lambda images: probabilities(model, images),
            batch.image[chosen],
            baseline[chosen],
            region[chosen],
            batch.landmarks[chosen],
            rows[there],
            seed,
        )
        label, own = batch.label[chosen].cpu().numpy(), whole.argmax(1)
        faces = np.arange(len(own))
        columns["region_share"][there] = region[chosen].double().mean((1, 2)).cpu().numpy()
        columns["in_face"][there] = removed.in_face
        for kind in regions.REMOVALS:
            answers = removed.probability[kind]
            columns[f"fall/{kind}"][there] = (whole[faces, own] - answers[:, faces, own]).mean(0)
            columns[f"correct/{kind}"][there] = (answers.argmax(2) == label).mean(0)
            columns[f"strength/{kind}"][there] = removed.strength[kind].mean(0)
    return {**columns, "removable": there}


def _join(batches: list[dict[str, np.ndarray]], controls: Mapping[str, str], loader: TripletLoader) -> PerturbedFaces:
    joined = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
    by_kind: dict[str, dict[str, np.ndarray]] = {}
    for name, values in joined.items():
        if "/" in name:
            figure, kind = name.split("/")
            by_kind.setdefault(figure, {})[kind] = values
    return PerturbedFaces(
        sample_id=tuple(loader.reader.sample_ids[row] for row in joined["row"]),
        group=tuple(loader.reader.groups[row] for row in joined["row"]),
        label=joined["label"],
        predicted=joined["predicted"],
        whole=by_kind["curve"]["attention"][:, 0, 0],
        empty=by_kind["curve"]["attention"][:, 0, -1],
        kept=joined["kept"],
        has_map=joined["has_map"],
        curves=by_kind["curve"],
        controls=controls,
        removable=joined["removable"],
        region_share=joined["region_share"],
        in_face=joined["in_face"],
        fall=by_kind["fall"],
        correct=by_kind["correct"],
        strength=by_kind["strength"],
        pixels=loader.config.crop_size**2,
    )
