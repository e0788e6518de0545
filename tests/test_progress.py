"""What a long call says of its progress: a bar on a terminal, lines in a log."""

from __future__ import annotations

import io
import sys

import pytest

from aupipe import progress
from aupipe.progress import Bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_log_has_a_line_a_minute_and_one_at_the_end(monkeypatch: pytest.MonkeyPatch, clock: list[float]) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    bar = Bar()
    bar.start("maps", 1000, "images")
    for _ in range(100):
        bar.advance(10)
        clock[0] += 1.5
    bar.note("one is damaged")
    bar.finish()
    bar.finish()
    said = sys.stderr.getvalue()  # type: ignore[attr-defined]
    assert said.splitlines() == [
        "maps: 410 of 1,000 images, about 1 min 28 s left",
        "maps: 810 of 1,000 images, about 28 s left",
        "one is damaged",
        "maps: 1,000 images in 2 min 30 s",
    ]
    assert "\r" not in said and "\x1b" not in said


def test_what_is_left_is_told_by_the_present_rate(monkeypatch: pytest.MonkeyPatch, clock: list[float]) -> None:
    """Of a run that is continued, most went by in seconds because it was there."""
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    bar = Bar()
    bar.start("landmarks", 10_000, "img")
    bar.advance(9_000)
    for _ in range(65):
        clock[0] += 1
        bar.advance(4)
    assert sys.stderr.getvalue() == "landmarks: 9,240 of 10,000 img, about 3 min 10 s left\n"  # type: ignore[attr-defined]


def test_what_was_not_finished_is_not_said_to_be(monkeypatch: pytest.MonkeyPatch, clock: list[float]) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    bar = Bar()
    bar.start("a\x1b[31mb", 10, "photos")
    bar.advance(3)
    bar.start("next", 2, "photos")
    clock[0] += 2
    assert sys.stderr.getvalue() == "a\\x1b[31mb: 3 of 10 photos in 0 s\n"  # type: ignore[attr-defined]


def test_a_terminal_has_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    bar = Bar()
    bar.start("maps", 3, "images")
    bar.advance(3)
    bar.finish()
    said = sys.stderr.getvalue()  # type: ignore[attr-defined]
    assert "\r" in said and "100%" in said
