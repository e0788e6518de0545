"""Reading random batches of face crops: this loader beside the usual ways, on the same images, batches and crops.

Every way delivers shuffled uint8 batches on the host, from a warm page cache, and runs in a process of its own. Raw
pixels are compared with raw pixels and JPEG with JPEG. ``workers`` are worker processes of a plain ``DataLoader``; for
this loader they are threads (0 counts as 1). The ways take turns, and medians over the rounds are printed.

Run it: pip install -e '.[bench]' && python benchmarks/loader.py --rows 1024 --repeats 3 --save results.json
MosaicML's package (pip install mosaicml-streaming) takes part where it is installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

from aupipe.fer_data.files import write_json  # noqa: E402
from loader_sources import NEEDS, OURS, RAW, SOURCES, prepare  # noqa: E402

CROP_SHARE = 7 / 8


def drain(batches: Iterable[Any]) -> tuple[int, int, float, float]:
    """Images and bytes delivered (of crops, those of the crops), seconds to the first batch and to the last."""
    started, first, count, size = time.perf_counter(), 0.0, 0, 0
    for batch in batches:
        images = getattr(batch, "images", batch)
        count, size = count + len(images), size + images.nbytes
        first = first or time.perf_counter() - started
    return count, size, first, time.perf_counter() - started


def processor_seconds() -> float:
    """Of this process and of the workers that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def own_peak() -> float:
    """Peak resident megabytes since this program was started; ``ru_maxrss`` would include the parent's before it."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) / 1e3 for line in status.splitlines() if line.startswith("VmHWM"))


def measure(name: str, folder: Path, workers: int, batch: int, crop: int | None) -> dict[str, float]:
    """One way, in this process: a first epoch that warms up, then the one that counts."""
    make: Callable[..., Iterable[Any]] = SOURCES[name](folder, workers, batch, crop)
    _, _, first, _ = drain(make(0))
    before = processor_seconds()
    count, size, _, seconds = drain(make(1))
    spent = processor_seconds() - before
    largest_worker = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e3
    return {
        "images_per_second": count / seconds,
        "gigabytes_per_second": size / seconds / 1e9,
        "cpu_seconds_per_1000": 1000 * spent / count,
        "peak_megabytes": own_peak() + workers * largest_worker,
        "first_batch_seconds": first,
    }


def in_child(name: str, folder: Path, workers: int, batch: int, crop: int | None) -> dict[str, float]:
    """:func:`measure` in a fresh process."""
    job = json.dumps([name, str(folder), workers, batch, crop])
    done = subprocess.run([sys.executable, "-W", "ignore", __file__, "--child", job], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{name} with {workers} workers failed:\n{done.stderr[-2000:]}")
    answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return answer


def compare(folder: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Medians of every way, number of workers and crop."""
    ways = [name for name in SOURCES if all(importlib.util.find_spec(module) for module in NEEDS.get(name, ()))]
    for name in sorted(set(SOURCES) - set(ways)):
        print(f"skipped: {name} needs {', '.join(NEEDS[name])}", file=sys.stderr)
    ways = [name for name in ways if not options.only or name in options.only]
    disk = {name: prepare(name, folder, options.rows, options.size) for name in ways}
    crop = int(options.size * CROP_SHARE)
    cells = [
        (name, workers, cut)
        for cut in ([None, crop] if not options.no_crop else [None])
        for workers in options.workers
        for name in ways
        if not (name in OURS and workers == 0)
    ]
    found: dict[tuple[str, int, int | None], list[dict[str, float]]] = {cell: [] for cell in cells}
    for number in range(options.repeats):
        for name, workers, cut in cells:
            found[name, workers, cut].append(in_child(name, folder, workers, options.batch_size, cut))
        print(f"round {number + 1} of {options.repeats} done", file=sys.stderr)
    return [
        {
            "way": name, "kind": "raw" if name in RAW else "jpeg", "workers": workers, "crop_flip": cut is not None,
            "megabytes_on_disk": disk[name] / 1e6,
            **{key: statistics.median(one[key] for one in rounds) for key in rounds[0]},
        }
        for (name, workers, cut), rounds in found.items()
    ]  # fmt: skip


def add_ratios(rows: list[dict[str, Any]], size: int) -> float:
    """Our best setting of the same kind and crop over each row, and the share of the memcpy limit (returned)."""
    from aupipe.fer_data.loading.speed import memcpy_limit

    limit = memcpy_limit(size * size * 3)
    for row in rows:
        ours = [
            other["images_per_second"]
            for other in rows
            if other["way"] in OURS
            and other["way"] != "ours resident"
            and (other["kind"], other["crop_flip"]) == (row["kind"], row["crop_flip"])
        ]
        row["ours_over_this"] = max(ours) / row["images_per_second"] if ours else None
        row["of_memcpy"] = row["gigabytes_per_second"] / limit
    return limit


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Aligned text, best first within a kind and crop."""
    lines = []
    for kind, cut in sorted({(row["kind"], row["crop_flip"]) for row in rows}, reverse=True):
        lines += ["", f"{kind}, {'crop + flip' if cut else 'whole images'}"]
        lines.append(
            f"{'way':<26}{'workers':>8}{'images/s':>10}{'ours/this':>10}{'memcpy':>8}{'CPU s/1000':>12}"
            f"{'peak MB':>9}{'first s':>9}{'disk MB':>9}"
        )
        chosen = [row for row in rows if (row["kind"], row["crop_flip"]) == (kind, cut)]
        for row in sorted(chosen, key=lambda row: -row["images_per_second"]):
            ratio = "-" if row["ours_over_this"] is None else f"{row['ours_over_this']:.1f}x"
            lines.append(
                f"{row['way']:<26}{row['workers']:>8}{row['images_per_second']:>10,.0f}{ratio:>10}"
                f"{row['of_memcpy']:>8.0%}{row['cpu_seconds_per_1000']:>12.3f}{row['peak_megabytes']:>9.0f}"
                f"{row['first_batch_seconds']:>9.3f}{row['megabytes_on_disk']:>9.0f}"
            )
    return lines


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2048)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", choices=list(SOURCES), help="only these ways")
    parser.add_argument("--no-crop", action="store_true", help="whole images only")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--save", type=Path, metavar="FILE", help="also write the JSON object to this file")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="also draw it; loader_plot.py draws a saved one")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        name, folder, workers, batch, crop = json.loads(options.child)
        print(json.dumps(measure(name, Path(folder), workers, batch, crop)))
        return
    with tempfile.TemporaryDirectory() as folder:
        rows = compare(Path(folder), options)
    result = {
        "memcpy_gigabytes_per_second": add_ratios(rows, options.size),
        **{name: getattr(options, name) for name in ("rows", "size", "batch_size", "repeats")},
        "measured": rows,
    }
    if options.save:
        write_json(options.save, result)
    if options.json:
        print(json.dumps(result))
    else:
        print("\n".join(table(rows)))
        print(f"\ncopying memory, one thread: {result['memcpy_gigabytes_per_second']:.2f} GB/s; "
              f"batches of {options.batch_size}, {options.size} px")  # fmt: skip
    if options.plot:
        from loader_plot import plot

        plot(result, options.plot)


if __name__ == "__main__":
    main()
