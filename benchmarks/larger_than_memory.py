"""An epoch of a raw store that does not fit into memory, in each order: rate, bytes from the disk, resident memory.

One shard is written and copied until the store has the asked size. Each order runs in a process of its own, with the
store's pages dropped from the page cache beforehand. ``disk`` are the bytes that the process made the system fetch,
over the bytes of the images it delivered: 1.0 where every byte is fetched once. ``request`` is the mean size of the
requests that the disk was given meanwhile, by anybody: long runs are what spinning and remote disks need. Memory is
that of the process, a tenth of the way through the epoch and at its end: it must not grow.

The page cache hides all this where memory is larger than the store. So give less, for instance
systemd-run --scope -p MemoryMax=1G python benchmarks/larger_than_memory.py --gigabytes 3
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

from aupipe.fer_data.loading.augment import AugmentConfig  # noqa: E402
from aupipe.fer_data.loading.loader import TripletLoader  # noqa: E402
from aupipe.fer_data.shards import load_index, open_store  # noqa: E402
from aupipe.fer_data.shards.index import save_index  # noqa: E402
from loader_sources import write_store  # noqa: E402

SIZE, ROWS, BATCH = 256, 1024, 128
MODES = ("none", "block", "full")


def large_store(folder: Path, gigabytes: float) -> int:
    """A store of at least that size; its rows."""
    write_store(folder, ROWS, SIZE, "raw")
    index = load_index(folder)
    (first,) = index.shards
    entries = [
        replace(first, name=f"train-{number:05d}.h5") for number in range(-(-int(gigabytes * 1e9) // first.bytes))
    ]
    for entry in entries[1:]:
        shutil.copyfile(folder / first.name, folder / entry.name)
    save_index(folder, replace(index, shards=tuple(entries), total=ROWS * len(entries)))
    return ROWS * len(entries)


def drop_pages(folder: Path) -> None:
    """Take the store out of the page cache."""
    for path in folder.iterdir():
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)  # only clean pages can go
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def measure(folder: Path, mode: str, threads: int) -> dict[str, float]:
    """One epoch, in this process."""
    drop_pages(folder)
    config = AugmentConfig(SIZE * 7 // 8, scale=(1, 1), rotation_p=0)
    loader = TripletLoader(open_store(folder).split("train"), BATCH, config, mode=mode, threads=threads)  # type: ignore[arg-type]
    process, early = psutil.Process(), 0
    disk, fetched, started = psutil.disk_io_counters(), process.io_counters().read_bytes, time.perf_counter()
    for number, _ in enumerate(loader.uint8_epoch(0)):
        if number == len(loader) // 10:
            early = process.memory_info().rss
    seconds, after = time.perf_counter() - started, psutil.disk_io_counters()
    fetched = process.io_counters().read_bytes - fetched
    requests = 0 if disk is None or after is None else after.read_count - disk.read_count
    total = 0 if disk is None or after is None else after.read_bytes - disk.read_bytes
    return {
        "images_per_second": loader.rows / seconds,
        "waited": loader.report.wait_fraction,
        "fetched_over_images": fetched / (loader.rows * SIZE * SIZE * 3),
        "request_kilobytes": total / max(requests, 1) / 1e3,
        "early_megabytes": early / 1e6,
        "end_megabytes": process.memory_info().rss / 1e6,
    }


def main() -> None:
    """Build the store, read it in each order, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where the store is made, and removed again; a real disk")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(options.folder, options.child, options.threads)))
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        store = Path(name) / "store"
        rows = large_store(store, options.gigabytes)
        print(f"{rows:,} images, {sum(path.stat().st_size for path in store.iterdir()) / 1e9:.1f} GB")
        print(
            f"{'order':<8}{'images/s':>10}{'waited':>9}{'disk':>7}{'request kB':>12}{'MB at 10 %':>12}{'MB at end':>11}"
        )
        for mode in options.modes:
            command = [sys.executable, __file__, "--child", mode, "--folder", str(store)]
            done = subprocess.run(
                [*command, "--threads", str(options.threads)], stdout=subprocess.PIPE, text=True, check=True
            )
            found = json.loads(done.stdout.splitlines()[-1])
            print(
                f"{mode:<8}{found['images_per_second']:>10,.0f}{found['waited']:>9.0%}"
                f"{found['fetched_over_images']:>7.2f}{found['request_kilobytes']:>12,.0f}"
                f"{found['early_megabytes']:>12.0f}{found['end_megabytes']:>11.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
