from __future__ import annotations

import numpy as np

from aupipe.fer_display.overlays import draw_points, overlay

GREY = np.full((40, 60, 3), 128, np.uint8)


def test_an_overlay_is_strong_where_the_map_is() -> None:
    values = np.zeros((4, 6))
    values[1, 4] = 3.0
    drawn = overlay(GREY, values)
    change = np.abs(drawn.astype(int) - 128).sum(-1)
    y, x = np.unravel_index(change.argmax(), change.shape)
    assert 10 <= y < 20 and 40 <= x < 50
    assert change[:, :25].max() == 0
    assert np.array_equal(overlay(GREY, np.zeros((3, 3))), GREY)


def test_points_are_drawn_where_they_are_and_the_input_is_kept() -> None:
    drawn = draw_points(GREY, np.array([[30.0, 10.0]]), radius=1.5)
    changed = np.argwhere((drawn != GREY).any(-1))
    assert np.allclose(changed.mean(0), [10, 30], atol=0.3)
    assert (GREY == 128).all()
