"""FACS notation: read, written, and refused with the reason."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aupipe.fer_data.action_units.facs import (
    MIDLINE,
    NUMBERS,
    FacsCode,
    FacsError,
    format_facs,
    intensity_letter,
    parse_facs,
)


def test_notation() -> None:
    assert parse_facs("1+2+5B+25") == (FacsCode(1), FacsCode(2), FacsCode(5, "", "B"), FacsCode(25))
    assert parse_facs("L12A, R14") == (FacsCode(12, "L", "A"), FacsCode(14, "R"))
    assert parse_facs("[au12c 25]") == (FacsCode(12, "", "C"), FacsCode(25))
    assert parse_facs("L12A+R12C") == (FacsCode(12, "L", "A"), FacsCode(12, "R", "C"))
    assert parse_facs("0") == () and parse_facs(" ") is None
    assert FacsCode(5, "", "B").strength == 2 and FacsCode(5).strength is None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("1.7+4", "'1.7' is no code"),
        ("12F", "'12F' is no code"),
        ("3", "FACS has no action unit 3"),
        ("120", "FACS has no action unit 120"),
        ("0+12", "FACS has no action unit 0"),
        ("L25", "AU 25 acts on the midline"),
        ("12+12C", "AU 12 is named twice"),
        ("12+L12", "AU 12 is named twice"),
        ("-12", "'-12' is no code"),
        ("12B25", "'12B25' is no code"),
    ],
)
def test_what_is_no_code(text: str, why: str) -> None:
    with pytest.raises(FacsError, match=why):
        parse_facs(text)


codes = st.builds(FacsCode, st.sampled_from(sorted(NUMBERS)), st.just(""), st.sampled_from(["", *"ABCDE"]))
sided = st.builds(FacsCode, st.sampled_from(sorted(NUMBERS - MIDLINE)), st.sampled_from("LR"), st.just("A"))


@given(st.lists(st.one_of(codes, sided), unique_by=lambda code: code.number))
def test_written_and_read_back(face: list[FacsCode]) -> None:
    assert parse_facs(format_facs(face)) == tuple(sorted(face))
    assert parse_facs(format_facs(None)) is None


def test_intensities() -> None:
    assert "".join(map(intensity_letter, range(1, 6))) == "ABCDE"
    assert intensity_letter(0.49) == "" and intensity_letter(9) == "E"
