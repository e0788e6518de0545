"""The page of explained faces, as blocks: one self-contained HTML file, no script, no other file, no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aupipe.fer_analysis.explain.action_units import (
    ActionUnitCard,
    ActionUnitRow,
    MapShare,
    highest_own,
    named,
    unseen_sentences,
)
from aupipe.fer_analysis.explain.observed import ObservedAus, observed_sentences
from aupipe.fer_analysis.explain.opened import OpenRun
from aupipe.fer_analysis.explain.pictures import OWN_MAPS, shown_action_units
from aupipe.fer_analysis.explain.result import FaceResult
from aupipe.fer_display.blocks import BarCell, BarTable, Section, Text, Tiles, Wide
from aupipe.fer_display.pages import Picture, data_uri

FIGURE_SPACE = "\u2007"
"""As wide as a digit: keeps the bars in line."""

_HEADS = (
    "action unit",
    "attention",
    "chance",
    "times chance",
    "expected",
    "estimated",
    "own map",
    "CAM",
    "left / right",
)


def face_section(
    opened: OpenRun, result: FaceResult, pictures: Sequence[Picture], own: Sequence[Picture] = ()
) -> Section:
    """Describe one face: pictures, what was predicted, the AU card, how good its landmarks are.

    ``own``: the network's own maps of single action units.
    """
    predicted = opened.record.classes[result.prediction.predicted]
    label = f" (labelled {result.picture.label})" if result.picture.label else ""
    face = result.face
    yaw, pitch, roll = (round(float(angle)) for angle in face.pose)
    quality = f"Landmarks: score {face.score:.2f}, rung {face.rung}; yaw {yaw:+d}°, pitch {pitch:+d}°, roll {roll:+d}°."
    blocks = [
        Text(_probabilities(opened, result)),
        Tiles(pictures, "large"),
        *(Text(said, "plain") for said in (*card_sentences(result.card), *observed_sentences(result.observed))),
        *([Text(own_sentence(result.card), "plain"), Tiles(own, "medium")] if own else []),
        unit_table(result.card, result.observed),
        Text(" ".join([quality, *result.notes])),
    ]
    return Section(f"{result.title}: {predicted} {result.confidence():.0%}{label}", blocks)


def card_sentences(card: ActionUnitCard) -> list[str]:
    """Say in words what the attention hits and misses."""
    sentences = []
    if not card.expected:
        sentences.append(f"The codebook gives {card.expression} no AUs, so nothing is expected and nothing missed.")
    else:
        sentences += _expected_sentences(card)
    if card.elsewhere:
        sentences.append(f"It also looks at {_placed(card.elsewhere, card)}, which are not expected.")
    if card.cosine is not None and card.cosine_uniform is not None:
        sentences.append(
            f"Cosine of attention and AU map {card.cosine:.2f}; an even map on this face has {card.cosine_uniform:.2f}."
        )
    side = "right" if card.asymmetry > 0 else "left"
    sentences.append(
        f"{0.5 + abs(card.asymmetry) / 2:.0%} of the attention lies {side} of the midline, the face seen upright."
    )
    return sentences


def own_sentence(card: ActionUnitCard) -> str:
    """Say at which action units the network's own maps are highest."""
    heights = ", ".join(f"AU {number} ({height:.2f})" for number, height in highest_own(card)[:OWN_MAPS])
    return (
        f"The network's own maps of single action units are highest, each in its region, at {heights}; 1 is the most. "
        "They are drawn on one scale."
    )


def _expected_sentences(card: ActionUnitCard) -> list[str]:
    """Say which expected AUs the attention misses, and which the network could not see at all."""
    seen = [au for au in card.expected if au not in card.outside]
    sentences = []
    if card.missed:
        sentences.append(
            f"Of the AUs expected for {card.expression} ({named(seen)}) the attention misses "
            f"{_placed(card.missed, card)}: no more than chance on this face."
        )
    elif seen:
        sentences.append(f"All AUs expected for {card.expression} ({named(seen)}) get more than chance on this face.")
    return [*sentences, *unseen_sentences(card)]


def unit_table(card: ActionUnitCard, observed: ObservedAus | None = None) -> BarTable:
    """Show the AU card as a table; bars are drawn to the largest share on it. ``observed``: what blendshapes tell."""
    told = observed.probability if observed else {}
    units = shown_action_units(card)
    top = max([unit.attention.share for unit in units] + [unit.chance for unit in units], default=0) or 1.0
    return BarTable(_HEADS, [_row(unit, top, told.get(unit.number)) for unit in units])


def _row(unit: ActionUnitRow, top: float, told: float | None) -> tuple[str, BarCell, list[str]]:
    share = unit.attention.share
    expected = "–" if not unit.expected else "yes" if unit.expected == 1 else f"yes ({unit.expected:g})"
    cells = [
        f"{unit.chance:.1%}",
        f"{unit.lift:.1f}",
        expected,
        "–" if told is None else f"{told:.2f}",
        "–" if unit.own is None else f"{unit.own:.2f}",
        "–" if unit.cam is None else f"{unit.cam.share:.1%}",
        _sides(unit.attention),
    ]
    bar = BarCell(f"{share:.1%}".rjust(6, FIGURE_SPACE), share / top, unit.chance / top)
    return f"AU {unit.number} {unit.name}", bar, cells


def _sides(share: MapShare) -> str:
    return f"{share.left:.1%} / {share.right:.1%}"


def _probabilities(opened: OpenRun, result: FaceResult) -> str:
    pairs = sorted(zip(opened.record.classes, result.prediction.probability, strict=True), key=lambda pair: -pair[1])
    return ", ".join(f"{name} {value:.0%}" for name, value in pairs)


def _placed(units: Sequence[int], card: ActionUnitCard) -> str:
    """Name AUs by their place: those that share it together, with the others it may mean in brackets."""
    named: dict[tuple[int, ...], list[int]] = {}
    for number in units:
        place = next((group for group in card.shared if number in group), (number,))
        named.setdefault(place, []).append(number)
    return ", ".join(_place(place, chosen) for place, chosen in named.items())


def _place(group: Sequence[int], chosen: Sequence[int]) -> str:
    others = "/".join(str(number) for number in group if number not in chosen)
    return f"AU {'/'.join(map(str, chosen))}" + (f" (the place of AU {others} too)" if others else "")


def timeline(png: bytes, size: tuple[int, int], name: str, means: Mapping[str, float]) -> Wide:
    """Show the plot of a video.

    Args:
        png: The plot.
        size: Its ``(width, height)`` in pixels.
        name: The video's name.
        means: Mean probability of each class, for those who do not see the plot.
    """
    said = ", ".join(f"{label} {value:.0%}" for label, value in means.items())
    caption = f"Class probabilities over time of the first face of each frame. On average: {said}."
    alt = f"{name}: class probabilities over time. On average: {said}"
    return Wide(Picture(data_uri(png, "png"), *size, caption, alt), "chart")
