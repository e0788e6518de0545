"""Batches for training: a pure order, threads that read rows into reused buffers, exact resume.

No worker processes: copying raw pixels between processes is slower than reading them (see the benchmarks). The order
and the augmentation depend on (seed, epoch, row) alone, so a resumed epoch continues with the very samples it had left,
on any number of threads and of training processes.
"""

from __future__ import annotations

import contextlib
import operator
import time
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, SupportsIndex

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64, UInt8
from torch import Tensor

from aupipe.fer_data.errors import UserInputError, check_whole, paragraph
from aupipe.fer_data.files import digest
from aupipe.fer_data.loading import augment
from aupipe.fer_data.loading.augment import AugmentConfig, AugmentParameters
from aupipe.fer_data.loading.dataset import TripletDataset
from aupipe.fer_data.loading.fetch import Cuts
from aupipe.fer_data.loading.plan import BLOCK, EpochPlan, Mode, check_same, order
from aupipe.fer_data.loading.prefetch import BUFFERS, PrefetchBuffer, Prefetcher, Request
from aupipe.fer_data.loading.resident import ResidentSplit
from aupipe.fer_data.loading.speed import LoadReport
from aupipe.fer_data.loading.targets import FaceAus, MapSource, Neutral, Target, Targets
from aupipe.fer_data.shards import SplitReader

__all__ = [
    "Batch", "HostBatch", "LoadReport", "MapSource", "Mode", "Neutral", "Target", "TripletDataset", "TripletLoader",
    "order",
]  # fmt: skip

_PER_PROCESS = ("_buffers", "_split", "_stream", "_made_targets")


@dataclass(frozen=True)
class Batch:
    """One batch on the loader's device.

    Attributes:
        image: Normalised, channels last.
        label: Index of the class.
        au_map: The target in [0, 1].
        has_map: True where ``au_map`` is meaningful.
        landmarks: Points in pixels of the crop.
        index: Row in the split.
        valid: 0 where a pixel of ``au_map`` lies in an erased area, which shows no face, else 1; None: all 1.
        aus: The faces' action units, where the loader was asked for them (``per_au``).
    """

    image: Float32[Tensor, "b 3 c c"]
    label: Int64[Tensor, "b"]
    au_map: Float32[Tensor, "b m m"]
    has_map: Bool[Tensor, "b"]
    landmarks: Float32[Tensor, "b 68 2"]
    index: Int64[Tensor, "b"]
    valid: Float32[Tensor, "b m m"] | None = None
    aus: FaceAus | None = None

    def __len__(self) -> int:
        return len(self.label)


@dataclass(frozen=True)
class HostBatch:
    """A batch as it was read, before anything is computed: uint8, in buffers that the next batch may overwrite.

    Attributes:
        images: Whole images, or the crops where ``cut`` says so.
        maps: Whole maps; None where maps are drawn.
        rows: Rows in the split.
        parameters: The augmentation of each sample.
        cut: True where ``images`` are the crops already.
        copied: The event to record after an asynchronous copy out of the buffers.
    """

    images: UInt8[Tensor, "b s s 3"]
    maps: UInt8[Tensor, "b m m"] | None
    rows: Int64[np.ndarray, "b"]
    parameters: AugmentParameters
    cut: bool
    copied: torch.cuda.Event | None = None


class TripletLoader:
    """Batches of a split's triplets, epoch by epoch.

    ``loader.epoch(3)`` yields the batches of epoch 3 (:class:`Batch`, on ``device``); ``loader.epoch(3,
    skip_batches=10)`` the same without the first ten. After an epoch ``report`` says how fast it was.

    Args:
        reader: A split of a store, ``store.split("train")``.
        batch_size: Images in a batch; of all processes together where there are several.
        config: Crop and augmentation. None: the whole images as they are.
        seed: Of order and augmentation.
        device: Where the batches are made.
        mode: Order of an epoch: ``full`` shuffle, ``block`` for stores larger than memory, ``balanced`` shows each
            class equally often, ``none`` keeps the store's order.
        drop_last: Leave out the last batch where it is smaller.
        even: Make the batches of an epoch as equal as possible, none larger than ``batch_size``, instead of a small
            last one: for training on every image. Of an odd number in pairs one batch has three.
        limit: Only the first rows of the split, which lie in hash order.
        rank: This process among ``world_size`` of torchrun; it gets its share of each batch.
        world_size: Number of these processes.
        threads: Threads that read, and decode where the store holds JPEG.
        resident: Put the whole split on the device first.
        maps: ``rendered`` draws the AU maps on the device, from the landmarks and the store's codebook.
        target: The AU map of the class, or a control (:class:`~aupipe.fer_data.loading.targets.Targets`).
        neutral: What classes without AUs get: no target (``skip``), or a ``uniform`` one.
        per_au: Give each batch the regions and weights of its faces' action units too.
        learned: The faces whose mean is the target ``mean``; None: the train split's.
        mean: Of each channel in [0, 1], taken from images before a network sees them: those it was trained with. None:
            the store's.
        std: The deviation of each channel, by which they are divided then. None: the store's.

    Raises:
        UserInputError: Settings that do not fit the store.

    Example:
        >>> loader = aupipe.TripletLoader(aupipe.open_store("store").split("train"), batch_size=4)
        >>> batch = next(loader.epoch(0))
        >>> batch.image.shape, batch.au_map.shape
        (torch.Size([4, 3, 96, 96]), torch.Size([4, 24, 24]))
    """

    def __init__(
        self,
        reader: SplitReader,
        batch_size: SupportsIndex = 32,
        config: AugmentConfig | None = None,
        *,
        seed: SupportsIndex = 0,
        device: torch.device | str = "cpu",
        mode: Mode = "full",
        drop_last: bool = False,
        even: bool = False,
        limit: SupportsIndex | None = None,
        rank: SupportsIndex = 0,
        world_size: SupportsIndex = 1,
        threads: SupportsIndex = 1,
        resident: bool = False,
        maps: MapSource = "stored",
        target: Target = "class",
        neutral: Neutral = "skip",
        per_au: bool = False,
        learned: SplitReader | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        index = reader.store.index
        config = config or AugmentConfig(index.image_size, enabled=False)
        config.check(index.image_size)
        check_whole(batch_size=batch_size, seed=seed, rank=rank, world_size=world_size, threads=threads)
        check_whole(limit=limit or 0)
        # NumPy's integers would overflow in seeds, and not be those of a state that was read back.
        batch_size, seed, threads = operator.index(batch_size), operator.index(seed), operator.index(threads)
        rank, world_size = operator.index(rank), operator.index(world_size)
        limit = None if limit is None else operator.index(limit)
        if threads < 1:
            raise UserInputError(
                paragraph("The loader needs a thread.", expected="1 or more", got=f"{threads} threads")
            )
        self.reader, self.batch_size, self.config = reader, batch_size, config
        self.seed, self.mode, self.device = seed, mode, torch.device(device)
        self.threads, self.resident = threads, resident
        self.maps, self.target, self.neutral, self.per_au, self.learned = maps, target, neutral, per_au, learned
        self.rows = len(reader) if limit is None else min(limit, len(reader))
        labels = reader.labels[: self.rows] if mode == "balanced" else None
        self.plan = EpochPlan(self.rows, batch_size, seed, mode, drop_last, rank, world_size, labels, even)
        self.plan.check()
        self.mean = torch.tensor(index.channel_mean if mean is None else mean, dtype=torch.float32, device=self.device)
        self.std = torch.tensor(index.channel_std if std is None else std, dtype=torch.float32, device=self.device)
        self.std.clamp_min_(1e-6)
        self.report = LoadReport()
        self._store_digest = index.digest
        self._progress = (0, 0)
        self._forget_buffers()
        _ = self._targets  # what cannot be drawn is refused here

    def _forget_buffers(self) -> None:
        self._buffers: list[PrefetchBuffer] = []
        self._split: ResidentSplit | None = None
        self._stream: torch.cuda.Stream | None = None
        self._made_targets: Targets | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Keep settings and position; buffers are made anew in the process that needs them."""
        return {name: value for name, value in vars(self).items() if name not in _PER_PROCESS}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._forget_buffers()

    def __len__(self) -> int:
        """Count the batches of an epoch."""
        return len(self.plan)

    @property
    def share_with_map(self) -> float:
        """Share of the rows that have a target."""
        return float(self._targets.has_map(np.arange(self.rows)).mean())

    @property
    def wait_fraction(self) -> float:
        """Share of the last epoch's time that was spent waiting for data."""
        return self.report.wait_fraction

    def epoch(self, number: int, skip_batches: int = 0) -> Generator[Batch]:
        """Yield the batches of an epoch from ``skip_batches`` on; closing or dropping the iterator ends its threads."""
        with contextlib.closing(self.uint8_epoch(number, skip_batches)) as batches:
            for batch in batches:
                yield self._finish(batch)

    def uint8_epoch(self, number: int, skip_batches: int = 0) -> Generator[HostBatch]:
        """Yield the same batches as bytes, before the device's part of the work; each is valid until the next."""
        started, self._progress = time.perf_counter(), (number, skip_batches)
        images = size = 0
        first = waited = 0.0
        batches = self.plan.batches(number)[skip_batches:]
        try:
            with contextlib.closing(self._fetched(batches, number)) as fetched:
                for batch, so_far in fetched:
                    waited = so_far
                    self._progress = (number, self._progress[1] + 1)
                    images += len(batch.rows)
                    size += batch.images.nbytes + (0 if batch.maps is None else batch.maps.nbytes)
                    first = first or time.perf_counter() - started
                    yield batch
        finally:
            self.report = LoadReport(images, size, time.perf_counter() - started, waited, first)

    def _fetched(self, batches: list[np.ndarray], number: int) -> Generator[tuple[HostBatch, float]]:
        """Batches taken from the resident split or read through the buffers, with the seconds waited so far."""
        if not self.resident:
            yield from self._read(batches, number)
            return
        waited = 0.0
        for draws in batches:
            before, rows = time.perf_counter(), draws % self.rows
            self._split = self._split or self._load_split()
            parameters, cuts = self._prepare(draws, number)
            images, maps = self._split.take(rows, cuts, self.config.crop_size)
            waited += time.perf_counter() - before
            yield HostBatch(images, maps, rows, parameters, cuts is not None), waited

    @property
    def _targets(self) -> Targets:
        if self._made_targets is None:
            choices: dict[str, Any] = {"target": self.target, "neutral": self.neutral, "maps": self.maps}
            self._made_targets = Targets(self.reader, self.device, seed=self.seed, learned=self.learned, **choices)
        return self._made_targets

    def _load_split(self) -> ResidentSplit:
        return ResidentSplit(self.reader, self.rows, self.device, with_maps=self._targets.reads_maps)

    def _read(self, batches: list[np.ndarray], number: int) -> Generator[tuple[HostBatch, float]]:
        prepared: deque[tuple[AugmentParameters, Cuts | None]] = deque()

        def requests() -> Iterator[Request]:
            block = -1
            for draws in batches:
                prepared.append(self._prepare(draws, number))
                rows = draws % self.rows
                before, block = block, int(rows[-1]) // BLOCK
                ahead = (block * BLOCK, (block + 1) * BLOCK) if self.mode == "block" and block != before else None
                yield Request(rows, prepared[-1][1], ahead)

        with contextlib.ExitStack() as stack:
            feed = Prefetcher(self.reader, stack.enter_context(self._lent_buffers()), self.threads)
            filled = stack.enter_context(contextlib.closing(feed.run(requests())))
            for buffer, draws in zip(filled, batches, strict=True):
                parameters, cuts = prepared.popleft()
                images, maps = buffer.batch(len(draws))
                yield (
                    HostBatch(images, maps, draws % self.rows, parameters, cuts is not None, buffer.copied),
                    feed.wait_seconds,
                )

    @contextlib.contextmanager
    def _lent_buffers(self) -> Iterator[list[PrefetchBuffer]]:
        """Lend the buffers to one iterator: another that is alive beside it makes its own."""
        lent, self._buffers = self._buffers or self._make_buffers(), []
        try:
            yield lent
        finally:
            self._buffers = lent

    def _make_buffers(self) -> list[PrefetchBuffer]:
        index = self.reader.store.index
        size = -(-self.plan.largest // self.plan.world_size)
        side = self.config.crop_size if self.config.only_moves else index.image_size
        map_size = index.map_size if self._targets.reads_maps else None
        return [PrefetchBuffer(size, side, map_size, self.device) for _ in range(min(BUFFERS, len(self)))]

    def _prepare(self, draws: Int64[np.ndarray, "b"], number: int) -> tuple[AugmentParameters, Cuts | None]:
        size = self.reader.store.index.image_size
        parameters = augment.sample_parameters(self.config, self.seed, number, draws, size)
        return parameters, augment.pixel_cuts(self.config, parameters, size)

    def _on_device(self, batch: HostBatch) -> tuple[Tensor, Tensor | None]:
        """The batch's bytes on the device; on CUDA copied beside the computation, not between two steps of it."""
        if batch.copied is None:
            return batch.images.to(self.device), None if batch.maps is None else batch.maps.to(self.device)
        self._stream = self._stream or torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        current = torch.cuda.current_stream(self.device)
        with torch.cuda.stream(self._stream):
            images = batch.images.to(self.device, non_blocking=True)
            maps = None if batch.maps is None else batch.maps.to(self.device, non_blocking=True)
            batch.copied.record(self._stream)
        current.wait_stream(self._stream)
        for tensor in (images, maps):
            if tensor is not None:
                tensor.record_stream(current)
        return images, maps

    def _finish(self, batch: HostBatch) -> Batch:
        reader, config, rows, parameters = self.reader, self.config, batch.rows, batch.parameters
        images, maps = self._on_device(batch)
        whole = reader.store.index.image_size
        image = augment.apply_to_images(config, parameters, images, self.mean, self.std, cut=batch.cut)
        label = self._put(reader.labels[rows].astype(np.int64))
        target = self._targets.maps(rows, None if maps is None else maps.float() / 255)
        au_map = augment.apply_to_maps(config, parameters, target, whole)
        points = augment.crop_landmarks(reader.landmarks[rows], parameters, config.crop_size)
        return Batch(
            image=image,
            label=label,
            au_map=au_map,
            has_map=self._put(self._targets.has_map(rows)),
            landmarks=self._put(points),
            index=self._put(rows),
            valid=augment.valid_pixels(parameters, au_map.shape[-1], au_map.device),
            aus=self._targets.action_units(rows, points, config.crop_size, au_map.shape[-1]) if self.per_au else None,
        )

    def _put(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self.device)

    def _identity(self) -> dict[str, Any]:
        augmentation = digest(asdict(self.config))
        split = self.reader.split
        return {
            "store_digest": self._store_digest, "split": split, "augmentation": augmentation, **self.plan.identity()
        }  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        """Return the loader's position: enough to continue with exactly the samples that are left.

        ``samples_done`` counts those of all ranks; every rank has the same state.
        """
        number, done = self._progress
        return {**self._identity(), "epoch": number, "samples_done": self.plan.samples(done)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from :meth:`state_dict`, of any rank, world size and number of threads: then iterate :meth:`resume`.

        Raises :class:`StoreError` when the state belongs to another store, order or augmentation.
        """
        check_same(self._identity(), state)
        self._progress = (int(state["epoch"]), self.plan.batches_done(state["samples_done"]))

    def resume(self) -> Generator[Batch]:
        """Yield what is left of the epoch that :meth:`load_state_dict` was given."""
        return self.epoch(*self._progress)

    def as_torch_dataset(self) -> TripletDataset:
        """Return the same samples one by one, for a plain ``DataLoader`` (much slower; ``num_workers`` is up to you).

        ``DataLoader(dataset, batch_sampler=loader.plan.batches(epoch))`` has the very batches of :meth:`epoch`. Raises
        :class:`UserInputError` for a balanced order, whose repetitions a row number cannot tell apart.
        """
        if self.mode == "balanced":
            raise UserInputError(
                paragraph("A balanced loader is no map-style data set.", fix="Use mode='full' and your own sampler.")
            )
        choices = {"target": self.target, "neutral": self.neutral, "maps": self.maps, "learned": self.learned}
        return TripletDataset(
            self.reader, self.config, self.seed, self.rows, choices, mean=self.mean.cpu(), std=self.std.cpu()
        )
