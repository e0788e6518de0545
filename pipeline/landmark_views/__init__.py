"""Ways to look at finished landmarks: a table, a contact sheet, a page of figures, two detectors side by side.

Nothing here changes the landmarks; parts are read one at a time, so that memory does not grow with the dataset.
"""

from aupipe.pipeline.landmark_views.agreement import Agreement
from aupipe.pipeline.landmark_views.agreement_files import write_agreement
from aupipe.pipeline.landmark_views.comparing import compare_landmarks
from aupipe.pipeline.landmark_views.export import EXPORT_FORMS, export_landmarks
from aupipe.pipeline.landmark_views.page import write_summary
from aupipe.pipeline.landmark_views.sheet import write_sheet

__all__ = [
    "EXPORT_FORMS",
    "Agreement",
    "compare_landmarks",
    "export_landmarks",
    "write_agreement",
    "write_sheet",
    "write_summary",
]
