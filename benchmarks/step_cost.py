"""What guidance costs: the time of a training step with and without alignment, side by side in one process.

Steps of the two kinds take turns, so that whatever else the machine does slows both alike; the figure is the median of
the paired differences over the median step without alignment. The store is synthetic and its batch stays in memory:
what is measured is forward pass, loss, backward pass and optimizer.

Run it: OMP_NUM_THREADS=1 python benchmarks/step_cost.py --rounds 30
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

from aupipe.fer_data.loading.loader import Batch
from aupipe.fer_models.backbones import create_backbone
from aupipe.fer_models.losses import Objective
from aupipe.fer_models.methods import Method, create_method
from aupipe.fer_models.training.config import TrainConfig
from aupipe.fer_models.training.optim import make_optimizer

WARM_UP = 3


def make_batch(size: int, crop: int, map_size: int, device: torch.device) -> Batch:
    """A batch of noise, laid out as the loader's."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(size, 3, crop, crop, generator=generator).to(device, memory_format=torch.channels_last)
    return Batch(
        image=image,
        label=torch.arange(size, device=device) % 7,
        au_map=torch.rand(size, map_size, map_size, generator=generator).to(device),
        has_map=torch.arange(size, device=device) % 7 != 6,
        landmarks=torch.zeros(size, 68, 2, device=device),
        index=torch.arange(size, device=device),
    )


class Side:
    """One of the two sides: a model, its optimizer and what it minimises."""

    def __init__(self, backbone: str, layers: tuple[int, ...] | None, device: torch.device) -> None:
        torch.manual_seed(0)
        model: Method = create_method("cam", create_backbone(backbone), 7)
        self.model = model.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        last = (model.backbone.n_layers,)
        self.objective = Objective(4.0 if layers else 0.0, layers or last)
        self.guided = layers is not None
        self.optimizer = make_optimizer(self.model, TrainConfig(backbone=backbone))
        self.amp = device.type == "cuda"

    def step(self, batch: Batch) -> None:
        """One optimisation step; without guidance, of the cross-entropy alone."""
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(batch.image.device.type, enabled=self.amp):
            if self.guided:
                total = self.model.training_step(batch, self.objective).total
            else:
                total = self.objective.classification(self.model(batch.image).logits, batch.label)
        total.backward()
        self.optimizer.step()


def seconds(side: Side, batch: Batch) -> float:
    """Processor time of a step on the CPU, which other programs do not lengthen; wall time on CUDA."""
    if batch.image.device.type == "cuda":
        torch.cuda.synchronize()
        started = time.perf_counter()
        side.step(batch)
        torch.cuda.synchronize()
        return time.perf_counter() - started
    started = time.process_time()
    side.step(batch)
    return time.process_time() - started


def measure(backbone: str, layers: tuple[int, ...], batch: Batch, rounds: int) -> tuple[float, float]:
    """Median seconds of a step without alignment, and median difference that alignment makes."""
    plain, guided = (Side(backbone, chosen, batch.image.device) for chosen in (None, layers))
    without, more = [], []
    for number in range(WARM_UP + rounds):
        order = (plain, guided) if number % 2 else (guided, plain)
        taken = {side.guided: seconds(side, batch) for side in order}
        if number >= WARM_UP:
            without.append(taken[False])
            more.append(taken[True] - taken[False])
    return statistics.median(without), statistics.median(more)


def main() -> None:
    """Print one line per device and choice of layers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--crop", type=int, default=112)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--map-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=30)
    arguments = parser.parse_args()
    print(f"{arguments.backbone} at {arguments.crop}, batch {arguments.batch}, {arguments.rounds} pairs of steps")
    print("device  layers     step without  alignment adds  share")
    for name in ("cpu", *(["cuda"] if torch.cuda.is_available() else [])):
        batch = make_batch(arguments.batch, arguments.crop, arguments.map_size, torch.device(name))
        for layers in ((5,), (5, 4, 3, 2, 1)):
            base, more = measure(arguments.backbone, layers, batch, arguments.rounds)
            shown = ",".join(map(str, layers))
            print(f"{name:<7} {shown:<10} {base * 1e3:9.1f} ms  {more * 1e3:11.2f} ms  {more / base:6.2%}", flush=True)


if __name__ == "__main__":
    main()
