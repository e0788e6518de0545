"""Maps and masks read from folders of grey pictures; what cannot be compared is left out by name, with a reason.

Two layouts are read: ``NETWORK_EXPRESSION[_heatmap].png`` in one folder, or a folder per network holding
``EXPRESSION.png``. Masks are ``EXPRESSION[_gt|_mask].png``. Expressions are matched by name (``Happy`` is happiness).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, Float32, UInt8

from aupipe.fer_data.errors import UserInputError, paragraph
from aupipe.fer_data.images import UnreadableImageError, quiet_opencv, read_photo, too_large_image
from aupipe.fer_data.manifest.labels import canonical_label, order_classes

SUFFIXES = (".png", ".tif", ".tiff", ".bmp", ".pgm")
"""Formats without loss: a JPEG's noise would move thresholds and correlations."""

MOST_PIXELS = 4096 * 4096
"""Largest map that is read; those of the study have 275 x 224."""

ENDINGS = re.compile(r"[_-](heatmap|map|gt|mask)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Something that takes no part, and why; ``expression`` may be empty."""

    what: str
    expression: str
    reason: str


@dataclass(frozen=True)
class MapSet:
    """Explanation maps of networks for expressions, 8 bits; ``maps`` means nothing where ``present`` is False.

    ``support``: the share of a map's faces that reach a pixel, in [0, 1]; None where nobody knows.
    """

    networks: tuple[str, ...]
    expressions: tuple[str, ...]
    maps: UInt8[np.ndarray, "n e h w"]
    present: Bool[np.ndarray, "n e"]
    left_out: tuple[LeftOut, ...] = ()
    support: Float32[np.ndarray, "n e h w"] | None = None


@dataclass(frozen=True)
class MaskSet:
    """One mask per expression: True where a face moves in that expression."""

    expressions: tuple[str, ...]
    masks: Bool[np.ndarray, "e h w"]
    left_out: tuple[LeftOut, ...] = ()


class UnfitMapError(ValueError):
    """A picture that is not a map; the message is the reason."""


def read_grey(path: Path) -> UInt8[np.ndarray, "h w"]:
    """Read a grey picture as 8 bits; 16 bits are scaled by their full range, equal colour channels count as grey.

    Raises :class:`UnfitMapError` for a picture in colour, one with transparency, or one that cannot be read.
    """
    try:
        data = read_photo(path)
        if too_large := too_large_image(data, MOST_PIXELS):
            raise UnfitMapError(too_large)
        with quiet_opencv:
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    except UnreadableImageError as error:
        raise UnfitMapError(error.detail) from error
    except cv2.error as error:
        raise UnfitMapError("a picture that OpenCV does not decode") from error
    if image is None:
        raise UnfitMapError("not a picture that can be read")
    if image.dtype == np.uint16:
        image = np.rint(image / 257).astype(np.uint8)
    if image.dtype != np.uint8:
        raise UnfitMapError(f"values of type {image.dtype}; expected 8 or 16 bits")
    if image.ndim == 3:
        if image.shape[2] == 4 and (image[..., 3] != 255).any():
            raise UnfitMapError("partly transparent; expected one grey channel")
        if (image[..., :3] != image[..., :1]).any():
            raise UnfitMapError("in colour: a drawing of a map, not its values; expected one grey channel")
        image = image[..., 0]
    return np.ascontiguousarray(image, np.uint8)


def read_maps(folder: Path) -> MapSet:
    """Read the maps of a folder (or of its ``by_network`` or ``maps``), networks in alphabetical order.

    All maps must have the size that most of them have. Raises :class:`UserInputError` when none can be used.
    """
    place = _sub_folder(folder, ("by_network", "maps"), "maps")
    found: dict[tuple[str, str], UInt8[np.ndarray, "h w"]] = {}
    left_out: list[LeftOut] = []
    for path, network, word in _named_maps(place):
        expression = canonical_label(word)
        if expression is None or not network:
            left_out.append(LeftOut(path.name, "", f"its name does not end in a known expression, but in {word!r}"))
        elif (network, expression) in found:
            left_out.append(LeftOut(path.name, expression, f"a second map of {network} for {expression}"))
        else:
            _collect(path, (network, expression), found, left_out)
    size = _common_size(found.values(), place)
    for (network, expression), values in found.items():
        if reason := _unusable(values, size):
            left_out.append(LeftOut(network, expression, reason))
    usable = {key: values for key, values in found.items() if not _unusable(values, size)}
    return _map_set(usable, size, left_out, place)


def _collect(
    path: Path,
    key: tuple[str, str],
    found: dict[tuple[str, str], UInt8[np.ndarray, "h w"]],
    left_out: list[LeftOut],
) -> None:
    try:
        found[key] = read_grey(path)
    except UnfitMapError as error:
        left_out.append(LeftOut(*key, str(error)))


def _map_set(
    usable: dict[tuple[str, str], UInt8[np.ndarray, "h w"]],
    size: tuple[int, int],
    left_out: list[LeftOut],
    place: Path,
) -> MapSet:
    if not usable:
        raise UserInputError(_nothing(place, left_out))
    networks = tuple(sorted({network for network, _ in usable}, key=str.casefold))
    expressions = order_classes({expression for _, expression in usable})
    maps = np.zeros((len(networks), len(expressions), *size), np.uint8)
    present = np.zeros(maps.shape[:2], bool)
    for (network, expression), values in usable.items():
        at = networks.index(network), expressions.index(expression)
        maps[at], present[at] = values, True
    told = {(one.what, one.expression) for one in left_out}
    for row, column in np.argwhere(~present):
        if (networks[row], expressions[column]) not in told:
            left_out.append(LeftOut(networks[row], expressions[column], "no map"))
    return MapSet(networks, expressions, maps, present, tuple(left_out))


def read_masks(folder: Path) -> MaskSet:
    """Read the masks of a folder (or of its ``masks``): white (more than half) is inside.

    Raises :class:`UserInputError` when none can be used.
    """
    place = _sub_folder(folder, ("masks",), "masks")
    found: dict[str, UInt8[np.ndarray, "h w"]] = {}
    left_out: list[LeftOut] = []
    for path in _pictures(place):
        expression = canonical_label(ENDINGS.sub("", path.stem))
        if expression is None or expression in found:
            reason = "a second mask" if expression else "its name is not that of a known expression"
            left_out.append(LeftOut(f"mask {path.name}", expression or "", reason))
            continue
        try:
            found[expression] = read_grey(path)
        except UnfitMapError as error:
            left_out.append(LeftOut(f"mask {path.name}", expression, str(error)))
    size = _common_size(found.values(), place)
    for expression, values in list(found.items()):
        inside = values > 127
        if values.shape != size or inside.all() or not inside.any():
            wrong_size = _unusable(values, size) if values.shape != size else None
            reason = wrong_size or "it covers everything or nothing"
            left_out.append(LeftOut("mask", expression, reason))
            del found[expression]
    if not found:
        raise UserInputError(_nothing(place, left_out))
    expressions = order_classes(set(found))
    return MaskSet(expressions, np.stack([found[name] > 127 for name in expressions]), tuple(left_out))


def match(maps: MapSet, masks: MaskSet) -> tuple[MapSet, MaskSet]:
    """Restrict maps and masks to the expressions they share.

    Raises:
        UserInputError: None is shared, or the sizes differ.
    """
    if maps.maps.shape[2:] != masks.masks.shape[1:]:
        raise UserInputError(
            paragraph(
                "The masks have another size than the maps.",
                expected=_shown(maps.maps.shape[2:]),
                got=_shown(masks.masks.shape[1:]),
                fix="Draw both on the same canonical face.",
            )
        )
    shared = [name for name in maps.expressions if name in masks.expressions]
    if not shared:
        raise UserInputError(
            paragraph(
                "No expression has both maps and a mask.",
                expected=f"masks for {', '.join(maps.expressions)}",
                got=", ".join(masks.expressions),
            )
        )
    at = np.array([maps.expressions.index(name) for name in shared])
    lost = [LeftOut("all networks", name, "no mask") for name in maps.expressions if name not in shared]
    rows = np.flatnonzero(maps.present[:, at].any(1))
    lost += [LeftOut(name, "", "no map of an expression with a mask") for name in _others(maps.networks, rows)]
    kept = MapSet(
        tuple(maps.networks[row] for row in rows),
        tuple(shared),
        maps.maps[np.ix_(rows, at)],
        maps.present[np.ix_(rows, at)],
        (*maps.left_out, *masks.left_out, *lost),
        None if maps.support is None else maps.support[np.ix_(rows, at)],
    )
    order = [masks.expressions.index(name) for name in shared]
    return kept, MaskSet(tuple(shared), masks.masks[order], masks.left_out)


def _others(names: tuple[str, ...], rows: np.ndarray) -> list[str]:
    kept = set(rows.tolist())
    return [name for number, name in enumerate(names) if number not in kept]


def _sub_folder(folder: Path, names: Iterable[str], kind: str) -> Path:
    if not folder.is_dir():
        raise UserInputError(paragraph(f"The folder of {kind} does not exist.", where=folder, fix=f"Mend --{kind}."))
    return next((folder / name for name in names if (folder / name).is_dir()), folder)


def _pictures(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)


def _named_maps(folder: Path) -> Iterator[tuple[Path, str, str]]:
    """Find the pictures with the network and the expression's word that their names hold."""
    for path in _pictures(folder):
        yield path, *network_and_word(ENDINGS.sub("", path.stem))
    for inner in sorted(path for path in folder.iterdir() if path.is_dir() and path.name != "masks"):
        for path in _pictures(inner):
            stem = ENDINGS.sub("", path.stem)
            yield path, inner.name, stem if canonical_label(stem) else network_and_word(stem)[1]


def network_and_word(stem: str) -> tuple[str, str]:
    """Split ``NET_Anger`` or ``NET_happily_surprised``, whose expression is the longest that the name ends in."""
    parts = stem.split("_")
    known = (at for at in range(1, len(parts)) if canonical_label("_".join(parts[at:])))
    at = next(known, max(len(parts) - 1, 0))
    return "_".join(parts[:at]), "_".join(parts[at:])


def _common_size(found: Iterable[UInt8[np.ndarray, "h w"]], place: Path) -> tuple[int, int]:
    sizes = Counter(values.shape for values in found)
    if not sizes:
        return 0, 0
    height, width = sizes.most_common(1)[0][0]
    return int(height), int(width)


def _unusable(values: UInt8[np.ndarray, "h w"], size: tuple[int, int]) -> str | None:
    if values.shape != size:
        return f"{_shown(values.shape)} pixels, the others {_shown(size)} (maps are never resized)"
    return "the same value everywhere" if values.min() == values.max() else None


def _shown(size: tuple[int, ...]) -> str:
    return f"{size[1]} x {size[0]}"


def _nothing(place: Path, left_out: list[LeftOut]) -> str:
    reasons = Counter(one.reason for one in left_out).most_common(3)
    return paragraph(
        "The folder holds no picture that can be used.",
        where=place,
        expected="grey NETWORK_EXPRESSION.png (maps) or EXPRESSION.png (masks), for example ResNet50_Anger_heatmap.png",
        got="; ".join(f"{count} x {reason}" for reason, count in reasons) or "no PNG, TIFF, BMP or PGM file",
    )
