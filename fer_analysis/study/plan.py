"""The plan of a study: which networks are trained how, on which folds. Pure: no files, no networks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from aupipe.fer_analysis.benchmark.plan import GridCell, RunSpec, Training
from aupipe.fer_analysis.comparison.map_maker import MapOptions
from aupipe.fer_data.errors import UserInputError, paragraph
from aupipe.fer_data.fold import MOST_FOLDS, Fold
from aupipe.fer_models.backbones.expression_nets import split_size
from aupipe.fer_models.backbones.zoo import ZOO, Schedule, zoo_entry
from aupipe.fer_models.training.config import TrainConfig

PRETRAINED, SCRATCH = "pretrained", "scratch"
USUAL_SIZE = 224
"""Side of the images of networks that the study does not have."""

NO_LIMIT = 1e9
"""Gradient norm at which nothing is cut: the study cuts none."""

LEAST_FACES = 30
"""Explained faces of all folds together from which a network's map of an expression counts."""


@dataclass(frozen=True)
class StudyNetwork:
    """A network of the study.

    Attributes:
        name: Its name in tables and files.
        backbone: Its name for ``--backbone``.
        pretrained: True where it starts from ImageNet.
        input_size: Side to which faces are scaled for it.
        schedule: How it is trained.
    """

    name: str
    backbone: str
    pretrained: bool
    input_size: int
    schedule: Schedule

    @property
    def start(self) -> str:
        """What its weights start from, in a word."""
        return PRETRAINED if self.pretrained else SCRATCH


@dataclass(frozen=True)
class StudyRequest:
    """What a study shall do.

    Attributes:
        networks: The networks.
        folds: Parts into which persons are dealt; each is tested once.
        maps: How faces are chosen and explained; its seed is also that of weights and order, its device where they are
            trained.
        least: Explained faces from which a map counts.
        batch_size: Images a training step.
        max_steps: Steps after which every training ends; None: its epochs.
        align_weight: Weight of the alignment with AU maps; 0 as in the study.
        weights_from: A folder of weights (``BACKBONE.safetensors``, ``.pth`` or ``.pt``) in place of timm's.

    Raises:
        UserInputError: There is no network, or no such number of folds.
    """

    networks: tuple[StudyNetwork, ...]
    folds: int = 5
    maps: MapOptions = field(default_factory=lambda: MapOptions(select="predicted"))
    least: int = LEAST_FACES
    batch_size: int = 128
    max_steps: int | None = None
    align_weight: float = 0.0
    weights_from: Path | None = None

    def __post_init__(self) -> None:
        """Check the request."""
        names = [network.name for network in self.networks]
        if not names or len(set(names)) < len(names):
            raise UserInputError(
                paragraph("A study needs networks, each once.", got=", ".join(names) or "none", fix="Mend --networks.")
            )
        if not 2 <= self.folds <= MOST_FOLDS:
            raise UserInputError(paragraph("--folds cannot be used.", expected=f"2 to {MOST_FOLDS}", got=self.folds))


def make_request(
    networks: str,
    *,
    weights_from: str = "hub",
    epochs: int | None = None,
    input_size: int | None = None,
    maps: MapOptions,
    **settings: Any,
) -> StudyRequest:
    """Make the request that the options of ``aupipe study`` describe.

    Args:
        networks: See :func:`parse_networks`.
        weights_from: A folder of weights, ``hub``, or ``none``: every network starts from scratch.
        epochs: Of every network. None: each one's own.
        input_size: Side to which faces are scaled. None: each network's own.
        maps: How faces are chosen and explained.
        settings: Other fields of :class:`StudyRequest`.

    Raises:
        UserInputError: A network or setting that cannot be used.
    """
    chosen = parse_networks(networks, pretrained=weights_from != "none")
    return StudyRequest(
        networks=changed(chosen, epochs=epochs, input_size=input_size),
        maps=maps,
        weights_from=None if weights_from in ("hub", "none") else Path(weights_from),
        **settings,
    )


def parse_networks(text: str, *, pretrained: bool = True) -> tuple[StudyNetwork, ...]:
    """Parse ``all`` or names into networks.

    Args:
        text: Names with commas between: ``all`` for the study's twelve; one of them, by its name or its backbone's,
            which starts as it does there (``silnet_64``: made for images of 64 pixels); or any backbone, also a
            ``module:factory``, which starts from scratch. With ``:pretrained`` and ``:scratch`` they start as these
            say.
        pretrained: False: none starts from ImageNet, whatever the study does.
    """
    given = [name.strip() for name in text.split(",") if name.strip()]
    names = [one for name in given for one in ([entry.name for entry in ZOO] if name.casefold() == "all" else [name])]
    return tuple(_network(name, pretrained) for name in names)


def _network(text: str, pretrained: bool) -> StudyNetwork:
    name, _, ending = text.rpartition(":")
    if ending not in (PRETRAINED, SCRATCH):
        name, ending = text, ""
    if ending == PRETRAINED and not pretrained:
        raise UserInputError(
            paragraph(f"--networks names {text!r}, and --weights-from none: no network starts from ImageNet.")
        )
    base, size = split_size(name)
    entry = zoo_entry(base)
    if entry is None:
        starts = ending == PRETRAINED
        shown = f"{name}-{PRETRAINED}" if ending == PRETRAINED else name
        return StudyNetwork(shown, name, starts, USUAL_SIZE, Schedule())
    starts = pretrained and (entry.pretrained if not ending else ending == PRETRAINED)
    own = base == name
    shown = "-".join(filter(None, [entry.name, "" if own else str(size), ending]))
    backbone, side = (entry.backbone, entry.input_size) if own else (name, size)
    return StudyNetwork(shown, backbone, starts, side, entry.schedule)


def changed(
    networks: Sequence[StudyNetwork], *, epochs: int | None = None, input_size: int | None = None
) -> tuple[StudyNetwork, ...]:
    """Train every network for as many epochs, on images of this size; None: its own.

    The study's four networks from scratch then bring these images to their own size.
    """
    return tuple(
        replace(
            one,
            schedule=replace(one.schedule, epochs=epochs or one.schedule.epochs),
            input_size=input_size or one.input_size,
        )
        for one in networks
    )


def fold_name(network: StudyNetwork, fold: Fold) -> str:
    """Name a network's training on a fold, as a folder."""
    return f"{re.sub(r'[^A-Za-z0-9._-]+', '_', network.name)}-fold{fold.number}"


def folds_of(request: StudyRequest) -> tuple[Fold, ...]:
    """List the folds."""
    return tuple(Fold(number, request.folds) for number in range(1, request.folds + 1))


def plan_trainings(request: StudyRequest, image_size: int) -> list[Training]:
    """List the trainings, fold by fold, so that a study cut short has every network.

    Args:
        request: The study.
        image_size: Side of the store's images, which are shown whole.
    """
    return [_training(request, network, fold, image_size) for fold in folds_of(request) for network in request.networks]


def _training(request: StudyRequest, network: StudyNetwork, fold: Fold, image_size: int) -> Training:
    schedule = network.schedule
    settings: dict[str, Any] = {"weights": _weights(request, network)} if network.pretrained else {}
    config = TrainConfig(
        backbone=network.backbone,
        pretrained=network.pretrained and not settings["weights"],
        crop_size=image_size,
        input_size=network.input_size,
        fold=str(fold),
        augment=False,
        align_weight=request.align_weight,
        epochs=schedule.epochs,
        optimizer=schedule.optimizer,
        lr=schedule.lr,
        batch_size=request.batch_size,
        weight_decay=0.0,
        schedule="constant",
        warmup_epochs=0.0,
        clip_grad=NO_LIMIT,
        max_steps=request.max_steps,
        select="last",
        seed=request.maps.seed,
        device=request.maps.device,
        **settings,
    )
    name = fold_name(network, fold)
    return Training(name, config, (RunSpec(name, GridCell("cam", request.align_weight), config, config, name, name),))


def _weights(request: StudyRequest, network: StudyNetwork) -> str | None:
    """Find the file of a pretrained network's weights; None: they are timm's."""
    if request.weights_from is None:
        return None
    files = [request.weights_from / f"{network.backbone}{ending}" for ending in (".safetensors", ".pth", ".pt")]
    found = next((file for file in files if file.is_file()), None)
    if found is None:
        raise UserInputError(
            paragraph(
                f"--weights-from has no weights of {network.name}.",
                where=request.weights_from,
                expected=", or ".join(file.name for file in files),
                fix="Put them there, leave the network out of --networks, or write NAME:scratch.",
            )
        )
    return str(found.resolve())
