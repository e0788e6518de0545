"""What ``aupipe compare`` does."""

from __future__ import annotations

from pathlib import Path

from fer_models.comparison.map_files import read_maps, read_masks
from fer_models.comparison.report import write_comparison
from fer_models.comparison.study import Comparison, compare_maps


def compare_folder(maps_folder: Path, masks_folder: Path | None, out: Path, *, pictures: bool = True) -> Comparison:
    """Compare anyone's maps; without ``masks_folder`` the folder ``masks`` beside or inside the maps, if there is one.
    ``pictures``: draw the figures as well as the tables.

    Raises :class:`UserInputError` when a folder holds nothing that can be used.
    """
    maps = read_maps(maps_folder)
    place = masks_folder or next((p for p in (maps_folder / "masks", maps_folder.parent / "masks") if p.is_dir()), None)
    masks = read_masks(place) if place is not None else None
    source = {"maps": str(maps_folder), "masks": str(place) if place is not None else "none"}
    comparison = compare_maps(maps, masks, source=source)
    write_comparison(out, comparison, pictures=pictures)
    return comparison
