"""Explanation maps that another program made, one file a face, to be measured as a network's own are.

``DIR/SAMPLE_ID.npy`` (numbers, two axes) or ``.png`` and the like (grey, 8 or 16 bits), for every face measured: a map
of the square that the network sees, the central crop of the store's image, at any resolution, the same for all. What
speaks for the prediction is the map's positive part; nothing is shifted or scaled.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from aupipe.fer_analysis.comparison.map_files import MOST_PIXELS, SUFFIXES, UnfitMapError, read_grey
from aupipe.fer_data.errors import UserInputError, paragraph
from aupipe.fer_data.files import digest, sha256_file
from aupipe.fer_data.manifest.layouts.arrays import load_array

ENDINGS = (".npy", *SUFFIXES)
NAMED = 3
"""How many of the faces without a map are named."""


@dataclass(frozen=True)
class GivenMaps:
    """The maps of a split's first rows. ``name``: that of their folder; ``sha256``: of all their files together."""

    name: str
    paths: tuple[Path, ...]
    shape: tuple[int, int]
    sha256: str

    def of(self, rows: Int64[Tensor, "b"]) -> Float32[Tensor, "b y x"]:
        """Read the maps of some rows, their positive parts. Raises :class:`UserInputError` for one of another shape."""
        maps = []
        for row in rows.tolist():
            values = _read(self.paths[row])
            if values.shape != self.shape:
                shapes = [" x ".join(map(str, one)) for one in (self.shape, values.shape)]
                raise UserInputError(_unfit(self.paths[row], f"{shapes[0]} values, as the first map", shapes[1]))
            maps.append(torch.from_numpy(values))
        return torch.stack(maps).clamp_min(0).to(rows.device)

    def as_json(self) -> dict[str, str]:
        """Return what the figures record."""
        return {"name": self.name, "sha256": self.sha256}


def find_maps(folder: Path, sample_ids: Sequence[str]) -> GivenMaps:
    """Find a map for every face.

    Args:
        folder: Where they lie.
        sample_ids: The faces, in the order of their rows.

    Raises:
        UserInputError: There is no such folder, faces have no map or two, or the first map cannot be used.
    """
    if not folder.is_dir():
        raise UserInputError(paragraph(f"There is no folder of maps {folder}.", fix="Mend --maps."))
    found = [[path for end in ENDINGS if (path := folder / f"{one}{end}").is_file()] for one in sample_ids]
    for count, what in ((0, "no map"), (2, "two maps")):
        if odd := [one for one, paths in zip(sample_ids, found, strict=True) if min(len(paths), 2) == count]:
            more = f" and {len(odd) - NAMED:,} more" if len(odd) > NAMED else ""
            raise UserInputError(
                paragraph(
                    f"{len(odd):,} of {len(sample_ids):,} faces have {what}.",
                    where=folder,
                    expected="SAMPLE_ID.npy, or a grey SAMPLE_ID.png, for every face that is measured; predictions.csv "
                    "of `aupipe evaluate` lists them",
                    got=f"{what} of {', '.join(odd[:NAMED])}{more}",
                    fix="Make the maps that are missing, leave one of two, or measure fewer faces with --limit.",
                )
            )
    paths = tuple(paths[0] for paths in found)
    height, width = _read(paths[0]).shape
    name = re.sub(r"[^\w.-]", "-", folder.resolve().name) or "maps"
    return GivenMaps(name, paths, (height, width), digest([sha256_file(path) for path in paths]))


def _read(path: Path) -> Float32[np.ndarray, "y x"]:
    expected = "a square of finite numbers, of at most 4096 x 4096"
    try:
        values = load_array(path) if path.suffix == ".npy" else read_grey(path)
    except (OSError, ValueError, UnfitMapError) as error:
        raise UserInputError(_unfit(path, expected, str(error))) from error
    numbers = values.dtype.kind in "biuf" and values.ndim == 2 and values.shape[0] == values.shape[1]
    if not numbers or not 1 < values.size <= MOST_PIXELS or not np.isfinite(values.astype(np.float32)).all():
        raise UserInputError(_unfit(path, expected, f"{values.dtype} of shape {values.shape}, or not finite"))
    return values.astype(np.float32)


def _unfit(path: Path, expected: str, got: str) -> str:
    return paragraph("A map cannot be used.", where=path, expected=expected, got=got, fix="Mend the file.")
