"""One self-contained HTML page of explained faces: no script, no other file, no network."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from aupipe.fer_analysis.explain.action_units import ActionUnitCard, ActionUnitRow, MapShare
from aupipe.fer_analysis.explain.opened import OpenRun
from aupipe.fer_analysis.explain.pictures import Panel, shown_action_units
from aupipe.fer_analysis.explain.result import FaceResult
from aupipe.fer_data.files import write_text
from aupipe.fer_data.types import Failure
from aupipe.fer_display.pages import data_uri, figure, page_head

FIGURE_SPACE = "\u2007"
"""As wide as a digit: keeps the bars in line."""


def write_page(
    path: Path,
    title: str,
    sections: Iterable[str],
    facts: Sequence[str],
    limits: Sequence[str],
    failures: Sequence[Failure],
) -> None:
    """Write the page: ``facts`` about the run, a section a face, what was left out, the limits."""
    parts = [
        page_head(title, _STYLE),
        f"<body><main>\n<h1>{html.escape(title)}</h1>",
        *(f"<p>{html.escape(fact)}</p>" for fact in facts),
        _HOW,
        *sections,
        left_out(failures),
        "<h2>What this does not say</h2><ul>",
        *(f"<li>{html.escape(limit)}</li>" for limit in limits),
        "</ul></main></body></html>",
    ]
    write_text(path, "\n".join(part for part in parts if part) + "\n")


def photo_section(panel: Panel) -> str:
    """Show the whole photo above its faces, where it has several."""
    return f'<div class="whole">{figure(panel.image, panel.caption, panel.alt)}</div>'


def face_section(opened: OpenRun, result: FaceResult, panels: Sequence[Panel]) -> str:
    """Show one face: pictures, what was predicted, the AU card, how good its landmarks are."""
    predicted = opened.record.classes[result.prediction.predicted]
    label = f" (labelled {result.picture.label})" if result.picture.label else ""
    face = result.face
    yaw, pitch, roll = (round(float(angle)) for angle in face.pose)
    quality = (
        f"Landmarks: score {face.score:.2f}, found at try {face.rung + 1}; yaw {yaw:+d}°, pitch {pitch:+d}°, "
        f"roll {roll:+d}°."
    )
    parts = [
        f"<section><h2>{html.escape(result.title)}: {html.escape(predicted)} {result.confidence():.0%}"
        f"{html.escape(label)}</h2>",
        f'<p class="said">{html.escape(_probabilities(opened, result))}</p>',
        f'<div class="views">{"".join(figure(panel.image, panel.caption, panel.alt) for panel in panels)}</div>',
        *(f"<p>{html.escape(sentence)}</p>" for sentence in card_sentences(result.card)),
        unit_table(result.card),
        f'<p class="said">{html.escape(" ".join([quality, *result.notes]))}</p>',
        "</section>",
    ]
    return "\n".join(parts)


def card_sentences(card: ActionUnitCard) -> list[str]:
    """Say in words what the attention hits and misses."""
    sentences = []
    if not card.expected:
        sentences.append(f"The codebook gives {card.expression} no AUs, so nothing is expected and nothing missed.")
    elif card.missed:
        sentences.append(
            f"Of the AUs expected for {card.expression} ({_named(card.expected)}) the attention misses "
            f"{_named(card.missed)}: no more than chance."
        )
    else:
        sentences.append(f"All AUs expected for {card.expression} ({_named(card.expected)}) get more than chance.")
    if card.elsewhere:
        sentences.append(f"It also looks at {_named(card.elsewhere)}, which are not expected.")
    if card.cosine is not None and card.cosine_uniform is not None:
        sentences.append(
            f"Cosine of attention and AU map {card.cosine:.2f}; an even map would have {card.cosine_uniform:.2f}."
        )
    side = "right" if card.asymmetry > 0 else "left"
    sentences.append(f"{0.5 + abs(card.asymmetry) / 2:.0%} of the attention lies on the image's {side} of the midline.")
    return sentences


def unit_table(card: ActionUnitCard) -> str:
    """Show the AU card as a table; bars are drawn to the largest share on it."""
    units = shown_action_units(card)
    top = max([unit.attention.share for unit in units] + [unit.chance for unit in units], default=0) or 1.0
    head = "".join(
        f'<th scope="col">{name}</th>'
        for name in ("action unit", "attention", "chance", "times chance", "expected", "CAM", "left / right")
    )
    rows = "".join(_row(unit, top) for unit in units)
    return f'<div class="scroll"><table class="units"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def _row(unit: ActionUnitRow, top: float) -> str:
    bar = (
        f'<span class="bar" aria-hidden="true"><i style="width:{unit.attention.share / top:.1%}"></i>'
        f'<b style="left:{unit.chance / top:.1%}"></b></span>'
    )
    expected = "–" if not unit.expected else "yes" if unit.expected == 1 else f"yes ({unit.expected:g})"
    cells = [
        bar + f"{unit.attention.share:.1%}".rjust(6, FIGURE_SPACE),
        f"{unit.chance:.1%}",
        f"{unit.lift:.1f}",
        expected,
        "–" if unit.cam is None else f"{unit.cam.share:.1%}",
        _sides(unit.attention),
    ]
    name = html.escape(f"AU {unit.number} {unit.name}")
    return f'<tr><th scope="row">{name}</th>' + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _sides(share: MapShare) -> str:
    return f"{share.left:.1%} / {share.right:.1%}"


def _probabilities(opened: OpenRun, result: FaceResult) -> str:
    pairs = sorted(zip(opened.record.classes, result.prediction.probability, strict=True), key=lambda pair: -pair[1])
    return ", ".join(f"{name} {value:.0%}" for name, value in pairs)


def _named(units: Sequence[int]) -> str:
    return ", ".join(f"AU {number}" for number in units)


def left_out(failures: Sequence[Failure]) -> str:
    """List the pictures and faces that were left out, with the reason; empty without any."""
    if not failures:
        return ""
    items = "".join(
        f"<li>{html.escape(one.sample_id)}: {html.escape(one.reason.replace('_', ' '))}"
        f"{html.escape(f' ({one.detail})' if one.detail else '')}</li>"
        for one in failures
    )
    return f"<h2>Left out</h2><ul>{items}</ul>"


def timeline_section(png: bytes, name: str, last: Mapping[str, float]) -> str:
    """Show the plot of a video; ``last``: mean probability of each class, for those who do not see it."""
    means = ", ".join(f"{label} {value:.0%}" for label, value in last.items())
    alt = html.escape(f"{name}: class probabilities over time. On average: {means}")
    caption = html.escape(f"Class probabilities over time of the largest face of each frame. On average: {means}.")
    source = data_uri(png, "png")
    return f'<figure class="timeline"><img src="{source}" alt="{alt}"><figcaption>{caption}</figcaption></figure>'


_STYLE = """
h2 { overflow-wrap: anywhere; margin-top: 1.2rem; } section h2 { margin-top: 0; } section p { margin: .4rem 0; }
.views { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(15rem, 100%), 1fr)); gap: .8rem; }
.whole { max-width: 40rem; margin: 1.2rem 0 0; } .timeline { overflow-x: auto; }
.timeline img { background: #fff; min-width: 44rem; }
.units th:first-child { text-align: left; }
.units th, .units td { padding: .2rem .6rem; font-size: .88rem; }
.bar { position: relative; display: inline-block; width: 7rem; height: .7rem; background: var(--line);
  border-radius: .2rem; vertical-align: middle; overflow: hidden; }
.bar i { position: absolute; inset: 0 auto 0 0; background: #0072b2; }
.bar b { position: absolute; top: 0; bottom: 0; width: 2px; background: var(--ink); }
@media (max-width: 40rem) { .bar { display: none; } .units th { white-space: normal; }
  .units th, .units td { padding: .2rem .35rem; } }
@media (prefers-color-scheme: dark) { .bar i { background: #56b4e9; } }
"""

_HOW = """<p>Each face is found, aligned and cut out as the training photos were. Its <em>attention</em> (the mean of
the network's deepest features) and the class activation map (CAM) of the predicted expression are laid back over the
photo: bright is strong, scaled to each map's own maximum. The table gives each action unit's (AU) share of the
attention, with the stroke in the bar and the next column telling what an even map would give.</p>"""
