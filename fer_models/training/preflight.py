"""Before the first step: a run's needs, notes for its user, and the advice when the device's memory is full."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from aupipe.fer_data.errors import RunError, paragraph
from aupipe.fer_data.loading.targets import absent_classes
from aupipe.fer_data.machine import available_memory
from aupipe.fer_data.shards import SplitReader, Store
from aupipe.fer_models.methods import Method
from aupipe.fer_models.training.config import USUAL_CROP, TrainConfig
from aupipe.fer_models.training.ranks import Ranks
from aupipe.fer_models.training.run_log import tensorboard_writer
from aupipe.fer_models.training.selection import few_choose

KEPT = {"adamw": 2, "adam": 2, "rmsprop": 1}
"""Numbers that an optimizer keeps of each weight; SGD one with momentum, else none."""


def check(store: Store, config: TrainConfig) -> None:
    """Raise :class:`RunError` or :class:`UserInputError` for a store or settings that cannot be trained with."""
    _check_splits(store)
    config.augmentation.check(store.index.image_size)
    if config.tensorboard:
        tensorboard_writer()


def collect_notes(train: SplitReader, val: SplitReader, config: TrainConfig) -> list[str]:
    """Collect what the user should know of these splits of a store and these settings, one line each."""
    small = _small_crop(config.crop_size, train.store.index.image_size)
    lines = [
        small,
        _few_faces(train, config.faces_per_class),
        _without_map(train),
        few_choose(config, len(val)),
        without_persons(train),
        "--align-weight is 0: nothing trains the maps of single action units"
        if config.guidance != "merged" and not config.align_weight
        else None,
    ]
    for reader in (train, val):
        if absent := absent_classes(reader):
            lines.append(f"the {reader.split} split has no images of {', '.join(absent)}")
    return [line for line in lines if line]


def _few_faces(train: SplitReader, asked: int) -> str:
    if not asked:
        return ""
    index, counts = train.store.index, Counter(train.labels.tolist())
    short = [f"{name} {counts[at]}" for at, name in enumerate(index.classes) if counts[at] < asked]
    fewer = f"; there are fewer of {', '.join(short)}" if short else ""
    return f"learns from {len(train)} of {index.rows('train')} faces, {asked} of each class{fewer}"


def network_notes(model: Method) -> list[str]:
    """Collect what the user should know of a network that is new, one line each."""
    backbone = model.backbone
    lines = [f"the backbone {backbone.name} starts from {backbone.origin}"]
    if backbone.has_head and not model.keeps_head:
        lines.append(f"the head that the paper of {backbone.name} has is replaced by a pooling one, the method's")
    return lines


def training_bytes(sizes: Sequence[int], config: TrainConfig) -> int:
    """Compute the memory that a network's tensors of these sizes take in training; maps and images come on top.

    Beside each weight: its gradient, the optimizer's memory of it, and its moving average; and one more copy of the
    largest tensor, for the step.
    """
    kept = KEPT.get(config.optimizer, int(config.momentum > 0)) + (config.ema > 0)
    return int((2 + kept) * sum(sizes) + max(sizes))


def check_memory(model: Method, config: TrainConfig, device: torch.device) -> None:
    """Raise :class:`RunError` where the weights with all that training keeps of them do not fit into the memory."""
    sizes = [parameter.numel() * parameter.element_size() for parameter in model.parameters()]
    weights, cuda = sum(sizes), device.type == "cuda"
    extra = training_bytes(sizes, config) - weights
    # On the CPU the weights themselves have been made already.
    needed, there = (weights + extra, torch.cuda.mem_get_info(device)[0]) if cuda else (extra, available_memory())
    if needed > there:
        raise RunError(
            paragraph(
                f"The memory is too short to train {config.backbone}: its weights take {weights / 1e9:.2f} GB, and "
                f"{(weights + extra) / 1e9:.2f} GB with their gradients and what {config.optimizer} keeps of them.",
                expected=f"{needed / 1e9:.2f} GB free{'' if cuda else ' beside the weights'}, and "
                "more for maps and images",
                got=f"{there / 1e9:.2f} GB",
                fix="Close other programs, choose a smaller --backbone"
                + (", or a small head with --method-options head=pooled." if model.keeps_head else "."),
            )
        )


def without_persons(train: SplitReader) -> str | None:
    """Warn where a fold was dealt without knowing the persons; None where they are known, or there is no fold."""
    if train.store.index.fold and list(train.groups) == list(train.sample_ids):
        return "the store knows no persons, so folds are of photos: one person may be learned from and tested on"
    return None


def _without_map(train: SplitReader) -> str | None:
    store = train.store
    if set(store.index.classes) <= store.codebook.expressions.keys():
        return None
    bare = [name for name in store.index.classes if not store.codebook.has_map(name)]
    rows, mapped = len(train), int(train.has_map.sum())
    what = f"{rows - mapped} of {rows} images of train have no map and are learned by their label alone"
    return f"{what}: the codebook has no action units for {', '.join(bare)}"


def _check_splits(store: Store) -> None:
    missing = [split for split in ("train", "val") if split not in store.index.splits]
    if missing:
        raise RunError(
            paragraph(
                f"The store {store.folder} has no {' and no '.join(missing)} split.",
                expected="train to learn from, val to choose the best epoch on (the test split is never used for it)",
                got=", ".join(store.index.splits) or "no rows",
                fix=f"If its photos were left out, {store.folder}/failures.csv says why. Else build the manifest "
                "again: it has a validation split, or a WARN line says that none could be cut and what to do.",
            )
        )


@contextlib.contextmanager
def explaining_limits(config: TrainConfig, ranks: Ranks) -> Iterator[None]:
    """Turn an exhausted device, or a batch too small for its norms, into a sentence that names the size to try."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        smaller = config.batch_size // 2 // ranks.size * ranks.size
        advice = f"Try --batch-size {smaller}" if smaller else "Try a smaller --input-size or --backbone"
        raise RunError(
            paragraph(
                f"The device ran out of memory at --batch-size {config.batch_size}, --crop-size {config.crop_size} "
                f"with {config.backbone}.",
                got=str(error).split(". ")[0],
                fix=f"{advice}, in a new --out folder{'' if config.amp else ', or --amp'}.",
            )
        ) from error
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise RunError(
            paragraph(
                f"Batch normalisation needs more than one value a channel, and --batch-size {config.batch_size} leaves "
                f"a process with a single image of {config.crop_size} pixels.",
                got=str(error),
                # An epoch's batches are more than half of the size that is asked for.
                fix=f"Use --batch-size {2 if ranks.size == 1 else 4 * ranks.size} or more, in a new --out folder.",
            )
        ) from error


def lost_best(folder: Path, epoch: int) -> str:
    """Write the message for a finished run whose best weights are gone."""
    return paragraph(
        f"best.pt is missing or damaged, and with it the weights of epoch {epoch}, the best one; last.pt holds others.",
        where=folder,
        fix="Restore best.pt from a copy; or remove last.pt and run the same command: training then starts again and "
        "ends, on the CPU, with the very same weights.",
    )


def _small_crop(crop: int, image: int) -> str | None:
    """Note that much of the face would be lost: a crop cuts, it does not shrink."""
    if crop >= 0.75 * image:
        return None
    whole = round(image * USUAL_CROP)
    return (
        f"a crop of {crop} cuts {1 - (crop / image) ** 2:.0%} of the {image}-pixel faces' area off, brows and chin "
        f"first; to show the whole face to a network of small input, scale it: --crop-size {whole} --input-size {crop}"
    )
