"""The portrait's landmarks, and what each action unit does to them.

The portrait is ``skimage.data.astronaut()``, a public-domain NASA photo that ships inside scikit-image. Its 68 iBUG
points below were obtained once with MediaPipe FaceLandmarker (``face_landmarker.task``, mapping of
:mod:`aupipe.pipeline.detectors.mesh68`), drawn on the photo and checked by eye; nothing is detected at run time.

Displacements are in units of the outer-eye distance, ``(outwards, upwards)`` in the face's own axes, at intensity 1,
given for the image's left half and the midline; the right half is its mirror image. They are added to a *neutral* face,
which is the photo with its smile undone.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float64

from aupipe.fer_data import geometry
from aupipe.fer_demo.portrait.warps import MIN_GAP, Mouth

LANDMARKS = np.array([
    (180.4, 100.8), (180.4, 112.8), (180.7, 124.9), (181.8, 136.9), (184.8, 148.5), (191.2, 158.7), (199.4, 167.4),
    (209.3, 174.2), (220.9, 176.9), (232.8, 175.4), (243.4, 169.7), (252.6, 161.8), (260.3, 152.5), (265.0, 141.4),
    (267.7, 129.5), (269.0, 117.5), (269.7, 105.4),
    (187.4, 90.2), (191.1, 87.3), (197.0, 86.1), (205.1, 87.3), (214.6, 89.3),
    (235.5, 90.1), (245.4, 89.2), (253.7, 89.1), (259.7, 91.0), (263.2, 94.4),
    (224.4, 100.9), (224.0, 111.2), (223.5, 120.7), (223.2, 126.5),
    (210.8, 129.0), (217.2, 131.8), (223.0, 132.9), (228.9, 132.3), (235.8, 130.2),
    (194.8, 100.1), (198.7, 97.7), (205.6, 97.9), (213.1, 103.1), (207.1, 103.5), (200.2, 103.2),
    (235.9, 104.4), (243.8, 99.8), (250.9, 100.5), (254.8, 103.3), (248.9, 105.9), (241.8, 105.5),
    (201.8, 138.7), (211.2, 138.6), (216.8, 138.9), (222.9, 140.1), (229.2, 139.3), (234.7, 139.4), (244.0, 140.1),
    (238.2, 148.0), (228.6, 153.6), (222.2, 154.2), (216.0, 153.2), (206.7, 147.0),
    (203.4, 139.2), (217.2, 141.9), (222.8, 142.7), (228.5, 142.3), (242.4, 140.6), (227.8, 148.4), (222.5, 148.7),
    (217.1, 147.9),
])  # fmt: skip
"""iBUG-68 points of the portrait, ``(68, 2)``, ``(x, y)`` pixels of the 512 x 512 photo."""

CHEEK, FOLD, CHIN_BOSS, GLABELLA = 68, 70, 72, 73
"""Control points beside the landmarks; cheek and nasolabial fold have a right twin at the next number."""

MIRROR = np.concatenate([geometry.FLIP_68, [69, 68, 71, 70, 72, 73]])
"""Control point -> its mirror twin; points on the midline are their own."""
_INNER_LIPS = slice(60, 68)
_UPPER_LIP, _LOWER_LIP = slice(49, 54), slice(55, 60)
_PARTING = frozenset({25, 26, 27})  # without one of these the lips stay closed, whatever moves them

VARIANTS: Mapping[str, tuple[tuple[int, ...], ...]] = {
    "anger": ((4, 5, 7, 17, 23, 24), (4, 5, 7, 10, 25, 26), (4, 7, 10, 17, 23)),
    "disgust": ((9, 10, 17), (9, 10, 16, 25), (9, 10, 16, 25, 26)),
    "fear": ((1, 2, 4, 5, 20, 25), (1, 2, 4, 5, 20, 25, 26), (1, 2, 4, 5, 20, 25, 27)),
    "happiness": ((6, 12, 25),),
    "sadness": ((1, 4, 6, 11, 15, 17), (1, 4, 11, 15, 17), (1, 4, 15, 17)),
    "surprise": ((1, 2, 5, 26), (1, 2, 5, 27)),
    "neutral": ((),),
}
"""Plausible sets of active AUs, subsets of the expression's codebook entry (some of which exclude each other)."""

Moves = Mapping[int, tuple[float, float]]

UNSMILE: Moves = {
    48: (-.075, -.085), 49: (-.045, -.050), 50: (-.020, -.030), 51: (.0, -.025), 62: (.0, -.055),
    66: (.0, .050), 57: (.0, .045), 58: (-.015, .040), 59: (-.055, -.020), 40: (.0, -.010), 41: (.0, -.010),
    CHEEK: (-.010, -.040), FOLD: (-.035, -.025), 3: (-.010, .0), 4: (-.010, .0), CHIN_BOSS: (.0, .010),
}  # fmt: skip
"""From the smiling photo to the neutral face."""

MOVES: Mapping[int, Moves] = {
    1: {21: (.0, .11), 20: (.0, .085), 19: (.0, .03), 27: (.0, .015), GLABELLA: (.0, .05)},
    2: {17: (.0, .06), 18: (.0, .11), 19: (.0, .10), 20: (.0, .05)},
    4: {17: (.0, -.02), 18: (.0, -.035), 19: (-.01, -.05), 20: (-.025, -.07), 21: (-.045, -.075), 27: (.0, -.015),
        GLABELLA: (.0, -.04)},
    5: {37: (.0, .038), 38: (.0, .038), 40: (.0, -.005), 41: (.0, -.005)},
    6: {CHEEK: (.01, .05), 40: (.0, .020), 41: (.0, .022), FOLD: (.010, .010)},
    7: {40: (.0, .022), 41: (.0, .022), 37: (.0, -.016), 38: (.0, -.016)},
    9: {31: (.012, .055), 32: (.0, .04), 33: (.0, .03), 30: (.0, .03), 29: (.0, .02), 21: (-.025, -.04),
        20: (.0, -.035), 19: (.0, -.02), FOLD: (.0, .035), 50: (.0, .025), 51: (.0, .02), 49: (.0, .02), 40: (.0, .012),
        GLABELLA: (.0, -.04), CHEEK: (.0, .03)},
    10: {49: (.005, .045), 50: (.0, .06), 51: (.0, .05), 62: (.0, .045), 31: (.012, .02), FOLD: (.01, .03)},
    11: {FOLD: (.012, .014), 31: (.012, .012)},
    12: {48: (.085, .090), 49: (.05, .05), 50: (.02, .03), 51: (.0, .025), 62: (.0, .035), 66: (.0, .005),
         59: (.055, .03), 58: (.015, .005), CHEEK: (.02, .04), FOLD: (.05, .03), 3: (.015, .0), 4: (.015, .0)},
    15: {48: (.010, -.070), 49: (.005, -.025), 59: (.015, -.05), 58: (.0, -.01), FOLD: (.0, -.015)},
    16: {57: (.0, -.045), 58: (.0, -.045), 59: (.01, -.03), 66: (.0, -.035), CHIN_BOSS: (.0, -.02)},
    17: {CHIN_BOSS: (.0, .06), 57: (.0, .03), 58: (.0, .03), 59: (.0, .015), 66: (.0, .025), 62: (.0, .02),
         51: (.0, .015), 50: (.0, .015), 8: (.0, .02), 7: (.0, .015)},
    20: {48: (.09, -.025), 49: (.05, .0), 59: (.055, -.01), 58: (.02, .0), 4: (.02, .0), 5: (.02, .0)},
    22: {48: (-.05, .0), 49: (-.02, .01), 50: (.0, .025), 51: (.0, .025), 62: (.0, .02), 66: (.0, -.03),
         57: (.0, -.045), 58: (.0, -.04), 59: (-.02, -.02)},
    23: {48: (-.035, .0), 49: (-.02, -.01), 50: (.0, -.022), 51: (.0, -.02), 57: (.0, .025), 58: (.0, .025),
         59: (-.02, .01)},
    24: {48: (-.03, -.005), 49: (-.01, -.015), 50: (.0, -.022), 51: (.0, -.02), 57: (.0, .03), 58: (.0, .03),
         59: (-.01, .015)},
    25: {62: (.0, .025), 66: (.0, -.050), 51: (.0, .02), 50: (.0, .02), 49: (.0, .01),
         57: (.0, -.04), 58: (.0, -.035), 59: (.0, -.02)},
    26: {8: (.0, -.16), 7: (.0, -.155), 6: (.0, -.12), 5: (.0, -.07), 4: (.0, -.03), CHIN_BOSS: (.0, -.15),
         57: (.0, -.14), 58: (.0, -.13), 59: (.0, -.09), 66: (.0, -.155), 48: (-.02, -.03)},
    27: {8: (.0, -.25), 7: (.0, -.24), 6: (-.01, -.19), 5: (-.02, -.12), 4: (-.015, -.06), 3: (-.01, -.02),
         CHIN_BOSS: (.0, -.24), 57: (.0, -.23), 58: (.0, -.22), 59: (-.02, -.15), 66: (.0, -.25), 62: (.0, .02),
         51: (.0, .015), 50: (.0, .015), 48: (-.05, -.07)},
}  # fmt: skip
"""AU -> control point -> displacement at intensity 1."""

# AU -> wrinkles: (control point, outwards, upwards, sigma across, sigma along, tilt in degrees, depth).
CREASES: Mapping[int, tuple[tuple[int, float, float, float, float, float, float], ...]] = {
    4: ((21, -.10, -.03, .014, .060, 8, .16),),
    6: ((41, 0.02, -.05, .012, .070, 80, .12), (36, .08, -.02, .010, .040, 70, .10)),
    9: ((27, .05, -.04, .012, .040, 75, .11), (27, .05, -.09, .012, .040, 70, .11),
        (31, .05, .06, .018, .080, -35, .13)),
    10: ((FOLD, -.01, .04, .020, .090, -35, .16),),
    11: ((FOLD, -.01, .03, .018, .100, -32, .16),),
    15: ((48, .02, -.06, .016, .050, -25, .16),),
    17: ((CHIN_BOSS, 0.0, .07, .020, .090, 90, .14),),
}  # fmt: skip


def face_frame() -> Float64[np.ndarray, "2 3"]:
    """Return the affine map from the photo's pixels to the face frame of :mod:`aupipe.fer_demo.portrait.warps`."""
    centre = (LANDMARKS[36] + LANDMARKS[45]) / 2
    scale = 1 / float(geometry.inter_ocular(LANDMARKS))
    return geometry.similarity(float(geometry.roll(LANDMARKS)), scale, centre, np.zeros(2))


def portrait_points() -> Float64[np.ndarray, "74 2"]:
    """Return landmarks and further control points of the photo, face frame."""
    points = geometry.apply_affine(face_frame(), LANDMARKS)
    cheeks = points[[41, 46]] + (0, 0.38)
    folds = (points[[31, 35]] + points[[48, 54]]) / 2
    return np.concatenate(
        [
            points,
            cheeks,
            folds,
            points[[57, 8]].mean(0, keepdims=True),
            points[[21, 22]].mean(0, keepdims=True),
        ]
    )


def displacement(moves: Moves) -> Float64[np.ndarray, "74 2"]:
    """Return the displacements of all control points, face frame (y down), mirror-symmetric."""
    moved = np.zeros((len(MIRROR), 2))
    for index, (outwards, upwards) in moves.items():
        moved[index] = -outwards, -upwards
        moved[MIRROR[index]] = outwards, -upwards
    return moved


def expressive_points(
    intensities: Mapping[int, float], shape: Float64[np.ndarray, "74 2"] | float = 0.0
) -> tuple[Float64[np.ndarray, "74 2"], Mouth]:
    """Move control points and mouth to the face with these AUs; ``shape`` is added to the neutral face."""
    points = portrait_points() + displacement(UNSMILE) + shape
    for au, intensity in intensities.items():
        points += intensity * displacement(MOVES[au])
    if not _PARTING.intersection(intensities):
        points[[62, 66], 1] = points[[62, 66], 1].mean()
    mouth = mouth_of(points)
    _place_inner_lips(points, mouth)
    _keep_lips_thick(points, mouth)
    return points, mouth


def _place_inner_lips(points: Float64[np.ndarray, "74 2"], mouth: Mouth) -> None:
    """Put the inner lip landmarks on the contours of ``mouth``, in the order 60-64 above, 65-67 below."""
    x = points[_INNER_LIPS, 0]
    share = np.clip((x - x[0]) / (x[4] - x[0]), 0, 1)
    x = mouth.x0 + share * (mouth.x1 - mouth.x0)
    upper, lower = mouth.contours(x)
    points[_INNER_LIPS] = np.stack([x, np.concatenate([upper[:5], lower[5:]])], 1)


def _keep_lips_thick(points: Float64[np.ndarray, "74 2"], mouth: Mouth) -> None:
    """Keep every lip at 0.6 of the photo's thickness: pressing and raising add up, and the warp must not fold."""
    old = portrait_points()
    for rows, sign in ((_UPPER_LIP, -1), (_LOWER_LIP, 1)):
        least = 0.6 * sign * (old[rows, 1] - mouth_of(old).contours(old[rows, 0])[sign > 0])
        thickness = sign * (points[rows, 1] - mouth.contours(points[rows, 0])[sign > 0])
        points[rows, 1] += sign * np.maximum(least - thickness, 0)


def mouth_of(points: Float64[np.ndarray, "74 2"]) -> Mouth:
    """Read the inner lip contours off the control points; lips that overlap meet halfway."""
    (x0, y0), (x1, y1) = points[48], points[54]
    upper, lower = points[62, 1], points[66, 1]
    if lower - upper < MIN_GAP:
        middle = (upper + lower) / 2
        upper, lower = middle - MIN_GAP / 2, middle + MIN_GAP / 2
    return Mouth(*(float(value) for value in (x0, y0, x1, y1, upper, lower)))
