"""JSON and TOML read into declared types: whatever the text is, a value of that type or one kind of error.

Values are made by msgspec, which knows dataclasses, tuples, mappings and optional fields, and converts nothing: a
string is no number, and there is no NaN.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import msgspec.yaml

Kind = TypeVar("Kind")

MOST_BYTES = 64 * 2**20
"""Longest text that is read; the index of a store of a million images takes a tenth of it."""

DEEPEST = 32
"""Levels of tables and lists in TOML; a codebook has five."""


class UnreadableTextError(ValueError):
    """Text that is not what was declared; the message is half a sentence for the ``got`` of a paragraph."""


def parse_json(text: bytes | str, kind: type[Kind]) -> Kind:
    """Parse JSON into ``kind``.

    Keys that ``kind`` does not have are passed over. Raises :class:`UnreadableTextError`.

    >>> parse_json('{"rows": 3}', dict[str, int])
    {'rows': 3}
    """
    _check_length(len(text))
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.MsgspecError, UnicodeError, RecursionError, OverflowError) as error:
        raise UnreadableTextError(_said(error)) from error


def read_json(path: Path, kind: type[Kind]) -> Kind:
    """Read a JSON file into ``kind``; of a file that is far too long no more than its beginning is read.

    Raises:
        UnreadableTextError: It is not what was declared, or cannot be opened.
    """
    try:
        with path.open("rb") as file:
            text = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise UnreadableTextError(error.strerror or str(error)) from error
    return parse_json(text, kind)


def parse_toml(text: str) -> dict[str, Any]:
    """Parse TOML into plain values. Raises :class:`UnreadableTextError`."""
    _check_length(len(text))
    try:
        content = tomllib.loads(text)
    except RecursionError as error:
        raise UnreadableTextError(_said(error)) from error
    except ValueError as error:  # also a number of 5,000 digits
        raise UnreadableTextError(_toml_fault(text, str(error))) from error
    _check_depth(content)
    return content


def _toml_fault(text: str, said: str) -> str:
    """Say where a text is no TOML: the line itself, and whether its name stands twice.

    >>> _toml_fault("a = 1\\nb = x", "Invalid value (at line 2, column 5)")
    'line 2 is not TOML: b = x'
    """
    place = re.search(r"line (\d+)", said)
    if place is None:
        return "it ends within a text, list or table" if "end of document" in said else "a value of no kind it knows"
    line = text.splitlines()[int(place[1]) - 1].strip() if text else ""
    twice = said.startswith(("Cannot declare", "Cannot overwrite"))
    return f"line {place[1]} {'names what is there already' if twice else 'is not TOML'}: {line[:80]}"


def parse_yaml(text: str) -> Any:
    """Parse YAML into plain values (PyYAML comes with dask). Raises :class:`UnreadableTextError`."""
    _check_length(len(text))
    try:
        return msgspec.yaml.decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise UnreadableTextError(_said(error)) from error


def convert(value: Any, kind: type[Kind]) -> Kind:
    """Check plain values, as JSON and TOML give them, against ``kind``. Raises :class:`UnreadableTextError`."""
    try:
        return msgspec.convert(value, kind)
    except (msgspec.MsgspecError, RecursionError, OverflowError) as error:
        raise UnreadableTextError(_said(error)) from error


def _check_length(length: int) -> None:
    if length > MOST_BYTES:
        raise UnreadableTextError(f"{length:,} bytes, more than the {MOST_BYTES:,} of any file of this kind")


def _check_depth(value: Any) -> None:
    """Refuse tables in tables without end (``a.a.a... = 1``), on which whatever walks through them would break."""
    level = [value]
    for _ in range(DEEPEST):
        level = [one for each in level if isinstance(each, dict | list) for one in _inside(each)]
        if not level:
            return
    raise UnreadableTextError("tables nested too deeply")


def _inside(value: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value


def _said(error: Exception) -> str:
    return "brackets nested too deeply" if isinstance(error, RecursionError) else str(error)
