"""The rows of the stores in ``tests/golden``: given by a formula, so that they never change."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from aupipe.fer_data.shards import ShardHeader, StoreIndex, TripletRow, write_shard
from aupipe.fer_data.shards.index import save_index
from aupipe.fer_data.shards.spec import JPEG_SCHEMA_VERSION

FOLDER = Path(__file__).parent / "golden"
CLASSES = ("anger", "neutral")
SIZE, MAP = 16, 8
LAYOUT = (
    ("train-00000.h5", "train", range(3)),
    ("train-00001.h5", "train", range(3, 4)),
    ("val-00000.h5", "val", range(4, 6)),
)
SOFTWARE = '{"h5py":"3.16.0"}'


def golden_row(number: int) -> TripletRow:
    y, x, channel = np.mgrid[:SIZE, :SIZE, :3]
    map_y, map_x = np.mgrid[:MAP, :MAP]
    has_map = number % 2 == 0
    return TripletRow(
        sample_id=f"größe/{number}",
        label=0 if has_map else 1,
        image=((6 * x + 5 * y + 20 * channel + 7 * number) % 256).astype(np.uint8),
        au_map=((9 * map_x + 13 * map_y + number) * has_map).astype(np.uint8),
        has_map=has_map,
        landmarks=(np.arange(136).reshape(68, 2) / 8 + number).astype(np.float32),
        to_source=np.array([[1 + number / 4, 0.5, -3], [-0.5, 1 + number / 4, 7]]),
        group="" if number == 2 else f"größe {number % 2}",
        pose=np.array([20 * number - 50, 3, -number], np.float32),
        au_weight=golden_weights(number) * has_map,
        au_source=4 if has_map else 0,
    )


def golden_weights(number: int) -> np.ndarray:
    weights = np.zeros((99, 2), np.uint8)
    weights[4], weights[7], weights[12, 0] = 255, 100 + number, 3
    return weights


def write_golden(folder: Path, **options: str) -> None:
    """A store as the versions in ``tests/golden`` were written; ``options`` go into the shards' headers."""
    entries = []
    for name, split, numbers in LAYOUT:
        header = ShardHeader(split, CLASSES, SIZE, MAP, f"plan {name}", "golden", "0abc", "{}", SOFTWARE, 16, **options)
        entries.append(write_shard(folder / name, map(golden_row, numbers), len(numbers), header))
    version = {"schema_version": JPEG_SCHEMA_VERSION} if options.get("encoding") == "jpeg" else {}
    index = StoreIndex(
        CLASSES, SIZE, MAP, 16, 3, tuple(entries), 6, {}, {}, {}, {"name": "golden"}, "0abc", {}, [0.5] * 3, [0.25] * 3,
        **version,
    )  # fmt: skip
    save_index(folder, index)
