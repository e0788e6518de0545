"""A run's folder: configuration, checkpoints, and rebuilding the model they belong to.

Checkpoints hold tensors and plain values only, so ``torch.load(weights_only=True)`` reads them.
"""

from __future__ import annotations

import json
import os
import pickle
import platform
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from aupipe.fer_data.errors import RunError, UserInputError, paragraph
from aupipe.fer_data.files import atomic_path, write_json
from aupipe.fer_data.preparation import Preparation
from aupipe.fer_data.shards import Store, open_store
from aupipe.fer_data.versions import installed_versions
from aupipe.fer_models.backbones import create_backbone, library_versions
from aupipe.fer_models.methods import METHODS, Method, create_method, parse_options, training_name
from aupipe.fer_models.training.config import TrainConfig

CONFIG, LAST, BEST = "config.json", "last.pt", "best.pt"

MAY_DIFFER = frozenset({"preset", "max_steps", "device", "checkpoint_minutes", "checkpoint_steps", "tensorboard"})
"""Options that may differ when a run is continued: where it computes, how far it goes, how often it
saves, and the name of settings that are compared one by one."""


@dataclass(frozen=True)
class RunRecord:
    """The content of ``config.json``. ``store`` is relative to the run's folder where both are on one drive.

    ``preparation``: how the store's photos became crops, :class:`Preparation` as JSON; empty in older runs.
    """

    config: TrainConfig
    store: str
    store_digest: str
    codebook: str
    codebook_digest: str
    classes: tuple[str, ...]
    image_size: int
    map_size: int
    channel_mean: tuple[float, ...]
    channel_std: tuple[float, ...]
    versions: dict[str, str]
    preparation: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return the plain content of ``config.json``."""
        content = {name: value for name, value in vars(self).items() if name != "config"}
        return json.loads(json.dumps({**content, "config": self.config.as_json()}))  # type: ignore[no-any-return]


def describe_run(store: Store, run_folder: Path, config: TrainConfig) -> RunRecord:
    """Make the record of a run on this store."""
    index = store.index
    return RunRecord(
        config=config,
        store=Path(os.path.relpath(store.folder.resolve(), run_folder.resolve())).as_posix(),
        store_digest=index.digest,
        codebook=store.codebook.name,
        codebook_digest=index.codebook_digest,
        classes=index.classes,
        image_size=index.image_size,
        map_size=index.map_size,
        channel_mean=tuple(index.channel_mean),
        channel_std=tuple(index.channel_std),
        versions={
            **library_versions(),
            **installed_versions(("aupipe", "numpy"), "not installed"),
            "python": platform.python_version(),
        },
        preparation=Preparation.of_store(index).as_json(),
    )


def save_record(run_folder: Path, record: RunRecord) -> None:
    """Write ``config.json``."""
    write_json(run_folder / CONFIG, record.as_json())


def load_record(run_folder: Path) -> RunRecord:
    """Read ``config.json``. Raises :class:`RunError` when the folder is not a run."""
    path = run_folder / CONFIG
    if not path.is_file():
        raise RunError(
            paragraph(
                f"{run_folder} is not a training run: it has no {CONFIG}.",
                fix="Give the folder that `aupipe train` wrote to with --out.",
            )
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        content["config"] = TrainConfig.from_json(content["config"])
        for name in ("classes", "channel_mean", "channel_std"):
            content[name] = tuple(content[name])
        return RunRecord(**content)
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(
            paragraph(
                "The run's configuration is damaged or was written by another version.",
                where=path,
                got=error,
                fix="Train into a new folder.",
            )
        ) from error


def check_same_run(run_folder: Path, record: RunRecord) -> None:
    """Raise :class:`RunError` when the folder belongs to another configuration or store, naming what differs."""
    if not (run_folder / CONFIG).is_file():
        return
    before, now = load_record(run_folder), record
    old, new = before.config.as_json(), now.config.as_json()
    different = {
        name: (old.get(name), new[name]) for name in new if name not in MAY_DIFFER and old.get(name) != new[name]
    }
    if before.store_digest != now.store_digest:
        different["store"] = (f"{before.store} ({before.store_digest[:12]})", f"{now.store} ({now.store_digest[:12]})")
    if different:
        raise RunError(
            paragraph(
                f"The folder {run_folder} belongs to a run with other settings: {', '.join(sorted(different))}.",
                expected="; ".join(f"{name} = {value[0]}" for name, value in sorted(different.items())),
                got="; ".join(f"{name} = {value[1]}" for name, value in sorted(different.items())),
                fix="Repeat the settings it was started with to continue it, or choose another --out.",
            )
        )


def build_model(config: TrainConfig, n_classes: int, *, with_weights: bool) -> Method:
    """Build the network of a configuration; ``with_weights=False`` for one whose weights come from a checkpoint."""
    if n_classes < 2:
        raise UserInputError(paragraph("The store has a single class: there is nothing to classify.", got=n_classes))
    backbone = create_backbone(
        config.backbone,
        pretrained=config.pretrained and with_weights,
        weights=Path(config.weights) if config.weights and with_weights else None,
        output_stride=config.output_stride,
        image_size=config.crop_size,
    )
    return create_method(config.method, backbone, n_classes, **parse_options(config.method, config.method_options))


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint atomically."""
    with atomic_path(path) as temporary:
        torch.save(state, temporary)


def load_checkpoint(path: Path, device: torch.device) -> dict[str, Any]:
    """Read a checkpoint. Raises :class:`RunError` when it is missing or damaged."""
    if not path.is_file():
        raise RunError(
            paragraph(
                f"The run has no checkpoint {path.name} yet.",
                where=path.parent,
                fix="Run `aupipe train` with the same settings: it continues where it stopped.",
            )
        )
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except (OSError, EOFError, RuntimeError, ValueError, pickle.UnpicklingError) as error:
        raise RunError(
            paragraph(
                "The checkpoint cannot be read.",
                where=path,
                got=str(error).splitlines()[0] if str(error) else type(error).__name__,
                fix="Remove it and run `aupipe train` again, or train into a new folder.",
            )
        ) from error
    return state


def load_weights(model: Method, weights: dict[str, Any], path: Path) -> None:
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


def load_best(
    run_folder: Path, device: torch.device, method: str | None = None, method_options: str = ""
) -> tuple[RunRecord, Method, dict[str, Any]]:
    """Load a run's best model.

    Args:
        run_folder: The run.
        device: Where the model goes.
        method: Read the maps out as another method that shares the run's training; the record then names it.
        method_options: That method's own settings.

    Returns:
        The run's record, the model in evaluation mode, and the checkpoint's content.

    Raises:
        RunError: The folder is not a run, its checkpoint cannot be read, or it was trained as another method.
    """
    record = load_record(run_folder)
    if method is not None:
        record = replace(record, config=_read_out_as(run_folder, record.config, method, method_options))
    state = load_checkpoint(run_folder / BEST, device)
    model = build_model(record.config, len(record.classes), with_weights=False)
    load_weights(model, state["model"], run_folder / BEST)
    return record, model.to(device, memory_format=torch.channels_last).eval(), state  # type: ignore[call-overload]


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
    return replace(config, method=method, method_options=options)


def run_store(run_folder: Path, record: RunRecord, override: Path | None) -> Store:
    """Open the run's store, or ``override`` instead. Raises :class:`RunError` when its classes are not the run's."""
    store = open_store(override if override is not None else (run_folder / record.store).resolve())
    if store.index.classes != record.classes:
        raise RunError(
            paragraph(
                "The store's classes are not those the run was trained on.",
                where=store.folder,
                expected=", ".join(record.classes),
                got=", ".join(store.index.classes),
                fix="Evaluate on a store built with the same labels.",
            )
        )
    return store


def describe_measurement(
    record: RunRecord, state: dict[str, Any], store: Store, split: str, limit: int | None
) -> dict[str, Any]:
    """Describe what a run's best model was measured on, for the file that holds its figures."""
    config = record.config
    return {
        "split": split,
        "limit": limit,
        "store_digest": store.index.digest,
        "codebook": store.codebook.name,
        "codebook_digest": store.index.codebook_digest,
        "checkpoint": BEST,
        "epoch": int(state["epoch"]),
        "backbone": config.backbone,
        "method": config.method,
        "method_options": config.method_options,
        "align_weight": config.align_weight,
        "crop_size": config.crop_size,
    }
