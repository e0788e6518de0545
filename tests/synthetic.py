"""Small stores made in memory: faces are noise with the AU map of their expression shining through."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from aupipe.fer_data.au_maps.codebook import load_codebook
from aupipe.fer_data.au_maps.heatmaps import render_faces, render_maps
from aupipe.fer_data.au_maps.mean_face import mean_face
from aupipe.fer_data.shards import ShardEntry, ShardHeader, Store, StoreIndex, TripletRow, open_store, write_shard
from aupipe.fer_data.shards.index import save_index

CLASSES = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")


def synthetic_rows(split: str, count: int, size: int, map_size: int, seed: int) -> list[TripletRow]:
    rng = np.random.default_rng([seed, len(split)])
    codebook = load_codebook("default")
    rows = []
    for number in range(count):
        label = number % len(CLASSES)
        points = mean_face(size) + rng.normal(0, size / 128, (68, 2))
        glow = render_maps(points[None], [CLASSES[label]], codebook, size, size)[0]
        image = rng.integers(60, 120, (size, size, 3)) + 120 * glow[..., None]
        drawn = render_maps(points[None], [CLASSES[label]], codebook, size, map_size)[0]
        rows.append(
            TripletRow(
                sample_id=f"{split}/{number:04d}",
                label=label,
                image=np.clip(image, 0, 255).astype(np.uint8),
                au_map=np.rint(drawn * 255).astype(np.uint8),
                has_map=CLASSES[label] != "neutral",
                landmarks=points.astype(np.float32),
                to_source=np.eye(2, 3),
            )
        )
    return rows


OWN_AUS = (1, 4, 12, 17)
"""Action units that faces of :func:`with_own_aus` have, each with a chance of one half."""


def with_own_aus(row: TripletRow) -> TripletRow:
    """Action units of the face's own, as its map, and shining through the image where the class's did."""
    weights = np.zeros((99, 2), np.uint8)
    if row.has_map:
        rng = np.random.default_rng(zlib.crc32(row.sample_id.encode()))
        shown = rng.choice(OWN_AUS, rng.integers(1, len(OWN_AUS)), replace=False)
        weights[shown] = 255
    book, points, size = load_codebook("default"), row.landmarks[None], len(row.image)
    drawn = render_faces(points, weights[None] / 255, book, size, len(row.au_map))[0]
    glow = render_faces(points, weights[None] / 255, book, size, size)[0]
    noise = np.random.default_rng(row.label).integers(60, 120, row.image.shape)
    image = np.clip(noise + 120 * glow[..., None], 0, 255).astype(np.uint8)
    own = np.rint(drawn * 255).astype(np.uint8)
    return replace(row, image=image, au_map=own, au_weight=weights, au_source=4)


def synthetic_store(
    folder: Path,
    *,
    train: int = 56,
    val: int = 14,
    test: int = 14,
    size: int = 64,
    map_size: int = 16,
    rows_per_shard: int = 32,
    seed: int = 0,
    change: Callable[[TripletRow], TripletRow] = lambda row: row,
    config: Mapping[str, str] | None = None,
) -> Store:
    codebook = load_codebook("default")
    entries: list[ShardEntry] = []
    for split, count in (("train", train), ("val", val), ("test", test)):
        rows = [change(row) for row in synthetic_rows(split, count, size, map_size, seed)]
        header = ShardHeader(split, CLASSES, size, map_size, "plan", codebook.name, codebook.digest, "{}", "{}", 16)
        for number, start in enumerate(range(0, count, rows_per_shard)):
            part = rows[start : start + rows_per_shard]
            entries.append(write_shard(folder / f"{split}-{number:05d}.h5", part, len(part), header))
    save_index(
        folder,
        StoreIndex(
            classes=CLASSES,
            image_size=size,
            map_size=map_size,
            id_bytes=16,
            rows_per_shard=rows_per_shard,
            shards=tuple(entries),
            total=train + val + test,
            failed={},
            files={},
            config=config or {},
            codebook=dict(codebook.content),
            codebook_digest=codebook.digest,
            provenance={},
            channel_mean=[0.45] * 3,
            channel_std=[0.2] * 3,
        ),
    )
    return open_store(folder)


def of_nine_persons(row: TripletRow) -> TripletRow:
    return replace(row, group=f"p{int(row.sample_id.split('/')[1]) % 9}")


def store_of_persons(folder: Path, test: int = 21) -> Store:
    return synthetic_store(folder, train=63, val=14, test=test, change=of_nine_persons)
