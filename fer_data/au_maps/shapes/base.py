"""The protocol of a kind of region, and the registry of kinds.

The region of an action unit is made of shapes, fixed to the 68 landmarks. One class says everything about a kind of
shape: how a codebook writes it, where it lies on a face, how NumPy draws it and how torch does. Both draw the same
table of numbers and nothing else, so they cannot disagree about the face.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np
from jaxtyping import Float, Float32, Float64

from aupipe.fer_data.errors import CodebookError, unknown_name

if TYPE_CHECKING:  # torch is loaded by those who draw with it
    from torch import Tensor

RegionTable = Float64[np.ndarray, "n k c"]
"""``k`` shapes on each of ``n`` faces, in columns of the kind's own; see :class:`Shape`."""


@dataclass(frozen=True, slots=True)
class Region:
    """A shape that is to be drawn. ``row``: the place of its AU among those drawn; ``weight``: the AU's, in (0, 1]."""

    shape: Any
    row: int
    weight: float


class Shape(ABC):
    """One shape of a kind; the class itself places and draws many of them.

    ``kind``: what a codebook's ``kind`` says. ``key``: the key of an ``[[au]]`` entry that lists its shapes of this
    kind.

    A table holds float64 ``(n, k, c)``: for each of n faces its k shapes. The first two columns are the shape's centre
    ``(x, y)``, in pixels of the map or of the image as the kind draws it; the others are the kind's own. A row of zeros
    draws nothing, so that faces of different expressions fit into one table.
    """

    kind: ClassVar[str]
    key: ClassVar[str]

    @classmethod
    @abstractmethod
    def parse(cls, entry: Mapping[str, Any]) -> Shape:
        """Read a shape from its TOML table. Raises KeyError, TypeError or ValueError where it cannot be read."""

    @abstractmethod
    def problems(self) -> list[str]:
        """List what is wrong with a shape that could be read, in words."""

    def slips(self) -> list[str]:
        """List what a codebook must not say any more, in words; what a store was built with is drawn all the same."""
        return []

    @classmethod
    @abstractmethod
    def describe(cls, shapes: Sequence[Any]) -> str:
        """Say in a few words what the shapes of an AU are, for ``aupipe codebook show``."""

    @classmethod
    @abstractmethod
    def place(
        cls, regions: Sequence[Region], points: Float[np.ndarray, "n 68 2"], image_size: int, map_size: int
    ) -> RegionTable:
        """Put the regions on each face; ``points`` in pixels of the square ``image_size`` crop."""

    @classmethod
    @abstractmethod
    def weigh(cls, table: RegionTable, regions: Sequence[Region], weights: Float64[np.ndarray, "n r 2"]) -> RegionTable:
        """Multiply the weights of placed regions by each face's own, in [0, 1] for the person's left and right side."""

    @classmethod
    @abstractmethod
    def draw(cls, table: RegionTable, image_size: int, maps: Float32[np.ndarray, "n m m"]) -> None:
        """Draw each face's map into maps of zeros: AUs merged by maximum, values in [0, 1]."""

    @classmethod
    @abstractmethod
    def draw_on_device(cls, table: Tensor, image_size: int, map_size: int) -> Tensor:
        """Draw the same maps with torch: float32 ``(n, m, m)`` on the table's device, within 1/255 of :meth:`draw`."""


LARGEST = 1e6
"""Larger than any number of a codebook; of 1e300 the squares would overflow."""

SHAPES: dict[str, type[Shape]] = {}

S = TypeVar("S", bound=Shape)


def register_shape(shape: type[S]) -> type[S]:
    """Make a kind of shape known to codebooks (class decorator).

    Raises:
        ValueError: when its ``kind`` or its ``key`` is taken.
    """
    for known in SHAPES.values():
        if shape.kind == known.kind or shape.key == known.key:
            raise ValueError(f"the shape {shape.kind!r} is registered twice: {known.__name__}, {shape.__name__}")
    SHAPES[shape.kind] = shape
    return shape


def shape_class(kind: str) -> type[Shape]:
    """Find the class of a kind.

    Raises:
        CodebookError: for a kind that is not registered; the message lists those that are.
    """
    if kind not in list(SHAPES):
        raise CodebookError(unknown_name("kind of region", kind, sorted(SHAPES)))
    return SHAPES[kind]


def are_landmarks(points: Sequence[Any]) -> bool:
    """Tell whether these are one or more landmark numbers, 0-67."""
    return bool(points) and all(type(point) is int and 0 <= point < 68 for point in points)


def is_number(value: Any) -> bool:
    """Tell whether this is a number, and none larger than anything about a face."""
    return type(value) in (int, float) and abs(value) <= LARGEST
