"""What a study takes, estimated before it is begun: the memory and the computing time of each network."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from aupipe.fer_analysis.benchmark.plan import Training
from aupipe.fer_analysis.study.plan import StudyNetwork, StudyRequest
from aupipe.fer_data.machine import available_memory
from aupipe.fer_data.shards import StoreIndex
from aupipe.fer_data.shards.folds import VALIDATION
from aupipe.fer_models.backbones import create_backbone
from aupipe.fer_models.backbones.factory import is_factory
from aupipe.fer_models.devices import resolve_device
from aupipe.fer_models.training import checkpoint
from aupipe.fer_models.training.preflight import training_bytes

PASSES = {"cam": 1, "attention": 1, "occlusion": 200}
"""Passes a face of explainers whose number of samples is not asked for, about."""

IMAGES = 16
"""Images in the batch that is timed."""


@dataclass(frozen=True)
class NetworkCost:
    """What a network takes.

    Attributes:
        name: The network's name.
        bytes: Memory for its weights and all that training keeps of them; maps and images come on top.
        train_seconds: Of a training step, for each image.
        pass_seconds: Of a forward pass, for each image.
    """

    name: str
    bytes: int
    train_seconds: float
    pass_seconds: float

    def seconds(self, images: float, passes: float) -> float:
        """Compute the time for so many images learned and so many passed."""
        return self.train_seconds * images + self.pass_seconds * passes


def tensor_sizes(network: StudyNetwork, n_classes: int) -> list[int]:
    """List the bytes of a network's tensors, its head's among them, without making them."""
    with contextlib.nullcontext() if is_factory(network.backbone) else torch.device("meta"):
        backbone = create_backbone(network.backbone, image_size=network.input_size)
        head = backbone.make_head(n_classes) or nn.Linear(backbone.channels[-1], n_classes)
    return [one.numel() * one.element_size() for module in (backbone, head) for one in module.parameters()]


def memory_shortage(training: Training, sizes: Sequence[int], jobs: int) -> str | None:
    """Say why a network cannot be trained in the memory that ``jobs`` processes share; None where it can."""
    device = resolve_device(training.config.device)
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else available_memory()
    needed, there = training_bytes(sizes, training.config), free / jobs
    if needed <= there:
        return None
    return (
        f"memory is too short: its weights take {needed / 1e9:.1f} GB with what training keeps of them, and a process "
        f"has {there / 1e9:.1f} GB" + (" (fewer --jobs leave it more)" if jobs > 1 else "")
    )


def measure_network(
    network: StudyNetwork, training: Training, n_classes: int, sizes: Sequence[int], threads: int
) -> NetworkCost:
    """Time a network on a few blank images: one training step and one pass, each after one that is not counted."""
    config = training.config
    device = resolve_device(config.device)
    with torch.random.fork_rng():
        model = checkpoint.build_model(config, n_classes, with_weights=False).to(device)
        images = torch.zeros(IMAGES, 3, config.crop_size, config.crop_size, device=device)

    def learn() -> None:
        model.train()
        model(images).logits.logsumexp(1).sum().backward()

    def answer() -> None:
        model.eval()
        with torch.no_grad():
            model(images)

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        spent = [_seconds(work, device) / IMAGES for work in (learn, answer)]
    finally:
        torch.set_num_threads(before)
    return NetworkCost(network.name, training_bytes(sizes, config), *spent)


def _seconds(work: Callable[[], None], device: torch.device) -> float:
    work()
    _wait(device)
    started = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - started


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def total_seconds(
    request: StudyRequest,
    costs: Sequence[NetworkCost],
    folds: Mapping[str, int],
    index: StoreIndex,
    expressions: int,
) -> float:
    """Estimate the computing time of a study in one process, reading and drawing left out.

    Args:
        request: The study.
        costs: What each network takes.
        folds: How many of each network's trainings are left.
        index: Of the store.
        expressions: How many are explained.
    """
    rows = sum(index.rows(split) for split in index.splits)
    others = rows * (request.folds - 1) / request.folds
    learned, chosen_on = (1 - VALIDATION) * others, VALIDATION * others
    schedules = {network.name: network.schedule for network in request.networks}
    total = 0.0
    for cost in costs:
        images = learned * schedules[cost.name].epochs
        if request.max_steps is not None:
            images = min(images, request.max_steps * request.batch_size)
        explained = request.maps.images * expressions * PASSES.get(request.maps.explainer, request.maps.samples)
        passes = images / learned * chosen_on + 2 * rows / request.folds + explained
        total += folds[cost.name] * cost.seconds(images, passes)
    return total
