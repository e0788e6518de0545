"""The study of many networks by one call: train each on folds, explain it, merge one map per expression, compare.

:mod:`~aupipe.fer_analysis.study.plan` says which networks are trained how,
:mod:`~aupipe.fer_analysis.study.estimate` what that takes, :mod:`~aupipe.fer_analysis.study.explaining` makes the maps
of each fold, :mod:`~aupipe.fer_analysis.study.merging` one of all folds,
:mod:`~aupipe.fer_analysis.study.clusters` asks whether pretrained networks stand apart, and
:mod:`~aupipe.fer_analysis.study.run` is the whole.
"""

from aupipe.fer_analysis.study.plan import StudyRequest, make_request
from aupipe.fer_analysis.study.run import StudyEstimate, StudyReport, estimate_study, run_study

__all__ = ["StudyEstimate", "StudyReport", "StudyRequest", "estimate_study", "make_request", "run_study"]
