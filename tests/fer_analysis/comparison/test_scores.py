"""Every score against a slow computation on pixels that shares no code with it."""

from __future__ import annotations

from itertools import permutations

import cv2
import numpy as np
import pytest
from skimage.filters import threshold_otsu
from sklearn.metrics import average_precision_score, roc_auc_score

from aupipe.fer_analysis.comparison.controls import assignment_test, measure_controls
from aupipe.fer_analysis.comparison.scores import SCORES, chance_iou, count_levels, iou, otsu, otsu_iou
from aupipe.fer_models.metrics.resampling import bootstrap_interval

RNG = np.random.default_rng(5)


def smooth_map(seed: int, levels: int = 256) -> np.ndarray:
    rng = np.random.default_rng(seed)
    blurred = cv2.GaussianBlur(rng.random((30, 26)), (0, 0), 2)
    scaled = (blurred - blurred.min()) / np.ptp(blurred)
    return np.floor(scaled * (levels - 1)).astype(np.uint8) * np.uint8(255 // (levels - 1))


MAPS = np.stack([smooth_map(0), smooth_map(1), smooth_map(2, levels=4)])
MASKS = np.stack([smooth_map(10) > 150, smooth_map(11) > 90])


def slow_iou(on: np.ndarray, mask: np.ndarray) -> float:
    return sum(a and b for a, b in zip(on.flat, mask.flat, strict=True)) / sum(
        a or b for a, b in zip(on.flat, mask.flat, strict=True)
    )


def slow_rank(values: np.ndarray, mask: np.ndarray) -> float:
    """Mean over random orders of equal pixels."""
    k = int(mask.sum())
    shares = []
    for seed in range(400):
        order = np.lexsort((np.random.default_rng(seed).random(values.size), -values.ravel().astype(int)))
        shares.append(mask.ravel()[order[:k]].mean())
    return float(np.mean(shares))


def slow_area(values: np.ndarray, mask: np.ndarray) -> float:
    closest = min(range(256), key=lambda level: abs(int((values > level).sum()) - int(mask.sum())))
    return slow_iou(values > closest, mask)


def slow_scores(values: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    inside, flat = mask.ravel(), values.ravel().astype(float)
    peak = flat == flat.max()
    return {
        "iou": slow_iou(values > threshold_otsu(values), mask),
        "iou_fixed": slow_iou(values / 255 > 0.1, mask),
        "iou_area": slow_area(values, mask),
        "mass": flat[inside].sum() / flat.sum(),
        "rank": slow_rank(values, mask),
        "pointing": inside[peak].mean(),
        "auc": roc_auc_score(inside, flat),
        "ap": average_precision_score(inside, flat),
        "nss": ((flat - flat.mean()) / flat.std())[inside].mean(),
    }


@pytest.mark.parametrize("number", range(len(MAPS)))
@pytest.mark.parametrize("mask", range(len(MASKS)))
def test_scores_against_pixels(number: int, mask: int) -> None:
    levels = count_levels(MAPS[[number]], MASKS[[mask]])[0, 0]
    wanted = slow_scores(MAPS[number], MASKS[mask])
    assert set(wanted) == set(SCORES)
    for name, score in SCORES.items():
        assert float(score.value(levels)) == pytest.approx(wanted[name], abs=0.02 if name == "rank" else 1e-9), name


def test_otsu_is_that_of_two_libraries() -> None:
    levels = count_levels(MAPS, MASKS)[:, 0]
    for values, threshold in zip(MAPS, otsu(levels), strict=True):
        assert threshold == threshold_otsu(values) == cv2.threshold(values, 0, 255, cv2.THRESH_OTSU)[0]


def test_chance_is_what_uninformed_maps_reach() -> None:
    """Shuffled pixels keep every histogram and know nothing of the mask."""
    rng = np.random.default_rng(0)
    shuffled = np.stack([rng.permutation(MAPS[0].ravel()).reshape(MAPS[0].shape) for _ in range(300)])
    levels = count_levels(shuffled, MASKS[:1])[:, 0]
    for name, score in SCORES.items():
        if name != "iou_fixed":  # beside it stands the all-ones map, which is not chance
            assert score.value(levels).mean() == pytest.approx(
                score.chance(levels).mean(),
                abs=0.07 if name == "pointing" else 0.02,  # one pixel a map decides it
            ), name


def test_a_perfect_map_scores_best() -> None:
    values = np.where(MASKS[0], 200, 20).astype(np.uint8)
    levels = count_levels(values[None], MASKS[:1])[0, 0]
    for name in ("iou", "iou_area", "rank", "pointing", "auc", "ap"):
        assert float(SCORES[name].value(levels)) == pytest.approx(1.0), name


def test_only_the_chosen_pixels_count() -> None:
    where = np.zeros(MAPS.shape[1:], bool)
    where[5:20, 3:15] = True
    levels = count_levels(MAPS, MASKS, where)
    cut = count_levels(MAPS[:, 5:20, 3:15], MASKS[:, 5:20, 3:15])
    assert np.array_equal(levels, cut) and levels.sum() == where.sum() * 6


def test_an_empty_union_is_no_overlap() -> None:
    levels = np.zeros((2, 256), np.int64)
    levels[0, 0] = 9
    assert float(iou(levels, 0)) == 0


def test_assignments_are_all_tried() -> None:
    table = RNG.random((4, 4))
    means = [np.mean([table[row, column] for row, column in enumerate(order)]) for order in permutations(range(4))]
    test = assignment_test(table)
    assert test.orders == 24 and test.best == pytest.approx(max(means))
    assert test.p == pytest.approx(np.mean(np.array(means) >= np.trace(table) / 4 - 1e-12))
    assert assignment_test(np.eye(6)).p == pytest.approx(1 / 720)
    many = assignment_test(np.eye(9) + 0.1)
    assert many.orders == 40_320 and many.p == pytest.approx(1 / 40_320)


def test_controls_against_slow_computations() -> None:
    maps = np.stack([[smooth_map(20 + 2 * n + e) for e in range(2)] for n in range(3)])
    levels = np.stack([count_levels(network, MASKS) for network in maps])
    found = measure_controls(levels)
    own = [(maps[n, e], MASKS[e]) for n in range(3) for e in range(2)]
    assert found.mean_iou == pytest.approx(np.mean([slow_iou(m > threshold_otsu(m), k) for m, k in own]))
    assert found.all_ones == pytest.approx(np.mean([slow_iou(np.ones_like(k), k) for _, k in own]))
    assert found.fixed_threshold == pytest.approx(np.mean([slow_iou(m > 25.5, k) for m, k in own]))
    assert found.area_matched == pytest.approx(np.mean([slow_area(m, k) for m, k in own]))
    wrong = [(maps[n, e], MASKS[1 - e]) for n in range(3) for e in range(2)]
    assert found.wrong_masks == pytest.approx(np.mean([slow_iou(m > threshold_otsu(m), k) for m, k in wrong]))
    assert found.chance == pytest.approx(chance_iou(levels[:, [0, 1], [0, 1]]).mean())
    assert found.interval is not None and found.interval[0] <= found.mean_iou <= found.interval[1]
    assert found.networks == 3 and " to " in found.between(3)
    alone = measure_controls(levels[:1])
    assert alone.interval is None and alone.between(3) == ""
    assert otsu_iou(levels).shape == (3, 2, 2)


def test_the_interval_is_that_of_the_mean() -> None:
    values = RNG.normal(0.5, 0.1, 100)
    low, high = bootstrap_interval(values)
    spread = values.std() / 10
    assert low == pytest.approx(values.mean() - 1.96 * spread, abs=0.3 * spread)
    assert high == pytest.approx(values.mean() + 1.96 * spread, abs=0.3 * spread)
