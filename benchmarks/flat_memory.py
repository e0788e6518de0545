"""Memory of the landmark stage over a long manifest: it must not grow with the number of rows.

The detector is simulated and the photos are few, small and listed again and again, so that what is measured is the
stage itself. Prints resident memory of the main process and of the workers as rows go by, and the time per row that
planning, reading, hashing, decoding, writing HDF5 and Dask take together.

Run it: python benchmarks/flat_memory.py --rows 200000 --workers 2
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from aupipe.fer_data.manifest import Manifest, write_manifest
from aupipe.fer_data.types import Sample, Silent
from aupipe.pipeline.executors import create_executor
from aupipe.pipeline.landmarks.run import run_landmarks
from simulated_detectors import simulated_config, simulated_manifest

PHOTOS = 64
SETTLED = 10_000
"""Rows after which libraries, caches and worker processes have taken their memory."""


def megabytes(processes: list[psutil.Process]) -> float:
    """Resident memory of some processes together."""
    return sum(process.memory_info().rss for process in processes) / 1e6


class Meter(Silent):
    """Progress that notes memory every ten thousand rows."""

    def __init__(self) -> None:
        self.process, self.rows = psutil.Process(), 0
        self.seen: list[tuple[int, float, float]] = []
        self.started = time.perf_counter()

    def advance(self, count: int) -> None:
        """Count rows; print a line at every ten thousandth."""
        before, self.rows = self.rows, self.rows + count
        if before // SETTLED == self.rows // SETTLED:
            return
        workers = [child for child in self.process.children(recursive=True) if "resource_tracker" not in _words(child)]
        self.seen.append((self.rows, megabytes([self.process]), megabytes(workers)))
        print(f"{self.rows:>9,} rows  {self.seconds():7.1f} s  main {self.seen[-1][1]:6.0f} MB  "
              f"workers {self.seen[-1][2]:6.0f} MB", flush=True)  # fmt: skip

    def seconds(self) -> float:
        """Time since this was made."""
        return time.perf_counter() - self.started


def _words(process: psutil.Process) -> str:
    return " ".join(process.cmdline())


def long_manifest(folder: Path, rows: int) -> Manifest:
    """A manifest of ``rows`` samples over a few photos."""
    photos = [sample.path for sample in simulated_manifest(folder, PHOTOS).samples]
    samples = [Sample(f"train/person{row:07d}", photos[row % PHOTOS], "fear", "fear", "train") for row in range(rows)]
    return write_manifest(folder / "long.csv", samples, root=folder / "faces", layout="folder")


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        manifest = long_manifest(folder, options.rows)
        before, meter = megabytes([psutil.Process()]), Meter()
        print(f"manifest of {options.rows:,} rows in memory: main {before:.0f} MB")
        config = simulated_config(part_size=128)
        report = run_landmarks(manifest, folder / "work", config, create_executor(options.workers), meter)
        after, seconds = megabytes([psutil.Process()]), meter.seconds()
    main_growth, worker_growth = (meter.seen[-1][k] - meter.seen[0][k] for k in (1, 2))
    print(f"{report.ok:,} of {report.total:,} ok in {report.parts} parts; main at the end {after:.0f} MB")
    print(
        f"growth after the first {meter.seen[0][0]:,} rows: main {main_growth:+.0f} MB, workers {worker_growth:+.0f} MB"
    )
    print(f"time per row: {1e3 * seconds / report.total:.3f} ms")


if __name__ == "__main__":
    main()
