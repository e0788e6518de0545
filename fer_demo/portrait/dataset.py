"""Labelled expression images without a dataset: one public-domain portrait, warped AU by AU.

Every picture's active action units, their intensities and its 68 landmarks are known by construction. Identity-like
shape, pose and light vary by the same random laws for all expressions, so that only the AUs tell them apart.

>>> face = next(portrait_faces("happiness", 1, seed=0, size=96))
>>> face.image.shape, face.aus
((96, 96, 3), (6, 12, 25))
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64, UInt8

from aupipe.fer_data.errors import UserInputError, paragraph, unknown_name
from aupipe.fer_data.files import write_text
from aupipe.fer_data.folders import is_system_file
from aupipe.fer_data.images import write_png
from aupipe.fer_data.types import Progress, Silent
from aupipe.fer_demo.portrait.action_units import VARIANTS, displacement
from aupipe.fer_demo.portrait.render import Light, Pose, Scene, draw_scene
from aupipe.fer_display.tables import csv_text

EXPRESSIONS = tuple(VARIANTS)
"""The labels, in alphabetical order except for neutral, which comes last."""

_TRAIN, _TEST = 0, 1  # independent random streams, so that neither split depends on the other's size
_JAW_HELD = {10, 26}  # a raised upper lip goes with a small jaw drop, or every open mouth would look surprised


@dataclass(frozen=True, slots=True, eq=False)
class PortraitFace:
    """One picture and what is true of it."""

    image: UInt8[np.ndarray, "h w 3"]
    """RGB, square."""
    expression: str
    aus: tuple[int, ...]
    """Active AUs, ascending FACS numbers; empty for neutral."""
    intensities: Mapping[int, float]
    """AU -> intensity in (0, 1]."""
    landmarks: Float64[np.ndarray, "68 2"]
    """iBUG-68 points, ``(x, y)`` pixels."""
    mirrored: bool


def portrait_faces(expression: str, count: int, seed: int, size: int = 192) -> Iterator[PortraitFace]:
    """Yield ``count`` pictures of ``expression``, ``size`` pixels square.

    Picture ``k`` depends on ``expression``, ``seed``, ``size`` and ``k`` only.

    Raises:
        UserInputError: The expression is unknown, ``count`` or ``seed`` is below 0, or ``size`` below 32.
    """
    _check(count, seed, size)
    if expression not in VARIANTS:
        raise UserInputError(unknown_name("expression", expression, list(EXPRESSIONS)))
    return (_portrait(expression, _TRAIN, k, seed, size) for k in range(count))


def write_portrait_dataset(
    root: Path,
    *,
    train: int = 30,
    test: int = 10,
    seed: int = 0,
    size: int = 192,
    progress: Progress | None = None,
) -> None:
    """Write ``root/{train,test}/<expression>/<expression>_0001.png`` and, beside ``root``, ``<root.name>_aus.csv``.

    The CSV's columns: path (relative to ``root``), expression, mirrored (0 or 1), AUs and their intensities (both
    separated by spaces). It is written last. Same arguments, same bytes. The landmarks are not written: finding them
    is the pipeline's task.

    Args:
        root: The dataset's folder.
        train: Pictures per expression in train.
        test: Pictures per expression in test.
        seed: Seed of everything random, 0 or more.
        size: Side of a picture in pixels, at least 32.
        progress: Told of each picture.

    Raises:
        UserInputError: A number cannot be used, or ``root`` holds files that are not part of this dataset.
    """
    for count in (train, test):
        _check(count, seed, size)
    progress = progress or Silent()
    plan = [
        (f"{split}/{expression}/{expression}_{k + 1:04d}.png", expression, stream, k)
        for split, stream, count in (("train", _TRAIN, train), ("test", _TEST, test))
        for expression in EXPRESSIONS
        for k in range(count)
    ]
    _refuse_other_files(root, {path for path, *_ in plan})
    progress.start("Drawing portraits", len(plan), "image")
    rows = []
    for path, expression, stream, k in plan:
        face = _portrait(expression, stream, k, seed, size)
        write_png(root / path, face.image)
        intensities = " ".join(f"{face.intensities[au]:.3f}" for au in face.aus)
        rows.append([path, expression, int(face.mirrored), " ".join(map(str, face.aus)), intensities])
        progress.advance(1)
    write_text(aus_path(root), csv_text(["path", "expression", "mirrored", "aus", "intensities"], rows))
    progress.finish()


def aus_path(root: Path) -> Path:
    """Name the table of AUs that :func:`write_portrait_dataset` puts beside ``root``.

    >>> aus_path(Path("demo/faces")).as_posix()
    'demo/faces_aus.csv'
    """
    return root.with_name(f"{root.name}_aus.csv")


def random_scene(expression: str, rng: np.random.Generator) -> Scene:
    """Draw the AUs of ``expression`` and, by laws that do not depend on it, everything else."""
    variants = VARIANTS[expression]
    variant = variants[int(rng.integers(len(variants)))]
    strength = rng.uniform(0.4, 1.0)
    intensities = {au: float(np.clip(strength * rng.uniform(0.85, 1.15), 0.35, 1.0)) for au in variant}
    if _JAW_HELD.issubset(intensities):
        intensities[26] *= 0.5
    return Scene(intensities, _random_shape(rng), _random_pose(rng), _random_light(rng), bool(rng.random() < 0.5))


def _portrait(expression: str, stream: int, index: int, seed: int, size: int) -> PortraitFace:
    key = [seed, EXPRESSIONS.index(expression), stream, index]
    scene = random_scene(expression, np.random.Generator(np.random.PCG64(key)))
    image, landmarks = draw_scene(scene, size)
    aus = tuple(sorted(scene.intensities))
    return PortraitFace(image, expression, aus, scene.intensities, landmarks, scene.mirrored)


def _random_shape(rng: np.random.Generator) -> Float64[np.ndarray, "74 2"]:
    """Draw a slightly different person: all parts vary by one or two hundredths of the eye distance."""
    brow, slant, lid, mouth, lips, jaw, chin, nose = np.clip(rng.normal(size=8), -2, 2).tolist()
    moves = {
        **{17 + i: (0.0, 0.012 * brow + 0.004 * slant * (2 - i)) for i in range(5)},
        **dict.fromkeys((37, 38), (0.0, 0.004 * lid)),
        **dict.fromkeys((48, 49, 59), (0.012 * mouth, 0.008 * lips)),
        **dict.fromkeys((50, 51, 57, 58, 62, 66), (0.0, 0.008 * lips)),
        **dict.fromkeys((3, 4, 5, 6), (0.015 * jaw, 0.0)),
        **dict.fromkeys((7, 8), (0.0, 0.015 * chin)),
        **dict.fromkeys((31, 32), (0.01 * nose, 0.0)),
    }
    return displacement(moves)


def _random_pose(rng: np.random.Generator) -> Pose:
    angle, scale = np.deg2rad(rng.uniform(-8, 8)), rng.uniform(0.92, 1.08)
    shift, tilt = rng.uniform(-0.08, 0.08, 2), rng.uniform(-0.05, 0.05, 2)
    return Pose(float(angle), float(scale), (float(shift[0]), float(shift[1])), (float(tilt[0]), float(tilt[1])))


def _random_light(rng: np.random.Generator) -> Light:
    gains = (rng.uniform(0.78, 1.12) * rng.uniform(0.94, 1.06, 3)).tolist()
    side = rng.uniform(-0.15, 0.15, 2).tolist()
    return Light(
        gains=(gains[0], gains[1], gains[2]),
        contrast=float(rng.uniform(0.8, 1.15)),
        side=(side[0], side[1]),
        blur=float(rng.uniform(0, 0.8)),
        noise=float(rng.uniform(0, 6)),
        noise_seed=int(rng.integers(2**32)),
    )


def _check(count: int, seed: int, size: int) -> None:
    if count < 0 or seed < 0 or size < 32:
        raise UserInputError(
            paragraph(
                "These portraits cannot be drawn.",
                expected="count >= 0, seed >= 0, size >= 32",
                got=f"count {count}, seed {seed}, size {size}",
            )
        )


def _refuse_other_files(root: Path, expected: set[str]) -> None:
    for split in ("train", "test"):
        for path in sorted((root / split).rglob("*")):
            ours = is_system_file(path.name) or path.relative_to(root).as_posix() in expected
            if path.is_file() and not ours:
                raise UserInputError(
                    paragraph(
                        f"{root} already holds files that are not part of this dataset.",
                        where=path,
                        expected=f"an empty folder, or the same portraits ({len(expected)} images)",
                        fix="Choose another folder or empty this one.",
                    )
                )
