"""The landmark stage beside a bare loop over the same photos: what do parts, hashes and processes cost?

The bare loop reads, decodes and calls MediaPipe once a photo, and keeps nothing; it is timed with and without asking
for the score. "every look" is the same loop, but it tries as hard as the stage does: it climbs the
ladder where no face is seen and looks at small faces from close by. The stage does that work and also hashes every
photo and writes checked HDF5 parts. Modes take turns, so that other work on the machine falls on all of them; rates are
medians over the repeats, and for worker processes exclude the start, which is given apart. At the end: what each rung
of the ladder costs and finds.

Run it on an idle machine: python benchmarks/landmark_throughput.py [FOLDER] --images 1200 --repeats 3
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from statistics import median

import numpy as np

from aupipe.fer_data.files import sha256_file
from aupipe.fer_data.images import decode_image
from aupipe.fer_data.manifest import Manifest, write_manifest
from aupipe.fer_data.types import Sample, Silent
from aupipe.fer_demo.portrait import write_portrait_dataset
from aupipe.pipeline.detectors.mediapipe import MediaPipeDetector
from aupipe.pipeline.executors import create_executor
from aupipe.pipeline.landmarks.faces import find_face
from aupipe.pipeline.landmarks.passes import detect_pass
from aupipe.pipeline.landmarks.run import run_landmarks
from aupipe.pipeline.landmarks.tasks import LandmarkConfig

SAME_WORK = "bare loop, every look"
LARGE = 284_000
"""Size of the largest public collection in mind (AffectNet's labelled part)."""


@dataclass(frozen=True)
class Timing:
    """One pass: images a second once it runs, seconds until then, processor seconds over all processes."""

    rate: float
    start: float
    cpu: float


class Timeline(Silent):
    """Progress that notes when rows were done."""

    def __init__(self) -> None:
        self.points = [(time.perf_counter(), 0)]

    def advance(self, count: int) -> None:
        """Note it."""
        self.points.append((time.perf_counter(), self.points[-1][1] + count))


def cpu_seconds() -> float:
    """Processor time of this process and of its ended children."""
    return sum(os.times()[:4])


def plain_look(image: np.ndarray, detector: MediaPipeDetector) -> None:
    """One call of the landmarker."""
    detector.detect(image, 0.5)


def scored_look(image: np.ndarray, detector: MediaPipeDetector) -> None:
    """One call of the landmarker, and the score of the first face."""
    for face in detector.detect(image, 0.5)[:1]:
        detector.complete(image, face)


def bare_loop(paths: list[Path], look: Callable[[np.ndarray, MediaPipeDetector], object]) -> Timing:
    """Read, decode, look."""
    detector = MediaPipeDetector()
    scored_look(decode_image(paths[0].read_bytes()), detector)  # loads the networks
    started, cpu = time.perf_counter(), cpu_seconds()
    for path in paths:
        look(decode_image(path.read_bytes()), detector)
    timing = Timing(len(paths) / (time.perf_counter() - started), 0.0, cpu_seconds() - cpu)
    detector.close()
    return timing


def by_rung(paths: list[Path]) -> list[str]:
    """Climb each photo's ladder as far as the stage does, and tell what every rung costs and finds.

    Without scores and the looks that a low one asks for: "with score" and "every look" tell what these take together.
    """
    detector = MediaPipeDetector()
    upright = [(number, attempt) for number, attempt in enumerate(detector.ladder) if not attempt.turns]
    for _, attempt in upright:
        detect_pass(decode_image(paths[0].read_bytes()), detector, attempt)  # loads its networks
    tried, found, seconds = Counter[int](), Counter[int](), defaultdict[int, float](float)
    for path in paths:
        image = decode_image(path.read_bytes())
        for number, attempt in upright:
            cpu = time.process_time()
            faces, _ = detect_pass(image, detector, attempt)
            seconds[number] += time.process_time() - cpu
            tried[number] += 1
            found[number] += bool(faces)
            if faces:
                break
    detector.close()
    total = sum(seconds.values())
    return [
        f"rung {number}  {tried[number]:>6} photos  {found[number]:>6} found  "
        f"{1e3 * seconds[number] / tried[number]:>7.1f} ms each  {seconds[number] / total:>6.1%} of the time"
        for number in sorted(tried)
    ]


def stage(manifest: Manifest, workers: int, part_size: int) -> Timing:
    """The whole stage; its rate from the moment every worker has delivered a part."""
    line, cpu = Timeline(), cpu_seconds()
    with tempfile.TemporaryDirectory() as work:
        config = LandmarkConfig(part_size=part_size)
        run_landmarks(manifest, Path(work), config, create_executor(workers), line)
    (begin, _), (warm, rows), (end, total) = line.points[0], line.points[max(workers, 1)], line.points[-1]
    rate = (total - rows) / (end - warm)
    return Timing(rate, warm - begin - rows / rate / max(workers, 1), cpu_seconds() - cpu)


def photos(folder: Path | None, scratch: Path) -> list[Path]:
    """The photos of a folder; by default the development faces, or else embedded portraits."""
    shared = Path(os.environ.get("AUPIPE_SHARED", "")) / "faces" / "legend_mini" / "images"
    if folder is None and not shared.is_dir():
        write_portrait_dataset(scratch / "portraits", train=10, test=4, progress=Silent())
    chosen = folder or (shared if shared.is_dir() else scratch / "portraits")
    return sorted(path for path in chosen.rglob("*") if path.suffix.lower() in {".jpg", ".jpeg", ".png"})


def long_manifest(found: list[Path], count: int, scratch: Path) -> Manifest:
    """``count`` samples; photos come again under other names until there are enough."""
    root = Path(os.path.commonpath([path.parent for path in found]))
    samples = [
        Sample(f"train/{number:06d}", path.relative_to(root).as_posix(), "neutral", "neutral", "train")
        for number, path in enumerate(islice(cycle(found), count))
    ]
    return write_manifest(scratch / "faces.csv", samples, root=root, layout="folder")


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--images", type=int, default=1200)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--part-size", type=int, default=32)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        manifest = long_manifest(photos(options.folder, Path(scratch)), options.images, Path(scratch))
        paths = [manifest.root / sample.path for sample in manifest.samples]
        modes = {"bare loop": lambda: bare_loop(paths, plain_look)}
        modes["bare loop, with score"] = lambda: bare_loop(paths, scored_look)
        modes[SAME_WORK] = lambda: bare_loop(paths, find_face)
        for count in options.workers:
            modes[f"stage, {count} workers"] = lambda count=count: stage(manifest, count, options.part_size)
        taken: dict[str, list[Timing]] = {name: [] for name in modes}
        for _ in range(options.repeats):
            for name, mode in modes.items():
                taken[name].append(mode())
        report(taken, options.images, len({sha256_file(path) for path in set(paths)}))
        print("", *by_rung(paths), sep="\n")


def report(taken: dict[str, list[Timing]], images: int, distinct: int) -> None:
    """Print the table."""
    print(f"{images} images a pass ({distinct} distinct), {os.cpu_count()} cores\n")
    print(f"{'':<23}{'images/s':>9}{'of same work':>14}{'start s':>9}{'cpu ms/image':>14}{f'{LARGE:,} images':>18}")
    same = median(timing.rate for timing in taken[SAME_WORK])
    for name, timings in taken.items():
        rate, start, cpu = (median(getattr(timing, key) for timing in timings) for key in ("rate", "start", "cpu"))
        hours = (LARGE / rate + start) / 3600
        print(f"{name:<23}{rate:>9.1f}{rate / same:>14.2f}{start:>9.1f}{1e3 * cpu / images:>14.1f}{hours:>16.1f} h")


if __name__ == "__main__":
    main()
