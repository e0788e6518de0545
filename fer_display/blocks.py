"""The blocks of a page, as values: a page is a list of them, and ``templates/blocks.html.j2`` draws each kind.

Texts are escaped where they are drawn.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from aupipe.fer_display.charts import Chart
from aupipe.fer_display.pages import Picture


class Block:
    """A piece of a page; ``kind`` names the macro that draws it."""

    kind: ClassVar[str]


@dataclass(frozen=True)
class Text(Block):
    """A paragraph.

    ``tone``: ``said`` for remarks, ``read`` for what is to be read first, ``notice`` for a warning, ``plain``.
    """

    kind = "text"
    sentence: str
    tone: Literal["said", "read", "notice", "plain"] = "said"


@dataclass(frozen=True)
class KeyFigures(Block):
    """Large figures by their names."""

    kind = "key_figures"
    figures: Mapping[str, str]


@dataclass(frozen=True)
class Table(Block):
    """Rows of text whose first cell names them; the columns at ``words`` are text, the others figures.

    Rows whose name begins with *control* step back.
    """

    kind = "table"
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: Collection[int] = (0,)


@dataclass(frozen=True)
class Cell:
    """A coloured cell: its text, and how strong its colour is, 0 to 1; None: no colour."""

    text: str
    strength: float | None = None

    @property
    def percent(self) -> float:
        """The colour's strength as a percentage."""
        return 100 * min(max(self.strength or 0.0, 0.0), 1.0)


@dataclass(frozen=True)
class HeatTable(Block):
    """Named rows of coloured cells."""

    kind = "heat_table"
    heads: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Cell]]]


@dataclass(frozen=True)
class BarCell:
    """A cell with a figure and a bar; ``length`` and ``mark``, a stroke across it, are shares of the longest bar."""

    text: str
    length: float
    mark: float


@dataclass(frozen=True)
class BarTable(Block):
    """Rows of a name, a bar, and further cells; narrow screens show the figures only."""

    kind = "bar_table"
    heads: Sequence[str]
    rows: Sequence[tuple[str, BarCell, Sequence[str]]]


@dataclass(frozen=True)
class Listing(Block):
    """Names with values of any length, which are wrapped."""

    kind = "listing"
    rows: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Tiles(Block):
    """Pictures in as many columns as the screen has room for; ``size``: how wide a column is at least."""

    kind = "tiles"
    pictures: Sequence[Picture]
    size: Literal["small", "medium", "large"] = "small"


@dataclass(frozen=True)
class Wide(Block):
    """One picture by itself; a ``chart`` keeps its white paper and a legible size, and scrolls on narrow screens."""

    kind = "wide"
    picture: Picture
    shows: Literal["photo", "chart"] = "photo"


@dataclass(frozen=True)
class Group:
    """Pictures of one face or one expression under its name, with a remark."""

    title: str
    remark: str
    pictures: Sequence[Picture]


@dataclass(frozen=True)
class Groups(Block):
    """Groups beside one another where the screen is wide enough; ``title`` above them."""

    kind = "groups"
    groups: Sequence[Group]
    title: str = ""


@dataclass(frozen=True)
class Charts(Block):
    """Charts beside one another."""

    kind = "charts"
    charts: Sequence[Chart]


@dataclass(frozen=True)
class Details(Block):
    """Blocks that are folded away until somebody wants them."""

    kind = "details"
    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Section(Block):
    """Blocks under a heading; ``key``: a name for links and for screen readers."""

    kind = "section"
    title: str
    blocks: Sequence[Block] = ()
    key: str = ""
