"""CSV tables of what was measured face by face: named columns of one length, written whole."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float64

from aupipe.fer_data.files import sha256_file, write_text


def write_columns(path: Path, columns: Iterable[tuple[str, Sequence[str]]]) -> str:
    """Write the columns in their order, atomically; returns the file's SHA-256."""
    named = dict(columns)
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(named)
    writer.writerows(zip(*named.values(), strict=True))
    write_text(path, table.getvalue())
    return sha256_file(path)


def number_cells(values: Float64[np.ndarray, "n"], shown: Bool[np.ndarray, "n"]) -> list[str]:
    """Six decimals; empty where a figure means nothing."""
    return [f"{value:.6f}" if there else "" for value, there in zip(values, shown, strict=True)]
