"""One self-contained page about a run or a store: its content, its results, and what to read them against.

:mod:`~aupipe.fer_analysis.report.run` puts it together; :mod:`~aupipe.fer_analysis.report.run_part` and
:mod:`~aupipe.fer_analysis.report.store_part` are its two halves, made of :mod:`~aupipe.fer_display.blocks`.
"""

from aupipe.fer_analysis.report.run import Report, write_report

__all__ = ["Report", "write_report"]
