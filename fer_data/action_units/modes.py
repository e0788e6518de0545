"""Where the weights of a face's action units may come from; see :mod:`.face_weights`."""

from __future__ import annotations

from typing import Literal, get_args

AuMode = Literal["class", "annotated", "estimated", "fused"]
AuMissing = Literal["fused", "class", "none"]

MODES: tuple[AuMode, ...] = get_args(AuMode)
MISSING: tuple[AuMissing, ...] = get_args(AuMissing)

AU_SOURCES = ("none", *MODES)
"""What the weights of one face come from, ``none``: nothing is known; a store holds the place in this list."""

WIDTH = 99
"""Length of a store's axis of action units: the index is the FACS number, up to 98."""

DRAWN_AUS = (1, 2, 4, 5, 6, 7, 9, 10, 11, 12, 14, 15, 16, 17, 20, 22, 23, 24, 25, 26, 27, 43)
"""The action units of the built-in codebooks: those that have a map of their own with ``--guidance per-au``."""

SIDES = ("L", "R")
"""The other axis: the person's left and right. An action unit of the midline has the same weight in both."""
