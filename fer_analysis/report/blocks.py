"""The pieces of a report as HTML. Every text that is handed in is escaped here."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from aupipe.fer_display.pages import figure

STRONG = 0.7
"""Share of the heat colour from which white text is easier to read than the page's own."""


@dataclass(frozen=True)
class Cell:
    """A coloured cell: its text, and how strong its colour is, 0 to 1; None: no colour."""

    text: str
    strength: float | None = None


@dataclass(frozen=True)
class Tile:
    """A picture with what it shows; RGB."""

    image: UInt8[np.ndarray, "h w 3"]
    caption: str


def section(title: str, *parts: str) -> str:
    """A section with its heading; parts are HTML, empty ones are left out."""
    return "\n".join([f"<section><h2>{html.escape(title)}</h2>", *filter(None, parts), "</section>"])


def text(sentence: str, kind: str = "said") -> str:
    """A paragraph; ``kind``: ``said`` for remarks, ``read`` for what is to be read first, ``notice`` for a warning."""
    return f'<p class="{kind}">{html.escape(sentence)}</p>'


def key_figures(figures: Mapping[str, str]) -> str:
    """Large figures, each with its name under it."""
    cells = (f"<div><dt>{html.escape(k)}</dt><dd>{html.escape(v)}</dd></div>" for k, v in figures.items())
    return f"<dl>{''.join(cells)}</dl>"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose first column names the row; controls step back."""
    body = "".join(
        f'<tr class="{"control" if row[0].startswith("control") else "run"}">{_name(row[0])}'
        + "".join(f"<td>{html.escape(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    return _table(heads, body)


def heat_table(heads: Sequence[str], rows: Iterable[tuple[str, Sequence[Cell]]]) -> str:
    """A table of coloured cells; the figures are written in them, so nothing depends on the colour alone."""
    body = "".join(f"<tr>{_name(name)}{''.join(map(_heat, cells))}</tr>" for name, cells in rows)
    return _table(heads, body)


def listing(rows: Iterable[tuple[str, str]]) -> str:
    """Names with values of any length, which are wrapped."""
    body = "".join(f'<tr>{_name(name)}<td class="long">{html.escape(value)}</td></tr>' for name, value in rows)
    return f"<table><tbody>{body}</tbody></table>"


def tiles(pictures: Iterable[Tile]) -> str:
    """Pictures in as many columns as the screen has room for."""
    return f'<div class="tiles">{"".join(figure(one.image, one.caption, one.caption) for one in pictures)}</div>'


def group(title: str, said: str, pictures: Iterable[Tile]) -> str:
    """Pictures of one face or one expression under its name."""
    remark = text(said) if said else ""
    return f'<div class="group"><h3>{html.escape(title)}</h3>{remark}{tiles(pictures)}</div>'


def groups(several: Iterable[str]) -> str:
    """Groups beside one another where the screen is wide enough."""
    return f'<div class="groups">{"".join(several)}</div>'


def details(title: str, content: str) -> str:
    """What is folded away until somebody wants it; ``content`` is HTML."""
    return f"<details><summary>{html.escape(title)}</summary>{content}</details>"


def _table(heads: Sequence[str], body: str) -> str:
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in heads)
    # Scrolls by keyboard too.
    return f'<div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _name(name: str) -> str:
    return f'<th scope="row">{html.escape(name)}</th>'


def _heat(cell: Cell) -> str:
    if cell.strength is None:
        return f"<td>{html.escape(cell.text)}</td>"
    share = min(max(cell.strength, 0.0), 1.0)
    strong = " strong" if share > STRONG else ""
    return f'<td class="heat{strong}" style="--heat:{share:.0%}">{html.escape(cell.text)}</td>'


STYLE = """
:root { --heat-colour: #084c8d; --s0: #0072b2; --s1: #c0530a; }
@media (prefers-color-scheme: dark) { :root { --heat-colour: #2a6fb8; --s0: #66bdf0; --s1: #f0a057; } }
h1 { overflow-wrap: anywhere; line-height: 1.25; } h2 { margin-bottom: .6rem; }
h3 { font-size: 1rem; margin: .4rem 0 .2rem; overflow-wrap: anywhere; }
.read { font-size: 1.02rem; margin: .35rem 0; } .notice { border-left: .25rem solid var(--s1); padding-left: .7rem; }
dl { display: flex; flex-wrap: wrap; gap: .6rem; margin: 1rem 0; }
dl div { display: flex; flex-direction: column-reverse; justify-content: flex-end; background: var(--soft);
  border: 1px solid var(--line); border-radius: .5rem; padding: .5rem .9rem; flex: 1 1 8rem; }
dt { color: var(--quiet); font-size: .85rem; } dd { margin: 0; font-size: 1.25rem; font-weight: 600; }
th[scope=row] { min-width: 8rem; max-width: 24rem; white-space: normal; overflow-wrap: break-word; }
.scroll th[scope=row] { position: sticky; left: 0; background: var(--soft); padding-left: 0; }
table { font-size: .93rem; margin: .6rem 0; }
td.heat { background: color-mix(in srgb, var(--heat-colour) var(--heat), transparent); text-align: center; }
td.strong { color: #fff; } td.long { white-space: normal; text-align: left; overflow-wrap: anywhere; }
.tiles { grid-template-columns: repeat(auto-fill, minmax(min(6.5rem, 42%), 1fr)); } .tiles img { max-width: 12rem; }
.groups { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 29rem), 1fr)); gap: 0 2rem; }
.tiles figcaption { overflow-wrap: anywhere; }
.group { border-top: 1px solid var(--line); padding: .5rem 0 .8rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 19rem), 1fr)); gap: 1rem; }
.charts figcaption { font-size: .88rem; } .charts b { color: var(--ink); }
svg { display: block; width: 100%; height: auto; } svg text { fill: var(--quiet); font: 11px system-ui, sans-serif; }
svg .grid { stroke: var(--line); } svg path { fill: none; stroke-width: 2; stroke-linejoin: round; }
.s0 { stroke: var(--s0); color: var(--s0); } .s1 { stroke: var(--s1); color: var(--s1); stroke-dasharray: 6 3; }
figcaption .s0, figcaption .s1 { font-weight: 600; }
svg circle.s0 { fill: var(--s0); } svg circle.s1 { fill: var(--s1); }
summary { cursor: pointer; margin: .4rem 0; } code { overflow-wrap: anywhere; }
"""
