from __future__ import annotations

from dataclasses import dataclass

import pytest

from aupipe.fer_data.typed import MOST_BYTES, UnreadableTextError, convert, parse_json, parse_toml


@dataclass(frozen=True)
class _Entry:
    name: str
    rows: int
    labels: tuple[str, ...] = ()


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


def test_a_huge_text_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(UnreadableTextError, match="more than"):
        parse_json(" " * (MOST_BYTES + 1), dict[str, int])
