"""Every setting of a training run, checked, in one frozen value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from fer_data.augment import AugmentConfig
from fer_data.errors import UserInputError, paragraph
from fer_data.loader import Mode

CHOICES: dict[str, tuple[str, ...]] = {
    "optimizer": ("sgd", "adamw"),
    "schedule": ("cosine", "step"),
    "select_on": ("accuracy", "balanced_accuracy"),
    "order": ("full", "block"),
}

POSITIVE = ("epochs", "batch_size", "crop_size", "clip_grad", "step_epochs")
NOT_NEGATIVE = ("align_weight", "weight_decay", "warmup_epochs", "scale_jitter", "rotation", "brightness", "contrast")
SHARES = ("momentum", "step_gamma", "flip", "grey", "erasing", "label_smoothing")


@dataclass(frozen=True)
class TrainConfig:
    """Settings of a run; the defaults train a small network from scratch on little data.

    ``align_weight`` 0 is the classifier without AUs. ``align_layers``: ``last``, ``5`` or ``5,4``. ``lr`` None: the
    optimizer's own default (:attr:`learning_rate`). ``schedule`` step multiplies the rate by ``step_gamma`` every
    ``step_epochs`` epochs. ``clip_grad``: largest gradient norm. ``max_steps``: stop after so many optimisation steps
    in all. ``scale_jitter``: the crop shows 1 -+ this many source pixels per pixel. ``flip``, ``grey``, ``erasing``:
    probabilities. ``augment`` False: centre crops only.
    """

    backbone: str = "resnet18"
    method: str = "cam"
    align_weight: float = 4.0
    align_layers: str = "last"
    epochs: int = 30
    batch_size: int = 32
    crop_size: int = 224
    device: str = "auto"
    seed: int = 0
    optimizer: str = "adamw"
    lr: float | None = None
    weight_decay: float = 5e-4
    momentum: float = 0.9
    schedule: str = "cosine"
    warmup_epochs: float = 1.0
    step_epochs: int = 4
    step_gamma: float = 0.9
    clip_grad: float = 5.0
    label_smoothing: float = 0.0
    max_steps: int | None = None
    pretrained: bool = False
    weights: str | None = None
    amp: bool = True
    order: Mode = "full"
    select_on: str = "accuracy"
    augment: bool = True
    flip: float = 0.5
    rotation: float = 6.0
    scale_jitter: float = 0.1
    brightness: float = 0.3
    contrast: float = 0.3
    grey: float = 0.1
    erasing: float = 0.25

    def __post_init__(self) -> None:
        """Raise :class:`UserInputError` for a value that no run can use."""
        for name, known in CHOICES.items():
            if (value := getattr(self, name)) not in known:
                _refuse(name, f"one of {', '.join(known)}", value)
        for name in POSITIVE:
            if not getattr(self, name) > 0:
                _refuse(name, "more than 0", getattr(self, name))
        for name in NOT_NEGATIVE:
            if not 0 <= getattr(self, name) < float("inf"):
                _refuse(name, "0 or more", getattr(self, name))
        for name in SHARES:
            if not 0 <= getattr(self, name) <= 1:
                _refuse(name, "0 to 1", getattr(self, name))
        if self.lr is not None and not self.lr > 0:
            _refuse("lr", "more than 0", self.lr)
        if self.max_steps is not None and self.max_steps < 1:
            _refuse("max_steps", "1 or more", self.max_steps)

    @property
    def learning_rate(self) -> float:
        """``lr``, or what suits the optimizer and a batch of 32: lower when fine-tuning."""
        if self.lr is not None:
            return self.lr
        tuned = self.pretrained or self.weights is not None
        if self.optimizer == "sgd":
            return 0.005 if tuned else 0.02
        return 1e-4 if tuned else 5e-4

    @property
    def augmentation(self) -> AugmentConfig:
        """The training augmentation."""
        return AugmentConfig(
            crop_size=self.crop_size,
            enabled=self.augment,
            flip=self.flip,
            rotation=self.rotation,
            scale=(1 - self.scale_jitter, 1 + self.scale_jitter),
            brightness=self.brightness,
            contrast=self.contrast,
            grey=self.grey,
            erasing=self.erasing,
        )

    @property
    def centre_crop(self) -> AugmentConfig:
        """What validation and test see."""
        return AugmentConfig(crop_size=self.crop_size, enabled=False)

    def as_json(self) -> dict[str, Any]:
        """Every field, and the learning rate in effect."""
        return {**asdict(self), "lr": self.learning_rate}

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> TrainConfig:
        """The configuration that :meth:`as_json` described. Raises ``TypeError`` on unknown fields."""
        known = {field.name for field in fields(TrainConfig)}
        if unknown := set(content) - known:
            raise TypeError(f"unknown settings {sorted(unknown)}")
        return replace(TrainConfig(), **content)


def _refuse(name: str, expected: str, value: object) -> None:
    option = name.replace("_", "-")
    raise UserInputError(paragraph(f"--{option} cannot be {value!r}.", expected=expected, got=value))
