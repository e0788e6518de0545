"""One pass over a split: every face, every map, every figure."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int64
from torch import Tensor

from aupipe.fer_analysis.evaluation.as_published import grow_published, published_maps
from aupipe.fer_analysis.evaluation.averages import Accumulator, AverageMaps
from aupipe.fer_analysis.evaluation.controls import ControlMaps
from aupipe.fer_analysis.evaluation.per_face import BatchFaces, MapsOnFaces, Needs, face_figures
from aupipe.fer_analysis.given_maps import GivenMaps
from aupipe.fer_data.errors import RunError, paragraph
from aupipe.fer_data.loading.augment import AugmentConfig
from aupipe.fer_data.loading.loader import Batch, TripletLoader
from aupipe.fer_data.shards import SplitReader, Store
from aupipe.fer_data.types import Progress
from aupipe.fer_models.methods import Method, Prediction
from aupipe.fer_models.methods.base import unit_range
from aupipe.fer_models.metrics import localisation
from aupipe.fer_models.targets import attention, positive_part, resize_maps


@dataclass(frozen=True)
class Samples:
    """Per-sample figures of a split, in the order of its rows.

    group: the person of each, or else the sample's id. figures: by map, then by the columns of
    :data:`~aupipe.fer_analysis.evaluation.per_face.FIGURES`. Maps: ``"1"`` .. each layer's attention, ``cam`` (of the
    label), ``cam_predicted`` (of the predicted class), and the controls ``uniform, centre, mean_map, predicted_map,
    au_map``.
    """

    sample_id: tuple[str, ...]
    group: tuple[str, ...]
    label: Int64[np.ndarray, "n"]
    probability: Float64[np.ndarray, "n k"]
    has_map: Bool[np.ndarray, "n"]
    predicted_has_map: Bool[np.ndarray, "n"]
    region_share: Float64[np.ndarray, "n"]
    figures: Mapping[str, Mapping[str, Float64[np.ndarray, "n"]]]

    @cached_property
    def group_number(self) -> Int64[np.ndarray, "n"]:
        """Number of each sample's person: what is resampled where persons repeat."""
        return np.asarray(np.unique(self.group, return_inverse=True)[1], np.int64)

    @property
    def predicted(self) -> Int64[np.ndarray, "n"]:
        """The most probable class of each sample."""
        return np.asarray(self.probability.argmax(1), np.int64)

    def having(self, needs: Needs) -> Bool[np.ndarray, "n"]:
        """Tell which samples have what a figure needs: elsewhere its values mean nothing."""
        if needs == "predicted_map":
            return self.predicted_has_map
        return self.has_map & (self.region_share > 0) if needs == "region" else self.has_map

    @property
    def correct(self) -> Bool[np.ndarray, "n"]:
        """Mask of the samples whose most probable class is the label."""
        return np.asarray(self.predicted == self.label)


@dataclass(frozen=True)
class BatchReading:
    """A model's answer to a batch, without its graph: probabilities, and maps at native resolution.

    ``published``: some of the maps again, by the conventions of the published tables. ``au_maps``: one for each of
    :data:`~aupipe.fer_data.action_units.modes.DRAWN_AUS`, where the network has them.
    """

    probability: Float64[Tensor, "b k"]
    maps: Mapping[str, Tensor]
    published: Mapping[str, Tensor]
    au_maps: Float32[Tensor, "b a h w"] | None = None


@torch.no_grad()
def measure(
    model: Method,
    store: Store,
    loader: TripletLoader,
    config: AugmentConfig,
    progress: Progress,
    given: GivenMaps | None = None,
) -> tuple[Samples, AverageMaps]:
    """Measure figures and averages of the loader's rows.

    Args:
        model: The trained network.
        store: Whose codebook and train split the control maps come from.
        loader: The rows, in their order and without augmentation.
        config: The centre crop that the loader cuts.
        progress: Told how many images are done.
        given: Maps made elsewhere, which take the place of the CAM.

    Returns:
        The figures face by face, and the average maps by class.

    Raises:
        RunError: A batch does not fit into memory, or the output is not finite.
    """
    controls = ControlMaps(store, loader.reader, config)
    sums = Accumulator(len(store.index.classes), loader.mean, loader.std)
    batches_done: list[dict[str, np.ndarray]] = []
    with one_pass(loader, progress, f"evaluate on {loader.reader.split}", loader.rows) as batches:
        for batch in batches:
            reading = with_given(read(model, batch), batch, given)
            grown = {name: resize_maps(maps, (controls.size, controls.size)) for name, maps in reading.maps.items()}
            sums.add(batch, grown)
            batches_done.append(_measure_batch(batch, reading, grown, controls))
            progress.advance(len(batch))
    return _join(batches_done, loader.reader), sums.averages()


@contextlib.contextmanager
def one_pass(loader: TripletLoader, progress: Progress, title: str, count: int) -> Iterator[Iterator[Batch]]:
    """Read the loader's rows once, telling of ``count`` images.

    Raises:
        RunError: A batch does not fit into memory.
    """
    progress.start(title, count, "images")
    try:
        with contextlib.closing(loader.epoch(0)) as batches:
            yield batches
    except torch.OutOfMemoryError as error:
        raise RunError(memory_message(loader)) from error
    finally:
        progress.finish()


def read(model: Method, batch: Batch) -> BatchReading:
    """Run the forward pass and read out the maps.

    The graph that some methods need ends here, so memory does not grow.
    """
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
    return BatchReading(logits.softmax(1), maps, published_maps(model, out, batch.label), model.read_au_maps(out))


def with_given(reading: BatchReading, batch: Batch, given: GivenMaps | None) -> BatchReading:
    """Put maps made elsewhere, where there are any, in the place of the CAM of both classes."""
    if given is None:
        return reading
    maps = given.of(batch.index)
    return BatchReading(
        reading.probability,
        {**reading.maps, "cam": maps, "cam_predicted": maps},
        {**reading.published, "cam": unit_range(maps)},
    )


def explanation_maps(
    model: Method, out: Prediction, class_index: Int64[Tensor, "b"]
) -> dict[str, Float32[Tensor, "b h w"]]:
    """Read out the positive parts at native resolution.

    Returns:
        ``"1"`` .. each layer's attention, and ``"cam"``, the CAM of the given class, where the method has one.
    """
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


def _measure_batch(
    batch: Batch, reading: BatchReading, grown: Mapping[str, Tensor], controls: ControlMaps
) -> dict[str, np.ndarray]:
    """Measure the columns of the batch's samples; those of the maps are named ``map/figure``.

    ``grown``: the reading's maps at the size of the AU maps.
    """
    others = controls.other_maps(batch)
    place = _predicted_place(batch, reading, controls)
    faces = BatchFaces(batch.au_map, others, _predicted_maps(controls.label_maps(batch), others, place))
    columns: dict[str, Tensor] = {
        "row": batch.index,
        "label": batch.label,
        "probability": reading.probability,
        "has_map": batch.has_map,
        "predicted_has_map": batch.has_map & (place >= 0),
        "region_share": localisation.region_share(faces.region),
    }
    fixed = {name: value.to(others.device).expand(len(batch), -1, -1) for name, value in controls.maps.items()}
    drawn = {"predicted_map": faces.predicted_map, "au_map": faces.au_map} if others.shape[1] else {}
    for name, maps in {**grown, **fixed, **drawn}.items():
        native = (int(reading.maps[name].shape[1]), int(reading.maps[name].shape[2])) if name in grown else None
        known = reading.published.get(name)
        published = None if known is None else grow_published(name, known, controls.size)
        on_faces = MapsOnFaces(maps, native, faces, published)
        for _, figure in face_figures():
            if figure.only in ("", name) and (values := figure.measure(on_faces)) is not None:
                columns[f"{name}/{figure.column}"] = values
    return {name: value.cpu().numpy() for name, value in columns.items()}


def _predicted_place(batch: Batch, reading: BatchReading, controls: ControlMaps) -> Int64[Tensor, "b"]:
    """Find the predicted class's place among the expressions with a map; -1 where it has none."""
    classes = controls.store.index.classes
    places = [controls.expressions.index(name) if name in controls.expressions else -1 for name in classes]
    return torch.tensor(places, device=batch.label.device)[reading.probability.argmax(1)]


def _predicted_maps(
    label_map: Float32[Tensor, "b m m"], others: Float32[Tensor, "b o m m"], place: Int64[Tensor, "b"]
) -> Float32[Tensor, "b m m"]:
    """Choose the AU map of each face's predicted expression: its label's where right, zero where none exists."""
    if others.shape[1] == 0:
        return label_map
    own_slot_filled = torch.where(others.amax((2, 3), keepdim=True) > 0, others, label_map[:, None])
    return own_slot_filled[torch.arange(len(place)), place.clamp_min(0)] * (place >= 0)[:, None, None]


def _join(batches: list[dict[str, np.ndarray]], reader: SplitReader) -> Samples:
    joined = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
    figures: dict[str, dict[str, np.ndarray]] = {}
    for name, values in joined.items():
        if "/" in name:
            owner, figure = name.split("/")
            figures.setdefault(owner, {})[figure] = np.asarray(values, np.float64)
    return Samples(
        sample_id=tuple(reader.sample_ids[row] for row in joined["row"]),
        group=tuple(reader.groups[row] for row in joined["row"]),
        label=joined["label"],
        probability=joined["probability"],
        has_map=joined["has_map"],
        predicted_has_map=joined["predicted_has_map"],
        region_share=joined["region_share"],
        figures=figures,
    )


def memory_message(loader: TripletLoader) -> str:
    """Say what to do when the device's memory does not hold the loader's batches."""
    if loader.batch_size == 1:
        return paragraph(
            f"The memory of {loader.device} does not hold one image and its maps.",
            fix="Use another --device, or free the device's memory.",
        )
    return paragraph(
        f"The memory of {loader.device} does not hold a batch of {loader.batch_size} images and their maps.",
        fix=f"Try --batch-size {max(loader.batch_size // 2, 1)}.",
    )
