"""Action units as FACS writes them: ``1+2+5B+25``, ``L12A``, ``R14``.

A code is the number of an action unit, before it ``L`` or ``R`` (the person's left or right) where it acts on one side
only, after it the intensity ``A`` (a trace) to ``E`` (the maximum) where it was judged. An empty text means that nobody
coded the face, ``0`` that it was coded and shows none. Source: Ekman, Friesen and Hager, Facial Action Coding System
(2002).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

INTENSITIES = "ABCDE"
"""Trace, slight, marked or pronounced, severe or extreme, maximum."""

NUMBERS = frozenset({1, 2, *range(4, 47), 50, *range(51, 67), 68, 69, *range(70, 75), *range(80, 86), 91, 92, 97, 98})
"""The numbers of FACS: action units of the face, of head and eyes, of visibility, and gross behaviour."""

MIDLINE = frozenset({8, 17, 18, 22, 23, 24, 25, 26, 27, 28, 29})
"""Actions of chin, lips and jaw as a whole, which have no side."""

_CODE = re.compile(r"(?:AU)?([LR]?)(?:AU)?0*([0-9]{1,3})([A-E]?)", re.IGNORECASE)
_WHAT = "an action unit such as 12, 25C or L14A"


class FacsError(ValueError):
    """A text that is not FACS notation; the message says which part of it and why."""


@dataclass(frozen=True, slots=True, order=True)
class FacsCode:
    """One coded action unit. ``side``: ``L``, ``R`` or empty (both); ``intensity``: ``A`` - ``E`` or empty."""

    number: int
    side: str = ""
    intensity: str = ""

    def __str__(self) -> str:
        return f"{self.side}{self.number}{self.intensity}"

    @property
    def strength(self) -> int | None:
        """1 for ``A`` to 5 for ``E``; None where it was not judged."""
        return INTENSITIES.index(self.intensity) + 1 if self.intensity else None


def parse_facs(text: str) -> tuple[FacsCode, ...] | None:
    """Parse the codes of one face, joined by ``+``, commas, semicolons or blanks.

    Returns the codes by number, the left side first; none for ``0``; None for an empty text: nobody coded the face.
    Raises :class:`FacsError` when any part of it is no code, or an action unit is named twice.

    >>> [str(code) for code in parse_facs("25+AU12C+L14")]
    ['12C', 'L14', '25']
    >>> parse_facs("0"), parse_facs("")
    ((), None)
    """
    words = [word for word in re.split(r"[+,;\s]+", text.strip(" []()")) if word]
    if not words:
        return None
    if words == ["0"]:
        return ()
    codes = sorted(map(_parse_code, words))
    for first, second in pairwise(codes):
        if first.number == second.number and (first.side == second.side or not first.side):
            raise FacsError(f"AU {first.number} is named twice: {first} and {second}")
    return tuple(codes)


def _parse_code(word: str) -> FacsCode:
    match = _CODE.fullmatch(word)
    if match is None:
        raise FacsError(f"{word!r} is no code; expected {_WHAT}")
    code = FacsCode(int(match[2]), match[1].upper(), match[3].upper())
    if code.number not in NUMBERS:
        raise FacsError(f"{word!r}: FACS has no action unit {code.number}")
    if code.side and code.number in MIDLINE:
        raise FacsError(f"{word!r}: AU {code.number} acts on the midline and has no side")
    return code


def format_facs(codes: Iterable[FacsCode] | None) -> str:
    """Write codes so that :func:`parse_facs` reads them back: sorted, ``0`` for none, empty for None.

    >>> format_facs([FacsCode(25), FacsCode(12, "", "C")]), format_facs(()), format_facs(None)
    ('12C+25', '0', '')
    """
    return "" if codes is None else "+".join(map(str, sorted(codes))) or "0"


def intensity_letter(value: float) -> str:
    """Return the letter of an intensity on the scale 0 to 5 that CK+ and OpenFace use; empty below a trace (.5).

    >>> [intensity_letter(value) for value in (0.2, 1, 2.6, 5)]
    ['', 'A', 'C', 'E']
    """
    step = min(int(value + 0.5), len(INTENSITIES))
    return INTENSITIES[step - 1] if step > 0 else ""
