"""Explaining photos with a trained run: prediction, attention and CAM on the original photo, and the AUs they look at.

Finding and aligning faces is the offline stages' business; they hand over
:class:`aupipe.fer_data.preparation.AlignedFace` values.
"""

from aupipe.fer_analysis.explain.film import check_film
from aupipe.fer_analysis.explain.inputs import InputPicture, Source, open_source
from aupipe.fer_analysis.explain.opened import FacePrediction, OpenRun, open_run
from aupipe.fer_analysis.explain.run import ExplainReport, explain
from aupipe.fer_analysis.explain.seen import explain_faces

__all__ = [
    "ExplainReport",
    "FacePrediction",
    "InputPicture",
    "OpenRun",
    "Source",
    "check_film",
    "explain",
    "explain_faces",
    "open_run",
    "open_source",
]
