"""Training: a loop readable in one sitting, with checkpoints that continue exactly.

Randomness depends on (seed, epoch, step) alone and a checkpoint holds the rest, so a run that was stopped and started
again ends with the same weights as an undisturbed one (bit for bit on the CPU).
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fer_data.errors import RunError, paragraph
from fer_data.files import folder_lock, remove_temporaries
from fer_data.loader import Batch, TripletLoader
from fer_data.shards import Store, open_store
from fer_data.types import Progress, Silent
from fer_models import checkpoint, metrics, run_log
from fer_models.config import TrainConfig
from fer_models.devices import resolve_device
from fer_models.losses import TERMS, Objective
from fer_models.methods import Method
from fer_models.targets import parse_layers

CHECK_EVERY = 16
"""Steps between looks at the loss on CUDA, where every look waits for the device; on the CPU each step is checked."""


@dataclass(frozen=True)
class TrainReport:
    """What a call of :func:`train` did. ``steps`` and ``epochs`` count the whole run; ``new_steps`` this call."""

    run: Path
    epochs: int
    steps: int
    new_steps: int
    best_epoch: int
    best: dict[str, float]
    finished: bool
    resumed: bool
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """The object that ``--json`` prints."""
        return {**vars(self), "run": str(self.run), "seconds": round(self.seconds, 3)}

    def lines(self) -> list[str]:
        """The summary for people."""
        if not self.new_steps:
            did = f"nothing left to do: {self.epochs} epochs, {self.steps} steps"
        else:
            how = "continued to" if self.resumed else "trained"
            did = f"{how} {self.epochs} epochs, {self.steps} steps ({self.new_steps} now, {self.seconds:.0f} s)"
        best = f"accuracy {self.best['val_accuracy']:.1%}, cross-entropy {self.best['val_ce']:.3f}"
        return [f"{self.run}: {did}", f"best validation epoch {self.best_epoch}: {best}"]


@dataclass
class _State:
    """Where the run is: what a checkpoint holds besides weights and optimizer."""

    epoch: int = 0
    batches: int = 0
    step: int = 0
    sums: Tensor = field(default_factory=lambda: torch.zeros(len(TERMS), dtype=torch.float64))
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)


def train(store_folder: Path, run_folder: Path, config: TrainConfig, progress: Progress | None = None) -> TrainReport:
    """Train on a store's train split, choosing the best epoch on its val split; the test split is not touched.

    Writes ``config.json, log.jsonl, log.csv, curves.png, last.pt, best.pt`` to ``run_folder``. The same call continues
    an interrupted run and does nothing for a finished one. Raises :class:`RunError` (no val split, another
    configuration, loss not finite), :class:`UserInputError` (settings), :class:`StoreError` and
    :class:`FolderInUseError`.
    """
    store = open_store(store_folder)
    missing = [split for split in ("train", "val") if split not in store.index.splits]
    if missing:
        raise RunError(
            paragraph(
                f"The store {store_folder} has no {' and no '.join(missing)} split.",
                expected="train to learn from, val to choose the best epoch on (the test split is never used for it)",
                got=", ".join(store.index.splits) or "no rows",
                fix="Build the manifest again: `aupipe manifest build` cuts a validation split from train.",
            )
        )
    config.augmentation.check(store.index.image_size)
    with folder_lock(run_folder):
        remove_temporaries(run_folder)
        record = checkpoint.describe_run(store, run_folder, config)
        checkpoint.check_same_run(run_folder, record)
        trainer = _Trainer(store, run_folder, config, progress or Silent())
        checkpoint.save_record(run_folder, record)
        return trainer.run()


class _Trainer:
    def __init__(self, store: Store, folder: Path, config: TrainConfig, progress: Progress) -> None:
        self.folder, self.config, self.progress = folder, config, progress
        self.classes = store.index.classes
        self.device = resolve_device(config.device)
        torch.manual_seed(config.seed)
        fresh = not (folder / checkpoint.LAST).is_file()
        model = checkpoint.build_model(config, len(self.classes), with_weights=fresh)
        layers = parse_layers(config.align_layers, model.backbone.n_layers)
        self.objective = Objective(config.align_weight, layers, config.label_smoothing, config.align_average)
        self.val_objective = Objective(config.align_weight, layers, average=config.align_average)
        self.model: Method = model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = _optimizer(self.model, config)
        self.amp = config.amp and self.device.type == "cuda"
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.amp)
        options: dict[str, Any] = {
            "seed": config.seed, "device": self.device,
            "maps": config.maps, "target": config.align_target, "neutral": config.neutral,
        }  # fmt: skip
        self.loader = TripletLoader(
            store.split("train"), config.batch_size, config.augmentation, mode=config.order, drop_last=True, **options
        )
        self.val = TripletLoader(store.split("val"), config.batch_size, config.centre_crop, mode="none", **options)
        self.state = _State()
        if crop_share := _small_crop(config.crop_size, store.index.image_size):
            progress.note(crop_share)

    def run(self) -> TrainReport:
        """All epochs that are left."""
        resumed = self._resume()
        started, first_step = time.perf_counter(), self.state.step
        while not self._finished():
            self._train_epoch()
            complete = self.state.batches == len(self.loader)
            self._close_epoch(self._log_row(complete), complete)
        best = run_log.best_row(self.state.history, self.config.select_on)
        return TrainReport(
            run=self.folder,
            epochs=self.state.epoch,
            steps=self.state.step,
            new_steps=self.state.step - first_step,
            best_epoch=int(best["epoch"]),
            best={name: value for name, value in best.items() if name.startswith("val_")},
            finished=self.state.epoch >= self.config.epochs,
            resumed=resumed,
            seconds=time.perf_counter() - started,
        )

    def _finished(self) -> bool:
        limit = self.config.max_steps
        return self.state.epoch >= self.config.epochs or (limit is not None and self.state.step >= limit)

    def _train_epoch(self) -> None:
        """Optimisation steps up to the end of the epoch or ``max_steps``."""
        state, config = self.state, self.config
        todo = len(self.loader) - state.batches
        if config.max_steps is not None:
            todo = min(todo, config.max_steps - state.step)
        started, sums = time.perf_counter(), state.sums.to(self.device)
        self.model.train()
        self.progress.start(f"epoch {state.epoch + 1}/{config.epochs}", todo * config.batch_size, "images")
        with contextlib.closing(self.loader.epoch(state.epoch, state.batches)) as batches:
            for _, batch in zip(range(todo), batches, strict=False):
                # Dropout and the like: the same numbers whether or not the run was interrupted.
                torch.manual_seed(config.seed * 1_000_003 + state.step)
                sums += self._step(batch) * len(batch)
                state.step += 1
                state.batches += 1
                if self.device.type == "cpu" or state.step % CHECK_EVERY == 0:
                    self._check_finite(sums)
                self.progress.advance(len(batch))
        self._check_finite(sums)
        state.sums = sums.cpu()
        state.seconds += time.perf_counter() - started
        self.progress.finish()

    def _step(self, batch: Batch) -> Tensor:
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.config, self.state.step, len(self.loader))
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, enabled=self.amp):
            terms = self.model.training_step(batch, self.objective)
        self.scaler.scale(terms.total).backward()  # type: ignore[no-untyped-call]
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_grad)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return terms.stacked()

    def _check_finite(self, sums: Tensor) -> None:
        if not bool(torch.isfinite(sums).all()):
            raise RunError(
                paragraph(
                    f"The loss is no longer finite, in epoch {self.state.epoch + 1} near step {self.state.step}.",
                    where=self.folder,
                    got=", ".join(f"{name} = {value}" for name, value in zip(TERMS, sums.tolist(), strict=True)),
                    fix="Use a smaller --lr or --clip-grad, or --no-amp on CUDA, in a new --out folder. "
                    "Checkpoints written so far are sound.",
                )
            )

    @torch.no_grad()
    def _validate(self) -> dict[str, float]:
        self.model.eval()
        k = len(self.classes)
        confusion = np.zeros((k, k), np.int64)
        sums = torch.zeros(len(TERMS), dtype=torch.float64, device=self.device)
        with contextlib.closing(self.val.epoch(0)) as batches:
            for batch in batches:
                with torch.autocast(self.device.type, enabled=self.amp):
                    out = self.model(batch.image)
                    terms = self.val_objective(out.logits, out.features, batch.label, batch.au_map, batch.has_map)
                sums += terms.stacked() * len(batch)
                confusion += metrics.confusion_matrix(batch.label.cpu().numpy(), out.logits.argmax(1).cpu().numpy(), k)
        self._check_finite(sums)
        means = (sums / self.val.rows).tolist()
        return {
            "val_accuracy": metrics.accuracy(confusion),
            "val_balanced_accuracy": metrics.balanced_accuracy(confusion),
            **{f"val_{name}": value for name, value in zip(TERMS, means, strict=True)},
        }

    def _log_row(self, complete: bool) -> dict[str, Any]:
        state = self.state
        seen = state.batches * self.config.batch_size
        means = (state.sums / max(seen, 1)).tolist()
        return {
            "epoch": state.epoch + 1,
            "step": state.step,
            "complete": complete,
            **{f"train_{name}": value for name, value in zip(TERMS, means, strict=True)},
            **self._validate(),
            "lr": learning_rate(self.config, state.step - 1, len(self.loader)),
            "seconds": round(state.seconds, 3),
            "images_per_second": round(seen / max(state.seconds, 1e-9), 1),
            "wait_fraction": round(self.loader.wait_fraction, 4),
        }

    def _close_epoch(self, row: dict[str, Any], complete: bool) -> None:
        """Checkpoint and log; ``last.pt`` comes last, so whatever was not finished is done again."""
        state = self.state
        rows = [*state.history, row]
        if run_log.best_row(rows, self.config.select_on) is row:
            best = {"model": self.model.state_dict(), "epoch": row["epoch"], "step": row["step"], "row": row}
            checkpoint.save_checkpoint(self.folder / checkpoint.BEST, best)
        run_log.write_logs(self.folder, rows)
        if complete:
            self.state = _State(epoch=state.epoch + 1, step=state.step, history=rows)
        checkpoint.save_checkpoint(self.folder / checkpoint.LAST, self._checkpoint(rows))
        if not complete:
            state.history = rows
        self.progress.note(
            f"epoch {row['epoch']}: loss {row['train_total']:.3f}, val accuracy {row['val_accuracy']:.3f}, "
            f"val alignment {row['val_align']:.3f}"
        )

    def _checkpoint(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            **vars(self.state),
            "rows": rows,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def _resume(self) -> bool:
        path = self.folder / checkpoint.LAST
        if not path.is_file():
            return False
        saved = checkpoint.load_checkpoint(path, self.device)
        checkpoint.restore(self.model, saved["model"], path)
        self.optimizer.load_state_dict(saved["optimizer"])
        self.scaler.load_state_dict(saved["scaler"])
        self.state = _State(**{name: saved[name] for name in vars(_State())})
        self.state.sums = self.state.sums.cpu()
        if self._finished():
            # The row of an epoch that --max-steps cut short belongs to the run as long as it is not continued.
            self.state.history = saved["rows"]
            self.progress.note(f"{self.folder}: nothing left to do")
        else:
            self.progress.note(f"{self.folder}: continuing in epoch {self.state.epoch + 1}")
        return True


def learning_rate(config: TrainConfig, step: int, steps_per_epoch: int) -> float:
    """Rate of an optimisation step: linear warm-up, then cosine to 0 over all epochs, or steps down."""
    warmup = config.warmup_epochs * steps_per_epoch
    total = max(config.epochs * steps_per_epoch, 1)
    ramp = min((step + 1) / (warmup + 1), 1.0)
    if config.schedule == "step":
        return config.learning_rate * ramp * config.step_gamma ** (step // steps_per_epoch // config.step_epochs)
    return config.learning_rate * ramp * 0.5 * (1 + math.cos(math.pi * min(step / total, 1)))


def _optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum or AdamW; biases and norms (vectors) are not decayed."""
    groups = [
        {"params": list(_parameters(model, decayed)), "weight_decay": config.weight_decay if decayed else 0.0}
        for decayed in (True, False)
    ]
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=config.learning_rate)
    return torch.optim.SGD(groups, lr=config.learning_rate, momentum=config.momentum, nesterov=config.momentum > 0)


def _parameters(model: nn.Module, decayed: bool) -> Iterator[nn.Parameter]:
    return (parameter for parameter in model.parameters() if (parameter.ndim > 1) == decayed)


def _small_crop(crop: int, image: int) -> str | None:
    """A crop cuts, it does not shrink: worth a line when much of the face would be lost."""
    if crop >= 0.75 * image:
        return None
    return (
        f"a crop of {crop} shows only {crop / image:.0%} of the {image}-pixel faces; for a smaller input, build the "
        f"store with --image-size {round(crop * 8 / 7)}"
    )
