"""One root error for everything a user can cause or repair; each leaf is also the builtin a caller expects.

Messages are written with :func:`paragraph`: what happened, where, what was expected, what was found, what to do
next.
"""

from __future__ import annotations

import re
import unicodedata


class FerError(Exception):
    """Root of every error a user can cause or repair.

    The command line prints it as one paragraph.
    """


class UserInputError(FerError, ValueError):
    """An argument or option that cannot be used."""


class ManifestError(FerError, ValueError):
    """A manifest, dataset layout or dataset descriptor that cannot be read."""


class CodebookError(FerError, ValueError):
    """A codebook that is malformed or unknown."""


class ModelFileError(FerError, OSError):
    """The face model file is absent, truncated or not the expected one."""


class StoreError(FerError, ValueError):
    """A store, shard or landmark part that is missing, damaged, or of another schema version."""


class SchemaVersionError(StoreError):
    """A store, shard or landmark part of a schema version that this program does not read."""


class RunError(FerError, RuntimeError):
    """A training run that cannot start, continue or be evaluated."""


class FolderInUseError(FerError, RuntimeError):
    """Another process is writing to the same folder, or the folder belongs to another input."""


class FerWarning(UserWarning):
    """Something a user should know that does not stop the command; the command line prints it as one line."""


def paragraph(
    what: str, *, where: object = None, expected: object = None, got: object = None, fix: str | None = None
) -> str:
    """Compose an error message of one paragraph.

    Args:
        what: What happened, a whole sentence.
        where: The file, line or folder.
        expected: What should have been there.
        got: What was there.
        fix: What to do next, whole sentences.

    >>> paragraph("No such label.", where="faces.csv, line 3", expected="a known name", got="hapy", fix="Correct it.")
    'No such label. Where: faces.csv, line 3. Expected: a known name. Got: hapy. Correct it.'
    """
    parts = [what]
    for name, value in (("Where", where), ("Expected", expected), ("Got", got)):
        if value is not None:
            parts.append(f"{name}: {str(value).rstrip('.')}.")
    if fix is not None:
        parts.append(fix)
    return printable(without_secrets(" ".join(parts)))


def printable(text: str) -> str:
    r"""Write control characters, which a terminal would obey, and undecodable bytes as escapes.

    >>> printable("a\nb")
    'a\\nb'
    """
    if text.isprintable():
        return text
    return "".join(_escape(c) if unicodedata.category(c) in ("Cc", "Cs") else c for c in text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode()


def without_secrets(text: str) -> str:
    """Return text without what the URLs in it keep secret: name and password, and the query, which may hold a token.

    >>> without_secrets("https://me:secret@host/store?sig=1a2b does not answer")
    'https://host/store?... does not answer'
    """
    return re.sub(r"([a-z][a-z0-9+.-]*://)(?:[^/\s]*@)?([^\s?]*)(\?)?\S*", _shown, text, flags=re.IGNORECASE)


def _shown(url: re.Match[str]) -> str:
    return url[1] + url[2] + ("?..." if url[3] else "")


def check_whole(**settings: object) -> None:
    """Raise :class:`UserInputError` for a setting that is no whole number."""
    for name, value in settings.items():
        if isinstance(value, bool) or not hasattr(value, "__index__"):
            raise UserInputError(paragraph(f"{name} must be a whole number.", got=repr(value)))


def unknown_name(kind: str, name: str, known: list[str]) -> str:
    """Compose the message for a name that is not in a registry: it lists what exists, with a suggestion.

    >>> unknown_name("backbone", "resnt18", ["resnet18", "vgg16"])
    "Unknown backbone 'resnt18'. Expected: one of resnet18, vgg16. Did you mean 'resnet18'?"
    """
    import difflib

    close = difflib.get_close_matches(name, known, n=1)
    return paragraph(
        f"Unknown {kind} {name!r}.",
        expected=f"one of {', '.join(known)}",
        fix=f"Did you mean {close[0]!r}?" if close else None,
    )
