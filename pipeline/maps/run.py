"""``aupipe build-maps``: aligned crops and AU maps in sharded triplets, shard by shard, resumable.

STORE/train-00000.h5 ..., STORE/failures.csv, STORE/index.json (written last: the commit point).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from aupipe.fer_data.action_units.modes import MISSING, MODES
from aupipe.fer_data.au_maps.codebook import Codebook, codebook_from_dict
from aupipe.fer_data.errors import (
    FolderInUseError,
    SchemaVersionError,
    StoreError,
    UserInputError,
    paragraph,
    printable,
    unknown_name,
)
from aupipe.fer_data.failures import FAILURES_NAME, write_failures
from aupipe.fer_data.files import digest, sha256_file
from aupipe.fer_data.folders import LOCK_NAME, STORE, output_folder
from aupipe.fer_data.manifest.labels import is_basic
from aupipe.fer_data.manifest.places import check_inside
from aupipe.fer_data.manifest.unit_scores import EstimateTable, read_estimates
from aupipe.fer_data.shards import ShardEntry, StoreIndex, load_index
from aupipe.fer_data.shards.index import INDEX_NAME, save_index, withdraw_index
from aupipe.fer_data.shards.inspect import other_options
from aupipe.fer_data.shards.shard_file import read_notes
from aupipe.fer_data.shards.spec import SCHEMA_VERSIONS
from aupipe.fer_data.types import SPLITS, Failure, Progress, StageReport, count_reasons
from aupipe.pipeline.executors import Executor
from aupipe.pipeline.landmarks.work import FOLLOW_LINKS, FinishedWork, open_work
from aupipe.pipeline.left import Stage, photo_seconds, run_stage
from aupipe.pipeline.maps.failures import failures_of_other, failures_still_there, failures_to_keep, origin_of
from aupipe.pipeline.maps.plan import StorePlan, plan_store, software
from aupipe.pipeline.maps.repair import check_same_plan, photos_missing, shard_notes
from aupipe.pipeline.maps.tasks import MapConfig, ShardJob, ShardResult, build_shard, finished_shard
from aupipe.pipeline.mounted import check_images, is_seen

LARGEST_CROP = 4096
"""Side of a crop in pixels, far more than any photo of a face has; a task holds a batch of them."""

DRAWING_SECONDS = 0.001
"""About what a row takes whose photo is decoded already."""

LOOK_BYTES_PER_SECOND = 400_000_000
"""About so many bytes of a shard are checked in a second."""


def run_maps(
    work: Path,
    store: Path,
    config: MapConfig,
    executor: Executor,
    progress: Progress,
    *,
    overwrite: bool = False,
    images_from: Path | None = None,
    estimate: Path | None = None,
    repair: bool = False,
) -> StageReport:
    """Build the store from the landmark stage's folder.

    Args:
        work: A finished WORK folder.
        store: The store's folder; an interrupted run continues in it.
        config: Crop, maps, codebook and encoding.
        executor: What runs the shards.
        progress: Hears of each finished shard.
        overwrite: Replace a store that was built with other options.
        images_from: A finished store with the same crops, whose images are taken over: no photo is read.
        estimate: Another program's table of action units, to take in place of what blendshapes tell.
        repair: Make again what is damaged or missing, and refuse whatever would give another store than STORE was.

    Returns:
        Counts of samples and shards, by outcome.

    Raises:
        StoreError: The landmark stage is not finished.
        FolderInUseError: STORE holds a store built with other options, and ``overwrite`` is not set.
        UserInputError: The codebook does not know an expression, or options do not go together.
        ManifestError: ``estimate`` cannot be used.
    """
    started = time.monotonic()
    codebook = codebook_from_dict(config.codebook, "the chosen codebook")
    finished = open_work(work)
    if images_from is None:
        check_inside(finished.manifest, finished.manifest.options.get(FOLLOW_LINKS) is True)
    table = _read_estimates(estimate, finished, config, repair)
    for line in table.notes if table is not None else ():
        progress.note(line)
    config = replace(config, estimates=None if table is None else table.source)
    plan = plan_store(finished, config, existing=images_from or store, estimates=table)
    _check_options(plan, codebook)
    _refuse_other_files(store)
    with output_folder(store, STORE):
        plan = plan.without(_unusable_before(plan, store, images_from, repair))
        if repair:
            check_same_plan(store, plan)
        else:
            _claim(store, plan, overwrite)
        if note := _without_map(plan, codebook):
            progress.note(note)
        plan, results = _build(plan, store, images_from, repair, executor, progress)
        if flat := [path for result in results for path in result.flat]:
            progress.note(
                f"{len(flat)} crops are all but black, white or of one colour, the first of {printable(flat[0])}: they "
                "are in the store, look at them."
            )
        entries = [result.entry for result in results if result.entry is not None]
        save_index(store, _index(store, plan, entries))
        _remove_leftovers(store, {entry.name for entry in entries})
    return StageReport(
        stage="repair" if repair else "build-maps",
        total=len(plan.members) + len(plan.failures),
        ok=sum(entry.rows for entry in entries),
        failed=count_reasons(plan.failures),
        seconds=time.monotonic() - started,
        parts=len(results),
        parts_skipped=sum(result.skipped for result in results),
    )


def _read_estimates(path: Path | None, work: FinishedWork, config: MapConfig, repair: bool) -> EstimateTable | None:
    drawn_from = config.estimates.sha256 if repair and config.estimates is not None else ""
    if repair and drawn_from != ("" if path is None else sha256_file(path)):
        raise UserInputError(
            paragraph(
                "The maps of this store were drawn from another table of estimates.",
                where=path,
                expected=f"--estimate with the table of SHA-256 {drawn_from[:16]}..., under any name"
                if drawn_from
                else "no --estimate: the store was drawn without one",
            )
        )
    if path is None:
        return None
    if not config.estimated:
        raise UserInputError(
            paragraph(
                "A table of estimates has no say in these maps.",
                where=path,
                expected="--aus estimated, --aus fused, or --aus annotated with --aus-missing fused, beside --estimate",
                got=f"--aus {config.aus} --aus-missing {config.aus_missing}",
            )
        )
    return read_estimates(path, list(work.manifest.samples))


def _unusable_before(plan: StorePlan, store: Path, images_from: Path | None, repair: bool) -> list[Failure]:
    """Members that cannot be used, as far as an earlier run says."""
    if images_from is not None:
        return failures_of_other(images_from, plan)
    return failures_to_keep(store, plan) if repair else failures_still_there(store, plan)


def _build(
    plan: StorePlan, store: Path, images_from: Path | None, repair: bool, executor: Executor, progress: Progress
) -> tuple[StorePlan, list[ShardResult]]:
    """Run the shards; samples found unusable on the way are taken out and the plan is made again without them."""
    made: dict[str, ShardResult] = {}
    while True:
        jobs = plan.jobs(store, images_from)
        if not jobs:
            raise _nothing_to_store(plan, store)
        if not is_seen(plan.root) and any(map(_needs_photos, jobs)):
            check_images(plan.root)  # before anything that is there is withdrawn
        if not repair:
            _withdraw_stale(store, plan)
        results = []
        progress.start("maps", len(plan.members), "img")
        for result in run_stage(_stage(jobs), jobs, executor):
            # What an earlier round of this call made was not there already.
            earlier = made.get(result.entry.name) if result.skipped and result.entry is not None else None
            results.append(earlier or result)
            progress.advance(result.rows)
        progress.finish()
        made |= {result.entry.name: result for result in results if result.entry is not None and not result.skipped}
        unusable = [failure for result in results for failure in result.failures]
        if not unusable:
            return plan, results
        if repair:
            raise photos_missing(store, unusable)
        plan = plan.without(unusable)
        # An interrupted run starts from these, instead of finding them again at the cost of intact shards.
        withdraw_index(store)
        write_failures(store, plan.failures)


def _needs_photos(job: ShardJob) -> bool:
    """Whether no shard that is there holds the crops of this one; whether they are intact is not asked."""
    there = (read_notes(made.path) for made in job.made if made.path.is_file())
    return not any(notes is not None and notes.crop_digest == job.header.crop_digest for notes in there)


def _stage(jobs: Sequence[ShardJob]) -> Stage[ShardJob, ShardResult]:
    """The stage's work; how long it takes is estimated by the photos of the first shard.

    Nothing isolates it: the photos are, byte for byte, those that the landmark stage decoded. Only a shard whose digest
    the store's index states is opened in this process: a damaged one can make HDF5 hang.
    """
    first = jobs[0]
    row = DRAWING_SECONDS + photo_seconds(first.root, (member.path for member in first.members))

    def made(job: ShardJob) -> list[Path]:
        return [shard.path for shard in job.made if shard.path.is_file()]

    def known(job: ShardJob) -> bool:
        own = (shard for shard in job.made if shard.path == job.path)
        return any(shard.plan_digest == job.header.plan_digest for shard in own) and job.path.is_file()

    return Stage(
        task=build_shard,
        known=known,
        finished=finished_shard,
        looking=lambda job: job.path.stat().st_size / LOOK_BYTES_PER_SECOND,
        making=lambda job: (DRAWING_SECONDS if made(job) else row) * len(job.members),
    )


def _nothing_to_store(plan: StorePlan, store: Path) -> StoreError:
    return StoreError(
        paragraph(
            "No sample has both landmarks and a photo that can be used, so there is nothing to put into a store.",
            got=", ".join(f"{count} {reason}" for reason, count in count_reasons(plan.failures).items()),
            fix=f"Look at failures.csv in the landmarks' folder, and in {store} where photos are the cause.",
        )
    )


def _check_options(plan: StorePlan, codebook: Codebook) -> None:
    config = plan.config
    if not 16 <= config.map_size <= config.image_size <= LARGEST_CROP or config.rows_per_shard < 1:
        raise UserInputError(
            paragraph(
                "The sizes do not fit together.",
                expected=f"16 <= --map-size <= --image-size <= {LARGEST_CROP}, --rows-per-shard at least 1",
                got=f"map {config.map_size}, image {config.image_size}, {config.rows_per_shard} rows a shard",
            )
        )
    for option, word, words in (("aus", config.aus, MODES), ("aus-missing", config.aus_missing, MISSING)):
        if word not in words:
            raise UserInputError(unknown_name(f"--{option}", word, list(words)))
    unknown = [name for name in plan.classes if name not in codebook.expressions and is_basic(name)]
    if unknown and config.aus == "class":
        raise UserInputError(
            paragraph(
                f"The codebook {codebook.name!r} does not say which AUs belong to {', '.join(unknown)}.",
                expected=f"classes among {', '.join(sorted(codebook.expressions))}",
                fix="Choose another --codebook, add the expression to your own codebook file, or draw with --aus fused "
                "what the faces show.",
            )
        )


def _without_map(plan: StorePlan, codebook: Codebook) -> str:
    """Say which classes the codebook does not know, and how many faces these are; empty when it knows all."""
    if plan.config.aus != "class":
        return ""
    unknown = [name for name in plan.classes if name not in codebook.expressions]
    faces = sum(member.label in unknown for member in plan.members)
    return (
        f"the codebook {codebook.name!r} has no action units for {', '.join(unknown)}: {faces} of {len(plan.members)} "
        "faces are stored without a map and trained by their label alone"
        if unknown
        else ""
    )


def _refuse_other_files(store: Path) -> None:
    """Refuse files of other people that merely have the names of a store's, in a folder that nobody claimed."""
    names = sorted(path.name for sign in STORE.signs for path in store.glob(sign))
    if not names or (store / LOCK_NAME).exists() or any(read_notes(store / name) for name in names):
        return
    try:
        load_index(store)
    except SchemaVersionError:
        return
    except StoreError as error:
        raise UserInputError(
            paragraph(
                f"{store} holds files that are named like those of a store, and are none.",
                got=", ".join(names[:4]),
                fix="Choose another --out, or move them away.",
            )
        ) from error


def _claim(store: Path, plan: StorePlan, overwrite: bool) -> None:
    """Refuse to replace a finished store that was built differently; with ``overwrite`` take it back first."""
    config = plan.config.as_json()
    try:
        index = load_index(store)
    except SchemaVersionError:
        if not overwrite:
            raise
        withdraw_index(store)
        return
    except StoreError:
        if (store / INDEX_NAME).is_file() and not overwrite:
            _refuse_other_shards(store, plan)
        return  # none yet, or damaged: it is made anew from the shards
    if index.config == config and origin_of(index.provenance) == origin_of(plan.provenance):
        return
    if not overwrite:
        expected, got = other_options(config, index.config)
        manifest = index.provenance["manifest_digest"] == plan.provenance["manifest_digest"]
        other = "with other options" if expected else "from other landmarks" if manifest else "from another manifest"
        raise FolderInUseError(
            paragraph(
                f"{store} already holds a store that was built {other}.",
                expected=expected or None,
                got=got or None,
                fix="Choose another --out, or pass --overwrite to replace it.",
            )
        )


def _refuse_other_shards(store: Path, plan: StorePlan) -> None:
    """Refuse to replace the shards of a finished store whose index is damaged, where none of them is of this plan."""
    planned, notes = plan.digests(), shard_notes(store)
    if notes and not any(planned.get(name) == one.plan_digest for name, one in notes.items()):
        raise FolderInUseError(
            paragraph(
                f"{store} holds a store whose index is damaged, and its shards were built with other options, or from "
                "other landmarks.",
                got=f"{len(notes)} shards, none of them of this plan",
                fix=f"Mend it with `aupipe repair {store} --from WORK`, which reads the options of that time; choose "
                "another --out; or pass --overwrite to replace it.",
            )
        )


def _withdraw_stale(store: Path, plan: StorePlan) -> None:
    """Take the index back before a shard it names is replaced by another one: a store is whole or it is none."""
    try:
        stated = {entry.name: entry.plan_digest for entry in load_index(store).shards}
    except StoreError:
        return
    if stated != plan.digests():
        withdraw_index(store)


def _index(store: Path, plan: StorePlan, entries: Sequence[ShardEntry]) -> StoreIndex:
    config = plan.config
    mean, std = _channel_statistics(entries, config.image_size)
    return StoreIndex(
        classes=plan.classes,
        image_size=config.image_size,
        map_size=config.map_size,
        id_bytes=plan.id_bytes,
        rows_per_shard=config.rows_per_shard,
        shards=tuple(sorted(entries, key=lambda entry: (SPLITS.index(entry.split), entry.name))),
        total=plan.total,
        failed=count_reasons(plan.failures),
        files={FAILURES_NAME: write_failures(store, plan.failures)},
        config=config.as_json(),
        codebook=config.codebook,
        codebook_digest=digest(config.codebook),
        provenance={**plan.provenance, "software": software()},
        channel_mean=mean,
        channel_std=std,
        schema_version=SCHEMA_VERSIONS[config.encoding],
    )


def _channel_statistics(entries: Sequence[ShardEntry], image_size: int) -> tuple[list[float], list[float]]:
    """Per-channel mean and standard deviation in [0, 1] over the training split (over all rows where there is none)."""
    chosen = [entry for entry in entries if entry.split == "train"] or entries
    pixels = sum(entry.rows for entry in chosen) * image_size**2
    mean = np.sum([entry.channel_sum for entry in chosen], 0) / pixels
    variance = np.sum([entry.channel_sum_of_squares for entry in chosen], 0) / pixels - mean**2
    return [round(float(v), 6) for v in mean / 255], [round(float(v), 6) for v in np.sqrt(variance) / 255]


def _remove_leftovers(store: Path, expected: set[str]) -> None:
    """Shards of an earlier plan with more shards; nothing else in the folder is touched."""
    for split in SPLITS:
        for path in store.glob(f"{split}-[0-9][0-9][0-9][0-9][0-9].h5"):
            if path.name not in expected:
                path.unlink()
