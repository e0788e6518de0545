"""Are the explanations faithful? Whether the decision rests on what the maps show, and on the AU regions.

:mod:`~aupipe.fer_models.faithfulness.perturbing` removes pixels in the order of a map,
:mod:`~aupipe.fer_models.faithfulness.regions` removes the AU regions,
:mod:`~aupipe.fer_models.faithfulness.randomising` takes away what the network has learned;
:mod:`~aupipe.fer_models.faithfulness.run` does all three for a run.
"""

from aupipe.fer_models.faithfulness.run import FAITHFULNESS, Faithfulness, measure_faithfulness
from aupipe.fer_models.faithfulness.summary import summary_line

__all__ = ["FAITHFULNESS", "Faithfulness", "measure_faithfulness", "summary_line"]
