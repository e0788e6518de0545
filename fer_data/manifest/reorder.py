"""Copies of a dataset whose labels are numbered otherwise than in the original: found by their counts, and refused.

Public copies often renumber the classes (alphabetically, or from 0). Read with the original's label map they would
train without complaint, on wrong names. Their class sizes give them away: they are the published ones, but at other
labels.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from aupipe.fer_data.errors import ManifestError, paragraph
from aupipe.fer_data.manifest.descriptors import ALL_SPLITS, Counts
from aupipe.fer_data.manifest.labels import Vocabulary, normal_label, order_classes
from aupipe.fer_data.types import SPLITS


def refuse_reordered(published: Counts, rows: Iterable[tuple[str, str]], vocabulary: Vocabulary, where: object) -> None:
    """Raise :class:`ManifestError` with the evidence when the labels of ``rows`` are a renumbering.

    ``rows`` are ``(split, source label)`` of every row. Ordinary deviations (files missing, a subset) pass.
    """
    found = defaultdict[str, Counter[str]](Counter)
    sources = defaultdict[str, set[str]](set)
    for split, source in rows:
        if vocabulary.drop_reason(source) is None:
            group = vocabulary.canonical(source) or normal_label(source)
            found[split or "train"][group] += 1
            sources[group].add(source)
    fits = match_counts(published, found)
    if fits is None:
        return
    named = sorted((" or ".join(sorted(sources[group])), group) for group in fits)
    totals = {group: sum(found[split][group] for split in found) for group in fits}
    evidence = "; ".join(
        f"label {source}: declared {vocabulary.canonical(group) or 'nothing'}, "
        f"{totals[group]} found, which is the published count of {' or '.join(fits[group])}"
        for source, group in named
    )
    mapping = ",".join(f"{source}={'|'.join(fits[group])}" for source, group in named)
    raise ManifestError(
        paragraph(
            "This copy of the dataset numbers its labels in another order than the original: every class has a "
            "published size, but under another label.",
            where=where,
            got=evidence,
            fix=f"Look at some images of each class. If they agree, give the map: --labels {mapping} (of names joined "
            "by | choose one).",
        )
    )


def match_counts(published: Counts, found: Mapping[str, Mapping[str, int]]) -> dict[str, tuple[str, ...]] | None:
    """Match the labels found with the classes of the very same size. Pure.

    Where the splits are cut differently, sums over them are compared.

    Args:
        published: Number of images by split and class.
        found: Number of rows by split and label.

    Returns:
        The classes that each label may stand for; None when the labels fit as they are, or do not fit exactly in any
        order.
    """
    if ALL_SPLITS not in published and set(found) <= set(published):
        splits = [split for split in SPLITS if split in found]
        sizes, got = _columns(published, splits), _columns(found, splits)
        if sorted(sizes.values()) == sorted(got.values()):
            return _other_order(sizes, got)
    return _other_order(_columns(published, list(published), add=True), _columns(found, list(found), add=True))


def _columns(counts: Counts, splits: list[str], *, add: bool = False) -> dict[str, tuple[int, ...]]:
    labels = {label for split in splits for label in counts[split]}
    columns = {label: tuple(counts[split].get(label, 0) for split in splits) for label in labels}
    return {label: (sum(column),) for label, column in columns.items()} if add else columns


def _other_order(
    sizes: Mapping[str, tuple[int, ...]], got: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[str, ...]] | None:
    if sorted(sizes.values()) != sorted(got.values()) or dict(sizes) == dict(got):
        return None
    return {
        label: order_classes({name for name, size in sizes.items() if size == column}) for label, column in got.items()
    }
