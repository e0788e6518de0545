"""Figures that programs wrote, as pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from aupipe.fer_data.images import read_image


def read_drawing(path: Path) -> np.ndarray:
    """The pixels of a figure, RGB; fails where it is small or almost nothing is drawn on it."""
    image = read_image(path)
    assert min(image.shape[:2]) >= 100, f"{path.name} is {image.shape}"
    paper = image[0, 0].astype(int)
    inked = (np.abs(image - paper).max(2) > 40).mean()
    assert inked > 0.005, f"{path.name} is {inked:.2%} ink"
    return image
