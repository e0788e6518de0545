"""An estimate of the action units that a face shows, from MediaPipe's blendshapes alone: no label enters.

One logistic regression an action unit, on the cube roots of the blendshapes (they are skewed: most are nearly 0) of
its half of the face. Fitted on people's FACS codes by ``benchmarks/fit_action_units.py``, which writes the file and
measures each action unit on persons that its fit did not see. An action unit with an area under the curve below
:data:`TOLD` is not told.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from typing import Any

import numpy as np
from jaxtyping import Float, Float64

from aupipe.fer_data import typed
from aupipe.fer_data.action_units.blendshapes import blendshape_features, feature_values
from aupipe.fer_data.files import digest

TOLD = 0.7
"""Least area under the curve of an action unit that counts as told by blendshapes."""


@dataclass(frozen=True, slots=True)
class EstimatedUnit:
    """The regression of one action unit, and how well it does on persons that the fit did not see.

    Attributes:
        number: The FACS number.
        auc: Area under the curve of faces with the action unit against faces without.
        interval: Its 95 % interval, persons resampled.
        persons: Number of persons who show it.
        share: Share of the coded faces that show it.
        calibration: Mean distance of the probability from the share of faces that show it, in ten bins of equal size.
        intercept: Of the regression.
        coefficients: By name of :func:`blendshape_features`, of the cube root of its value.
    """

    number: int
    auc: float
    interval: tuple[float, float]
    persons: int
    share: float
    calibration: float
    intercept: float
    coefficients: Mapping[str, float]

    @property
    def told(self) -> bool:
        """Whether blendshapes tell it: the area under the curve is at least :data:`TOLD`."""
        return self.auc >= TOLD


@dataclass(frozen=True, slots=True)
class Fusion:
    """How an estimate becomes the weight of an action unit in a map; see :mod:`.face_weights`.

    Attributes:
        beta: Weight of the face's evidence beside the share of its label.
        floor: Least share of an action unit, and least probability that counts as an estimate.
        ceiling: Largest share.
        least: Fused weights below it are none.
        sure: Least probability on a face whose class has no action units.
    """

    beta: float
    floor: float
    ceiling: float
    least: float
    sure: float


@dataclass(frozen=True)
class AuEstimator:
    """The regressions of all action units that were fitted, by number.

    ``source``: the faces that it was fitted on. ``content``: all of the file, which ``digest`` is made of.
    """

    version: int
    source: str
    fusion: Fusion
    units: tuple[EstimatedUnit, ...]
    content: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """SHA-256 of the content, to record beside what was made with it."""
        return digest(self.content)

    @property
    def numbers(self) -> tuple[int, ...]:
        """FACS numbers, in the order of the columns of :meth:`probabilities`."""
        return tuple(unit.number for unit in self.units)

    @cached_property
    def told(self) -> tuple[int, ...]:
        """Columns of :meth:`probabilities` whose action units blendshapes tell."""
        return tuple(at for at, unit in enumerate(self.units) if unit.told)

    def probabilities(self, blendshapes: Float[np.ndarray, "n 52"], side: str = "") -> Float64[np.ndarray, "n k"]:
        """Estimate the probability that each action unit is there, as it was among the coded faces.

        Args:
            blendshapes: In [0, 1], in MediaPipe's order.
            side: ``L`` or ``R``: from the blendshapes of this half of the person's face alone; empty: of both.

        Returns:
            Probabilities in (0, 1), a column an action unit of :attr:`numbers`.
        """
        return np.asarray(1 / (1 + np.exp(-self.logits(blendshapes, side))))

    def logits(self, blendshapes: Float[np.ndarray, "n 52"], side: str = "") -> Float64[np.ndarray, "n k"]:
        """Compute the logits of :meth:`probabilities`."""
        names = blendshape_features()
        weights = np.array([[unit.coefficients.get(name, 0.0) for name in names] for unit in self.units])
        intercepts = np.array([unit.intercept for unit in self.units])
        return np.asarray(root_features(blendshapes, side) @ weights.T + intercepts)


def root_features(blendshapes: Float[np.ndarray, "n 52"], side: str = "") -> Float64[np.ndarray, "n f"]:
    """Compute what the regressions see: the cube roots of :func:`feature_values`."""
    return np.asarray(np.cbrt(np.clip(feature_values(blendshapes, side), 0, 1)))


@cache
def load_estimator() -> AuEstimator:
    """Load the estimator that ships with the package."""
    return parse_estimator(resources.files(__package__).joinpath("estimator.toml").read_text("utf-8"))


def parse_estimator(text: str) -> AuEstimator:
    """Parse the text of an estimator's file. Raises :class:`ValueError` when it was made for other features."""
    content = typed.parse_toml(text)
    units = typed.convert(content["au"], tuple[EstimatedUnit, ...])
    if unknown := {name for unit in units for name in unit.coefficients} - set(blendshape_features()):
        raise ValueError(f"the estimator rests on features that are not known: {sorted(unknown)}")
    fusion = typed.convert(content["fusion"], Fusion)
    return AuEstimator(content["version"], content["source"], fusion, units, content)
