"""A run's checkpoints, and rebuilding the model they belong to.

Checkpoints hold tensors and plain values only, so ``torch.load(weights_only=True)`` reads them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from aupipe.fer_data.errors import FerError, RunError, UserInputError, paragraph
from aupipe.fer_data.files import steady_file
from aupipe.fer_data.recorded import check_recorded, recorded_path
from aupipe.fer_models.backbones import create_backbone
from aupipe.fer_models.backbones.factory import check_allowed, check_code
from aupipe.fer_models.methods import (
    METHODS,
    Method,
    create_method,
    method_class,
    method_name,
    parse_options,
    training_name,
)
from aupipe.fer_models.training.config import TrainConfig
from aupipe.fer_models.training.run_record import BEST, WAYS_OUT, RunRecord, check_meaning, load_record, method_settings


def build_model(
    config: TrainConfig, n_classes: int, *, with_weights: bool, settings: Mapping[str, Any] | None = None
) -> Method:
    """Build the network of a configuration.

    Args:
        config: The run's settings.
        n_classes: Number of expressions.
        with_weights: False for a network whose weights come from a checkpoint.
        settings: The method's own settings as a run recorded them; none: those of the configuration and the defaults.
    """
    if n_classes < 2:
        raise UserInputError(
            paragraph(
                "The store has a single class: there is nothing to classify.",
                expected="images of two classes or more",
                got=n_classes,
                fix="Build the manifest of a folder that holds other classes too; its WARN lines name labels left out.",
            )
        )
    backbone = create_backbone(
        config.backbone,
        pretrained=config.pretrained and with_weights,
        weights=Path(config.weights) if config.weights and with_weights else None,
        output_stride=config.output_stride,
        image_size=config.input_size or config.crop_size,
    )
    backbone.input_size = config.input_size or None
    model = create_method(config.method, backbone, n_classes, **(settings or method_settings(config)))
    if config.guidance != "merged":
        model.add_au_maps(contrast=config.guidance == "per-au-contrast")
    return model


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint atomically, with its digest. Raises :class:`FerError` when the disk refuses."""
    with recorded_path(path) as temporary, steady_file(temporary) as file:
        torch.save(state, file)


def load_checkpoint(path: Path, device: torch.device, needed: Collection[str]) -> tuple[dict[str, Any], str]:
    """Read a checkpoint that is the one that was written.

    Args:
        path: The file.
        device: Where its tensors go.
        needed: What it must hold.

    Returns:
        Its content and its SHA-256.

    Raises:
        RunError: It is missing or damaged.
    """
    if not path.is_file():
        raise RunError(
            paragraph(
                f"The run has no checkpoint {path.name} yet.",
                where=path.parent,
                fix="Run `aupipe train` with the same settings: it continues where it stopped.",
            )
        )
    sha256 = check_recorded(path, WAYS_OUT[path.name])
    with explaining_damage(path):
        state = torch.load(path, map_location=device, weights_only=True)
        if not isinstance(state, dict) or not state.keys() >= set(needed):
            raise ValueError(f"it does not hold {', '.join(sorted(needed))}")
    return state, sha256


@contextlib.contextmanager
def explaining_damage(path: Path) -> Iterator[None]:
    """Turn whatever damaged content raises into a :class:`RunError`: files of earlier versions have no digest."""
    try:
        yield
    except (FerError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # unpickled bytes, and states of other networks, raise whatever comes to hand
        raise RunError(
            paragraph(
                "The checkpoint cannot be read.",
                where=path,
                got=(str(error).strip() or type(error).__name__).splitlines()[0],
                fix=WAYS_OUT[path.name],
            )
        ) from error


def load_weights(model: Method, weights: Mapping[str, Any], path: Path) -> None:
    """Load a checkpoint's weights into a model. Raises :class:`RunError` naming what does not fit."""
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise RunError(
            paragraph(
                "The checkpoint belongs to another architecture.",
                where=path,
                got="; ".join(line.strip() for line in str(error).splitlines()[1:4]),
                fix="Train into a new folder.",
            )
        ) from error
    # A finite sum, which is quick, has finite terms; a sum may overflow where its terms are finite.
    doubtful = {name: value for name, value in model.state_dict().items() if not bool(value.sum().isfinite())}
    broken = [name for name, value in doubtful.items() if not bool(value.isfinite().all())]
    if broken:
        raise RunError(
            paragraph(
                "The checkpoint's weights are not finite numbers: it is damaged, or the training diverged.",
                where=path,
                got=f"{len(broken)} tensors, {broken[0]} the first",
                fix="Restore it from a copy, or train again with a smaller --lr in a new --out folder.",
            )
        )


@dataclass(frozen=True)
class BestCheckpoint:
    """The identity of a run's best weights: the epoch they are from, and the SHA-256 of ``best.pt``."""

    epoch: int
    sha256: str


def load_best(
    run_folder: Path, device: torch.device, method: str | None = None, method_options: str = ""
) -> tuple[RunRecord, Method, BestCheckpoint]:
    """Load a run's best model.

    Args:
        run_folder: The run.
        device: Where the model goes.
        method: Read the maps out as another method that shares the run's training; the record then names it.
        method_options: That method's own settings.

    Returns:
        The run's record, the model in evaluation mode, and the checkpoint's identity.

    Raises:
        RunError: The folder is not a run, its checkpoint cannot be read, or it was trained as another method.
        UserInputError: Its network is code that the user has not named.
    """
    record = trained = load_record(run_folder)
    check_allowed(trained.config.backbone, run_folder)
    check_meaning(run_folder, trained)
    if method is not None or method_options:
        config = _read_out_as(run_folder, record.config, method or record.config.method, method_options)
        record = replace(record, config=config)
        if config != trained.config:
            record = replace(record, method_settings=read_out_settings(trained.config, trained.method_settings, config))
    path = run_folder / BEST
    state, sha256 = load_checkpoint(path, device, ("model", "epoch"))
    model = build_model(record.config, len(record.classes), with_weights=False, settings=record.method_settings)
    check_code(record.config.backbone, record.backbone_code, model.backbone.body, run_folder)
    with explaining_damage(path):
        load_weights(model, state["model"], path)
        kept = BestCheckpoint(int(state["epoch"]), sha256)
    return record, _ready(model, device), kept


def untrained_model(record: RunRecord, device: torch.device) -> Method:
    """Build the network of a run that :func:`load_best` read, with random weights: those of the run's seed."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(record.config.seed)
        settings = record.method_settings
        model = build_model(record.config, len(record.classes), with_weights=False, settings=settings)
    return _ready(model, device)


def _ready(model: Method, device: torch.device) -> Method:
    """Put a model where it computes, in evaluation mode."""
    return model.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload,no-any-return]


def read_out_settings(trained_as: TrainConfig, trained: Mapping[str, Any], config: TrainConfig) -> dict[str, Any]:
    """Give the settings of a method that reads the maps out: those that make the network as trained.

    What the run's own method is not told otherwise stays as trained, too.

    Args:
        trained_as: The run's configuration.
        trained: The settings that the network was trained with.
        config: Names the method that reads, and its options.

    Raises:
        UserInputError: An option would make another network of it.
    """
    names, given = method_class(config.method).network_options, parse_options(config.method, config.method_options)
    fixed = {name: value for name, value in trained.items() if name in names}
    other = [name for name in given if name in fixed and given[name] != fixed[name]]
    if other:
        raise UserInputError(
            paragraph(
                "An option belongs to the trained network and cannot be chosen when its maps are read out.",
                expected=", ".join(f"{name}={fixed[name]}" for name in other),
                got=", ".join(f"{name}={given[name]}" for name in other),
                fix="Leave it out, or train another run.",
            )
        )
    own = trained if config.method == trained_as.method else {}
    return {**method_settings(config), **own, **given, **fixed}


def _read_out_as(run_folder: Path, config: TrainConfig, method: str, options: str) -> TrainConfig:
    if training_name(method) != training_name(config.method):
        same = [name for name in sorted(METHODS) if training_name(name) == training_name(config.method)]
        raise RunError(
            paragraph(
                f"The run {run_folder} was trained as {config.method}: its maps cannot be read out as {method}.",
                expected=f"a method with the same training: {', '.join(same)}",
                got=method,
                fix=f"Train a run with --method {method}.",
            )
        )
    name = method_name(method)
    if name == config.method:  # what was trained holds where nothing else is said
        trained = parse_options(name, config.method_options)
        wanted = {**trained, **parse_options(name, options)}
        told = ",".join(f"{option}={value}" for option, value in wanted.items())
        options = config.method_options if wanted == trained else told
    return replace(config, method=name, method_options=options)
