from __future__ import annotations

import doctest

import pytest

from aupipe.fer_data import errors
from aupipe.fer_data.errors import paragraph, without_secrets


def test_the_examples_hold() -> None:
    tried = doctest.testmod(errors)
    assert tried.attempted >= 4 and tried.failed == 0


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://me:secret@host/store", "https://host/store"),
        ("aupipe benchmark https://me:s%40c@host:81/a/b --out x@y", "aupipe benchmark https://host:81/a/b --out x@y"),
        ("https://me:sec@ret@host/a", "https://host/a"),
        ("s3://key:secret@bucket/a and ftp://u@h/b", "s3://bucket/a and ftp://h/b"),
        ("'https://h/a?sig=1&t=2' does not", "'https://h/a?... does not"),
        ("https://h/a#sha256=0", "https://h/a#sha256=0"),
        ("https://h/a@2x/b?", "https://h/a@2x/b?..."),
        ("/data/x@y://z?", "/data/x@y://z?..."),
        ("me@host: no URL?", "me@host: no URL?"),
    ],
)
def test_urls_are_shown_without_their_secrets(text: str, shown: str) -> None:
    assert without_secrets(text) == shown


def test_a_paragraph_is_one_line_of_plain_text() -> None:
    said = paragraph("No.", where="a\x1b[2J\nb", got="https://me:secret@host/x?t=1", fix="Look.")
    assert said == r"No. Where: a\x1b[2J\nb. Got: https://host/x?... Look."
