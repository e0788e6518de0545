"""The whole study, as ``aupipe study`` makes it: plan, estimate, train, explain, merge, compare, write."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from aupipe.fer_analysis.benchmark import state
from aupipe.fer_analysis.benchmark.plan import Training
from aupipe.fer_analysis.benchmark.preflight import check_folders
from aupipe.fer_analysis.benchmark.processes import PATIENCE, default_jobs, device_of, run_trainings
from aupipe.fer_analysis.benchmark.worker import Order
from aupipe.fer_analysis.comparison.canonical import canonical_face
from aupipe.fer_analysis.comparison.global_maps import GlobalMap
from aupipe.fer_analysis.comparison.map_comparison import MapComparison, compare_maps
from aupipe.fer_analysis.comparison.map_files import LeftOut
from aupipe.fer_analysis.comparison.map_maker import NO_FACE, map_set
from aupipe.fer_analysis.comparison.masks import canonical_masks, masked_expressions
from aupipe.fer_analysis.comparison.report import write_comparison
from aupipe.fer_analysis.comparison.similarity import OVERALL
from aupipe.fer_analysis.study.clusters import ClusterTest, cluster_test
from aupipe.fer_analysis.study.estimate import measure_network, memory_shortage, tensor_sizes, total_seconds
from aupipe.fer_analysis.study.explaining import ExplainingOrder, FoldJob, FoldMaps, explain_fold
from aupipe.fer_analysis.study.merging import merge_maps
from aupipe.fer_analysis.study.page import write_page
from aupipe.fer_analysis.study.plan import StudyNetwork, StudyRequest, fold_name, folds_of, plan_trainings
from aupipe.fer_analysis.study.results import (
    cluster_sentence,
    cluster_table,
    face_table,
    fold_table,
    network_table,
    recognition,
)
from aupipe.fer_data.errors import FerError
from aupipe.fer_data.folders import STUDY, output_folder
from aupipe.fer_data.machine import usable_cpus
from aupipe.fer_data.processes import Done, Message, run_jobs
from aupipe.fer_data.shards.folds import fold_store
from aupipe.fer_data.shards.preview import open_previewed, preview_store
from aupipe.fer_data.types import Progress, Silent, lines_repr, spoken
from aupipe.fer_models.devices import resolve_device
from aupipe.fer_models.training.preflight import without_persons

Maps = dict[tuple[str, str], list[GlobalMap | str]]
"""Of each network and expression the map of every fold, or why there is none."""


@dataclass(frozen=True)
class StudyReport:
    """What a study did.

    Attributes:
        out: Its folder.
        networks: Networks that were asked for.
        seconds: How long this call took.
        failed: What could not be done, by network or training.
        sentence: Whether pretrained networks stand apart.
        comparison: The maps with their scores.
    """

    out: Path
    networks: int
    seconds: float
    failed: Mapping[str, str]
    sentence: str
    comparison: MapComparison

    __repr__ = lines_repr

    def lines(self) -> list[str]:
        """Return the summary for people."""
        return [
            *self.comparison.lines(),
            *(f"failed: {name}: {reason}" for name, reason in self.failed.items()),
            self.sentence,
            f"networks: {self.networks}; this call took {spoken(self.seconds)}; look at {self.out / 'index.html'}",
        ]

    def as_json(self) -> dict[str, Any]:
        """Return the object that ``--json`` prints."""
        return {
            "out": str(self.out),
            "networks": self.networks,
            "seconds": round(self.seconds, 3),
            "failed": dict(self.failed),
            "sentence": self.sentence,
            "comparison": self.comparison.as_json(),
        }


@dataclass(frozen=True)
class StudyEstimate:
    """What is left of a study would take. ``refused``: networks that cannot be trained here, with the reason."""

    trainings: int
    maps: int
    seconds: float
    jobs: int
    bytes: Mapping[str, int]
    refused: Mapping[str, str]

    def lines(self) -> list[str]:
        """Return the plan for people."""
        largest = max(self.bytes, key=lambda name: self.bytes[name], default=None)
        most = "" if largest is None else f"; most memory: {largest}, {self.bytes[largest] / 1e9:.1f} GB and its maps"
        return [
            f"{self.trainings} trainings and {self.maps} maps: about {spoken(self.seconds)} (processes: "
            f"{self.jobs}{most})",
            *(f"left out: {name}: {reason}" for name, reason in self.refused.items()),
        ]

    def as_json(self) -> dict[str, Any]:
        """Return the object that ``--json`` prints."""
        return {**vars(self), "bytes": dict(self.bytes), "refused": dict(self.refused)}


class _Study:
    """A study that was checked: its store, masks and trainings."""

    def __init__(
        self,
        place: Path | str,
        out: Path,
        request: StudyRequest,
        jobs: int | None,
        threads: int | None,
        progress: Progress,
    ) -> None:
        self.place, self.out, self.request, self.progress = place, out, request, progress
        self.store = preview_store(place)
        device = request.maps.device
        resolve_device(device)
        self.jobs = jobs or default_jobs(device)
        threads = threads or max(1, usable_cpus() // self.jobs)
        self.order = Order(self.store.place, out.resolve(), request.maps.split, threads, device)
        self.face = canonical_face(request.maps.shape)
        self.masks = canonical_masks(request.maps.masks, self.face, self.store)
        self.expressions = masked_expressions(self.store.index.classes, self.masks)
        self.trainings = plan_trainings(request, self.store.index.image_size)
        self.by_network = {network.name: self._trainings_of(network) for network in request.networks}

    def _trainings_of(self, network: StudyNetwork) -> list[Training]:
        names = [fold_name(network, fold) for fold in folds_of(self.request)]
        return [one for one in self.trainings if one.name in names]

    def estimate(self) -> StudyEstimate:
        """Estimate time and memory of each network; refuse those that are too large."""
        n_classes, costs, refused = len(self.store.index.classes), [], {}
        self.progress.start("estimate time and memory", len(self.request.networks), "networks")
        left = {name: self.left(name) for name in self.by_network}
        for network in self.request.networks:
            self.progress.advance(1)
            if not left[network.name]:
                continue
            try:
                training, sizes = left[network.name][0], tensor_sizes(network, n_classes)
                if reason := memory_shortage(training, sizes, self.jobs):
                    refused[network.name] = reason
                    continue
                costs.append(measure_network(network, training, n_classes, sizes, self.order.threads))
            except (FerError, RuntimeError, AssertionError, ValueError, TypeError, IndexError) as error:  # people's own
                refused[network.name] = (str(error).strip() or type(error).__name__).splitlines()[0]
        self.progress.finish()
        folds = {cost.name: len(left[cost.name]) for cost in costs}
        return StudyEstimate(
            trainings=sum(folds.values()),
            maps=sum(folds.values()) * len(self.expressions),
            seconds=total_seconds(self.request, costs, folds, self.store.index, len(self.expressions)) / self.jobs,
            jobs=self.jobs,
            bytes={cost.name: cost.bytes for cost in costs},
            refused=refused,
        )

    def left(self, name: str) -> list[Training]:
        """List a network's trainings that are not finished."""
        split, digest = self.request.maps.split, self.store.index.digest
        return [one for one in self.by_network[name] if not state.finished(self.out, one, split, digest)]

    def train(self, refused: Mapping[str, str]) -> dict[str, str]:
        """Train and evaluate what is left; return why trainings failed. ``refused``: trainings, with the reason."""
        wanted = [one for one in self.trainings if one.name not in refused]
        outcomes = run_trainings(wanted, self.order, self.store.index.digest, self.jobs, self.progress)
        return {outcome.name: outcome.reason for outcome in outcomes if outcome.reason}

    def explain(self, missing: Mapping[str, str]) -> tuple[Maps, dict[str, str]]:
        """Make the maps of every fold; ``missing``: trainings that there are not, with the reason."""
        jobs = []
        found: dict[tuple[str, int], FoldMaps] = {}
        for fold in folds_of(self.request):
            for network in self.request.networks:
                job = FoldJob(network.name, network.backbone, fold_name(network, fold), fold)
                if reason := missing.get(job.training):
                    found[job.network, fold.number] = FoldMaps(job, {}, f"not trained: {reason}")
                else:
                    jobs.append(job)
        failed = {}
        for made in self._carried_out(jobs):
            found[made.job.network, made.job.fold.number] = made
            if made.reason:
                failed[made.job.training] = made.reason
        return self._by_expression(found), failed

    def _carried_out(self, jobs: Sequence[FoldJob]) -> list[FoldMaps]:
        if not jobs:
            return []
        self.progress.start("explain", len(jobs) * len(self.expressions), "maps")
        made: list[FoldMaps] = []
        told = dict.fromkeys((job.training for job in jobs), 0)
        orders = [
            replace(self.order, device=device_of(self.order.device, number))
            for number in range(min(self.jobs, len(jobs)))
        ]
        tasks = [partial(explain_fold, ExplainingOrder(order, self.request.maps, self.expressions)) for order in orders]
        with contextlib.closing(run_jobs(tasks, iter(jobs), PATIENCE)) as events:
            for job, event in events:
                if isinstance(event, Message):
                    self.progress.advance(event.what - told[job.training])
                    told[job.training] = event.what
                elif isinstance(event, Done):
                    made.append(event.result)
                else:
                    made.append(FoldMaps(job, {}, str(event)))
        self.progress.finish()
        return made

    def _by_expression(self, found: Mapping[tuple[str, int], FoldMaps]) -> Maps:
        maps: Maps = {}
        for network in self.request.networks:
            parts = [found[network.name, fold.number] for fold in folds_of(self.request)]
            for name in self.expressions:
                maps[network.name, name] = [part.maps.get(name) or part.reason or NO_FACE for part in parts]
        return maps

    def compare(self, folds: Maps, note: str | None = None) -> tuple[MapComparison, list[ClusterTest]]:
        """Merge the folds and compare the networks; ``note``: what is to be known of the folds."""
        request = self.request
        merged = {key: _merged(parts, request.least) for key, parts in folds.items()}
        names = [network.name for network in request.networks]
        maps = map_set(names, self.expressions, merged, self.store.index.classes)
        absent = [
            LeftOut(f"{network}, fold {number}", name, part)
            for (network, name), parts in folds.items()
            if isinstance(merged[network, name], GlobalMap)
            for number, part in enumerate(parts, 1)
            if isinstance(part, str)
        ]
        maps = replace(maps, left_out=(*maps.left_out, *absent))
        figures = {network.name: recognition(self._metrics(network)) for network in request.networks}
        comparison = compare_maps(maps, self.masks, self.face.face, self._source())
        pretrained = frozenset(network.name for network in request.networks if network.pretrained)
        tests = [test for tree in comparison.trees if (test := cluster_test(tree, pretrained)) is not None]
        tables = (
            network_table(request.networks, figures),
            face_table(request.networks, merged),
            fold_table(request.networks, self.expressions, self.masks, folds),
            cluster_table(tests),
        )
        return replace(comparison, tables=tables, notes=(*comparison.notes, *([note] if note else []))), tests

    def _metrics(self, network: StudyNetwork) -> list[dict[str, Any]]:
        split, digest = self.request.maps.split, self.store.index.digest
        runs = [training.runs[0] for training in self.by_network[network.name]]
        current = [run for run in runs if state.metrics_current(self.out, run, split, digest)]
        return [content for run in current if (content := state.read_metrics(self.out, run)) is not None]

    def _source(self) -> dict[str, str]:
        request, options = self.request, self.request.maps
        return {
            "networks": "; ".join(
                f"{one.name} ({one.backbone}, {one.start}, {one.input_size} pixels, {one.schedule})"
                for one in request.networks
            ),
            "store": f"{self.store.folder}, digest {self.store.index.digest[:16]}, {request.folds} folds",
            "training": f"batches of {request.batch_size}, no augmentation, last epoch"
            + (f", {request.max_steps} steps at most" if request.max_steps else "")
            + (f", guided by AU maps (weight {request.align_weight:g})" if request.align_weight else ""),
            "faces": f"up to {options.images} an expression and fold, {options.select}; {request.least} at least",
            "explainer": options.explainer_words,
            "canonical face": options.shape,
            "masks": options.masks,
        }


def _merged(parts: Sequence[GlobalMap | str], least: int) -> GlobalMap | str:
    there = [part for part in parts if isinstance(part, GlobalMap)]
    if not there:
        return next((part for part in parts if isinstance(part, str)), NO_FACE)
    merged = merge_maps(there)
    if merged.used < least:
        return f"only {merged.used} faces of all folds could be explained, fewer than {least}"
    return merged


def estimate_study(
    place: Path | str,
    out: Path,
    request: StudyRequest,
    *,
    jobs: int | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> StudyEstimate:
    """Estimate what :func:`run_study` would take, from a few blank images through each network. Writes nothing.

    Raises:
        UserInputError: A network is unknown, or no class has a mask.
        StoreError: The store is missing or damaged.
    """
    return _Study(place, out, request, jobs, threads, progress or Silent()).estimate()


def run_study(
    place: Path | str,
    out: Path,
    request: StudyRequest,
    *,
    jobs: int | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> StudyReport:
    """Train, explain, merge and compare; whatever is finished is kept, so that the same call continues.

    A network whose training or explanation fails is named and left out; the others go on.

    Args:
        place: The store.
        out: Folder of the study: trainings under ``runs``, maps of folds under ``maps``, page and tables beside them.
        request: What to do.
        jobs: Processes; None: what the machine has.
        threads: Of each process; None: what the machine has for each. Another number may change last bits.
        progress: Told what is done.

    Raises:
        UserInputError: A network is unknown, no class has a mask, there are too few persons, or there is no map at all.
        RunError: ``out`` holds trainings with other settings.
        FolderInUseError: Another process works in ``out``.
        StoreError: The store is missing or damaged.
    """
    shown, started = progress or Silent(), time.perf_counter()
    study = _Study(place, out, request, jobs, threads, shown)
    with output_folder(out, STUDY):
        opened = open_previewed(place, study.store, shown)
        first = fold_store(opened, str(folds_of(request)[0])).split("train")  # too few persons are told before all else
        if note := without_persons(first):
            shown.note(note)
        check_folders(study.trainings, out, opened)
        expected = study.estimate()
        for line in expected.lines():
            shown.note(line)
        refused = {one.name: reason for name, reason in expected.refused.items() for one in study.left(name)}
        untrained = refused | study.train(refused)
        folds, unexplained = study.explain(untrained)
        failed = dict(expected.refused) | {
            name: reason for name, reason in (untrained | unexplained).items() if name not in refused
        }
        comparison, tests = study.compare(folds, note)
        write_comparison(out, comparison)
        sentence = cluster_sentence(tests, request.networks, OVERALL)
        write_page(out, comparison, sentence, failed)
    return StudyReport(out, len(request.networks), time.perf_counter() - started, failed, sentence, comparison)
