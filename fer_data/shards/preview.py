"""A look at a store before it is opened: whatever can be refused is, before gigabytes of a remote one are copied."""

from __future__ import annotations

from pathlib import Path

from aupipe.fer_data.errors import StoreError, paragraph
from aupipe.fer_data.shards.folds import fold_store
from aupipe.fer_data.shards.reader import Store, open_store
from aupipe.fer_data.shards.remote import index_of, is_url, pinned
from aupipe.fer_data.types import Progress


def preview_store(place: Path | str, fold: str = "", progress: Progress | None = None) -> Store:
    """Read what a store's index says of it: classes, sizes, splits, codebook.

    Of a URL no shard is asked for, and no row can be read; :func:`open_previewed` copies them. To deal persons to
    folds their names must be read: then all is copied here.

    Args:
        place: A folder, or the URL of one.
        fold: See the store through this fold (:mod:`~aupipe.fer_data.shards.folds`); empty: as it is.
        progress: Told what is copied.

    Raises:
        StoreError: There is no such store, or its index is damaged.
        UserInputError: There is no such fold.
    """
    if fold:
        return fold_store(open_store(place, progress), fold)
    folder, index = index_of(place)
    return Store(folder, index, pinned(str(place), index.digest) if is_url(place) else "")


def through_fold(store: Store, fold: str) -> Store:
    """See a store that was looked at through a fold; as it is where there is none."""
    return preview_store(store.place, fold) if fold else store


def open_previewed(place: Path | str, preview: Store, progress: Progress | None = None) -> Store:
    """Open a store after everything that can be refused was; one that is seen through a fold is open already.

    Args:
        place: A folder, or the URL of one.
        preview: What :func:`preview_store` found there.
        progress: Told what is copied.

    Raises:
        StoreError: It cannot be had, or is another one by now.
    """
    if preview.index.fold:
        return preview
    store = open_store(place, progress)
    if store.index.digest != preview.index.digest:
        raise StoreError(
            paragraph(
                "The store was replaced by another one while it was opened.",
                where=preview.place,
                expected=preview.index.digest,
                got=store.index.digest,
                fix="Run the same command again.",
            )
        )
    return store
