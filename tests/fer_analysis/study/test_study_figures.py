"""Merged maps, clusters and recognition: against slow ways of computing the same."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, adjusted_rand_score, precision_recall_fscore_support

from aupipe.fer_analysis.comparison.canonical import HEIGHT, WIDTH
from aupipe.fer_analysis.comparison.global_maps import GlobalMap
from aupipe.fer_analysis.comparison.similarity import OVERALL, Tree, make_tree
from aupipe.fer_analysis.study.clusters import adjusted_rand, cluster_test
from aupipe.fer_analysis.study.merging import merge_maps
from aupipe.fer_analysis.study.plan import StudyNetwork
from aupipe.fer_analysis.study.results import cluster_sentence, recognition
from aupipe.fer_models.backbones.zoo import Schedule


def averaged(values: np.ndarray, valid: np.ndarray) -> GlobalMap:
    n = valid.sum(0)
    mean = np.where(n > 0, (values * valid).sum(0) / np.maximum(n, 1), 0)
    squares = ((values - mean) ** 2 * valid).sum(0)
    variance = np.where(n > 1, squares / np.maximum(n - 1, 1), 0)
    shape = (mean.astype(np.float32), variance.astype(np.float32), n.astype(np.int32))
    return GlobalMap(*shape, available=2 * len(values), used=len(values), fit=float(values.mean()))


def test_merged_folds_are_the_maps_of_all_their_faces() -> None:
    rng = np.random.default_rng(0)
    values = rng.random((12, HEIGHT, WIDTH)) ** 3
    valid = rng.random(values.shape) < 0.3
    parts = [averaged(values[part], valid[part]) for part in (slice(0, 1), slice(1, 4), slice(4, 12))]
    merged, whole = merge_maps(parts), averaged(values, valid)
    np.testing.assert_allclose(merged.mean, whole.mean, atol=1e-6)
    np.testing.assert_allclose(merged.variance, whole.variance, atol=1e-6)
    assert np.array_equal(merged.n, whole.n) and (merged.used, merged.available) == (12, 24)
    assert merged.fit == pytest.approx(values.mean())


def test_the_rand_index_is_scikit_learn_s() -> None:
    rng = np.random.default_rng(1)
    for _ in range(200):
        first, second = rng.integers(0, 2, (2, 9)).tolist()
        assert adjusted_rand(first, second) == pytest.approx(adjusted_rand_score(first, second)), (first, second)


def tree_of(positions: list[float]) -> Tree:
    distance = np.abs(np.subtract.outer(positions, positions))
    return make_tree(OVERALL, tuple(f"n{number}" for number in range(len(positions))), 1 - distance)


def test_the_p_value_is_the_share_of_all_orders() -> None:
    tree = tree_of([0.0, 0.02, 0.05, 0.3, 0.9, 1.0])
    for pretrained in ({"n0", "n1", "n2", "n3"}, {"n0", "n1", "n4"}, {"n5"}):
        found = cluster_test(tree, frozenset(pretrained))
        assert found is not None
        sides = [int(name in tree.two_clusters()[0]) for name in tree.networks]
        kinds = [int(name in pretrained) for name in tree.networks]
        every = [adjusted_rand_score(sides, order) for order in permutations(kinds)]
        assert found.rand == pytest.approx(adjusted_rand_score(sides, kinds))
        assert found.p == pytest.approx(np.mean([value >= found.rand - 1e-9 for value in every]))
        assert found.least == pytest.approx(
            np.mean([adjusted_rand_score(kinds, one) == 1 for one in permutations(kinds)])
        )
    assert cluster_test(tree, frozenset()) is None and cluster_test(tree, frozenset(tree.networks)) is None


def test_many_networks_are_dealt_at_random_and_the_same_each_time() -> None:
    tree = tree_of(np.concatenate([np.linspace(0, 0.1, 20), np.linspace(0.8, 0.9, 20)]).tolist())
    whole = frozenset(f"n{number}" for number in range(20))
    first, second = cluster_test(tree, whole), cluster_test(tree, whole)
    assert first == second and first is not None and first.rand == 1 and first.p < 0.001


def network(name: str, pretrained: bool) -> StudyNetwork:
    return StudyNetwork(name, name, pretrained, 48, Schedule())


def test_the_sentence_says_no_more_than_the_test() -> None:
    def said(positions: list[float], pretrained: set[str]) -> str:
        found = cluster_test(tree_of(positions), frozenset(pretrained))
        networks = [network(f"n{number}", f"n{number}" in pretrained) for number in range(len(positions))]
        return cluster_sentence([] if found is None else [found], networks, OVERALL)

    twelve = [0.0, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.8, 0.82, 0.84, 0.86]
    assert "do cluster apart (adjusted Rand index 1.00, p = 0.002" in said(twelve, {f"n{n}" for n in range(8)})
    assert "are not shown to cluster apart" in said(twelve, {f"n{n}" for n in range(0, 12, 2)})
    assert "are not shown to" in said([0, 0.1, 0.9], {"n0", "n1"}), "three networks are too few for any p below 1 in 3"
    assert "cannot be asked here: all networks start alike" in said(twelve, set())
    lost = cluster_sentence([], [network("n0", True), network("n1", False)], OVERALL)
    assert "of one of the two kinds no network has a map" in lost


def folds(true: np.ndarray, named: np.ndarray, k: int) -> Iterator[dict[str, object]]:
    for part in (slice(0, 20), slice(20, 50), slice(50, None)):
        matrix = np.zeros((k, k), int)
        np.add.at(matrix, (true[part], named[part]), 1)
        yield {"confusion": {"matrix": matrix.tolist()}, "accuracy": float((true[part] == named[part]).mean())}


def test_recognition_is_that_of_all_faces_of_all_folds() -> None:
    rng = np.random.default_rng(2)
    true = rng.integers(0, 5, 120)
    named = np.where(rng.random(120) < 0.6, true, rng.integers(0, 4, 120))  # 4 is never named by chance
    found = recognition(list(folds(true, named, 7)))  # classes 5 and 6 have no face
    assert found is not None and found.n == 120 and len(found.accuracies) == 3
    assert found.accuracy == pytest.approx(accuracy_score(true, named))
    scores = precision_recall_fscore_support(true, named, labels=range(5), average="macro", zero_division=0)
    assert (found.precision, found.recall, found.f1) == pytest.approx(scores[:3])
    assert recognition([]) is None
