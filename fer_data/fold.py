"""The name of a fold: its number and how many there are."""

from __future__ import annotations

import re
from dataclasses import dataclass

from aupipe.fer_data.errors import UserInputError, paragraph

MOST_FOLDS = 100


@dataclass(frozen=True)
class Fold:
    """One part of several: ``Fold(2, 5)`` is the second of five.

    >>> str(parse_fold("2/5"))
    '2/5'
    """

    number: int
    count: int

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


def parse_fold(text: str) -> Fold:
    """Parse ``2/5``. Raises :class:`UserInputError`."""
    found = re.fullmatch(r"(\d{1,3})/(\d{1,3})", text.strip())
    fold = Fold(int(found[1]), int(found[2])) if found else Fold(0, 0)
    if not 1 <= fold.number <= fold.count or not 2 <= fold.count <= MOST_FOLDS:
        raise UserInputError(
            paragraph(
                "The fold cannot be read.",
                expected=f"its number and how many there are, from 1/2 to {MOST_FOLDS}/{MOST_FOLDS}, for example 2/5",
                got=text,
            )
        )
    return fold
