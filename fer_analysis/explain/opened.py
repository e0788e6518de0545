"""A run, opened to explain photos: its model, how its store prepared photos, and its calibration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64, UInt8

from aupipe.fer_analysis.evaluation import explanation_maps
from aupipe.fer_analysis.evaluation.predictions import METRICS, load_metrics
from aupipe.fer_analysis.evaluation.text import beside_the_majority, knows_something
from aupipe.fer_analysis.explain.action_units import Canvas
from aupipe.fer_analysis.explain.calibration import Calibration, run_calibration, softmax
from aupipe.fer_data.au_maps.codebook import Codebook, codebook_from_dict
from aupipe.fer_data.errors import RunError, StoreError, UserInputError, paragraph
from aupipe.fer_data.loading import augment
from aupipe.fer_data.loading.augment import AugmentConfig, AugmentParameters
from aupipe.fer_data.preparation import AlignedFace, Preparation
from aupipe.fer_data.shards import Store
from aupipe.fer_data.typed import UnreadableTextError, convert
from aupipe.fer_models.devices import resolve_device
from aupipe.fer_models.methods import Method
from aupipe.fer_models.training import checkpoint, measured_run, run_record


@dataclass(frozen=True)
class FacePrediction:
    """A model's prediction for one face, and the maps behind it.

    Maps are positive parts at native resolution, over the centre crop.

    Attributes:
        logits: Class scores.
        probability: Class probabilities, calibrated where the run is.
        predicted: Index of the predicted class.
        attention: Attention of the chosen layer.
        cam: The *predicted* class's activation map; None for methods without one.
        au_maps: The network's own map of each of :data:`~aupipe.fer_data.action_units.modes.DRAWN_AUS`, in [0, 1];
            None for a network that was not trained to have them.
    """

    logits: Float64[np.ndarray, "k"]
    probability: Float64[np.ndarray, "k"]
    predicted: int
    attention: Float32[np.ndarray, "h w"]
    cam: Float32[np.ndarray, "_ _"] | None
    au_maps: Float32[np.ndarray, "a _ _"] | None


@dataclass(frozen=True)
class OpenRun:
    """A run ready to explain.

    ``layer`` is the one whose attention is shown, ``notes`` are to be read first. ``standing``: the notes that the
    run's own figures give, where they say that it knows nothing.
    """

    folder: Path
    record: run_record.RunRecord
    model: Method
    device: torch.device
    layer: int
    preparation: Preparation
    calibration: Calibration | None
    notes: tuple[str, ...]
    standing: tuple[str, ...] = ()

    @cached_property
    def codebook(self) -> Codebook:
        """The codebook of the store it was trained on."""
        return codebook_from_dict(self.preparation.codebook, f"{self.folder}/{run_record.CONFIG}")

    @property
    def temperature(self) -> float:
        """What logits are divided by: the calibration's temperature where that helps, else 1."""
        return self.calibration.temperature if self.calibration and self.calibration.helps else 1.0

    @cached_property
    def canvas(self) -> Canvas:
        """The place where AU regions are drawn."""
        prepared = self.preparation
        return Canvas(self.codebook, self.crop, self.placement(), prepared.image_size, prepared.map_size)

    @property
    def crop(self) -> AugmentConfig:
        """The centre crop that the evaluation sees."""
        return self.record.config.centre_crop

    def placement(self, count: int = 1) -> AugmentParameters:
        """Place the centre crop in the aligned image, for ``count`` faces."""
        rows = np.arange(count, dtype=np.int64)
        return augment.sample_parameters(self.crop, 0, 0, rows, self.preparation.image_size)

    def predict(self, faces: Sequence[AlignedFace]) -> list[FacePrediction]:
        """Classify faces along the evaluation's own path: centre crop, normalisation, forward pass, positive parts."""
        return self.predict_images(np.stack([face.image for face in faces]))

    @torch.no_grad()
    def predict_images(
        self,
        images: UInt8[np.ndarray, "n s s 3"],
        *,
        labels: Int64[np.ndarray, "n"] | None = None,
        layer: int | None = None,
    ) -> list[FacePrediction]:
        """Classify aligned images.

        Args:
            images: RGB, of the size of the store's crops.
            labels: Classes whose CAM is read; None: the predicted ones.
            layer: Layer whose attention is read; None: :attr:`layer`.
        """
        mean, std = torch.tensor(self.record.channel_mean), torch.tensor(self.record.channel_std).clamp_min(1e-6)
        aligned = torch.from_numpy(images)
        pictures = augment.apply_to_images(self.crop, self.placement(len(images)), aligned, mean, std).to(self.device)
        out = self.model.read(pictures)
        chosen = out.logits.argmax(1) if labels is None else torch.from_numpy(labels).to(self.device)
        maps = explanation_maps(self.model, out, chosen)
        attention = maps[str(layer or self.layer)].cpu().numpy()
        cam = maps["cam"].cpu().numpy() if "cam" in maps else None
        own = self.model.read_au_maps(out)
        au_maps = None if own is None else own.cpu().numpy()
        logits = out.logits.double().detach().cpu().numpy()
        probability = softmax(logits, self.temperature)
        return [
            FacePrediction(
                logits=row,
                probability=probability[n],
                predicted=int(row.argmax()),
                attention=attention[n],
                cam=None if cam is None else cam[n],
                au_maps=None if au_maps is None else au_maps[n],
            )
            for n, row in enumerate(logits)
        ]

    def check_layer(self, layer: int | None) -> int:
        """Check a layer and return it, :attr:`layer` for None. Raises :class:`UserInputError` for an unknown one."""
        return _checked_layer(layer, self.model) or self.layer


def open_run(
    folder: Path,
    *,
    store_folder: Path | str | None = None,
    layer: int | None = None,
    method: str | None = None,
    method_options: str = "",
    device: str = "auto",
) -> OpenRun:
    """Open a run's best model to explain photos.

    The store may be gone: then there is no calibration unless it is kept with the run already.

    Args:
        folder: The run.
        store_folder: Its store, where it no longer lies where the run says.
        layer: The layer whose attention is shown, from 1; None: the deepest.
        method: The method by which maps are read out; None: the run's own, else one that shares its training.
        method_options: That method's own settings.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        RunError: The folder is no run, or neither it nor the store says how photos are prepared.
        UserInputError: The network has no such layer, or this machine no such device.
    """
    where = resolve_device(device)
    record, model, kept = checkpoint.load_best(folder, where, method, method_options)
    layer = _checked_layer(layer, model)
    store, why = _store(folder, record, store_folder)
    if not record.preparation and store is None:
        raise RunError(
            paragraph(
                "The run does not say how its photos were prepared, and its store, which does, cannot be read.",
                where=folder,
                got=why,
                fix="Give the store with --store.",
            )
        )
    preparation = _preparation(folder, record, store)
    calibration = run_calibration(folder, record, model, kept.sha256, store, where)
    standing = _standing(folder)
    notes = (*standing, *(() if calibration else (_uncalibrated(store, why),)))
    shown = layer or model.backbone.n_layers
    return OpenRun(folder, record, model, where, shown, preparation, calibration, notes, standing)


def _preparation(folder: Path, record: run_record.RunRecord, store: Store | None) -> Preparation:
    """Read how photos are prepared from the run's record, or of an older run from its store."""
    if not record.preparation and store is not None:
        return Preparation.of_store(store.index)
    try:
        return convert(record.preparation, Preparation)
    except UnreadableTextError as error:
        raise RunError(
            paragraph(
                "The run's configuration does not say rightly how its photos were prepared.",
                where=folder / run_record.CONFIG,
                got=error,
                fix=run_record.WAYS_OUT[run_record.CONFIG],
            )
        ) from error


def _checked_layer(layer: int | None, model: Method) -> int | None:
    layers = model.backbone.n_layers
    if layer is not None and not 1 <= layer <= layers:
        raise UserInputError(
            paragraph("--layer is not a layer of this network.", expected=f"1 to {layers}, the deepest", got=layer)
        )
    return layer


def _store(folder: Path, record: run_record.RunRecord, override: Path | str | None) -> tuple[Store | None, str]:
    """Open the run's store, or say why there is none; one that was asked for must be there."""
    try:
        return measured_run.run_store(folder, record, override), ""
    except (StoreError, RunError) as error:
        if override is not None:
            raise
        return None, str(error)


def _standing(folder: Path) -> tuple[str, ...]:
    """Say by the run's own figures of the test split, where it has them, that the model knows nothing."""
    if not (folder / METRICS).is_file():
        return ()
    try:
        found = load_metrics(folder)
    except RunError as error:
        return (f"Whether the model knows anything cannot be told: {error}",)
    if knows_something(found) or measured_run.outdated(folder, found):
        return ()
    return (
        f"This model knows nothing that could be explained: on {found['split']} it is right on "
        f"{found['accuracy']:.1%} of {found['n']} faces, {beside_the_majority(found)}. Its maps show what it looks at, "
        "not what an expression looks like.",
    )


def _uncalibrated(store: Store | None, why: str) -> str:
    reason = why if store is None else "its store has no validation rows, or is not the one it was trained on"
    return f"Confidence is not calibrated, so it is usually too high: {reason}"
