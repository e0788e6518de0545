"""A kind of region is one class: what is written here is all that it takes to add one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from aupipe.fer_data.au_maps.codebook import Codebook, describe, load_codebook, parse_codebook
from aupipe.fer_data.au_maps.codebook_check import ERROR, WARNING, check_codebook
from aupipe.fer_data.au_maps.codebook_diff import diff_codebooks
from aupipe.fer_data.au_maps.device_maps import make_plan, render_on_device
from aupipe.fer_data.au_maps.heatmaps import render_aus, render_faces, render_maps
from aupipe.fer_data.au_maps.mean_face import mean_face
from aupipe.fer_data.au_maps.shapes import SHAPES, Region, Shape, register_shape, shape_class
from aupipe.fer_data.errors import CodebookError

SIZE = 128


@dataclass(frozen=True)
class Disc(Shape):
    """A flat disc on a landmark, its radius in image pixels."""

    kind: ClassVar[str] = "disc"
    key: ClassVar[str] = "discs"

    point: int
    radius: float

    @classmethod
    def parse(cls, entry: Mapping[str, Any]) -> Disc:
        return cls(**entry)

    def problems(self) -> list[str]:
        return [] if self.radius > 0 else [f"radius {self.radius} is not positive"]

    @classmethod
    def describe(cls, shapes: Sequence[Disc]) -> str:
        return " and ".join(f"disc on {one.point}" for one in shapes)

    @classmethod
    def place(cls, regions: Sequence[Region], points: np.ndarray, image_size: int, map_size: int) -> np.ndarray:
        scale = map_size / image_size
        rows = [
            [*((face[one.shape.point] + 0.5) * scale - 0.5), one.shape.radius * scale, one.weight]
            for face in points
            for one in regions
        ]
        return np.array(rows, np.float64).reshape(len(points), len(regions), 4)

    @classmethod
    def weigh(cls, table: np.ndarray, regions: Sequence[Region], weights: np.ndarray) -> np.ndarray:
        return np.concatenate([table[..., :3], table[..., 3:] * weights.max(-1, keepdims=True)], -1)

    @classmethod
    def draw(cls, table: np.ndarray, image_size: int, maps: np.ndarray) -> None:
        y, x = np.mgrid[: maps.shape[1], : maps.shape[1]]
        for drawn, rows in zip(maps, table, strict=True):
            for cx, cy, radius, weight in rows:
                np.maximum(drawn, weight * ((x - cx) ** 2 + (y - cy) ** 2 <= radius**2), out=drawn)

    @classmethod
    def draw_on_device(cls, table: Tensor, image_size: int, map_size: int) -> Tensor:
        grid = torch.arange(map_size, device=table.device)
        x, y, radius, weight = table[..., None, None].unbind(2)
        inside = (grid - x) ** 2 + (grid[:, None] - y) ** 2 <= radius**2
        return (weight * inside).amax(1).float()


BOOK = """
schema = 1
name = "round"
kind = "disc"
[expressions]
happiness = { "12" = 1.0, "17" = 0.5 }
surprise = [17]
neutral = []
[[au]]
number = 12
name = "lip corner puller"
discs = [{ point = 48, radius = 9 }, { point = 54, radius = 9 }]
[[au]]
number = 17
name = "chin raiser"
discs = [{ point = 8, radius = 12 }]
"""


@pytest.fixture
def book() -> Iterator[Codebook]:
    register_shape(Disc)
    yield parse_codebook(BOOK, "round.toml")
    del SHAPES["disc"]


def test_a_new_kind_is_read_checked_and_described(book: Codebook, tmp_path: Path) -> None:
    assert shape_class("disc") is Disc and book.action_units[12].shapes == (Disc(48, 9), Disc(54, 9))
    assert "AU12  lip corner puller       disc on 48 and disc on 54" in "\n".join(describe(book))
    path = tmp_path / "round.toml"
    path.write_text(BOOK)
    assert check_codebook(str(path)) == []
    path.write_text(BOOK.replace("point = 54", "point = 48").replace("radius = 12", "radius = 0"))
    found = {(finding.level, finding.where): finding.message for finding in check_codebook(str(path))}
    assert "radius 0 is not positive" in found[ERROR, "[[au]] number = 17"]
    assert "lop-sided" in found[WARNING, "[[au]] number = 12"]
    assert set(diff_codebooks(book, load_codebook("default")).regions) == {12, 17}


def test_a_new_kind_is_drawn_by_numpy_and_by_torch(book: Codebook) -> None:
    names = ["happiness", "neutral", "surprise", "happiness"]
    points = np.stack([mean_face(SIZE) + shift for shift in (0, 3, -5, 2.5)])
    maps = render_maps(points, names, book, SIZE, 32)
    for drawn, name, face in zip(maps, names, points, strict=True):
        x, y = np.rint((face + 0.5) / 4 - 0.5).astype(int).T
        stated = {"happiness": (1.0, 0.5), "surprise": (0.0, 1.0), "neutral": (0.0, 0.0)}[name]
        assert (drawn[y[48], x[48]], drawn[y[8], x[8]]) == stated and drawn[0, 0] == 0
    plan = make_plan(book, list(book.expressions), SIZE)
    labels = torch.tensor([list(book.expressions).index(name) for name in names])
    assert np.array_equal(render_on_device(torch.from_numpy(points), labels, plan, 32).numpy(), maps)
    weights = np.zeros((4, 99, 2))
    weights[[0, 3], 12], weights[[0, 3], 17], weights[2, 17, 1] = 1, 0.5, 1
    assert np.array_equal(render_faces(points, weights, book, SIZE, 32), maps)
    assert np.array_equal(render_aus(points[0], book.expressions["happiness"], book, SIZE, 32), maps[0])


def test_kinds_are_unique_and_unknown_ones_get_a_suggestion(book: Codebook) -> None:
    with pytest.raises(ValueError, match="'disc' is registered twice: Disc, Disc"):
        register_shape(Disc)
    with pytest.raises(ValueError, match="'round' is registered twice: Disc, Round"):
        register_shape(type("Round", (Disc,), {"kind": "round"}))
    with pytest.raises(CodebookError, match=r"Unknown kind of region 'gausian'.*Did you mean 'gaussian'"):
        shape_class("gausian")
    with pytest.raises(CodebookError, match=r"kind is 'disk'.*one of disc, ellipse, gaussian.*Did you mean 'disc'"):
        parse_codebook(BOOK.replace('"disc"', '"disk"'), "round.toml")


def test_without_it_the_kind_is_unknown() -> None:
    with pytest.raises(CodebookError, match=r"unknown key.*discs"):
        parse_codebook(BOOK, "round.toml")
