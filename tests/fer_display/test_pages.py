"""Pages: texts are escaped wherever they stand, every kind of block can be drawn, a missing value is an error."""

from __future__ import annotations

import base64
import re

import cv2
import jinja2
import numpy as np
import pytest

from aupipe.fer_display import blocks
from aupipe.fer_display.blocks import Block
from aupipe.fer_display.charts import Series, line_chart
from aupipe.fer_display.pages import Picture, jpeg_picture, png_picture, render

EVIL = "\"><script>alert('1')</script>"


def picture() -> Picture:
    return png_picture(np.zeros((4, 6, 3), np.uint8), EVIL)


def every_block() -> list[Block]:
    """One of each kind, with markup for every text."""
    cells = [blocks.Cell(EVIL), blocks.Cell(EVIL, 0.5), blocks.Cell(EVIL, 7.0)]
    return [
        blocks.Text(EVIL),
        blocks.KeyFigures({EVIL: EVIL}),
        blocks.Table([EVIL, EVIL], [[EVIL, EVIL]], (0, 1)),
        blocks.HeatTable([EVIL] * 4, [(EVIL, cells)]),
        blocks.BarTable([EVIL] * 3, [(EVIL, blocks.BarCell(EVIL, 0.5, 0.25), [EVIL])]),
        blocks.Listing([(EVIL, EVIL)]),
        blocks.Tiles([picture()], "large"),
        blocks.Wide(picture()),
        blocks.Groups([blocks.Group(EVIL, EVIL, [picture()])], EVIL),
        blocks.Charts([line_chart(EVIL, [1, 2], [Series("a", [1.0, 2.0])])]),
        blocks.Details(EVIL, [blocks.Text(EVIL)]),
        blocks.Section(EVIL, [blocks.Text(EVIL)], "key"),
    ]


def test_every_kind_of_block_is_drawn_and_escaped() -> None:
    drawn = every_block()
    assert {type(one) for one in drawn} == set(Block.__subclasses__())
    page = render("report", title=EVIL, blocks=drawn)
    assert "<script" not in page and page.count("&lt;script&gt;") > 30
    # What is drawn is not escaped a second time.
    assert "&amp;lt;" not in page and "&lt;td" not in page and page.count("<section") == 1


@pytest.mark.parametrize("one", every_block(), ids=lambda one: one.kind)
def test_each_kind_says_its_texts(one: Block) -> None:
    body = render("report", title="", blocks=[one]).partition("<main>")[2]
    assert "&lt;script&gt;" in body


def test_a_picture_travels_inside_the_page() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (8, 12, 3), np.uint8)
    soft = np.asarray(cv2.GaussianBlur(noise, (5, 5), 3), np.uint8)
    for image, made, loss in ((noise, png_picture(noise, "face"), 0), (soft, jpeg_picture(soft, "face"), 12)):
        assert (made.width, made.height, made.alt) == (12, 8, "face")
        data = np.frombuffer(base64.b64decode(made.uri.partition(",")[2]), np.uint8)
        back = cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        assert np.abs(back.astype(int) - image).mean() <= loss


def test_a_value_that_was_not_given_is_an_error() -> None:
    with pytest.raises(jinja2.UndefinedError, match="blocks"):
        render("report", title="")


def test_heat_is_kept_within_its_range() -> None:
    table = blocks.HeatTable(["", "a", "b"], [("row", [blocks.Cell("x", -1.0), blocks.Cell("y", 2.0)])])
    assert re.findall(r"--heat:(\d+)%", render("report", title="", blocks=[table])) == ["0", "100"]
