"""Which store a run belongs to, what was measured of it, and whether figures are still those of its weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from aupipe.fer_data.errors import RunError, StoreError, paragraph
from aupipe.fer_data.files import sha256_file
from aupipe.fer_data.loading.loader import TripletLoader
from aupipe.fer_data.shards import Store
from aupipe.fer_data.shards.preview import open_previewed, preview_store
from aupipe.fer_data.shards.remote import is_url
from aupipe.fer_data.types import Progress
from aupipe.fer_models.training.checkpoint import BestCheckpoint
from aupipe.fer_models.training.run_record import BEST, RunRecord


def run_store(
    run_folder: Path,
    record: RunRecord,
    override: Path | str | None,
    progress: Progress | None = None,
    *,
    split: str | None = None,
) -> Store:
    """Open the run's store, or ``override`` instead; a remote one is copied only if it can be used.

    Args:
        run_folder: The run.
        record: Its record.
        override: Another store.
        progress: Told what is copied.
        split: What is wanted of it; None: anything.

    Raises:
        RunError: It is not the store that the run was trained on, and no ``override``; its classes or the size of its
            images are not the run's; or the run learned from a fold of another store.
        StoreError: There is no such store, or it has no such split.
    """
    place = store_place(run_folder, record) if override is None else override
    if override is None and isinstance(place, Path) and not place.exists():
        raise StoreError(
            paragraph(
                "The store that the run was trained on is not where it was: it was moved or removed.",
                where=run_folder,
                expected=f"a store at {place}",
                fix="Give its place with --store.",
            )
        )
    store = preview_store(place, record.config.fold, progress)
    check_fold(run_folder, record, store)
    check_image_size(run_folder, record, store)
    if store.index.classes != record.classes:
        raise RunError(
            paragraph(
                "The store's classes are not those the run was trained on.",
                where=store.folder,
                expected=", ".join(record.classes),
                got=", ".join(store.index.classes),
                fix="Evaluate on a store built with the same labels.",
            )
        )
    check_same_store(run_folder, record, store, override, progress)
    if split is not None:
        store.split(split)
    return open_previewed(place, store, progress)


def check_same_store(
    run_folder: Path, record: RunRecord, store: Store, override: Path | str | None, progress: Progress | None
) -> None:
    """Refuse a store that was rebuilt in the place of the run's; of one that the user names only say it is another."""
    if store.index.digest == record.store_digest:
        return
    if override is not None:
        if progress is not None:
            progress.note(
                f"{store.folder} is not the store that {run_folder} was trained on: where it holds faces that the run "
                "learned from, figures are too good"
            )
        return
    raise RunError(
        paragraph(
            "The store is not the one that the run was trained on: it was built anew, and faces that the run learned "
            "from may be in another split now.",
            where=run_folder,
            expected=f"a store with the digest {record.store_digest[:12]}",
            got=f"{store.folder}, {store.index.digest[:12]}",
            fix="Train again on it. To measure on it all the same, name it with --store.",
        )
    )


def measuring_loader(
    record: RunRecord,
    store: Store,
    split: str,
    device: torch.device,
    batch_size: int | None = None,
    limit: int | None = None,
) -> TripletLoader:
    """Make the loader of what a run is measured on: central crops, in the store's order, normalised as in training.

    Args:
        record: The run's record.
        store: Its store, or another one.
        split: Of that store.
        device: Where the batches are made.
        batch_size: Images at once. None: that of the training.
        limit: Number of rows. None: all.
    """
    return TripletLoader(
        store.split(split),
        batch_size or record.config.batch_size,
        record.config.centre_crop,
        device=device,
        mode="none",
        limit=limit,
        mean=record.channel_mean,
        std=record.channel_std,
    )


def check_image_size(run_folder: Path, record: RunRecord, store: Store) -> None:
    """Refuse a store out of whose images the run's crop would cut another part of the face.

    Raises:
        RunError: Its images have another size.
    """
    if store.index.image_size != record.image_size:
        raise RunError(
            paragraph(
                f"The store's images have another size than those the run of {run_folder} was trained on, so its crop "
                f"of {record.config.crop_size} pixels would show another part of the face.",
                where=store.folder,
                expected=f"{record.image_size} pixels",
                got=f"{store.index.image_size} pixels",
                fix=f"Build the store with --image-size {record.image_size}.",
            )
        )


def check_fold(run_folder: Path, record: RunRecord, store: Store) -> None:
    """Refuse a store whose fold may hold persons that the run learned from: any but the one it was trained on.

    Who is in a fold depends on all persons of a store and their classes.

    Raises:
        RunError: It is another store.
    """
    if record.config.fold and store.index.digest != record.store_digest:
        raise RunError(
            paragraph(
                f"The run learned from all but fold {record.config.fold} of another store, so which faces of this one "
                "it has seen is not known.",
                where=run_folder,
                expected=f"the store it was trained on, {record.store_digest[:12]}",
                got=f"{store.folder}, {store.index.digest[:12]}",
                fix="Give that store with --store, or train on this one.",
            )
        )


def store_place(run_folder: Path, record: RunRecord) -> Path | str:
    """Return the folder or the URL of the store that a run was trained on."""
    return record.store if is_url(record.store) else (run_folder / record.store).resolve()


def describe_measurement(
    record: RunRecord, kept: BestCheckpoint, store: Store, split: str, limit: int | None
) -> dict[str, Any]:
    """Describe what a run's best model was measured on, for the file that holds its figures."""
    config = record.config
    return {
        "split": split,
        "limit": limit,
        "store_digest": store.index.digest,
        "codebook": store.codebook.name,
        "codebook_digest": store.index.codebook_digest,
        "checkpoint": BEST,
        "checkpoint_sha256": kept.sha256,
        "epoch": kept.epoch,
        "backbone": config.backbone,
        "method": config.method,
        "method_options": config.method_options,
        "align_weight": config.align_weight,
        "crop_size": config.crop_size,
    }


def results_folder(
    run_folder: Path, kind: str, split: str, limit: int | None, usual: int | None = None, *, maps: str | None = None
) -> Path:
    """Choose the folder of results: the run's own for the whole test split, else one of their own inside it.

    Args:
        run_folder: The run.
        kind: First word of the folder.
        split: What they are measured on.
        limit: Number of its rows; None: all.
        usual: The limit of the run's own results.
        maps: Name of maps made elsewhere that were measured.

    >>> results_folder(Path("run"), "evaluation", "val", 100).name
    'evaluation-val-limit-100'
    """
    if (split, limit, maps) == ("test", usual, None):
        return run_folder
    rows = () if limit == usual else ("all",) if limit is None else (f"limit-{limit}",)
    return run_folder / "-".join((kind, *(("maps", maps) if maps else ()), split, *rows))


def outdated(run_folder: Path, content: Mapping[str, Any], store: Store | None = None) -> str | None:
    """Say why the figures of a run no longer belong to it; None where they do.

    Args:
        run_folder: The run.
        content: The file of the figures, with what :func:`describe_measurement` put into it.
        store: The store that would be shown beside them; None: none is.

    Returns:
        A sentence. Without ``best.pt``, or of figures of an earlier version, nobody can tell: None.
    """
    path, measured = run_folder / BEST, content.get("checkpoint_sha256")
    if measured is not None and path.is_file() and sha256_file(path) != measured:
        return f"they were measured with other weights, those of epoch {content.get('epoch')}, than {BEST} now holds"
    if store is not None and content.get("store_digest") != store.index.digest:
        digests = f"{str(content.get('store_digest'))[:12]}, not {store.index.digest[:12]}"
        return f"they were measured on another store than the one at {store.folder} ({digests})"
    return None
