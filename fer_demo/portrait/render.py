"""Drawing one expression of the portrait: geometry in one resampling, then creases, mouth interior, light and noise.

The face to draw (:class:`Scene`) is decided elsewhere; a scene and a size determine every pixel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from jaxtyping import Float, Float32, Float64, UInt8

from aupipe.fer_data import geometry
from aupipe.fer_demo.portrait.action_units import (
    CHIN_BOSS,
    CREASES,
    MIRROR,
    expressive_points,
    face_frame,
    mouth_of,
    portrait_points,
)
from aupipe.fer_demo.portrait.warps import FaceWarp, Mouth

_VIEW = 2.75  # width of the picture in eye distances
_CENTRE = np.array([0.02, 0.45])  # of the picture, face frame: a little below the nose
_SEAM_POINTS = 9
_SKIN_SHADE = np.array([0.75, 1.1, 1.2])  # shaded skin turns redder, not greyer
_INTERIOR = np.array([38.0, 14.0, 16.0])  # colour of an open mouth behind the teeth


@dataclass(frozen=True, slots=True)
class Pose:
    """In-plane turn (radians), scale, shift and tilt (perspective); shift in eye distances."""

    angle: float = 0.0
    scale: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)
    tilt: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Light:
    """Photometric jitter: gain per channel, contrast, side light, blur (pixels at 192), noise (grey levels)."""

    gains: tuple[float, float, float] = (1.0, 1.0, 1.0)
    contrast: float = 1.0
    side: tuple[float, float] = (0.0, 0.0)
    blur: float = 0.0
    noise: float = 0.0
    noise_seed: int = 0


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything that determines a picture except its size; ``shape`` is ``(74, 2)``, added to the neutral face."""

    intensities: Mapping[int, float]
    shape: Float64[np.ndarray, "74 2"] | float = 0.0
    pose: Pose = Pose()
    light: Light = Light()
    mirrored: bool = False


@cache
def portrait_photo() -> UInt8[np.ndarray, "512 512 3"]:
    """Load the astronaut portrait, RGB. It comes with the scikit-image wheel; nothing is downloaded."""
    import skimage.data  # deferred: not needed by anyone who only imports this module

    return np.asarray(skimage.data.astronaut(), np.uint8)  # type: ignore[no-untyped-call]


def draw_scene(scene: Scene, size: int) -> tuple[UInt8[np.ndarray, "h w 3"], Float64[np.ndarray, "68 2"]]:
    """Draw a picture, ``size`` pixels square, RGB, and its 68 landmarks in pixels, known by construction."""
    points, mouth = expressive_points(scene.intensities, scene.shape)
    face_x, face_y = face_grid(scene.pose, size)
    image = _warped(points, mouth, face_x, face_y)
    _paint_creases(image, scene.intensities, points, face_x, face_y)
    _paint_mouth(image, scene.intensities, mouth, face_x, face_y)
    if scene.mirrored:
        image = image[:, ::-1]
    landmarks = _to_pixels(points[:68], scene.pose, size)
    landmarks = geometry.flip_points(landmarks, size) if scene.mirrored else landmarks
    return _lit(image, scene.light), landmarks


def face_warp(points: Float64[np.ndarray, "74 2"], mouth: Mouth) -> FaceWarp:
    """Make the backward map, face frame, from the face with these control points to the photo's."""
    old = portrait_points()
    old_mouth = mouth_of(old)
    return FaceWarp(_controls(old, old_mouth), _controls(points, mouth), old_mouth, mouth)


def _warped(
    points: Float64[np.ndarray, "74 2"],
    mouth: Mouth,
    face_x: Float[np.ndarray, "h w"],
    face_y: Float[np.ndarray, "h w"],
) -> Float32[np.ndarray, "h w 3"]:
    x, y = photo_places(points, mouth, face_x, face_y)
    image = cv2.remap(
        portrait_photo(), x.astype(np.float32), y.astype(np.float32), cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
    )
    return image.astype(np.float32)


def photo_places(
    points: Float64[np.ndarray, "74 2"],
    mouth: Mouth,
    face_x: Float[np.ndarray, "h w"],
    face_y: Float[np.ndarray, "h w"],
) -> tuple[Float[np.ndarray, "h w"], Float[np.ndarray, "h w"]]:
    """Find the photo's ``(x, y)`` that each pixel shows, given the pixels' places in the face frame."""
    x, y = face_warp(points, mouth)(face_x, face_y)
    to_photo = geometry.invert_affine(face_frame())
    return (
        to_photo[0, 0] * x + to_photo[0, 1] * y + to_photo[0, 2],
        to_photo[1, 0] * x + to_photo[1, 1] * y + to_photo[1, 2],
    )


def _controls(points: Float64[np.ndarray, "74 2"], mouth: Mouth) -> Float64[np.ndarray, "k 2"]:
    """Choose the points that the warp holds on to: outer landmarks, cheeks, the seam, a fixed frame around the head."""
    x = np.linspace(mouth.x0, mouth.x1, _SEAM_POINTS)[1:-1]
    turn = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    ring = np.stack([1.45 * np.cos(turn), 0.4 + 1.55 * np.sin(turn)], 1)
    return np.concatenate([points[:60], points[68:], np.stack([x, mouth.seam(x)], 1), ring])


def _pose_matrix(pose: Pose, size: int) -> Float64[np.ndarray, "3 3"]:
    """Homography from picture pixels (unmirrored) to the face frame."""
    unit = _VIEW / size
    normalise = np.array([[unit, 0, -unit * (size - 1) / 2], [0, unit, -unit * (size - 1) / 2], [0, 0, 1]])
    tilt = np.array([[1, 0, 0], [0, 1, 0], [*pose.tilt, 1.0]])
    cos, sin = np.cos(pose.angle) / pose.scale, np.sin(pose.angle) / pose.scale
    x, y = _CENTRE - pose.shift
    turn = np.array([[cos, sin, x], [-sin, cos, y], [0, 0, 1]])
    return np.asarray(turn @ tilt @ normalise)


def face_grid(pose: Pose, size: int) -> tuple[Float[np.ndarray, "h w"], Float[np.ndarray, "h w"]]:
    """Place the pixels of a picture, before mirroring, in the face frame."""
    x, y = np.meshgrid(np.arange(size, dtype=np.float64), np.arange(size, dtype=np.float64))
    m = _pose_matrix(pose, size)
    depth = m[2, 0] * x + m[2, 1] * y + m[2, 2]
    return (m[0, 0] * x + m[0, 1] * y + m[0, 2]) / depth, (m[1, 0] * x + m[1, 1] * y + m[1, 2]) / depth


def _to_pixels(points: Float64[np.ndarray, "n 2"], pose: Pose, size: int) -> Float64[np.ndarray, "n 2"]:
    homogeneous = np.concatenate([points, np.ones((len(points), 1))], 1)
    placed = homogeneous @ np.linalg.inv(_pose_matrix(pose, size)).T
    return np.asarray(placed[:, :2] / placed[:, 2:])


def _paint_creases(
    image: Float32[np.ndarray, "h w 3"],
    intensities: Mapping[int, float],
    points: Float64[np.ndarray, "74 2"],
    face_x: Float[np.ndarray, "h w"],
    face_y: Float[np.ndarray, "h w"],
) -> None:
    """Darken the skin where the active AUs fold it, on both sides alike."""
    shade = np.zeros(image.shape[:2])
    middle = points[[27, 28, 29, 30, 33, 8], 0].mean()
    for au, intensity in intensities.items():
        for index, outwards, upwards, across, along, tilt, depth in CREASES.get(au, ()):
            for side, at in ((-1, index), (1, int(MIRROR[index]))):
                if side > 0 and at == index:
                    continue
                x = face_x - (points[at, 0] if at < CHIN_BOSS else middle) - side * outwards
                y = face_y - points[at, 1] + upwards
                angle = np.deg2rad(tilt) * side
                u = x * np.cos(angle) + y * np.sin(angle)
                v = y * np.cos(angle) - x * np.sin(angle)
                shade += intensity * depth * np.exp(-((u / across) ** 2 + (v / along) ** 2) / 2)
    image *= 1 - np.minimum(shade, 0.5)[..., None] * _SKIN_SHADE


def _paint_mouth(
    image: Float32[np.ndarray, "h w 3"],
    intensities: Mapping[int, float],
    mouth: Mouth,
    face_x: Float[np.ndarray, "h w"],
    face_y: Float[np.ndarray, "h w"],
) -> None:
    """Darken an open mouth below the upper teeth, and the line between closed lips."""
    bulge = mouth.bulge(face_x)
    seam = mouth.seam(face_x)
    soft = 0.008  # width of the edge to the lips
    over = 0.016 * np.clip(mouth.gap / 0.1 - 1, 0, 1)  # wide open: also hide the lower teeth's stretched edge
    upper, lower = mouth.contours(face_x)
    lower = lower + over * bulge
    inside = np.clip((face_y - upper) / soft, 0, 1) * np.clip((lower - face_y) / soft, 0, 1) * (bulge > 0)
    teeth = 0.045 + 0.07 * intensities.get(12, 0.0)
    teeth -= 0.015 * intensities.get(26, 0.0) + 0.04 * intensities.get(27, 0.0)
    dark = inside * (0.12 + 0.88 * np.clip((face_y - upper - teeth) / 0.035, 0, 1))
    image += dark[..., None] * (_INTERIOR - image)
    pressed = np.clip(1 - mouth.gap / 0.03, 0, 1)
    line = 0.5 * pressed * np.exp(-(((face_y - seam) / 0.013) ** 2)) * np.sqrt(bulge)
    image *= 1 - line[..., None] * _SKIN_SHADE


def _lit(image: Float32[np.ndarray, "h w 3"], light: Light) -> UInt8[np.ndarray, "h w 3"]:
    height, width = image.shape[:2]
    x, y = np.linspace(-1, 1, width), np.linspace(-1, 1, height)[:, None]
    shade = 1 + light.side[0] * x + light.side[1] * y
    lit = (image - 128) * light.contrast + 128
    lit = lit * np.asarray(light.gains) * shade[..., None]
    sigma = light.blur * width / 192
    if sigma > 0.1:
        lit = cv2.GaussianBlur(lit, (0, 0), sigma)
    rng = np.random.Generator(np.random.PCG64(light.noise_seed))
    lit = lit + rng.normal(0.0, 1.0, lit.shape) * light.noise
    return np.asarray(np.clip(np.rint(lit), 0, 255), np.uint8)
