"""The report's part on a store: its rows, its triplets, what was left out, where it comes from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt8

from aupipe.fer_data.files import sha256_file
from aupipe.fer_data.shards import SplitReader, Store
from aupipe.fer_data.shards.inspect import flat_content
from aupipe.fer_data.shards.thumbnails import example
from aupipe.fer_display.blocks import (
    Block,
    Cell,
    Details,
    Group,
    Groups,
    HeatTable,
    Listing,
    Section,
    Table,
    Text,
    Tiles,
)
from aupipe.fer_display.overlays import draw_points, enlarge, overlay
from aupipe.fer_display.pages import Picture, jpeg_picture
from aupipe.fer_display.tables import csv_records

SIDE = 144
AVERAGED = 200
"""Rows of each expression behind the average face and AU map of a store."""
LISTED = 30
_FAILURES = "failures.csv"


def store_figures(store: Store) -> dict[str, str]:
    """Gather the key figures of a store."""
    index = store.index
    return {
        "samples": f"{sum(map(index.rows, index.splits)):,}",
        "with an AU map": f"{sum(entry.with_map for entry in index.shards):,}",
        "left out": f"{sum(index.failed.values()):,}",
        "expressions": str(len(index.classes)),
        "codebook": str(index.codebook["name"]),
    }


def data_section(store: Store) -> Section:
    """Count the rows by expression and split, coloured by their share of the split."""
    index = store.index
    counts = {split: index.label_counts(split) for split in index.splits}
    rows = [
        (name, [Cell(f"{by[name]:,}", by[name] / max(sum(by.values()), 1)) for by in counts.values()])
        for name in index.classes
    ]
    total = ("all", [Cell(f"{index.rows(split):,}") for split in counts])
    said = (
        f"Images {index.image_size} x {index.image_size} ({index.encoding}), AU maps {index.map_size} x "
        f"{index.map_size}. Of {index.total:,} samples in the manifest {sum(index.failed.values()):,} were left out."
    )
    return Section("Data", [Text(said), HeatTable(("expression", *counts), [*rows, total])])


def triplet_section(store: Store, split: str, count: int) -> Section:
    """Show the first rows of each expression: crop, and the AU map with the landmarks over it."""
    reader = store.split(split)
    groups = []
    for number, name in enumerate(store.index.classes):
        rows = np.flatnonzero(reader.labels == number)[:count].tolist()
        if rows:
            groups.append(Group(name, "", [picture for row in rows for picture in _triplet(reader, row)]))
    said = f"The first faces of each expression in the {split} split; rows lie in hash order, so nothing was chosen."
    return Section("Triplets", [Text(said), Groups(groups)])


def _triplet(reader: SplitReader, row: int) -> Iterator[Picture]:
    shown = example(reader, row, SIDE)
    yield jpeg_picture(shown.crop, shown.sample_id)
    points = draw_points(shown.overlay, shown.points)
    yield jpeg_picture(points, "AU map, landmarks" if shown.has_map else "landmarks; no AU map")


def average_section(store: Store, split: str) -> Section:
    """Show the average face and the average AU map of each expression."""
    reader = store.split(split)
    groups = []
    for number, name in enumerate(store.index.classes):
        rows = np.flatnonzero(reader.labels == number)[:AVERAGED].tolist()
        if rows:
            averages = average_rows(reader, rows)
            face = enlarge(averages.face, SIDE)
            tiles = [jpeg_picture(face, f"{name}: average face, n = {len(rows)}")]
            if averages.with_map:
                drawn = overlay(face, averages.au_map)
                tiles.append(jpeg_picture(drawn, f"average AU map, n = {averages.with_map}"))
            else:
                tiles.append(jpeg_picture(face, "no AU map"))
            groups += tiles
    said = f"Over up to {AVERAGED} faces of each expression in the {split} split."
    return Section("Average AU maps", [Text(said), Tiles(groups)])


@dataclass(frozen=True)
class RowAverage:
    """The average of some rows.

    face: (s, s, 3) RGB. au_map: (m, m) in [0, 1] over the ``with_map`` rows that have one, zero without any.
    """

    face: UInt8[np.ndarray, "s s 3"]
    au_map: Float32[np.ndarray, "m m"]
    with_map: int


def average_rows(reader: SplitReader, rows: Sequence[int]) -> RowAverage:
    """Average some rows, at least one."""
    face = np.mean([reader.image(row) for row in rows], axis=0)
    mapped = np.array([row for row in rows if reader.has_map[row]], np.int64)
    au_map = reader.stored_maps(mapped).sum(0) / (255 * max(1, len(mapped)))
    return RowAverage(np.asarray(np.rint(face), np.uint8), np.asarray(au_map, np.float32), len(mapped))


def failure_section(store: Store) -> Section:
    """Count the samples left out for each reason, and list the first of them."""
    failed = store.index.failed
    if not failed:
        return Section("Left out", [Text("Nothing: every sample of the manifest is in the store.")])
    rows = [
        (reason.replace("_", " "), f"{count:,}", f"{count / store.index.total:.2%}") for reason, count in failed.items()
    ]
    return Section("Left out", [Table(("reason", "samples", "of the manifest"), rows), _failure_list(store)])


def _failure_list(store: Store) -> Block:
    path, known = store.folder / _FAILURES, store.index.files.get(_FAILURES)
    if not path.is_file() or (known is not None and sha256_file(path) != known):
        return Text(f"{_FAILURES} is missing or was changed since the store was built.", "notice")
    try:
        with path.open(encoding="utf-8", newline="") as file:
            listed = csv_records(file)
        rows = [(row["sample_id"], row["reason"].replace("_", " "), row["detail"]) for row in listed[:LISTED]]
    except (ValueError, KeyError):  # right by its digest, and no list of failures all the same
        return Text(f"{_FAILURES} is no list of what was left out.", "notice")
    shown: list[Block] = [Table(("sample", "reason", "detail"), rows, words=range(3))]
    if len(listed) > LISTED:
        shown.insert(0, Text(f"The first {LISTED} of {len(listed):,}; all are in {_FAILURES}."))
    return Details(f"List ({len(listed):,})", shown)


def provenance_section(store: Store) -> Section:
    """List the digests of the store and its shards, and how it was made."""
    index = store.index
    identity = [
        ("store digest", index.digest),
        ("codebook", f"{index.codebook['name']}, {index.codebook_digest}"),
        ("schema", index.schema_version),
        *((f"{entry.name}, {entry.rows:,} rows", f"sha256 {entry.sha256}") for entry in index.shards),
    ]
    made = [*flat_content(index.config).items(), *flat_content(index.provenance).items()]
    details = Details("Configuration and software", [Listing(made)])
    return Section("Provenance of the data", [Listing(identity), details])
