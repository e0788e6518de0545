"""Masks on a canonical face: the study's polygons, or the AU maps of a codebook above a threshold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float64

from aupipe.fer_analysis.comparison.canonical import HEIGHT, WIDTH, CanonicalFace
from aupipe.fer_analysis.comparison.map_files import MaskSet, read_masks
from aupipe.fer_data.au_maps.codebook import Codebook, load_codebook
from aupipe.fer_data.au_maps.heatmaps import render_maps
from aupipe.fer_data.errors import UserInputError, paragraph
from aupipe.fer_data.manifest.labels import order_classes
from aupipe.fer_data.shards import Store
from aupipe.fer_data.typed import parse_toml

MASK_KINDS = ("study", "codebook")
THRESHOLD = 0.5
"""Share of a codebook map's peak above which a pixel belongs to its mask."""


def study_masks(face: CanonicalFace) -> MaskSet:
    """Draw the six masks of the study on the landmarks of ``face``; on the shape ``uib`` theirs to the pixel."""
    text = resources.files(__package__).joinpath("data", "study_masks.toml").read_text(encoding="utf-8")
    described = parse_toml(text)
    expressions = order_classes(set(described))
    masks = np.zeros((len(expressions), HEIGHT, WIDTH), np.uint8)
    for mask, name in zip(masks, expressions, strict=True):
        for polygon in described[name]:
            vertices = np.array([_vertex(entry, face) for entry in polygon])
            # Vertices are cut to whole pixels, and edges belong to the mask: so the published files were drawn.
            cv2.fillPoly(mask, [np.floor(vertices).astype(np.int32)], 1)
    return MaskSet(expressions, masks > 0)


def _vertex(entry: int | Sequence[Any] | Mapping[str, Any], face: CanonicalFace) -> tuple[float, float]:
    if isinstance(entry, Mapping):
        return _place(entry["x"], face)[0], _place(entry["y"], face)[1]
    places = [_place(one, face) for one in (entry if isinstance(entry, Sequence) else [entry])]
    return float(np.mean([x for x, _ in places])), float(np.mean([y for _, y in places]))


def _place(name: int | str, face: CanonicalFace) -> Float64[np.ndarray, "2"]:
    edges = {"top": (0, 0), "top left": (0, 0), "top right": (WIDTH - 1, 0)}
    return np.array(edges[name], np.float64) if isinstance(name, str) else face.points[name]


def codebook_masks(face: CanonicalFace, codebook: Codebook, threshold: float = THRESHOLD) -> MaskSet:
    """Draw the AU map of each expression of the codebook on ``face``, and cut it at ``threshold`` of its peak."""
    names = order_classes({name for name in codebook.expressions if codebook.has_map(name)})
    points = np.repeat(face.points[None], len(names), 0)
    # Maps are square: the frame is their left part.
    maps = render_maps(points, names, codebook, HEIGHT, HEIGHT)[:, :, :WIDTH]
    return MaskSet(names, maps > threshold)


def find_masks(wanted: str, face: CanonicalFace | None, store: Store | None = None) -> MaskSet:
    """Draw masks on a canonical face, or read them from a folder.

    Args:
        wanted: ``study``, ``codebook`` or a folder.
        face: The face to draw them on.
        store: Whose codebook ``codebook`` means. None: ours.

    Returns:
        A mask for each expression.

    Raises:
        UserInputError: They must be drawn and no face is known, or the folder cannot be used.
    """
    if wanted not in MASK_KINDS:
        return read_masks(Path(wanted))
    if face is None:
        raise UserInputError(
            paragraph(
                f"The {wanted} masks are drawn on a canonical face, and which one the maps lie on is not known.",
                fix="Say it with --shape own or --shape uib, or give a folder of masks.",
            )
        )
    if wanted == "study":
        return study_masks(face)
    return codebook_masks(face, store.codebook if store is not None else load_codebook("default"))


def canonical_masks(wanted: str, face: CanonicalFace, store: Store) -> MaskSet:
    """Find masks as :func:`find_masks` does, for maps that are made on a canonical face.

    Raises:
        UserInputError: The folder cannot be used, or its masks have another size.
    """
    masks = find_masks(wanted, face, store)
    if masks.masks.shape[1:] != (HEIGHT, WIDTH):
        raise UserInputError(
            paragraph(
                "The masks do not lie on the canonical face.",
                expected=f"{WIDTH} x {HEIGHT} pixels",
                got=f"{masks.masks.shape[2]} x {masks.masks.shape[1]}",
                fix="Mend --masks.",
            )
        )
    return masks


def masked_expressions(classes: Sequence[str], masks: MaskSet) -> tuple[str, ...]:
    """List the classes that have a mask. Raises :class:`UserInputError` where none has."""
    names = tuple(name for name in classes if name in masks.expressions)
    if not names:
        raise UserInputError(
            paragraph(
                "None of the store's classes has a mask.",
                expected=", ".join(masks.expressions),
                got=", ".join(classes),
            )
        )
    return names
