"""As many worker processes as told, whether they pay or not: what tests compare is small."""

from __future__ import annotations

from aupipe.pipeline.executors import DaskExecutor, Executor


class ToldExecutor(DaskExecutor):
    """Starts ``workers`` workers, as long as there are jobs."""

    def sized(self, jobs: int, seconds: float, *, isolated: bool = False) -> Executor:
        return self
