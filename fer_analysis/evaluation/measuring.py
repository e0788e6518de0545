"""One pass over a split: every face, every map, every figure."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int64
from torch import Tensor

from aupipe.fer_analysis.evaluation.averages import Accumulator, AverageMaps
from aupipe.fer_analysis.evaluation.controls import Controls
from aupipe.fer_data.errors import RunError, paragraph
from aupipe.fer_data.loading.augment import AugmentConfig
from aupipe.fer_data.loading.loader import Batch, TripletLoader
from aupipe.fer_data.shards import Store
from aupipe.fer_data.types import Progress
from aupipe.fer_models import metrics
from aupipe.fer_models.methods import Method, Prediction
from aupipe.fer_models.metrics import localisation
from aupipe.fer_models.targets import attention, cosine, positive_part, resize_maps


@dataclass(frozen=True)
class Samples:
    """Per-sample figures of a split, in the order of its rows.

    figures: by map, then by figure. Maps: ``"1"`` .. each layer's attention, ``cam`` (of the label), ``cam_predicted``
    (of the predicted class), the controls ``uniform, centre, mean_map``, and ``wrong_class`` (the other expressions' AU
    maps). Figures: ``cos`` with the sample's AU map, ``cos_wrong`` (mean over the other expressions' maps on the same
    face), ``pointing, energy, pixel_ap``, ``empty`` (1 where the map has no positive value), ``ceiling`` of ``cos`` for
    a map of that size; of ``cam_predicted`` also ``cos_predicted``, with the predicted expression's map. They mean
    nothing where ``has_map`` (``cos_predicted``: ``predicted_has_map``) is False; ``pointing, energy, pixel_ap`` need a
    ``region_share`` above 0 besides.
    """

    sample_id: tuple[str, ...]
    label: Int64[np.ndarray, "n"]
    probability: Float64[np.ndarray, "n k"]
    has_map: Bool[np.ndarray, "n"]
    predicted_has_map: Bool[np.ndarray, "n"]
    region_share: Float64[np.ndarray, "n"]
    figures: Mapping[str, Mapping[str, Float64[np.ndarray, "n"]]]

    @property
    def predicted(self) -> Int64[np.ndarray, "n"]:
        """The most probable class of each sample."""
        return np.asarray(self.probability.argmax(1), np.int64)

    @property
    def correct(self) -> Bool[np.ndarray, "n"]:
        """Whether it is the label."""
        return np.asarray(self.predicted == self.label)


@dataclass(frozen=True)
class Reading:
    """What a model says about a batch, without its graph: probabilities, and maps at native resolution."""

    probability: Float64[Tensor, "b k"]
    maps: Mapping[str, Tensor]


@torch.no_grad()
def measure(
    model: Method, store: Store, loader: TripletLoader, config: AugmentConfig, progress: Progress
) -> tuple[Samples, AverageMaps]:
    """Figures and averages of the loader's rows. Raises :class:`RunError` (memory, output that is not finite)."""
    controls = Controls(store, loader.reader, config)
    sums = Accumulator(len(store.index.classes), loader.mean, loader.std)
    batches_done: list[dict[str, np.ndarray]] = []
    progress.start(f"evaluate on {loader.reader.split}", loader.rows, "images")
    try:
        with contextlib.closing(loader.epoch(0)) as batches:
            for batch in batches:
                reading = read(model, batch)
                sums.add(batch, reading.maps)
                batches_done.append(_measure_batch(batch, reading, controls))
                progress.advance(len(batch))
    except torch.OutOfMemoryError as error:
        raise RunError(memory_message(loader)) from error
    finally:
        progress.finish()
    return _join(batches_done, loader.reader.sample_ids), sums.averages()


def read(model: Method, batch: Batch) -> Reading:
    """The forward pass and the maps. The graph that some methods need ends here, so memory does not grow."""
    out = model.read(batch.image)
    logits = out.logits.detach().double()
    if not bool(torch.isfinite(logits).all()):
        raise RunError(
            paragraph(
                "The model's scores are not finite numbers: its weights are damaged or its training diverged.",
                fix="Train again with a smaller --lr.",
            )
        )
    maps = explanation_maps(model, out, batch.label)
    if model.has_cam:
        maps["cam_predicted"] = _cam(model, out, logits.argmax(1))
    return Reading(logits.softmax(1), maps)


def explanation_maps(
    model: Method, out: Prediction, class_index: Int64[Tensor, "b"]
) -> dict[str, Float32[Tensor, "b h w"]]:
    """Positive parts at native resolution: ``"1"`` .. each layer's attention, ``"cam"`` the CAM of the given class."""
    maps = {
        str(number): positive_part(attention(layer.detach().float())) for number, layer in enumerate(out.features, 1)
    }
    if model.has_cam:
        maps["cam"] = _cam(model, out, class_index)
    return maps


def _cam(model: Method, out: Prediction, class_index: Int64[Tensor, "b"]) -> Float32[Tensor, "b h w"]:
    with torch.set_grad_enabled(model.needs_graph):
        signed = model.cam(out, class_index).detach()
    return positive_part(signed.float())


def _measure_batch(batch: Batch, reading: Reading, controls: Controls) -> dict[str, np.ndarray]:
    """Columns of the batch's samples; those of the maps are named ``map/figure``."""
    others = controls.other_maps(batch)
    region = localisation.au_region(batch.au_map)
    place = _predicted_place(batch, reading, controls)
    columns: dict[str, Tensor] = {
        "row": batch.index,
        "label": batch.label,
        "probability": reading.probability,
        "has_map": batch.has_map,
        "predicted_has_map": batch.has_map & (place >= 0),
        "region_share": localisation.region_share(region),
    }
    fixed = {name: value.to(region.device).expand(len(batch), -1, -1) for name, value in controls.maps.items()}
    for name, value in {**reading.maps, **fixed}.items():
        grown = resize_maps(value, (controls.size, controls.size))
        for figure, values in _figures(grown, batch.au_map, others, region).items():
            columns[f"{name}/{figure}"] = values
    if "cam_predicted" in reading.maps:
        grown = resize_maps(reading.maps["cam_predicted"], (controls.size, controls.size))
        columns["cam_predicted/cos_predicted"] = cosine(grown, _predicted_maps(batch, others, place))
    if len(controls.expressions) > 1:
        columns["wrong_class/cos"] = _mean_over_others(batch.au_map, others)
    own = batch.au_map.cpu().numpy()
    ceilings = {
        f"{name}/ceiling": metrics.ceilings(own, int(value.shape[1]), int(value.shape[2]))
        for name, value in reading.maps.items()
    }
    return {**{name: value.cpu().numpy() for name, value in columns.items()}, **ceilings}


def _figures(
    maps: Float32[Tensor, "b m m"],
    au_map: Float32[Tensor, "b m m"],
    others: Float32[Tensor, "b o m m"],
    region: Bool[Tensor, "b m m"],
) -> dict[str, Float[Tensor, "b"]]:
    """The figures of one kind of map; ``cos_wrong`` is absent where the codebook has a single expression."""
    wrong = {"cos_wrong": _mean_over_others(maps, others)} if others.shape[1] > 1 else {}
    return {
        "cos": cosine(maps, au_map),
        **wrong,
        "pointing": localisation.pointing(maps, region),
        "energy": localisation.energy(maps, region),
        "pixel_ap": localisation.pixel_ap(maps, region),
        "empty": (maps.amax((1, 2)) <= 0).double(),
    }


def _mean_over_others(maps: Float32[Tensor, "b m m"], others: Float32[Tensor, "b o m m"]) -> Float[Tensor, "b"]:
    """Mean cosine with the other expressions' maps; the empty slot of the sample's own expression does not count."""
    present = others.flatten(2).any(2)
    values = torch.stack([cosine(maps, others[:, number]) for number in range(others.shape[1])], 1)
    return (values * present).sum(1) / present.sum(1).clamp_min(1)


def _predicted_place(batch: Batch, reading: Reading, controls: Controls) -> Int64[Tensor, "b"]:
    """The predicted class's place among the expressions with a map; -1 where it has none."""
    classes = controls.store.index.classes
    places = [controls.expressions.index(name) if name in controls.expressions else -1 for name in classes]
    return torch.tensor(places, device=batch.label.device)[reading.probability.argmax(1)]


def _predicted_maps(
    batch: Batch, others: Float32[Tensor, "b o m m"], place: Int64[Tensor, "b"]
) -> Float32[Tensor, "b m m"]:
    """The AU map of each face's predicted expression: its own where the prediction is right, zero where none exists."""
    if others.shape[1] == 0:
        return batch.au_map
    own_slot_filled = torch.where(others.flatten(2).any(2)[..., None, None], others, batch.au_map[:, None])
    return own_slot_filled[torch.arange(len(place)), place.clamp_min(0)]


def _join(batches: list[dict[str, np.ndarray]], sample_ids: list[str]) -> Samples:
    joined = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
    figures: dict[str, dict[str, np.ndarray]] = {}
    for name, values in joined.items():
        if "/" in name:
            owner, figure = name.split("/")
            figures.setdefault(owner, {})[figure] = np.asarray(values, np.float64)
    return Samples(
        sample_id=tuple(sample_ids[row] for row in joined["row"]),
        label=joined["label"],
        probability=joined["probability"],
        has_map=joined["has_map"],
        predicted_has_map=joined["predicted_has_map"],
        region_share=joined["region_share"],
        figures=figures,
    )


def memory_message(loader: TripletLoader) -> str:
    """What to tell when the device's memory does not hold the loader's batches."""
    if loader.batch_size == 1:
        return paragraph(
            f"The memory of {loader.device} does not hold one image and its maps.",
            fix="Use another --device, or free the device's memory.",
        )
    return paragraph(
        f"The memory of {loader.device} does not hold a batch of {loader.batch_size} images and their maps.",
        fix=f"Try --batch-size {max(loader.batch_size // 2, 1)}.",
    )
