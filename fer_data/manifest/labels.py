"""The vocabulary of expressions, and how a dataset's own words are mapped to it: by name, never by index."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field

from fer_data.errors import UserInputError, paragraph, unknown_name

EXPRESSIONS = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral", "contempt")
"""Canonical expressions, in the order every list of classes follows."""

ALIASES: Mapping[str, str] = {
    "angry": "anger",
    "disgusted": "disgust",
    "fearful": "fear",
    "afraid": "fear",
    "scared": "fear",
    "happy": "happiness",
    "joy": "happiness",
    "joyful": "happiness",
    "sad": "sadness",
    "surprised": "surprise",
    "neutrality": "neutral",
    "contemptuous": "contempt",
}
"""Other words in use for them. Misspellings are not among them: those are reported, with a suggestion."""


def _normal(text: str) -> str:
    return text.strip().casefold()


def canonical_label(text: str) -> str | None:
    """The canonical expression that ``text`` names, or None; case and surrounding spaces do not matter.

    >>> canonical_label(" Happy"), canonical_label("SADNESS"), canonical_label("hapiness")
    ('happiness', 'sadness', None)
    """
    name = _normal(text)
    return name if name in EXPRESSIONS else ALIASES.get(name)


def order_classes(labels: set[str]) -> tuple[str, ...]:
    """``labels`` in canonical order."""
    return tuple(name for name in EXPRESSIONS if name in labels)


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The label mapping of one build:

    the user's aliases, then the dataset's codes, then the general table.
    """

    aliases: Mapping[str, str] = field(default_factory=dict)
    codes: Mapping[str, str] = field(default_factory=dict)

    def canonical(self, text: str) -> str | None:
        """The canonical expression for a source label, or None."""
        name = _normal(text)
        return self.aliases.get(name) or self.codes.get(name) or canonical_label(name)

    def suggest(self, text: str) -> str:
        """What to do about an unknown label, in one sentence."""
        known = [*EXPRESSIONS, *ALIASES, *self.codes, *self.aliases]
        close = difflib.get_close_matches(_normal(text), known, n=1)
        if close:
            return f"Did you mean {close[0]!r}?"
        return f"Give it a meaning with --alias {text.strip() or 'NAME'}=LABEL."


def make_vocabulary(aliases: Mapping[str, str] | None = None, codes: Mapping[str, str] | None = None) -> Vocabulary:
    """Check and combine a user's aliases (``{"joie": "happiness"}``) and dataset codes (``{"3": "fear"}``).

    The meaning may itself be a general alias (``{"joie": "happy"}``). Raises :class:`UserInputError` when the
    meaning is no known expression or the name is empty.
    """
    checked: dict[str, str] = {}
    for name, meaning in (aliases or {}).items():
        label = canonical_label(meaning)
        if label is None:
            raise UserInputError(unknown_name("expression", meaning, list(EXPRESSIONS)))
        if not _normal(name):
            raise UserInputError(paragraph("An alias has no name.", expected="NAME=LABEL", got=f"{name}={meaning}"))
        checked[_normal(name)] = label
    return Vocabulary(checked, {_normal(code): label for code, label in (codes or {}).items()})
