"""What it costs to start Dask workers for the offline stages, and from how many photos on they pay.

A stage starts workers only where each has ``WORTH_SECONDS`` of work (aupipe.pipeline.executors.workers). This prints
the seconds until one process and until two have loaded a stage's task, beyond those that this process takes to load
the same, and what a photo costs here; so the number of photos from which on two processes are done sooner.

Run it on an idle machine: python benchmarks/process_start.py --repeats 5
"""

from __future__ import annotations

import argparse
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np

from aupipe.fer_data.images import decode_image
from aupipe.fer_data.types import Silent
from aupipe.fer_demo.portrait import write_portrait_dataset
from aupipe.pipeline.executors.workers import WORTH_SECONDS, DaskExecutor
from aupipe.pipeline.landmarks.faces import find_face
from aupipe.pipeline.landmarks.run import DETECTION_SECONDS
from aupipe.pipeline.landmarks.tasks import shared_detector

BLANK = np.zeros((48, 48, 3), np.uint8)


def load(job: int) -> int:
    """Come as far as before the first photo."""
    find_face(BLANK, shared_detector("mediapipe", None))
    return job


def seconds(call: partial[object]) -> float:
    """How long a call takes."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def started(processes: int) -> None:
    """Start so many processes and wait until each has loaded the task."""
    for _ in DaskExecutor(processes).run(load, range(processes)):
        pass


def photo_seconds(folder: Path) -> float:
    """What a photo takes in this process."""
    write_portrait_dataset(folder, train=3, test=1, progress=Silent())
    photos = [path.read_bytes() for path in sorted(folder.rglob("*.png"))]
    detector = shared_detector("mediapipe", None)
    return seconds(partial(lambda: [find_face(decode_image(data), detector) for data in photos])) / len(photos)


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    here = seconds(partial(load, 0))
    one, two = (median(seconds(partial(started, count)) for _ in range(options.repeats)) for count in (1, 2))
    with tempfile.TemporaryDirectory() as folder:
        photo = photo_seconds(Path(folder))
    shared_detector("mediapipe", None).close()
    print(f"load here {here:.2f} s, one process {one:.2f} s, two {two:.2f} s; a photo {1e3 * photo:.1f} ms here")
    print(f"two processes pay from {2 * max(two - here, 0) / photo:.0f} photos on; they are started from "
          f"{2 * WORTH_SECONDS / DETECTION_SECONDS:.0f} on")  # fmt: skip


if __name__ == "__main__":
    main()
