"""The maps of one network on one fold, made in a worker process; what is on disk already is loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from aupipe.fer_analysis.benchmark import state
from aupipe.fer_analysis.benchmark.worker import Order, failure_reason, use_threads
from aupipe.fer_analysis.comparison.canonical import canonical_face
from aupipe.fer_analysis.comparison.classifiers import Classifier, load_runs
from aupipe.fer_analysis.comparison.global_maps import GlobalMap
from aupipe.fer_analysis.comparison.map_maker import MapMaker, MapOptions
from aupipe.fer_analysis.comparison.masks import find_masks
from aupipe.fer_data.fold import Fold
from aupipe.fer_data.shards import open_store
from aupipe.fer_data.shards.folds import fold_store
from aupipe.fer_data.types import Silent
from aupipe.fer_models.backbones.factory import allow
from aupipe.fer_models.devices import resolve_device

MAPS = "maps"


@dataclass(frozen=True)
class ExplainingOrder:
    """A worker's order, with what to explain. ``expressions``: those that have a mask."""

    work: Order
    options: MapOptions
    expressions: tuple[str, ...]


@dataclass(frozen=True)
class FoldJob:
    """A trained network to explain on the faces of its fold; ``training``: the folder of its run."""

    network: str
    backbone: str
    training: str
    fold: Fold


@dataclass(frozen=True)
class FoldMaps:
    """What a worker made: the map of each expression, or why there is none; ``reason`` where nothing could be made."""

    job: FoldJob
    maps: dict[str, GlobalMap | str]
    reason: str = ""


def explain_fold(order: ExplainingOrder, job: FoldJob, tell: Callable[[int], None]) -> FoldMaps:
    """Make or load the maps of a job; tell how many are there."""
    use_threads(order.work.threads)
    found: dict[str, GlobalMap | str] = {}
    try:
        maker, classifier = _prepared(order, job)
        for number, name in enumerate(order.expressions, 1):
            found[name] = maker.make(classifier, name)
            tell(number)
    except Exception as error:  # a device out of memory, say: the other networks go on
        return FoldMaps(job, found, failure_reason(error, _run(order, job)))
    return FoldMaps(job, found)


def _run(order: ExplainingOrder, job: FoldJob) -> Path:
    return order.work.out / state.RUNS / job.training


def _prepared(order: ExplainingOrder, job: FoldJob) -> tuple[MapMaker, Classifier]:
    options, work = order.options, order.work
    allow(job.backbone)  # the user named it: a new process does not know
    store = fold_store(open_store(work.store), str(job.fold))
    face = canonical_face(options.shape)
    masks = find_masks(options.masks, face, store)
    (classifier,) = load_runs([_run(order, job)], store.index.classes, resolve_device(work.device))
    folder = work.out / MAPS / f"fold{job.fold.number}"
    return MapMaker(store.split(options.split), face, masks, options, folder, Silent()), classifier
