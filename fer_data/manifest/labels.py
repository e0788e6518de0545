"""The vocabulary of expressions, and how a dataset's own words are mapped to it: by name, never by index."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from aupipe.fer_data.errors import UserInputError, paragraph, unknown_name

NEUTRAL = "neutral"
EXPRESSIONS = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral", "contempt")
"""Canonical expressions, in the order every list of classes follows."""

COMPOUND_EXPRESSIONS = (
    "happily_surprised",
    "happily_disgusted",
    "sadly_fearful",
    "sadly_angry",
    "sadly_surprised",
    "sadly_disgusted",
    "fearfully_angry",
    "fearfully_surprised",
    "angrily_surprised",
    "angrily_disgusted",
    "disgustedly_surprised",
)
"""Compound expressions: classes of their own, never counted as one of their two parts unless a label map says so."""

DROP = "drop"
"""The meaning that leaves a label's rows out, in a label map or an alias: ``7=drop``."""

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


NO_CLASSES = ("unknown", "uncertain", "none", "nan", "null", "na", "n/a", "nf", "other", "others", "no_face")
"""Words that tell that there is no label, so that they never become a class."""


@lru_cache(maxsize=4096)
def normal_label(text: str) -> str:
    """Bring a source label to the form in which it is compared: Unicode's NFC, case folded, without what tables add.

    >>> normal_label(' "Happy" '), normal_label("2.0"), normal_label("2,0"), normal_label("de\u0301gou\u0302t")
    ('happy', '2', '2', 'dégoût')
    """
    name = unicodedata.normalize("NFC", text.strip().strip("\"'").strip().casefold())
    number = re.fullmatch(r"(-?\d+)[.,]0+", name)
    return number[1] if number is not None else name


def misspelt(text: str) -> str | None:
    """Return the word in use that a label looks like a misspelling of, or None.

    >>> misspelt("happyness"), misspelt("boredom")
    ('happiness', None)
    """
    words = [*EXPRESSIONS, *ALIASES, *COMPOUND_EXPRESSIONS]
    return next(iter(difflib.get_close_matches(normal_label(text), words, n=1, cutoff=0.6)), None)


def own_label(text: str) -> str | None:
    """Return the name of a class that is no known expression; None for numbers, misspellings and words for nothing.

    >>> own_label("High Engagement"), own_label("7"), own_label("hapiness"), own_label("unknown")
    ('high_engagement', None, None, None)
    """
    name = "_".join(normal_label(text).split())
    usable = any(map(str.isalpha, name)) and name.isprintable() and name not in NO_CLASSES and name != DROP
    return name if usable and canonical_label(name) is None and misspelt(name) is None else None


def canonical_label(text: str) -> str | None:
    """Return the canonical expression that ``text`` names, or None; case and surrounding spaces do not matter.

    >>> canonical_label(" Happy"), canonical_label("SADNESS"), canonical_label("hapiness")
    ('happiness', 'sadness', None)
    >>> canonical_label("Sadly fearful")
    'sadly_fearful'
    """
    name = normal_label(text)
    if name in EXPRESSIONS:
        return name
    compound = re.sub(r"[\s_-]+", "_", name)
    return compound if compound in COMPOUND_EXPRESSIONS else ALIASES.get(name)


def order_classes(labels: set[str]) -> tuple[str, ...]:
    """Return labels in canonical order, those that are no known expression at the end, by name."""
    known = (*EXPRESSIONS, *COMPOUND_EXPRESSIONS)
    return (*(name for name in known if name in labels), *sorted(labels - set(known)))


def is_basic(text: str) -> bool:
    """Return whether a label is one of the canonical expressions by some name: every codebook should know its AUs."""
    return canonical_label(text) in EXPRESSIONS


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The label mapping of one build: the user's aliases, then the dataset's codes, then the general table.

    ``dropped`` gives the labels whose rows are left out on purpose, each with what it means; ``own`` the labels that
    are classes of their own.
    """

    aliases: Mapping[str, str] = field(default_factory=dict)
    codes: Mapping[str, str] = field(default_factory=dict)
    dropped: Mapping[str, str] = field(default_factory=dict)
    own: Mapping[str, str] = field(default_factory=dict)

    def canonical(self, text: str) -> str | None:
        """Return the canonical expression for a source label, or None."""
        name = normal_label(text)
        if name in self.dropped:
            return None
        return self.aliases.get(name) or self.codes.get(name) or canonical_label(name) or self.own.get(name)

    def knows(self, text: str) -> bool:
        """Return whether a source label has a meaning, be it that its rows are left out."""
        return self.canonical(text) is not None or self.drop_reason(text) is not None

    def drop_reason(self, text: str) -> str | None:
        """Return what a label means whose rows are left out on purpose, None for any other."""
        return self.dropped.get(normal_label(text))

    def guess(self, text: str) -> str | None:
        """Guess which word an unknown label stands for."""
        known = [*EXPRESSIONS, *ALIASES, *self.codes, *self.aliases]
        words = [word for word in re.split(r"[\W\d_]+", normal_label(text)) if word]
        close = (difflib.get_close_matches(word, known, n=1) for word in (normal_label(text), *words))
        return next((found[0] for found in close if found), None)

    def suggest(self, text: str) -> str:
        """Suggest in one sentence what to do about an unknown label."""
        if close := self.guess(text):
            return f"Did you mean {close!r}?"
        return f"Give it a meaning with --alias {text.strip() or 'NAME'}=LABEL."


def make_vocabulary(
    aliases: Mapping[str, str] | None = None,
    codes: Mapping[str, str] | None = None,
    dropped: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
) -> Vocabulary:
    """Check a user's label mappings and combine them with the dataset's.

    The meaning of an alias or of a label may itself be a general alias (``{"joie": "happy"}``), ``drop``, or a class of
    the user's own (``{"3": "boredom"}``) unless that looks like a misspelt expression.

    Args:
        aliases: The user's own words, such as ``{"joie": "happiness"}``.
        codes: The dataset's codes, such as ``{"3": "fear"}``.
        dropped: The dataset's labels that are no expression, with what they mean.
        labels: The user's whole label map, which replaces the codes.

    Raises:
        UserInputError: A meaning looks like a misspelt expression, or is none at all, or a name is empty.
    """
    given_aliases = _check_meanings(aliases or {}, "An alias")
    given_labels = _check_meanings(labels or {}, "A label of the label map")
    own_codes = {normal_label(code): label for code, label in (codes or {}).items()}
    plain_codes = own_codes if labels is None else given_labels
    left_out = {normal_label(code): meaning for code, meaning in (dropped or {}).items()}
    for name, meaning in {**given_labels, **given_aliases}.items():
        left_out.pop(name, None)
        if meaning == DROP:
            left_out[name] = "to be dropped"
    return Vocabulary(
        {name: label for name, label in given_aliases.items() if label != DROP},
        {name: label for name, label in plain_codes.items() if label != DROP},
        left_out,
    )


def _check_meanings(given: Mapping[str, str], what: str) -> dict[str, str]:
    checked: dict[str, str] = {}
    for name, meaning in given.items():
        same = normal_label(name) == normal_label(meaning)
        label = DROP if normal_label(meaning) == DROP else canonical_label(meaning) or own_label(meaning)
        label = label or ("_".join(normal_label(meaning).split()) if same else None)
        if label is None:
            raise UserInputError(unknown_name("expression", meaning, [*EXPRESSIONS, *COMPOUND_EXPRESSIONS, DROP]))
        if not normal_label(name):
            raise UserInputError(paragraph(f"{what} has no name.", expected="NAME=LABEL", got=f"{name}={meaning}"))
        checked[normal_label(name)] = label
    return checked


def parse_label_map(text: str) -> dict[str, str]:
    """Parse a label map, given as ``0=anger,1=disgust`` or as a text file with one such pair a line (``#`` comments).

    Raises :class:`UserInputError` when a pair lacks its ``=``, a label comes twice, or there is none.

    >>> parse_label_map("1=surprise, 2=fear")
    {'1': 'surprise', '2': 'fear'}
    """
    where, pairs = "the label map", text.split(",")
    if "=" not in text:
        where = text
        try:
            lines = Path(text).read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UserInputError(
                paragraph(f"No label map: {error}.", expected="a text file, or LABEL=EXPRESSION,...", got=repr(text))
            ) from error
        pairs = [pair for line in lines for pair in line.partition("#")[0].split(",")]
    found: dict[str, str] = {}
    for pair in filter(None, map(str.strip, pairs)):
        name, equals, meaning = (part.strip() for part in pair.partition("="))
        if not (name and equals and meaning) or name in found:
            fault = "names a label twice" if name in found else "has a pair that cannot be read"
            raise UserInputError(
                paragraph(f"A label map {fault}.", where=where, expected="LABEL=EXPRESSION", got=repr(pair))
            )
        found[name] = meaning
    if not found:
        raise UserInputError(paragraph("A label map is empty.", where=where, expected="LABEL=EXPRESSION,..."))
    return found
