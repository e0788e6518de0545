"""One self-contained page about a run or a store: what is in it, what came out, what to read it against.

:mod:`~aupipe.fer_models.report.page` puts it together; :mod:`~aupipe.fer_models.report.run_part` and
:mod:`~aupipe.fer_models.report.store_part` are its two halves, :mod:`~aupipe.fer_models.report.blocks` and
:mod:`~aupipe.fer_models.report.charts` what they are made of.
"""

from aupipe.fer_models.report.page import Report, write_report

__all__ = ["Report", "write_report"]
