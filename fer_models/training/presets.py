"""Named settings: those of the publications, as far as they are published.

Sources: Belharbi et al., FG 2024 ("the paper") and its public code ("the reference"); the public code of APViT. Where
they say nothing for a data set, its preset takes what the reference does on AffectNet. Their resized crops of 0.8 to 1
of the area are our random crop of 224 out of 256 pixels with a change of scale; they do not limit the gradient, and
1000 is no limit. The reference's lambda is a mean over the faces with a map: the same number weighs 1.26 (RAF-DB) and
1.36 times (AffectNet) as much as in the mean over the batch, which only ``fg2024-reference`` gives up.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aupipe.fer_data.errors import UserInputError, unknown_name
from aupipe.fer_models.training.config import TrainConfig

_COMMON: dict[str, Any] = {
    "backbone": "resnet50",
    "pretrained": True,
    "method": "cam",
    "align_layers": "last",
    "crop_size": 224,
    "optimizer": "sgd",
    "lr": 0.002,
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "schedule": "step",
    "step_epochs": 4,
    "step_gamma": 0.9,
    "warmup_epochs": 0.0,
    "clip_grad": 1000.0,
    "amp": True,
    "flip": 0.5,
    "rotation": 6.0,
    "scale_jitter": 0.1,
    "brightness": 0.4,
    "contrast": 0.4,
    "grey": 0.2,
    "erasing": 0.5,
}

PRESETS: dict[str, dict[str, Any]] = {
    # The paper's RAF-DB; its accuracy is best near a weight of 4.
    "fg2024-rafdb": {**_COMMON, "epochs": 100, "batch_size": 32, "align_weight": 4.0},
    # The paper's AffectNet.
    "fg2024-affectnet": {**_COMMON, "epochs": 20, "batch_size": 224, "align_weight": 9.0},
    # The reference on AffectNet: maps of 28 x 28 instead of 7 x 7, alignment averaged over the samples with a map.
    "fg2024-reference": {
        **_COMMON, "epochs": 20, "batch_size": 224, "align_weight": 9.0, "align_average": "valid", "output_stride": 8,
    },
    # APViT's own configuration for RAF-DB, aligned as the paper's: faces of 112 pixels, whatever the store's. Its face
    # recognition weights go to --weights. It oversamples rare classes, which no setting here does, and has no Nesterov.
    "apvit-rafdb": {
        **_COMMON, "backbone": "ir50", "pretrained": False, "method": "apvit", "method_options": "dim=768",
        "crop_size": 0, "input_size": 112, "epochs": 40, "batch_size": 128, "align_weight": 4.0, "lr": 0.001,
        "schedule": "cosine", "clip_grad": 10.0, "amp": False,
    },
}  # fmt: skip


def preset_config(name: str, given: Mapping[str, Any]) -> TrainConfig:
    """Make a preset's configuration, in which what is ``given`` wins.

    Raises :class:`UserInputError` for an unknown preset, with a suggestion, or a setting that no run can use.
    """
    if name not in PRESETS:
        raise UserInputError(unknown_name("preset", name, sorted(PRESETS)))
    return TrainConfig(**{**PRESETS[name], **given, "preset": name})
