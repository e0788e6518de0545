"""Time per AU map: our batch renderer beside the FG 2024 reference's drawing, in one run.

The reference's side is written again with OpenCV: per AU a canvas of image size with filled ellipses, resized to 28 x
28, blurred 3 x 3 and resized back; merged by maximum, min-max scaled; for a smaller map resized once more. It always
draws at image size. "published" does what the public code does: canvases of float64, each compared with an empty copy,
the AUs stacked before they are merged. "lean" is the least that gives the same map: float32, one canvas, nothing
checked. Ours is ``render_maps`` of the `default` codebook on a batch of one expression, and, to show what a single call
costs, on one face. "bare", the floor, is what NumPy takes to make a batch of empty maps and one exponential of every
pixel: no drawing of Gaussians can be faster. Medians over repeats, sides alternating, one thread.

The aim at 64 pixels is 40 times the published code's speed. At 256 there is none: the floor itself is only about eleven
times as fast there, and ours takes two to three times the floor. Drawing only the rows in which a Gaussian shows is at
most 1.4 times as fast (:mod:`aupipe.fer_data.au_maps.shapes.gaussian`).

Run it: OMP_NUM_THREADS=1 python benchmarks/rasteriser.py [--faces 64] [--repeats 15] [--device]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import cv2
import numpy as np

from aupipe.fer_data import geometry
from aupipe.fer_data.au_maps.codebook import Codebook, load_codebook
from aupipe.fer_data.au_maps.heatmaps import render_maps
from aupipe.fer_data.au_maps.mean_face import mean_face
from aupipe.fer_data.au_maps.shapes import ellipse
from aupipe.fer_data.au_maps.shapes.ellipse import BACKGROUND, COARSE, INSIDE

IMAGE = 256
AIMS = {256: None, 64: 40}
"""By map size, how many times as fast as the published code; None: no aim."""


def faces(count: int, roll: float) -> np.ndarray:
    """Mean faces with every point moved a little, rolled by up to ``roll`` radians either way, as crops hold them."""
    rng, middle = np.random.default_rng(0), np.full(2, (IMAGE - 1) / 2)
    return np.stack(
        [
            geometry.apply_affine(
                geometry.similarity(rng.uniform(-roll, roll), 1, middle, middle + rng.normal(0, 2, 2)),
                mean_face(IMAGE) + rng.normal(0, 0.008 * IMAGE, (68, 2)),
            )
            for _ in range(count)
        ]
    )


Ellipse = tuple[tuple[int, int], tuple[int, int]]
Ellipses = list[list[Ellipse]]


def reference_ellipses(points: np.ndarray, expression: str, book: Codebook) -> Ellipses:
    """Centre and half axes of every ellipse, AU by AU; not timed."""
    weights = book.expressions[expression]
    shapes: Ellipses = [[] for _ in weights]
    for placed in ellipse.Ellipse.place(book.regions(weights), points[None], IMAGE, IMAGE)[0]:
        centre, half = placed[ellipse.CENTRE].astype(int).tolist(), placed[ellipse.HALF].astype(int).tolist()
        shapes[int(placed[ellipse.ROW])].append((tuple(centre), tuple(half)))
    return shapes


def published_map(shapes: Ellipses, map_size: int) -> np.ndarray:
    """The reference's drawing with the steps of its public code."""
    stack = np.zeros((len(shapes), IMAGE, IMAGE))
    for place, unit in enumerate(shapes):
        canvas = np.zeros((IMAGE, IMAGE)) + BACKGROUND
        empty = canvas.copy()
        _fill(canvas, unit)
        if (canvas - empty).sum() > 0:
            stack[place] = _coarse_and_back(canvas)
    return _finished(stack.astype(np.float32).max(0), map_size)


def lean_map(shapes: Ellipses, map_size: int) -> np.ndarray:
    """The same map with as little work as OpenCV allows."""
    merged = np.full((IMAGE, IMAGE), BACKGROUND, np.float32)
    for unit in shapes:
        canvas = np.full((IMAGE, IMAGE), BACKGROUND, np.float32)
        _fill(canvas, unit)
        merged = np.maximum(merged, _coarse_and_back(canvas))
    return _finished(merged, map_size)


def _fill(canvas: np.ndarray, unit: Sequence[Ellipse]) -> None:
    for centre, half in unit:
        cv2.ellipse(canvas, centre, half, 0, 0, 360, INSIDE, cv2.FILLED)


def _coarse_and_back(canvas: np.ndarray) -> np.ndarray:
    small = cv2.blur(cv2.resize(canvas, (COARSE, COARSE), interpolation=cv2.INTER_LINEAR), (3, 3))
    return cv2.resize(small, (IMAGE, IMAGE), interpolation=cv2.INTER_LINEAR)


def _finished(merged: np.ndarray, map_size: int) -> np.ndarray:
    low, high = merged.min(), merged.max()
    merged = (merged - low) / (high - low)
    return merged if map_size == IMAGE else cv2.resize(merged, (map_size, map_size), interpolation=cv2.INTER_AREA)


def medians(sides: list[Callable[[], object]], maps: list[int], repeats: int) -> list[float]:
    """Median microseconds per map of each side, run in turn."""
    seconds: list[list[float]] = [[] for _ in sides]
    for _ in range(repeats + 1):
        for side, spent in zip(sides, seconds, strict=True):
            start = time.perf_counter()
            side()
            spent.append(time.perf_counter() - start)
    # The first round fills caches.
    return [statistics.median(spent[1:]) / count * 1e6 for spent, count in zip(seconds, maps, strict=True)]


def compare(points: np.ndarray, map_size: int, repeats: int) -> None:
    """Print a row per expression and the ratios of the means."""
    ours, theirs = load_codebook("default"), load_codebook("reference")
    some, rows = points[: max(len(points) // 4, 1)], []
    for expression in theirs.mapped_expressions():
        shapes = [reference_ellipses(face, expression, theirs) for face in points]
        sides: list[Callable[[], object]] = [
            lambda shapes=shapes: [published_map(unit, map_size) for unit in shapes[: len(some)]],
            lambda shapes=shapes: [lean_map(unit, map_size) for unit in shapes],
            lambda name=expression: render_maps(points, [name] * len(points), ours, IMAGE, map_size),
            lambda name=expression: [render_maps(face[None], [name], ours, IMAGE, map_size) for face in some],
            lambda: np.exp(np.zeros((len(points), map_size, map_size), np.float32)),
        ]
        counts = [len(some), len(points), len(points), len(some), len(points)]
        rows.append(medians(sides, counts, repeats))
        print(line(map_size, expression, rows[-1]))
    aim = f"   (aim {AIMS[map_size]}x)" if AIMS[map_size] else ""
    print(f"{line(map_size, 'mean', np.mean(rows, 0))}{aim}\n")


def line(map_size: int, expression: str, row: Sequence[float]) -> str:
    """A row of the table: microseconds of each side; how much faster ours is than both others; its floors."""
    published, lean, ours, _, bare = row
    times = "".join(f"{value:>11.1f}" for value in row)
    return f"{map_size:>5}  {expression:<12}{times}{published / ours:>11.1f}x{lean / ours:>9.1f}x{ours / bare:>9.1f}x"


def on_device(points: np.ndarray, repeats: int) -> None:
    """Time of the torch renderer per batch of mixed expressions."""
    import torch

    from aupipe.fer_data.au_maps.device_maps import make_plan, render_on_device

    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    for name in ("default", "reference"):
        book = load_codebook(name)
        names = book.mapped_expressions()
        for device in devices:
            plan = make_plan(book, names, IMAGE)
            landmarks = torch.from_numpy(points).float().to(device)
            labels = torch.arange(len(points), device=device) % len(names)

            def draw(landmarks=landmarks, labels=labels, plan=plan, device=device) -> None:  # type: ignore[no-untyped-def]
                render_on_device(landmarks, labels, plan, 64)
                if device == "cuda":
                    torch.cuda.synchronize()

            (microseconds,) = medians([draw], [1], repeats)
            print(f"render_on_device {name:<10} {device:<5} batch {len(points)}, map 64: {microseconds / 1e3:.2f} ms")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--device", action="store_true", help="also time the torch renderer")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    for title, roll in (("faces as crops hold them (roll up to 3 degrees)", 0.05), ("roll up to 40 degrees", 0.7)):
        points = faces(options.faces, roll)
        columns = "".join(f"{name:>11}" for name in ("published", "lean", "ours", "ours, one", "bare"))
        ratios = f"{'published/':>12}{'lean/ours':>10}{'ours/bare':>10}"
        print(f"{title}; microseconds per map\n  map  {'':<12}{columns}{ratios}")
        for map_size in AIMS:
            compare(points, map_size, options.repeats)
    if options.device:
        on_device(faces(options.faces, 0.05), options.repeats)


if __name__ == "__main__":
    main()
