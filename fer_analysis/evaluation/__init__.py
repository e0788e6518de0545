"""Evaluation in one pass: what a run gets right, where its maps look, and the controls to read that against.

:mod:`~aupipe.fer_analysis.evaluation.measuring` turns every face into figures,
:mod:`~aupipe.fer_analysis.evaluation.summary` these into ``metrics.json``,
:mod:`~aupipe.fer_analysis.evaluation.predictions` keeps them face by face, and
:mod:`~aupipe.fer_analysis.evaluation.comparing` sets two runs against each other.
"""

from aupipe.fer_analysis.evaluation.against import evaluate_against
from aupipe.fer_analysis.evaluation.comparing import Comparison, compare
from aupipe.fer_analysis.evaluation.measuring import explanation_maps
from aupipe.fer_analysis.evaluation.predictions import METRICS
from aupipe.fer_analysis.evaluation.run import Evaluation, evaluate

__all__ = ["METRICS", "Comparison", "Evaluation", "compare", "evaluate", "evaluate_against", "explanation_maps"]
