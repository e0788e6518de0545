"""Training: a loop readable in one sitting, with checkpoints that continue exactly.

Randomness depends on (seed, epoch, step, rank) alone and a checkpoint holds the rest, so a run that was stopped or
killed anywhere and started again ends with the same weights as an undisturbed one (bit for bit on the CPU).
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypedDict

import torch
from torch import Tensor, nn

from aupipe.fer_data.errors import RunError, paragraph
from aupipe.fer_data.folders import RUN, output_folder
from aupipe.fer_data.loading.loader import Batch, TripletLoader
from aupipe.fer_data.shards import Store
from aupipe.fer_data.shards.chosen_rows import few_of_each_class
from aupipe.fer_data.shards.preview import open_previewed, preview_store
from aupipe.fer_data.typed import convert
from aupipe.fer_data.types import Progress, Silent
from aupipe.fer_models.backbones.factory import allow, check_code, code_digest
from aupipe.fer_models.losses import TERMS, LossTerms, Objective
from aupipe.fer_models.methods import Method, method_name
from aupipe.fer_models.targets import parse_layers
from aupipe.fer_models.training import checkpoint, preflight, run_log, run_record
from aupipe.fer_models.training.config import TrainConfig
from aupipe.fer_models.training.log_views import LogViews, write_views
from aupipe.fer_models.training.optim import MovingAverage, learning_rate, make_optimizer
from aupipe.fer_models.training.ranks import Ranks, joined
from aupipe.fer_models.training.run_log import TrainReport
from aupipe.fer_models.training.stop_signal import Action, StopSignal
from aupipe.fer_models.training.validation import validate

CHECK_EVERY = 16
"""Steps between looks at the loss on CUDA, where every look waits for the device; on the CPU each step is checked."""


@dataclass
class _State:
    """The place a run has reached, saved with weights and optimizer. ``sums``: loss terms of the epoch."""

    epoch: int = 0
    batches: int = 0
    step: int = 0
    sums: Tensor = field(default_factory=lambda: torch.zeros(len(TERMS), dtype=torch.float64))
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)


class _Saved(TypedDict):
    """The plain part of a saved state; ``rows``: of the log, with an epoch that ``max_steps`` cut short."""

    epoch: int
    batches: int
    step: int
    seconds: float
    history: list[run_log.LogRow]
    rows: list[run_log.LogRow]


def train(
    store_folder: Path | str, run_folder: Path, config: TrainConfig, progress: Progress | None = None
) -> TrainReport:
    """Train on a store's train split; the val split chooses the epoch that is kept, the test split is not touched.

    The same call continues an interrupted run and does nothing for a finished one. Under torchrun each process calls
    it; the first one writes.

    Args:
        store_folder: The store to train on, or its URL.
        run_folder: Receives ``config.json, log.jsonl, log.csv, curves.png, last.pt, best.pt`` and ``digests.json``, by
            which damaged ones are told.
        config: The run's settings.
        progress: Told of epochs and images; None: nobody is.

    Returns:
        Epochs and steps so far, and the figures of the best epoch.

    Raises:
        RunError: There is no val split, the folder belongs to another configuration, the loss is not finite, or the
            device's memory is exhausted.
        UserInputError: A setting cannot be used on this store.
        StoreError: The store cannot be read.
        FolderInUseError: Another process writes to the run's folder.
        KeyboardInterrupt: The run was told to stop (SIGTERM, Ctrl-C); it is saved.
    """
    config = replace(config, method=method_name(config.method))
    allow(config.backbone)
    store = preview_store(store_folder, config.fold, progress)
    config = run_record.begun_crop(run_folder, config).fitted(store.index.image_size)
    preflight.check(store, config)
    with joined(config.device) as ranks, output_folder(run_folder, RUN) if ranks.first else contextlib.nullcontext():
        record = run_record.describe_run(store, run_folder, config)
        run_record.check_same_run(run_folder, record)
        with preflight.explaining_limits(config, ranks):
            shown = progress or Silent()
            trainer = _Trainer(run_folder, record, ranks, shown if ranks.first else Silent())
            trainer.open_splits(open_previewed(store_folder, store, shown))
            return trainer.run()


class _Trainer:
    def __init__(self, folder: Path, record: run_record.RunRecord, ranks: Ranks, progress: Progress) -> None:
        config = record.config
        self.folder, self.record, self.config, self.ranks, self.progress = folder, record, config, ranks, progress
        self.device = ranks.device(config.device)
        torch.manual_seed(config.seed)
        fresh = not (folder / run_record.LAST).is_file()
        classes, settings = len(record.classes), record.method_settings
        model = checkpoint.build_model(config, classes, with_weights=fresh, settings=settings)
        layers = parse_layers(config.align_layers, model.backbone.n_layers)
        if fresh:
            self.record = replace(
                record,
                initial_weights=model.backbone.origin.as_json(),
                backbone_code=code_digest(model.backbone.body),
            )
            for note in preflight.network_notes(model):
                progress.note(note)
        else:
            check_code(config.backbone, record.backbone_code, model.backbone.body, folder)
        preflight.check_memory(model, config, self.device)
        self.model: Method = model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.step_module: nn.Module = _Step(
            self.model,
            Objective(config.align_weight, layers, config.label_smoothing, config.align_average, ranks.share_with_map),
        )
        self.optimizer = make_optimizer(self.model, config)
        self.average = MovingAverage(self.model, config.ema) if config.ema else None
        self.amp = config.amp and self.device.type == "cuda"
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.amp)
        self.stop_signal = StopSignal(config.checkpoint_minutes, config.checkpoint_steps)
        self.state, self.views = _State(), LogViews(folder)
        self._ahead = 0  # the epoch that best.pt holds already and that is done again
        self.layers = layers

    def open_splits(self, store: Store) -> None:
        """Open what is trained and validated on, a remote store's copy, after everything else could be refused."""
        config, ranks = self.config, self.ranks
        options: dict[str, Any] = {
            "seed": config.seed, "device": self.device,
            "maps": config.maps, "target": config.align_target, "neutral": config.neutral,
            "threads": config.loader_threads,
        }  # fmt: skip
        learned = store.split("train")
        if config.faces_per_class:
            learned = few_of_each_class(learned, config.faces_per_class, config.seed)
        self.loader = TripletLoader(
            learned, config.batch_size, config.augmentation, even=True,
            mode="balanced" if config.balance else config.order,
            rank=ranks.rank, world_size=ranks.size, resident=config.resident, per_au=config.guidance != "merged",
            **options,
        )  # fmt: skip
        val_size = max(config.batch_size // ranks.size, 1)
        self.val = TripletLoader(
            store.split("val"), val_size, config.centre_crop, mode="none", learned=learned, **options
        )
        # The share of the whole split, so that its figures do not depend on how it falls into batches.
        share = torch.tensor(self.val.share_with_map, device=self.device)
        self.val_objective = Objective(
            config.align_weight, self.layers, average=config.align_average, share_with_map=lambda _: share
        )
        for note in preflight.collect_notes(self.loader.reader, self.val.reader, config):
            self.progress.note(note)

    def run(self) -> TrainReport:
        """Train all epochs that are left."""
        resumed = self._resume()
        self._check_same_place()
        if self.ranks.first and not (self._done and (self.folder / run_record.CONFIG).is_file()):
            run_record.save_record(self.folder, self.record)  # that of a run with nothing left to do stays
        self.step_module = self.ranks.wrap(self.step_module)
        started, first_step = time.perf_counter(), self.state.step
        with self.stop_signal.watching(), self.views:
            while not self._done:
                self._train_epoch()
                complete = self.state.batches == len(self.loader)
                self._close_epoch(self._log_row(complete), complete)
        best = run_log.best_row(self.state.history, self.config.select)
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

    @property
    def _done(self) -> bool:
        return self._finished() and not self._lacks_row(self.state.history)

    def _lacks_row(self, rows: Sequence[dict[str, Any]]) -> bool:
        """Tell whether steps were taken that no row of the log tells of: it was stopped between the two."""
        return self.state.batches > 0 and (not rows or rows[-1]["step"] < self.state.step)

    def _train_epoch(self) -> None:
        """Take optimisation steps up to the end of the epoch or ``max_steps``."""
        state, config = self.state, self.config
        todo = len(self.loader) - state.batches
        if config.max_steps is not None:
            todo = max(min(todo, config.max_steps - state.step), 0)
        sums = state.sums.to(self.device)
        self.clock = time.perf_counter()
        self.model.train()
        images = self._seen(state.batches + todo) - self._seen(state.batches)
        self.progress.start(f"epoch {state.epoch + 1}/{config.epochs}", images, "images")
        with contextlib.closing(self.loader.epoch(state.epoch, state.batches)) as batches:
            for left, batch in zip(range(todo - 1, -1, -1), batches, strict=False):
                # Dropout and the like: the same numbers whether or not the run was interrupted.
                torch.manual_seed(config.seed * 1_000_003 + state.step + self.ranks.rank * 1_000_000_007)
                images = self._seen(state.batches + 1) - self._seen(state.batches)
                sums += self._step(batch, images).stacked() * images
                state.step += 1
                state.batches += 1
                if self.device.type == "cpu" or state.step % CHECK_EVERY == 0 or not left or self._asked_for():
                    self._between_steps(sums)
                self.progress.advance(images)
        self.progress.finish()

    def _seen(self, batches: int) -> int:
        """Count the images of all ranks in the first batches of an epoch."""
        return self.loader.plan.samples(batches)

    def _step(self, batch: Batch, images: int) -> LossTerms:
        """Take a step on this rank's part of a batch of so many ``images``; the terms count by the part's size."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.config, self.state.step, len(self.loader))
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, enabled=self.amp):
            # DDP averages over ranks, each with a mean over its own part: unequal parts must not count alike.
            share = len(batch) * self.ranks.size / images
            terms = LossTerms(*(term * share for term in self.step_module(batch)))
        self.scaler.scale(terms.total).backward()  # type: ignore[no-untyped-call]
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_grad)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average:
            self.average.update(self.model, self.state.step + 1)
        return terms

    def _asked_for(self) -> bool:
        """Tell whether a checkpoint is due; several ranks ask together, every :data:`CHECK_EVERY` steps."""
        return self.ranks.size == 1 and self.stop_signal.next_action(self.state.step) != Action.GO_ON

    def _between_steps(self, sums: Tensor) -> None:
        """Check on all ranks together that the loss is finite, and save or stop when it is time."""
        self.state.sums = self.ranks.mean(sums).cpu()
        now = time.perf_counter()
        self.state.seconds, self.clock = self.state.seconds + now - self.clock, now
        self._check_finite(dict(zip(TERMS, self.state.sums.tolist(), strict=True)))
        action = self.ranks.maximum(self.stop_signal.next_action(self.state.step), self.device)
        if action == Action.GO_ON:
            return
        self._save_last(self.state.history)
        if action == Action.STOP:
            self.progress.finish()
            raise KeyboardInterrupt

    def _check_finite(self, figures: dict[str, float]) -> None:
        if not all(map(math.isfinite, figures.values())):
            raise RunError(
                paragraph(
                    f"The loss is no longer finite, in epoch {self.state.epoch + 1} near step {self.state.step}.",
                    where=self.folder,
                    got=", ".join(f"{name} = {value}" for name, value in figures.items()),
                    fix="Use a smaller --lr or --clip-grad, or --no-amp on CUDA, in a new --out folder. "
                    "Checkpoints written so far are sound.",
                )
            )

    def _log_row(self, complete: bool) -> dict[str, Any]:
        """Make the epoch's row of the log; the first rank validates, the others wait for it."""
        state, figures = self.state, None
        if self.ranks.first:
            figures = validate(self._best_model, self.val, self.val_objective, amp=self.amp)
        figures = self.ranks.broadcast(figures)
        self._check_finite(figures)
        seen = self._seen(state.batches)
        means = (state.sums / max(seen, 1)).tolist()
        return {
            "epoch": state.epoch + 1,
            "step": state.step,
            "complete": complete,
            **{f"train_{name}": value for name, value in zip(TERMS, means, strict=True)},
            **figures,
            "lr": learning_rate(self.config, state.step - 1, len(self.loader)),
            "seconds": round(state.seconds, 3),
            "images_per_second": round(seen / max(state.seconds, 1e-9), 1),
            "wait_fraction": round(self.loader.wait_fraction, 4),
        }

    @property
    def _best_model(self) -> Method:
        """The weights that are validated and kept: the average where there is one, unless the last ones are wanted."""
        return self.average.model if self.average and self.config.select != "last" else self.model

    def _close_epoch(self, row: dict[str, Any], complete: bool) -> None:
        """Write checkpoints and log; ``last.pt`` comes last, so whatever was not finished is done again."""
        state = self.state
        rows = [*state.history, row]
        self._settle_ahead(row, rows)
        if self.ranks.first and run_log.best_row(rows, self.config.select) is row:
            self._save_best(row)
        if self.ranks.first:
            run_log.write_log(self.folder, rows)
            if self.config.tensorboard:
                run_log.write_tensorboard(self.folder, row)
        if complete:
            self.state = _State(epoch=state.epoch + 1, step=state.step, history=rows)
        if self.ranks.first:
            self.views.show(rows)
            if self._finished():  # before last.pt, with which nothing would be left to do
                self.views.write()
        self._save_last(rows)
        if not complete:
            state.history = rows
        self.progress.note(
            f"epoch {row['epoch']}: loss {row['train_total']:.3f}, val accuracy {row['val_accuracy']:.1%}, "
            f"val alignment {row['val_align']:.3f}"
        )

    def _settle_ahead(self, row: dict[str, Any], rows: list[dict[str, Any]]) -> None:
        """Where ``best.pt`` was of this epoch already and it is not the best any more, the best one's weights are lost.

        A kill between ``best.pt`` and ``last.pt`` leaves it so; an epoch that is done again on other hardware may end
        a little differently.
        """
        if self._ahead and run_log.best_row(rows, self.config.select) is not row:
            for earlier in self.state.history:
                earlier["lost"] = True
            self.progress.note(
                f"{self.folder}: best.pt held epoch {self._ahead}, which came out differently, or was cut short, when "
                "it was done again: the best of it and the epochs to come is kept"
            )
        self._ahead = 0

    def _save_best(self, row: dict[str, Any]) -> None:
        best = {"model": self._best_model.state_dict(), "epoch": row["epoch"], "step": row["step"], "row": row}
        checkpoint.save_checkpoint(self.folder / run_record.BEST, best)

    def _save_last(self, rows: list[dict[str, Any]]) -> None:
        self.stop_signal.note_saved(self.state.step)
        if not self.ranks.first:
            return
        content = {
            **vars(self.state),
            "rows": rows,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }
        if self.average:
            content["average"] = self.average.model.state_dict()
        checkpoint.save_checkpoint(self.folder / run_record.LAST, content)

    def _resume(self) -> bool:
        path = self.folder / run_record.LAST
        if not path.is_file():
            if (self.folder / run_record.BEST).is_file():
                self.progress.note(f"{self.folder}: last.pt is missing, so training starts again")
            return False
        names = _Saved.__annotations__
        # On the CPU: weights and moments find their device, and Adam's counts of steps must stay here.
        saved, _ = checkpoint.load_checkpoint(
            path, torch.device("cpu"), (*names, "sums", "model", "optimizer", "scaler")
        )
        with checkpoint.explaining_damage(path):
            checkpoint.load_weights(self.model, saved["model"], path)
            if self.average:
                checkpoint.load_weights(self.average.model, saved["average"], path)
            self.optimizer.load_state_dict(saved["optimizer"])
            if saved["scaler"]:  # empty where it was trained without mixed precision until now
                self.scaler.load_state_dict(saved["scaler"])
            place: dict[str, Any] = {**convert({name: saved[name] for name in names}, _Saved)}
            rows = place.pop("rows")
            self.state = _State(**place)
            self.state.sums.copy_(saved["sums"])  # refuses what is no tensor of these terms
            self._mend(rows)
        if rows and self.ranks.first:
            write_views(self.folder, rows)  # a kill may have left older ones
        self.stop_signal.note_saved(self.state.step)
        if self._finished():
            # The row of an epoch that --max-steps cut short belongs to the run as long as it is not continued.
            self.state.history = rows
        if self._done:
            self.progress.note(f"{self.folder}: nothing left to do")
        else:
            run_record.check_can_continue(self.folder, self.record)
            self.progress.note(f"{self.folder}: continuing in epoch {self.state.epoch + 1}, step {self.state.step + 1}")
        return True

    def _check_same_place(self) -> None:
        state = self.state
        here = (state.epoch, state.batches, state.step)
        if (first := self.ranks.broadcast(here if self.ranks.first else None)) != here:
            raise RunError(
                paragraph(
                    "The processes do not continue from the same place: they do not see the same run folder.",
                    where=self.folder,
                    expected="epoch, batches and step of the first process: {}, {}, {}".format(*first),
                    got="of process {}: {}, {}, {}".format(self.ranks.rank, *here),
                    fix="Put --out on storage that all machines share.",
                )
            )

    def _mend(self, rows: list[dict[str, Any]]) -> None:
        """Make ``log.jsonl`` and ``best.pt`` again where they are missing or damaged and the last checkpoint can tell.

        Where it cannot, the epochs to come are chosen among; of a finished run there are none.
        """
        if not rows:
            return
        if self.ranks.first and not _sound(lambda: run_log.read_log(self.folder)):
            run_log.write_log(self.folder, rows)
            self.progress.note(f"{self.folder}: {run_log.LOG} was missing or damaged, and is written again")
        best = run_log.best_row(rows, self.config.select)
        kept, can_write = self._kept_epoch(), best["step"] == self.state.step
        if kept == best["epoch"]:
            return
        if kept and not can_write:
            self._ahead = kept  # it is of the epoch that is done again
            return
        if can_write:
            if self.ranks.first:
                self._save_best(best)
            what = "of another epoch" if kept else "missing or damaged"
            self.progress.note(f"{self.folder}: best.pt was {what}, and is written again from last.pt")
        elif self._finished() and not self._lacks_row(rows):
            raise RunError(preflight.lost_best(self.folder, best["epoch"]))
        else:
            for row in self.state.history:
                row["lost"] = True
            self.progress.note(
                f"{self.folder}: best.pt was missing or damaged; the weights of epoch {best['epoch']} are lost, and "
                "the best of the epochs to come is kept. To have them all, remove last.pt: training then starts again"
            )

    def _kept_epoch(self) -> int:
        """Return the epoch whose weights ``best.pt`` holds; 0 where it is missing or damaged."""
        try:
            saved, _ = checkpoint.load_checkpoint(self.folder / run_record.BEST, self.device, ("model", "epoch"))
            return int(saved["epoch"])
        except (RunError, TypeError, ValueError):  # an epoch that is none must not be blamed on last.pt
            return 0


def _sound(read: Callable[[], object]) -> bool:
    """Tell whether there is something to read, and nothing wrong with it."""
    try:
        return bool(read())
    except RunError:
        return False


class _Step(nn.Module):
    """A method's training step as a forward pass: what is wrapped when several ranks share the work."""

    def __init__(self, method: Method, objective: Objective) -> None:
        super().__init__()
        self.method, self.objective = method, objective

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Return the scalars ``ce, align, total`` of a batch."""
        terms = self.method.training_step(batch, self.objective)
        return terms.ce, terms.align, terms.total
