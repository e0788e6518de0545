"""Checks before any training: networks that do not fit their method, folders of other runs, the time it will take."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from aupipe.fer_analysis.benchmark import state
from aupipe.fer_analysis.benchmark.plan import RunSpec, Training
from aupipe.fer_analysis.evaluation import evaluate
from aupipe.fer_data.errors import FerError, UserInputError, paragraph
from aupipe.fer_data.shards import Store
from aupipe.fer_data.shards.preview import through_fold
from aupipe.fer_models.backbones.weights import read_tensors
from aupipe.fer_models.targets import parse_layers
from aupipe.fer_models.training import checkpoint, run_record
from aupipe.fer_models.training.config import TrainConfig
from aupipe.fer_models.training.run import train
from aupipe.fer_models.training.run_log import read_log

MEASURED_STEPS = 4


def check_settings(trainings: Sequence[Training], store: Store) -> None:
    """Check what would end trainings at their start, after hours of others.

    Raises:
        UserInputError: A batch is larger than what is learned from, or a control needs another store.
        RunError: The file of weights cannot be read.
    """
    seen = _through_folds(trainings, store)
    for config in (one.config for one in trainings):
        faces = _faces_learned(config, seen[config.fold])
        if config.balance:
            faces -= faces % len(store.index.classes)
        if config.batch_size > faces:
            raise UserInputError(
                paragraph(
                    f"A batch of {config.batch_size} is larger than the {faces} faces that are learned from.",
                    fix=f"Use --batch-size {faces} or less.",
                )
            )
        if config.align_target == "other_face" and store.index.aus == "class":
            raise UserInputError(
                paragraph(
                    "The control other_face guides by another face's own action units, and this store knows none.",
                    where=store.folder,
                    fix="Leave it out of --align-targets, or draw the maps with `aupipe build-maps --aus fused`.",
                )
            )
    for weights in {one.config.weights for one in trainings} - {None}:
        read_tensors(Path(str(weights)))


def check_networks(runs: Sequence[RunSpec], store: Store) -> None:
    """Build every network once and pass two blank images through it.

    Raises:
        UserInputError: Methods that cannot use their backbone, each named.
        RunError: Settings that no run could use.
    """
    refused: dict[str, str] = {}
    for run in {_network(run.config): run for run in runs}.values():
        config = run.config
        config.augmentation.check(store.index.image_size)
        try:
            checkpoint.read_out_settings(run.training, run_record.method_settings(run.training), config)
            _try(config, len(store.index.classes))
        except (FerError, RuntimeError, ValueError, AssertionError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            refused[config.method] = f"{config.method} on {config.backbone}: {reason}"
    if refused:
        raise UserInputError(
            paragraph(
                f"{len(refused)} of the grid's methods cannot be trained, so nothing was started.",
                got="; ".join(refused.values()),
                fix="Give them a backbone with --backbone-for METHOD=NAME, mend --option-for or --crop-size, or leave "
                "them out of --methods.",
            )
        )


def _network(config: TrainConfig) -> tuple[str, ...]:
    return (config.method, config.backbone, config.method_options, config.align_layers)


def _try(config: TrainConfig, n_classes: int) -> None:
    with torch.random.fork_rng(devices=[]):
        model = checkpoint.build_model(config, n_classes, with_weights=False).eval()
    parse_layers(config.align_layers, model.backbone.n_layers)
    prediction = model.read(torch.zeros(2, 3, config.crop_size, config.crop_size))
    if model.has_cam:
        model.cam(prediction, torch.zeros(2, dtype=torch.long))


def layers_of(config: TrainConfig, n_classes: int) -> int:
    """Count the layers of a network, of which a method may leave some out; the crop must be chosen.

    Raises :class:`UserInputError` for a backbone that is unknown, or that the method cannot use.
    """
    with torch.random.fork_rng(devices=[]):
        return checkpoint.build_model(config, n_classes, with_weights=False).backbone.n_layers


def check_folders(plan: Sequence[Training], out: Path, store: Store) -> None:
    """Check the folders under ``out`` for trainings with other settings or on another store.

    Raises:
        RunError: There is one.
    """
    seen = _through_folds(plan, store)
    for training in plan:
        folder, its = out / state.RUNS / training.name, seen[training.config.fold]
        run_record.check_same_run(folder, run_record.describe_run(its, folder, training.config))


def estimate_seconds(plan: Sequence[Training], out: Path, store: Store, split: str, threads: int) -> float:
    """Estimate the computing time of what is left of the grid, in seconds of one process with so many threads.

    Trains each network a few steps in a temporary folder, validates and evaluates it once. Processes that share the
    machine, and read-outs that differentiate, make the truth somewhat longer.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        left = [one for one in plan if not state.finished(out, one, split, store.index.digest)]
        costs = {_network(one.config): one.config for one in left}
        measured = {key: _measure(config, store, split) for key, config in costs.items()}
    finally:
        torch.set_num_threads(before)
    total, seen = 0.0, _through_folds(left, store)
    for one in left:
        epoch, reading = measured[_network(one.config)]
        steps = -(-_faces_learned(one.config, seen[one.config.fold]) // one.config.batch_size)
        epochs = min(one.config.epochs, (one.config.max_steps or math.inf) / steps)
        total += max(epochs - state.epochs_done(out / state.RUNS / one.name), 0) * epoch
        total += reading * len(one.runs)
    return total


def _measure(config: TrainConfig, store: Store, split: str) -> tuple[float, float]:
    """Measure the seconds of an epoch, with its validation, and of one evaluation.

    The first step is left out: it alone pays for what the libraries prepare once.
    """
    probe = replace(config, epochs=1_000_000, max_steps=1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train(store.folder, folder, probe)
        before = _training_seconds(folder)
        report = train(store.folder, folder, replace(probe, max_steps=1 + MEASURED_STEPS))
        steps = _training_seconds(folder) - before
        started = time.perf_counter()
        evaluate(folder, store.folder, split=split, device=config.device)
        reading = time.perf_counter() - started
    per_epoch = -(-_faces_learned(config, through_fold(store, config.fold)) // config.batch_size)
    return steps / MEASURED_STEPS * per_epoch + max(report.seconds - steps, 0.0), reading


def _through_folds(trainings: Sequence[Training], store: Store) -> dict[str, Store]:
    """See the store as the trainings do, by fold: to deal persons to folds takes reading all of them."""
    return {fold: through_fold(store, fold) for fold in {one.config.fold for one in trainings}}


def _faces_learned(config: TrainConfig, seen: Store) -> int:
    """Count the faces of an epoch; ``seen``: the store through the training's fold."""
    counts = seen.index.label_counts("train").values()
    return sum(min(count, config.faces_per_class or count) for count in counts)


def _training_seconds(folder: Path) -> float:
    return sum(float(row["seconds"]) for row in read_log(folder))
