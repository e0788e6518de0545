from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from aupipe.fer_data import typed
from aupipe.fer_data.typed import (
    MOST_BYTES,
    UnreadableTextError,
    convert,
    parse_json,
    parse_toml,
    parse_yaml,
    read_json,
)


@dataclass(frozen=True)
class _Entry:
    name: str
    rows: int
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Nested:
    inner: _Nested | None = None


def test_a_dataclass_is_filled() -> None:
    assert parse_json(b'{"name": "a", "rows": 2, "labels": ["x"], "new": 1}', _Entry) == _Entry("a", 2, ("x",))
    assert convert({"name": "a", "rows": 2}, _Entry) == _Entry("a", 2)


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "null", '{"name": "a"}', '{"name": 1, "rows": 2}', '{"name": "a", "rows": "2"}',
        '{"name": "a", "rows": NaN}', '{"name": "a", "rows": 2.5}', '{"name": "a", "rows": true}', "[" * 100_000,
        '{"name": "a", "rows": ' + "9" * 5000 + "}", b'{"name": "\xff", "rows": 1}', '{"name": "a", "rows": 1e999}',
    ],
)  # fmt: skip
def test_anything_else_is_one_error(text: str | bytes) -> None:
    with pytest.raises(UnreadableTextError, match=r"\w"):
        parse_json(text, _Entry)


@pytest.mark.parametrize(
    "text", ["a = ", "a = " + "[" * 2000, "a = " + "9" * 5000, "a = 1979-13-40", "[a]\n[a]", "a" + ".a" * 2000 + " = 1"]
)
def test_toml_fails_with_the_same_error(text: str) -> None:
    with pytest.raises(UnreadableTextError, match=r"\w"):
        parse_toml(text)


@pytest.mark.parametrize("parse", [parse_toml, parse_yaml, lambda text: parse_json(text, int)])
def test_a_huge_text_is_refused_before_it_is_parsed(parse: Callable[[str], Any]) -> None:
    with pytest.raises(UnreadableTextError, match="more than"):
        parse(" " * (MOST_BYTES + 1))


def test_a_file_that_is_not_there_is_the_same_error(tmp_path: Path) -> None:
    with pytest.raises(UnreadableTextError, match="No such file"):
        read_json(tmp_path / "gone.json", int)


def test_of_a_huge_file_no_more_than_the_beginning_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.json").write_text("1" * 100)
    monkeypatch.setattr(typed, "MOST_BYTES", 10)
    with pytest.raises(UnreadableTextError, match=r"^11 bytes, more than the 10 "):
        read_json(tmp_path / "a.json", int)


def test_brackets_without_end_are_the_same_error() -> None:
    value: dict[str, Any] = {}
    for _ in range(100_000):
        value = {"inner": value}
    with pytest.raises(UnreadableTextError, match="nested too deeply"):
        parse_json("[" * 100_000, list[Any])
    with pytest.raises(UnreadableTextError, match="nested too deeply"):
        convert(value, _Nested)


@pytest.mark.parametrize("text", ["a: [", "a: \x00", "a: " + "9" * 5000, "? " * 3000])
def test_yaml_fails_with_the_same_error(text: str) -> None:
    with pytest.raises(UnreadableTextError, match=r"\w"):
        parse_yaml(text)
