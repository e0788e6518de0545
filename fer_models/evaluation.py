"""Evaluation in one pass: accuracy, confusion, cosines of attention and CAM, and the controls to read them against."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int64
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from fer_data import augment
from fer_data.augment import AugmentConfig
from fer_data.errors import UserInputError, paragraph
from fer_data.files import atomic_path, write_json
from fer_data.heatmaps import render_maps
from fer_data.loader import Batch, TripletLoader
from fer_data.loading.targets import mean_map
from fer_data.shards import SplitReader, Store
from fer_data.types import Progress, Silent
from fer_models import checkpoint, metrics
from fer_models.devices import resolve_device
from fer_models.methods import Method, Prediction
from fer_models.targets import attention, cosine, positive_part, resize_maps

METRICS = "metrics.json"


@dataclass(frozen=True)
class Evaluation:
    """The figures of a run on one split; ``content`` is what ``metrics.json`` holds."""

    run: Path
    content: Mapping[str, Any]

    def as_json(self) -> dict[str, Any]:
        """The object that ``--json`` prints."""
        return dict(self.content)

    def lines(self) -> list[str]:
        """The summary for people: figures, then what they must be read against."""
        c = self.content
        low, high = c["accuracy_ci95"]
        attention = "  ".join(f"{layer}: {_shown(value)}" for layer, value in c["att_cos"].items())
        controls = "  ".join(
            f"{name.replace('_', ' ')} {_shown(c['controls'][name])}"
            for name in ("uniform", "centre", "mean_map", "wrong_class", "ceiling")
        )
        return [
            f"{self.run}: {c['n']} images of {c['split']}, {c['n_with_map']} with a map, epoch {c['epoch']}",
            f"accuracy  {c['accuracy']:.1%} (95 %: {low:.1%} to {high:.1%}), balanced {c['balanced_accuracy']:.1%}",
            f"CAM-COS   {_shown(c['cam_cos'])} (other expressions' maps: {_shown(c['cam_cos_wrong'])})",
            f"ATT-COS   by layer  {attention}",
            f"controls  {controls}",
        ]


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


@dataclass(frozen=True)
class _Rows:
    """Per-sample figures of a split: cosines are meaningless where ``has_map`` is False."""

    label: Int64[np.ndarray, "n"]
    predicted: Int64[np.ndarray, "n"]
    has_map: Bool[np.ndarray, "n"]
    cosines: Mapping[str, Float64[np.ndarray, "n"]]


def evaluate(
    run_folder: Path,
    store_folder: Path | None = None,
    split: str = "test",
    limit: int | None = None,
    device: str = "auto",
    progress: Progress | None = None,
    batch_size: int | None = None,
    method: str | None = None,
    method_options: str = "",
    out: Path | None = None,
) -> Evaluation:
    """Measure a run's best checkpoint on a split; writes ``metrics.json`` and ``confusion.png`` to the run's folder.

    ``store_folder`` None: the store it was trained on. ``limit``: the first rows of the split, which lie in hash order
    and so are a random sample. ``method``, ``method_options``: read the maps out as another method that shares the
    run's training. ``out``: write there instead. Raises :class:`RunError`, :class:`StoreError` and
    :class:`UserInputError`.
    """
    if limit is not None and limit < 1:
        raise UserInputError(paragraph("--limit must be 1 or more.", got=limit))
    where = resolve_device(device)
    record, model, state = checkpoint.load_best(run_folder, where, method, method_options)
    store = checkpoint.run_store(run_folder, record, store_folder)
    config = record.config
    loader = TripletLoader(
        store.split(split), batch_size or config.batch_size, config.centre_crop, device=where, mode="none", limit=limit
    )
    rows = _measure(model, store, loader, config.centre_crop, progress or Silent())
    content = {
        **summarise(rows, record.classes, model.backbone.n_layers),
        "split": split,
        "limit": limit,
        "store_digest": store.index.digest,
        "codebook": store.codebook.name,
        "codebook_digest": store.index.codebook_digest,
        "same_codebook_as_training": store.index.codebook_digest == record.codebook_digest,
        "checkpoint": checkpoint.BEST,
        "epoch": int(state["epoch"]),
        "backbone": config.backbone,
        "method": config.method,
        "method_options": config.method_options,
        "align_weight": config.align_weight,
        "align_layers": config.align_layers,
        "seed": config.seed,
    }
    out = out or run_folder
    write_json(out / METRICS, content)
    figure = draw_confusion(content["confusion"]["classes"], content["confusion"]["matrix"])
    with atomic_path(out / "confusion.png") as temporary:
        figure.savefig(temporary, format="png")
    return Evaluation(run_folder, content)


@torch.no_grad()
def _measure(model: Method, store: Store, loader: TripletLoader, config: AugmentConfig, progress: Progress) -> _Rows:
    controls = _Controls(store, loader.reader, config)
    label, predicted, has_map = [], [], []
    parts: dict[str, list[np.ndarray]] = {}
    progress.start(f"evaluate on {loader.reader.split}", loader.rows, "images")
    with contextlib.closing(loader.epoch(0)) as batches:
        for batch in batches:
            out = model.read(batch.image)
            label.append(batch.label.cpu().numpy())
            predicted.append(out.logits.argmax(1).cpu().numpy())
            has_map.append(batch.has_map.cpu().numpy())
            others = controls.other_maps(batch)
            maps = explanation_maps(model, out, batch.label)
            sizes = {name: (int(value.shape[1]), int(value.shape[2])) for name, value in maps.items() if name != "cam"}
            figures = {**_cosines(maps, batch.au_map, others), **controls.cosines(batch, others, sizes)}
            for name, values in figures.items():
                parts.setdefault(name, []).append(values)
            progress.advance(len(batch))
    progress.finish()
    joined = {name: np.concatenate(values) for name, values in parts.items()}
    return _Rows(np.concatenate(label), np.concatenate(predicted), np.concatenate(has_map), joined)


def explanation_maps(
    model: Method, out: Prediction, class_index: Int64[Tensor, "b"]
) -> dict[str, Float32[Tensor, "b h w"]]:
    """Positive parts at native resolution: ``"1"`` .. each layer's attention, ``"cam"`` the CAM of the given class."""
    maps = {str(number): positive_part(attention(layer.float())) for number, layer in enumerate(out.features, 1)}
    if model.has_cam:
        maps["cam"] = positive_part(model.cam(out, class_index).float())
    return {name: value.detach() for name, value in maps.items()}


def _cosines(
    maps: Mapping[str, Tensor], au_map: Float32[Tensor, "b m m"], others: Float32[Tensor, "b o m m"]
) -> dict[str, np.ndarray]:
    """Of each map: ``name`` with the sample's AU map, ``name/wrong`` with the other expressions' maps (mean)."""
    size = (int(au_map.shape[1]), int(au_map.shape[2]))
    figures: dict[str, np.ndarray] = {}
    for name, value in maps.items():
        grown = resize_maps(value, size)
        wrong = [cosine(grown, others[:, number]) for number in range(others.shape[1])]
        figures[name] = cosine(grown, au_map).double().cpu().numpy()
        figures[f"{name}/wrong"] = _present_mean(wrong, others)
    return figures


def _present_mean(values: Sequence[Tensor], others: Float32[Tensor, "b o m m"]) -> np.ndarray:
    """Mean over the other expressions; the slot of the sample's own expression is an empty map and does not count."""
    if not values:
        return np.zeros(len(others))
    present = others.flatten(2).any(2)
    total = (torch.stack(list(values), 1) * present).sum(1) / present.sum(1).clamp_min(1)
    mean: np.ndarray = total.double().cpu().numpy()
    return mean


class _Controls:
    """What guidance has to beat, computed on the very maps the model is compared with."""

    def __init__(self, store: Store, reader: SplitReader, config: AugmentConfig) -> None:
        self.store, self.reader, self.config = store, reader, config
        index = store.index
        self.size = augment.cropped_map_size(config.crop_size, index.image_size, index.map_size)
        book = store.codebook
        self.expressions = [name for name in index.classes if name in book.expressions and book.has_map(name)]
        self.mean = self._crop(mean_map(store)[None])[0].numpy()

    def _crop(self, maps: np.ndarray) -> Tensor:
        """The evaluation's centre crop of full maps."""
        index = self.store.index
        rows = np.arange(len(maps), dtype=np.int64)
        parameters = augment.sample_parameters(self.config, 0, 0, rows, index.image_size)
        values = torch.from_numpy(np.asarray(maps, np.float32))[:, None]
        return augment.crop_values(values, parameters, self.config.crop_size, index.image_size, self.size)[:, 0]

    def other_maps(self, batch: Batch) -> Float32[Tensor, "b o m m"]:
        """Each face with every other expression drawn on it; its own slot is empty, as are faces without a map."""
        index, rows = self.store.index, batch.index.cpu().numpy()
        labels, mapped = batch.label.cpu().numpy(), batch.has_map.cpu().numpy()
        full = np.zeros((len(rows), len(self.expressions), index.map_size, index.map_size), np.float32)
        for slot, row in enumerate(rows):
            names = [
                (place, name) for place, name in enumerate(self.expressions) if name != index.classes[labels[slot]]
            ]
            if not mapped[slot] or not names:
                continue
            points = np.repeat(self.reader.landmarks[row][None], len(names), 0)
            full[slot, [place for place, _ in names]] = render_maps(
                points, [name for _, name in names], self.store.codebook, index.image_size, index.map_size
            )
        cropped = self._crop(full.reshape(-1, index.map_size, index.map_size)) if full.size else torch.zeros(0)
        return cropped.reshape(len(rows), len(self.expressions), self.size, self.size).to(batch.au_map.device)

    def cosines(
        self, batch: Batch, others: Float32[Tensor, "b o m m"], sizes: Mapping[str, tuple[int, int]]
    ) -> dict[str, np.ndarray]:
        """The controls' cosine with each sample's map, and each resolution's ceiling."""
        own = batch.au_map.cpu().numpy()
        wrong = [cosine(batch.au_map, others[:, number]) for number in range(others.shape[1])]
        return {
            "control/uniform": metrics.cosines(own, metrics.uniform_map(self.size)),
            "control/centre": metrics.cosines(own, metrics.centre_map(self.size)),
            "control/mean_map": metrics.cosines(own, self.mean),
            "control/wrong_class": _present_mean(wrong, others),
            **{f"ceiling/{name}": metrics.ceilings(own, *size) for name, size in sizes.items()},
        }


def summarise(rows: _Rows, classes: Sequence[str], n_layers: int) -> dict[str, Any]:
    """The figures of ``metrics.json`` from per-sample values; None where no sample has a map."""
    k = len(classes)
    layers = [str(number) for number in range(1, n_layers + 1)]

    def macro(name: str) -> float | None:
        return metrics.macro_mean(rows.cosines[name], rows.label, rows.has_map, k)

    def by_class(name: str) -> list[float | None]:
        return metrics.per_class_mean(rows.cosines[name], rows.label, rows.has_map, k)

    confusion = metrics.confusion_matrix(rows.label, rows.predicted, k)
    report = metrics.class_report(confusion, classes)
    cam, attentions = by_class("cam"), {layer: by_class(layer) for layer in layers}
    for number, name in enumerate(classes):
        report[name]["cam_cos"] = cam[number]
        report[name]["att_cos"] = {layer: attentions[layer][number] for layer in layers}
    ceilings = {layer: macro(f"ceiling/{layer}") for layer in layers}
    return {
        "accuracy": metrics.accuracy(confusion),
        "accuracy_ci95": list(metrics.wilson_interval(int(np.trace(confusion)), len(rows.label))),
        "balanced_accuracy": metrics.balanced_accuracy(confusion),
        "cam_cos": macro("cam"),
        "cam_cos_wrong": macro("cam/wrong"),
        "att_cos": {layer: macro(layer) for layer in layers},
        "att_cos_wrong": {layer: macro(f"{layer}/wrong") for layer in layers},
        "per_class": report,
        "confusion": {"classes": list(classes), "matrix": confusion.tolist()},
        "controls": {
            **{name: macro(f"control/{name}") for name in ("uniform", "centre", "mean_map", "wrong_class")},
            "ceiling": ceilings[layers[-1]],
            "ceiling_per_layer": ceilings,
        },
        "n": len(rows.label),
        "n_with_map": int(rows.has_map.sum()),
    }


def draw_confusion(classes: Sequence[str], matrix: Sequence[Sequence[int]]) -> Figure:
    """The confusion matrix as row shares, with counts written in the cells."""
    counts = np.asarray(matrix, np.int64)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = 2.2 + 0.6 * len(classes)
    figure = Figure(figsize=(side, side), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axis.set_xticks(range(len(classes)), list(classes), rotation=45, ha="right")
    axis.set_yticks(range(len(classes)), list(classes))
    axis.set_xlabel("predicted")
    axis.set_ylabel("true")
    for row in range(len(classes)):
        for column in range(len(classes)):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axis.text(column, row, str(counts[row, column]), ha="center", va="center", color=colour, fontsize="small")
    return figure
