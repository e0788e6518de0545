"""A learned correction of 68 points that were mapped from a face mesh.

The mesh and the people who place iBUG-68 points disagree in a regular way: brows a little higher, a jaw that follows
the visible outline when the head turns. ``benchmarks/fit_mesh68.py`` learns that residual from faces with
human-corrected points and writes it to ``data/mesh68.toml``:

    residual = offset + sum_k saturate(component_k . (shape - template)) direction_k + saturate(yaw)^2 yaw_direction

where ``shape`` is the face moved, turned and scaled onto the template, and ``yaw`` the leading component that changes
sign in the mirror. Outside what the fit has seen the correction stays harmless: every component saturates at three
standard deviations, and the whole fades to nothing where the points do not look like a face.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Complex128, Float, Float64, Int

from aupipe.fer_data.geometry import FLIP_68

CORRECTION_FILE = Path(__file__).parent / "data" / "mesh68.toml"

HALF = tuple(i for i in range(68) if i <= FLIP_68[i])
"""The points on the image's left and on the midline: a (skew-)symmetric field is stored at these."""

SATURATION = 3.0
FADE = (0.6, 0.8)
"""Likeness to the template below which nothing is corrected, and from which on everything is.

Meshes of faces turned by up to 45 degrees have 0.92 and more, of a full profile 0.7, random points at most 0.3.
"""

# People place jaw points anywhere along the outline, so these weigh little in a face's place, size and turn.
_WEIGHTS = np.where(np.arange(68) < 17, 0.2, 1.0)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()


@dataclass(frozen=True)
class Correction:
    """The fitted residual; lengths in units of a face's size (weighted root mean square distance to its centre).

    template: the mean shape, centred. offset: residual at the template. components: (k, 68, 2), one standard
    deviation is 1. directions: (k + 1, 68, 2), residual per unit of each component, then of yaw squared. parities:
    (k,), 1 for a component that stays the same in the mirror, -1 for one that changes sign.
    """

    template: Float64[np.ndarray, "68 2"]
    offset: Float64[np.ndarray, "68 2"]
    components: Float64[np.ndarray, "k 68 2"]
    directions: Float64[np.ndarray, "n 68 2"]
    parities: Int[np.ndarray, "k"]


class NormalisedFace(NamedTuple):
    """A face in its own frame: original = centre + unit * shape, as complex numbers x + iy."""

    shape: Complex128[np.ndarray, "68"]
    unit: complex
    likeness: float


@cache
def shipped_correction() -> Correction:
    """Load the correction that :func:`aupipe.pipeline.detectors.mesh68.mesh_to_68` applies."""
    return parse_correction(CORRECTION_FILE.read_text(encoding="utf-8"))


def apply_correction(points: Float64[np.ndarray, "68 2"], correction: Correction) -> Float64[np.ndarray, "68 2"]:
    """Correct points, in the same pixels; those without extent or with a non-finite coordinate come back as given."""
    placed = place(points, correction.template)
    if placed is None:
        return points
    residual = correction.offset + np.tensordot(features(as_pairs(placed.shape), correction), correction.directions, 1)
    low, high = FADE
    t = min(max((placed.likeness - low) / (high - low), 0.0), 1.0)
    fade = t * t * (3 - 2 * t)
    return np.asarray(points + as_pairs(fade * placed.unit * as_complex(residual)))


def place(points: Float[np.ndarray, "68 2"], template: Float64[np.ndarray, "68 2"]) -> NormalisedFace | None:
    """Move, turn and scale a face onto a centred template of unit size; None when it has no extent or is not finite."""
    if not np.isfinite(points).all():
        return None
    flat = as_complex(points)
    flat = flat - _WEIGHTS @ flat
    size = float(np.sqrt(_WEIGHTS @ np.abs(flat) ** 2))
    if size < 1e-9:
        return None
    overlap = complex(_WEIGHTS @ (np.conj(as_complex(template)) * flat)) / size
    likeness = abs(overlap)
    unit = size * (overlap / likeness if likeness > 0 else 1.0)
    return NormalisedFace(flat / unit, unit, likeness)


def unit_size(points: Float64[np.ndarray, "68 2"]) -> Float64[np.ndarray, "68 2"]:
    """Centre and scale points as a template must be."""
    flat = as_complex(points)
    flat = flat - _WEIGHTS @ flat
    return as_pairs(flat / np.sqrt(_WEIGHTS @ np.abs(flat) ** 2))


def features(shape: Float64[np.ndarray, "68 2"], correction: Correction) -> Float64[np.ndarray, "n"]:
    """Compute what the residual is linear in: the saturated components and the square of the leading skew one."""
    values = saturate(np.tensordot(correction.components, shape - correction.template, 2))
    yaw = values[int(np.argmin(correction.parities))]
    return np.append(values, yaw**2)


def saturate(values: Float64[np.ndarray, "..."]) -> Float64[np.ndarray, "..."]:
    """Limit smoothly to +-SATURATION; values up to two thirds of it stay nearly as they are."""
    return np.asarray(values / (1 + (values / SATURATION) ** 4) ** 0.25)


def mirrored(field: Float64[np.ndarray, "... 68 2"]) -> Float64[np.ndarray, "... 68 2"]:
    """Mirror a field of points or arrows, x -> -x, renamed."""
    return np.asarray(field[..., FLIP_68, :] * np.array([-1.0, 1.0]))


def parse_correction(text: str) -> Correction:
    """Read what :func:`format_correction` wrote. Fields are symmetric (or skew) exactly, whatever the text says."""
    table = tomllib.loads(text)
    parities = [int(component["parity"]) for component in table["component"]]
    return Correction(
        template=_whole(table["template"], 1),
        offset=_whole(table["offset"], 1),
        components=np.array([_whole(c["values"], c["parity"]) for c in table["component"]]),
        directions=np.array(
            [*(_whole(c["direction"], c["parity"]) for c in table["component"]), _whole(table["yaw_squared"], 1)]
        ),
        parities=np.array(parities),
    )


def format_correction(correction: Correction, heading: Iterable[str]) -> str:
    """Format the correction as TOML under ``heading`` (comment lines), rounded to four decimals."""
    lines = [*(f"# {line}".rstrip() for line in heading), ""]
    lines += _field("template", correction.template) + _field("offset", correction.offset)
    lines += _field("yaw_squared", correction.directions[-1])
    for values, direction, parity in zip(
        correction.components, correction.directions[:-1], correction.parities, strict=True
    ):
        lines += ["", "[[component]]", f"parity = {parity}"]
        lines += _field("values", values) + _field("direction", direction)
    return "\n".join(lines) + "\n"


def as_complex(points: Float[np.ndarray, "68 2"]) -> Complex128[np.ndarray, "68"]:
    """Write points (x, y) as x + iy, in which a turn and a scale are one product."""
    return np.asarray(points[:, 0] + 1j * points[:, 1], np.complex128)


def as_pairs(numbers: Complex128[np.ndarray, "68"]) -> Float64[np.ndarray, "68 2"]:
    """Write x + iy as points (x, y): the inverse of :func:`as_complex`."""
    return np.stack([numbers.real, numbers.imag], -1)


def _whole(half: Any, parity: int) -> Float64[np.ndarray, "68 2"]:
    field = np.zeros((68, 2))
    field[list(HALF)] = half
    other = parity * mirrored(field)
    on_midline = FLIP_68[:, None] == np.arange(68)[:, None]
    return np.asarray(np.where(on_midline, (field + other) / 2, field + other))


def _field(name: str, field: Float64[np.ndarray, "68 2"]) -> list[str]:
    # + 0.0 turns the -0.0 of rounding into 0.0.
    pairs = [f"[{x:.4f}, {y:.4f}]" for x, y in np.round(field[list(HALF)], 4) + 0.0]
    rows = [", ".join(pairs[i : i + 6]) for i in range(0, len(pairs), 6)]
    return [f"{name} = [", *(f"  {row}," for row in rows), "]"]
