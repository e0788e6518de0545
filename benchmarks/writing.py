"""How fast `build-maps` writes a store, and where the time goes.

Photos are JPEG files of 350 x 350 pixels and some 20 kB, a little more than aligned photos from the web have (or those
of a folder, ``--photos``), with landmarks that are already found; the store has the default sizes (256
pixel crops, 64 pixel maps). One process, no workers. Rates are given by the clock and by processor time (what one core
would do if it had nothing else to do and the disk kept up). Times of the parts are measured inside a further run;
"rest" is what no part explains ("sync" runs beside "checksums" and more of the verification, so that the parts may
explain a little more than there is). "decode alone" is the same photos through OpenCV's decoder, and nothing else.

Run it on an idle machine: python benchmarks/writing.py --images 1500 --repeats 3
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import numpy as np

from aupipe.fer_data.au_maps.codebook import load_codebook
from aupipe.fer_data.au_maps.mean_face import mean_face
from aupipe.fer_data.files import canonical_json, sha256_file
from aupipe.fer_data.landmark_parts import LandmarkRow, PartFile, write_part
from aupipe.fer_data.manifest import read_manifest, write_manifest
from aupipe.fer_data.types import Reason, Sample, Silent
from aupipe.fer_demo.portrait import portrait_faces
from aupipe.pipeline.executors import SerialExecutor
from aupipe.pipeline.landmarks.work import MANIFEST_NAME, PARTS_FOLDER, content_digest, save_report
from aupipe.pipeline.maps.run import run_maps
from aupipe.pipeline.maps.tasks import MapConfig
from aupipe.pipeline.planning import batched, hash_order

SIDE = 350
CLASSES = ("anger", "disgust", "fear", "happiness", "sadness", "surprise")
PARTS = {
    "read the photo": ["pathlib.Path.read_bytes"],
    "hash the photo": ["aupipe.pipeline.maps.tasks.sha256_bytes"],
    "decode": ["aupipe.pipeline.maps.tasks.decode_image"],
    "align and crop": ["aupipe.pipeline.maps.tasks.warp_crop", "aupipe.pipeline.maps.tasks.place_face"],
    "draw the maps": ["aupipe.pipeline.maps.tasks.render_maps"],
    "encode JPEG": ["aupipe.fer_data.shards.writer.encode_jpeg"],
    "channel sums": ["aupipe.fer_data.shards.writer.channel_sums"],
    "checksums": ["aupipe.fer_data.shards.spec.zlib.crc32"],
    "write": ["aupipe.fer_data.files._SteadyFile.write"],
    "sync": ["aupipe.fer_data.files._fsync"],
    "hash the shard": ["aupipe.fer_data.shards.shard_file.hashlib.file_digest"],
}
"""What is timed: none of these calls another of them."""


def make_work(folder: Path, count: int, real: list[Path]) -> Path:
    """A WORK folder of ``count`` portraits, or copies of real photos, with landmarks that fit the portraits."""
    samples = [Sample(f"p/{i:05d}", f"p/{i:05d}.jpg", CLASSES[i % 6], CLASSES[i % 6], "train") for i in range(count)]
    write_manifest(folder / "work" / MANIFEST_NAME, samples, root=folder / "photos", layout="folder")
    face = next(iter(portrait_faces("happiness", 1, 3, size=SIDE))).image
    points = mean_face(SIDE * 0.8) + SIDE * 0.1
    rows = {}
    for number, sample in enumerate(samples):
        rng = np.random.default_rng(number)
        path = folder / "photos" / sample.path
        path.parent.mkdir(parents=True, exist_ok=True)
        if real:
            shutil.copyfile(real[number % len(real)], path)
        else:
            noisy = np.clip(face + rng.normal(0, 2, face.shape), 0, 255).astype(np.uint8)
            cv2.imwrite(str(path), noisy[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
        found = (points + rng.normal(0, 1, (68, 2))).astype(np.float32)
        rows[sample.sample_id] = LandmarkRow(
            sample.sample_id, sample.path, Reason.OK, sha256_file(path), (SIDE, SIDE), found
        )
    parts, work = [], folder / "work"
    for at, part in enumerate(batched(hash_order(samples), 256)):
        path = work / PARTS_FOLDER / f"part-{at:05d}.h5"
        write_part(path, [rows[sample.sample_id] for sample in part], "plan", canonical_json({}))
        parts.append(PartFile(path, sha256_file(path), "plan"))
    manifest = read_manifest(work / MANIFEST_NAME)
    save_report(work, manifest, content_digest(manifest), {}, parts, [])
    return work


@contextmanager
def timed_parts(spent: Counter[str]) -> Iterator[None]:
    """Count the seconds spent in each of :data:`PARTS`."""

    def wrapped(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            begun = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                spent[name] += time.perf_counter() - begun

        return call

    patches = []
    for name, targets in PARTS.items():
        for target in targets:
            patch = mock.patch(target)
            owner, attribute = patch.getter(), patch.attribute
            patches.append(mock.patch(target, wrapped(name, getattr(owner, attribute))))
    for patch in patches:
        patch.start()
    try:
        yield
    finally:
        for patch in patches:
            patch.stop()


def measure(title: str, count: int, repeats: int, build: Callable[[Path], object], folder: Path) -> None:
    """Print the median rate of some runs, then what one more run spends its time on."""
    clock, processor, store = [], [], folder / title
    for _ in range(repeats + 1):
        # A store that is replaced leaves its memory to the next: a virtual machine hands out fresh memory slowly.
        shutil.rmtree(store, ignore_errors=True)
        begun = time.perf_counter(), time.process_time()
        build(store)
        clock.append(count / (time.perf_counter() - begun[0]))
        processor.append(count / (time.process_time() - begun[1]))
    first, *others = clock
    runs = ", ".join(f"{rate:.0f}" for rate in others)
    print(
        f"{title}: {statistics.median(others):.0f} images/s (runs: {runs}; the first, uncounted: {first:.0f}), "
        f"{statistics.median(processor[1:]):.0f} a processor second"
    )
    shutil.rmtree(store)
    spent: Counter[str] = Counter()
    begun = time.perf_counter()
    with timed_parts(spent):
        build(store)
    whole = time.perf_counter() - begun
    spent["rest"] = whole - spent.total()
    for name, value in spent.most_common():
        print(f"    {name:<16}{value / count * 1e3:7.3f} ms an image {value / whole:5.0%}")


def decode_alone(work: Path, count: int) -> None:
    """Print the rate of the decoder."""
    data = [np.fromfile(path, np.uint8) for path in sorted((work.parent / "photos").rglob("*.jpg"))]
    begun = time.process_time()
    for photo in data:
        cv2.imdecode(photo, cv2.IMREAD_COLOR_RGB)
    print(f"decode alone: {count / (time.process_time() - begun):.0f} images a processor second")


def main() -> None:
    """Measure raw, JPEG, and maps drawn again from a store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1500)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--photos", type=Path, metavar="FOLDER", help="take this folder's *.jpg, aligned and of 350 px, in turn"
    )
    options = parser.parse_args()
    real = sorted(options.photos.rglob("*.jpg")) if options.photos else []
    if options.photos and not real:
        parser.error(f"there is no file *.jpg in {options.photos}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        work = make_work(folder, options.images, real)
        decode_alone(work, options.images)
        codebook = dict(load_codebook("default").content)

        def build(config: MapConfig, **more: Path) -> Callable[[Path], object]:
            return lambda store: run_maps(work, store, config, SerialExecutor(), Silent(), **more)  # type: ignore[arg-type]

        raw, jpeg = MapConfig(codebook, rows_per_shard=500), MapConfig(codebook, rows_per_shard=500, encoding="jpeg")
        again = MapConfig(codebook, rows_per_shard=500, map_size=48)
        measure("raw", options.images, options.repeats, build(raw), folder)
        measure("jpeg", options.images, options.repeats, build(jpeg), folder)
        old = folder / "raw"
        measure("maps only", options.images, options.repeats, build(again, images_from=old), folder)


if __name__ == "__main__":
    main()
