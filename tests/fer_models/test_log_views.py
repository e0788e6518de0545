"""What people look at while a training runs is written now and then, and whole at the end."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from aupipe.fer_models.training import log_views
from aupipe.fer_models.training.log_views import EVERY, LogViews


def rows(count: int) -> list[dict[str, Any]]:
    figures = ("train_ce", "val_ce", "train_align", "val_align", "val_accuracy", "val_balanced_accuracy")
    return [{"epoch": number, **dict.fromkeys(figures, 0.5)} for number in range(1, count + 1)]


def epochs_shown(folder: Path) -> int:
    with (folder / "log.csv").open() as file:
        return len(list(csv.DictReader(file)))


def test_epochs_that_follow_soon_are_shown_together(tmp_path: Path) -> None:
    times = iter((0.0, 0.0, 0.0, 1.0, EVERY - 0.1, EVERY, EVERY))
    views = LogViews(tmp_path, clock=lambda: next(times))
    views.show(rows(1))
    assert epochs_shown(tmp_path) == 1, "the first at once"
    for count in (2, 3):
        views.show(rows(count))
        assert epochs_shown(tmp_path) == 1
    views.show(rows(4))
    assert epochs_shown(tmp_path) == 4 and (tmp_path / "curves.png").is_file()


def test_whatever_ends_a_training_everything_is_shown(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), LogViews(tmp_path) as views:
        views.show(rows(1))
        views.show(rows(2))
        assert epochs_shown(tmp_path) == 1
        raise KeyboardInterrupt
    assert epochs_shown(tmp_path) == 2


def test_nothing_is_drawn_twice_and_nothing_of_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    monkeypatch.setattr(log_views, "write_views", lambda folder, shown: drawn.append(len(shown)))
    with LogViews(tmp_path):
        pass
    with LogViews(tmp_path) as views:
        views.show(rows(1))
        views.show(rows(2))
        views.write()
    assert drawn == [1, 2]


def test_what_is_up_to_date_is_not_drawn_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    draw = log_views.draw_curves
    monkeypatch.setattr(log_views, "draw_curves", lambda shown: drawn.append(len(shown)) or draw(shown))
    log_views.write_views(tmp_path, rows(2))
    log_views.write_views(tmp_path, rows(2))
    assert drawn == [2]
    (tmp_path / "log.csv").unlink()  # killed between the two files
    log_views.write_views(tmp_path, rows(2))
    (tmp_path / "curves.png").unlink()
    log_views.write_views(tmp_path, rows(2))
    log_views.write_views(tmp_path, rows(1))
    assert drawn == [2, 2, 2, 1] and len((tmp_path / "log.csv").read_text().splitlines()) == 2
