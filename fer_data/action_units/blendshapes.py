"""MediaPipe's 52 blendshapes: their names, and each as a feature of the face or of one half of it."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float64

BLENDSHAPES = (
    "_neutral", "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight", "cheekPuff",
    "cheekSquintLeft", "cheekSquintRight", "eyeBlinkLeft", "eyeBlinkRight", "eyeLookDownLeft", "eyeLookDownRight",
    "eyeLookInLeft", "eyeLookInRight", "eyeLookOutLeft", "eyeLookOutRight", "eyeLookUpLeft", "eyeLookUpRight",
    "eyeSquintLeft", "eyeSquintRight", "eyeWideLeft", "eyeWideRight", "jawForward", "jawLeft", "jawOpen", "jawRight",
    "mouthClose", "mouthDimpleLeft", "mouthDimpleRight", "mouthFrownLeft", "mouthFrownRight", "mouthFunnel",
    "mouthLeft", "mouthLowerDownLeft", "mouthLowerDownRight", "mouthPressLeft", "mouthPressRight", "mouthPucker",
    "mouthRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper", "mouthSmileLeft",
    "mouthSmileRight", "mouthStretchLeft", "mouthStretchRight", "mouthUpperUpLeft", "mouthUpperUpRight",
    "noseSneerLeft", "noseSneerRight",
)  # fmt: skip
"""MediaPipe's names of the 52 blendshapes, in its order; Left and Right are the person's."""

DEAD = ("cheekSquint", "noseSneer")
"""Features whose value never rises above .05, whatever the face does (known faults of MediaPipe's network)."""

GAZE = ("eyeLookDown", "eyeLookIn", "eyeLookOut", "eyeLookUp")
"""Features that say where the eyes look: no action unit of the face."""

UPPER = frozenset({1, 2, 4, 5, 6, 7, 9, 43, 45, 46})
"""Action units of the upper face; 6 and 9 pull at the mouth too."""

_ALSO: dict[int, tuple[str, ...]] = {
    6: ("mouthSmile", "mouthUpperUp", "cheekPuff"),
    9: ("mouthUpperUp", "mouthShrugUpper", "mouthRollUpper", "mouthFrown"),
}
_SIDES = {"L": "Left", "R": "Right"}


def blendshape_features() -> tuple[str, ...]:
    """List the features: names of blendshapes without side (``mouthSmile`` for left and right).

    ``_neutral``, :data:`DEAD` and :data:`GAZE` are left out.
    """
    names = dict.fromkeys(map(_without_side, BLENDSHAPES))
    return tuple(name for name in names if name not in ("_neutral", *DEAD, *GAZE))


def features_near(number: int) -> tuple[str, ...]:
    """List the features of the half of the face in which an action unit acts.

    Of all features together an action unit is estimated by recognising the expression it goes with, and no longer by
    what it does itself.
    """
    upper = [name for name in blendshape_features() if name.startswith(("brow", "eye"))]
    lower = [name for name in blendshape_features() if name not in upper]
    return (*upper, *_ALSO.get(number, ())) if number in UPPER else tuple(lower)


def _without_side(name: str) -> str:
    stem = name.removesuffix("Left").removesuffix("Right")
    return stem if {f"{stem}Left", f"{stem}Right"} <= set(BLENDSHAPES) else name


def feature_values(blendshapes: Float[np.ndarray, "n 52"], side: str = "") -> Float64[np.ndarray, "n f"]:
    """Give each feature's blendshape in [0, 1]: the mean of left and right, or of one ``side`` (``L``, ``R``) alone.

    Sides are the person's. The columns are those of :func:`blendshape_features`; what has no side is the same for both.
    """
    at = {name: number for number, name in enumerate(BLENDSHAPES)}
    ends = [_SIDES[side]] if side else list(_SIDES.values())
    names = blendshape_features()
    columns = [[at[name]] if name in at else [at[name + end] for end in ends] for name in names]
    return np.stack([blendshapes[:, column].mean(1, dtype=np.float64) for column in columns], 1)
