"""Explanations of rows of a store: what a run predicts on them, and its maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8

from aupipe.fer_analysis.evaluation import explanation_maps
from aupipe.fer_data.loading import augment
from aupipe.fer_data.shards import Store
from aupipe.fer_models.devices import resolve_device
from aupipe.fer_models.training import checkpoint, measured_run


@dataclass(frozen=True)
class Explanation:
    """A run's answers on some rows of a split, at the size of the evaluation's centre crop.

    images (n, c, c, 3) RGB; landmarks (n, 68, 2) pixels; au_maps (n, m, m) in [0, 1]; attention and cam (n, h, w):
    positive parts at native resolution, the CAM of the *label*, None where the method has none; predicted, label (n):
    class indices; confidence (n): probability of the prediction.
    """

    classes: tuple[str, ...]
    images: UInt8[np.ndarray, "n c c 3"]
    landmarks: Float32[np.ndarray, "n 68 2"]
    au_maps: Float32[np.ndarray, "n m m"]
    has_map: np.ndarray
    attention: Float32[np.ndarray, "n h w"]
    cam: Float32[np.ndarray, "n _ _"] | None
    label: Int64[np.ndarray, "n"]
    predicted: Int64[np.ndarray, "n"]
    confidence: Float32[np.ndarray, "n"]


@torch.no_grad()
def explain_batch(
    run_folder: Path,
    store: Store,
    rows: Sequence[int],
    *,
    split: str = "test",
    layer: int | None = None,
    device: str = "auto",
) -> Explanation:
    """Explain rows of a split with a run's best model.

    Args:
        run_folder: The run.
        store: Where the rows are.
        rows: Their numbers in the split.
        split: The split.
        layer: Whose attention is shown. None: the deepest.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Returns:
        Pictures, maps and predictions, one for each row.

    Raises:
        RunError: The run cannot be loaded, or does not fit the store.
    """
    where = resolve_device(device)
    record, model, _ = checkpoint.load_best(run_folder, where)
    store = measured_run.run_store(run_folder, record, store.folder)
    reader, index, crop = store.split(split), store.index, record.config.centre_crop
    crop.check(index.image_size)
    chosen = np.asarray(rows, np.int64)
    images = torch.from_numpy(np.stack([reader.image(int(row)) for row in chosen]))
    maps = torch.from_numpy(reader.stored_maps(chosen))
    mean, std = torch.tensor(record.channel_mean), torch.tensor(record.channel_std).clamp_min(1e-6)
    parameters = augment.sample_parameters(crop, 0, 0, chosen, index.image_size)
    pictures, targets = augment.apply(crop, parameters, images, maps, mean, std)
    label = reader.labels[chosen].astype(np.int64)
    out = model.read(pictures.to(where))
    read = explanation_maps(model, out, torch.from_numpy(label).to(where))
    probability = out.logits.float().softmax(1).cpu()
    shown = (pictures * std[:, None, None] + mean[:, None, None]).clamp(0, 1).permute(0, 2, 3, 1)
    return Explanation(
        classes=index.classes,
        images=np.asarray((shown * 255).round().numpy(), np.uint8),
        landmarks=augment.crop_landmarks(reader.landmarks[chosen], parameters, crop.crop_size),
        au_maps=targets.numpy(),
        has_map=reader.has_map[chosen].astype(bool),
        attention=read[str(layer or model.backbone.n_layers)].cpu().numpy(),
        cam=read["cam"].cpu().numpy() if "cam" in read else None,
        label=label,
        predicted=probability.argmax(1).numpy(),
        confidence=probability.max(1).values.numpy(),
    )
