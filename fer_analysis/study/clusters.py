"""Do the pretrained networks stand apart from those from scratch? The two-cluster cut of a tree against that division.

The adjusted Rand index (Hubert and Arabie 1985) is 1 where the two sides of the last merge are the two kinds, about 0
where they have nothing to do with each other. The p value is the share of all ways to deal the kinds to the networks
that agree at least as well: exact up to :data:`MOST_DEALS` ways, else of as many random ones.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from aupipe.fer_analysis.comparison.similarity import Tree

MOST_DEALS = 20_000


@dataclass(frozen=True)
class ClusterTest:
    """How well a tree's last merge divides the networks by kind.

    ``name``: the tree's; ``rand``: adjusted Rand index; ``p``: of at least that by chance; ``ways``: how many deals p
    is a share of; ``least``: the smallest p that so many networks of these kinds allow, whatever the tree.
    """

    name: str
    rand: float
    p: float
    ways: int
    least: float


def adjusted_rand(first: Sequence[int], second: Sequence[int]) -> float:
    """Compute the adjusted Rand index of two divisions of the same things; 1 where both are all in one."""
    both = sum(math.comb(count, 2) for count in Counter(zip(first, second, strict=True)).values())
    sides = [sum(math.comb(count, 2) for count in Counter(one).values()) for one in (first, second)]
    pairs = math.comb(len(first), 2)
    expected, most = sides[0] * sides[1] / pairs if pairs else 0.0, sum(sides) / 2
    return 1.0 if most == expected else (both - expected) / (most - expected)


def cluster_test(tree: Tree, pretrained: frozenset[str]) -> ClusterTest | None:
    """Test a tree's two clusters against who is pretrained; None where all its networks are of one kind."""
    kinds = [int(name in pretrained) for name in tree.networks]
    if len(set(kinds)) < 2:
        return None
    first = set(tree.two_clusters()[0])
    sides = [int(name in first) for name in tree.networks]
    observed = adjusted_rand(sides, kinds)
    deals = [adjusted_rand(sides, deal) for deal in _deals(kinds)]
    as_good = sum(value >= observed - 1e-12 for value in deals)
    same = 2 if 2 * sum(kinds) == len(kinds) else 1  # either half may be called the pretrained one
    return ClusterTest(tree.name, observed, p=as_good / len(deals), ways=len(deals), least=same / len(deals))


def _deals(kinds: Sequence[int]) -> Iterator[Sequence[int]]:
    """Deal the kinds in all ways; where these are too many as they are, and in many random ones."""
    count, marked = len(kinds), sum(kinds)
    if math.comb(count, marked) <= MOST_DEALS:
        for chosen in combinations(range(count), marked):
            yield [int(place in chosen) for place in range(count)]
        return
    yield kinds
    rng = np.random.default_rng(0)
    for _ in range(MOST_DEALS):
        yield rng.permutation(kinds).tolist()
