"""Faithfulness of the explanations: whether the decision rests on what the maps show, and on the AU regions.

:mod:`~aupipe.fer_analysis.faithfulness.perturbing` removes pixels in the order of a map,
:mod:`~aupipe.fer_analysis.faithfulness.regions` removes the AU regions,
:mod:`~aupipe.fer_analysis.faithfulness.randomising` takes away what the network has learned;
:mod:`~aupipe.fer_analysis.faithfulness.run` does all three for a run, and
:mod:`~aupipe.fer_analysis.faithfulness.comparing` sets two runs against each other.
"""

from aupipe.fer_analysis.faithfulness.comparing import check_pair, compare_faithfulness
from aupipe.fer_analysis.faithfulness.run import FAITHFULNESS, Faithfulness, load_faithfulness, measure_faithfulness
from aupipe.fer_analysis.faithfulness.summary import summary_line

__all__ = [
    "FAITHFULNESS",
    "Faithfulness",
    "check_pair",
    "compare_faithfulness",
    "load_faithfulness",
    "measure_faithfulness",
    "summary_line",
]
