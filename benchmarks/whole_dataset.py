"""A whole dataset, stage by stage: time and memory of every command, beside what its stage cannot do without.

Every stage is the command as people run it, in a process of its own, on shares of the dataset (every fourth file, every
second, all), so that what grows faster than the faces shows: *growth* is the time a face at all of them over that at
the smallest share, starts left out. Beside it the bare limit, measured in the same run on the largest share:

==============  ======================================================================================================
manifest build  read every file and compute its SHA-256
landmarks       one look of the detector at every photo (timed on some), by as many processes
build-maps      decode every photo once, by as many processes, and write as many bytes as the store has
verify          compute the SHA-256 of the store's bytes
train           the steps of an epoch on one batch that stays in memory
evaluate        pass every test face through the network, in batches that stay in memory
==============  ======================================================================================================

Run it on an idle machine, on a folder of one folder per class: python benchmarks/whole_dataset.py FOLDER --workers 2
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import psutil
import torch

from aupipe.fer_data.images import decode_image
from aupipe.fer_data.manifest import read_manifest
from aupipe.fer_data.shards import open_store
from aupipe.fer_models.backbones import create_backbone
from aupipe.fer_models.methods import create_method
from aupipe.pipeline.detectors.mediapipe import MediaPipeDetector
from step_cost import Side, make_batch

CROP, MAP = 64, 36
BACKBONE = "test_resnet"
LOOKED_AT = 300
"""Photos on which a bare look is timed."""


@dataclass(frozen=True)
class Spent:
    """What a command took: seconds, and the most memory of its processes together, in bytes."""

    seconds: float
    memory: int


def spend(*words: object) -> Spent:
    """Run ``aupipe`` with these words. Ends the program with its message when it fails."""
    command = [str(Path(sys.executable).with_name("aupipe")), *map(str, words)]
    started, most = time.perf_counter(), 0
    with (
        tempfile.TemporaryFile("w+") as said,
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said) as running,
    ):
        watched = psutil.Process(running.pid)
        while running.poll() is None:
            most = max(most, sum(_resident(one) for one in _family(watched)))
            time.sleep(0.05)
        if running.returncode:
            said.seek(0)
            sys.exit(f"{' '.join(command)} failed:\n{said.read()}")
    return Spent(time.perf_counter() - started, most)


def _family(process: psutil.Process) -> list[psutil.Process]:
    try:
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


def seconds(work: Callable[[], object]) -> float:
    """Time some work."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def share(folder: Path, every: int, out: Path) -> int:
    """Link every so-manieth file of a dataset into another folder; return how many."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()][::every]
    for path in files:
        there = out / path.relative_to(folder)
        there.parent.mkdir(parents=True, exist_ok=True)
        os.link(path, there)
    return len(files)


def stages(faces: Path, out: Path, workers: int, batch: int) -> dict[str, tuple[object, ...]]:
    """List the commands by stage."""
    trained = ("--backbone", BACKBONE, "--crop-size", CROP, "--batch-size", batch, "--epochs", 1)
    return {
        "manifest build": ("manifest", "build", "folder", faces, "--out", out / "m.csv"),
        "landmarks": ("landmarks", out / "m.csv", "--out", out / "work", "--workers", workers, "--max-failures", 1),
        "build-maps": (
            "build-maps", out / "work", "--out", out / "store", "--image-size", 72, "--map-size", MAP,
            "--workers", workers, "--max-failures", 1,
        ),
        "verify": ("verify", out / "store"),
        "train": ("train", out / "store", "--out", out / "run", *trained),
        "evaluate": ("evaluate", out / "run"),
    }  # fmt: skip


def limits(out: Path, workers: int, size: int) -> dict[str, float]:
    """Time what each stage cannot do without, on the faces of one folder of stages."""
    manifest, store = read_manifest(out / "m.csv"), open_store(out / "store")
    photos = [manifest.root / sample.path for sample in manifest.samples]
    shards = sorted((out / "store").glob("*.h5"))
    some, detector = photos[:: max(1, len(photos) // LOOKED_AT)], MediaPipeDetector()
    looked = seconds(lambda: [detector.detect(decode_image(path.read_bytes(), str(path)), 0.5) for path in some])
    decoded = seconds(lambda: [decode_image(path.read_bytes(), str(path)) for path in photos])
    side, batch = Side(BACKBONE, None, torch.device("cpu")), make_batch(size, CROP, MAP, torch.device("cpu"))
    model = create_method("cam", create_backbone(BACKBONE), len(store.index.classes)).eval()
    steps, passes = (-(-store.index.rows(split) // size) for split in ("train", "test"))

    def answer() -> None:
        with torch.no_grad():
            for _ in range(passes):
                model(batch.image)

    side.step(batch)
    return {
        "manifest build": seconds(lambda: hash_all(photos)),
        "landmarks": looked / len(some) * len(photos) / max(1, workers),
        "build-maps": decoded / max(1, workers) + seconds(lambda: write_all(shards, out / "written")),
        "verify": seconds(lambda: hash_all(shards)),
        "train": seconds(lambda: [side.step(batch) for _ in range(steps)]),
        "evaluate": seconds(answer),
    }


def hash_all(paths: Iterable[Path]) -> None:
    """Read files and compute their SHA-256."""
    for path in paths:
        with path.open("rb") as file:
            hashlib.file_digest(file, "sha256")


def write_all(paths: Iterable[Path], out: Path) -> None:
    """Write as many bytes as some files have, and wait for the disk."""
    with out.open("wb") as file:
        for path in paths:
            left = path.stat().st_size
            for size in islice(iter(lambda: 2**20, 0), -(-left // 2**20)):
                file.write(bytes(size))
        file.flush()
        os.fsync(file.fileno())


def print_table(faces: Sequence[int], spent: Sequence[dict[str, Spent]], bare: dict[str, float], start: float) -> None:
    """Print a line a stage."""
    counts = "".join(f"{count:>10,} s" for count in faces)
    print(f"{'':16}{counts}{'ms/face':>10}{'growth':>8}{'bare s':>9}{'ratio':>7}{'MB':>8}   (a start: {start:.1f} s)")
    for stage in spent[0]:
        took = [one[stage].seconds for one in spent]
        each = [max(value - start, 0.0) / count for value, count in zip(took, faces, strict=True)]
        growth = f"{each[-1] / each[0]:8.2f}" if each[0] > 0 else f"{'-':>8}"
        print(
            f"{stage:16}{''.join(f'{value:12.1f}' for value in took)}{1e3 * took[-1] / faces[-1]:10.2f}{growth}"
            f"{bare[stage]:9.1f}{took[-1] / bare[stage]:7.1f}{spent[-1][stage].memory / 1e6:8.0f}"
        )
    total = sum(one.seconds for one in spent[-1].values())
    print(f"all stages on {faces[-1]:,} faces: {total / 60:.1f} min")


def main() -> None:
    """Run every stage on every share, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--shares", default="4,2,1", help="every fourth file, every second, every one")
    parser.add_argument("--out", type=Path, help="a new folder for what the stages write, which is kept")
    options = parser.parse_args()
    spent, faces = list[dict[str, Spent]](), list[int]()
    with contextlib.ExitStack() as kept:
        name = options.out or kept.enter_context(tempfile.TemporaryDirectory(dir=options.folder.parent))
        for every in map(int, options.shares.split(",")):
            out = Path(name) / f"every-{every}"
            faces.append(share(options.folder, every, out / "faces"))
            took = dict[str, Spent]()
            for stage, words in stages(out / "faces", out, options.workers, options.batch_size).items():
                took[stage] = spend(*words)
                print(f"{faces[-1]:,} faces, {stage}: {took[stage].seconds:.1f} s", file=sys.stderr, flush=True)
            spent.append(took)
        start = spend("verify", "--help").seconds
        print_table(faces, spent, limits(out, options.workers, options.batch_size), start)


if __name__ == "__main__":
    main()
