"""The page of a finished WORK: one self-contained HTML file, light and dark, readable on a phone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from aupipe.fer_data.failures import FAILURES_NAME
from aupipe.fer_data.files import write_text
from aupipe.fer_data.geometry import PROFILE_YAW, is_profile
from aupipe.fer_data.types import SPLITS
from aupipe.fer_display.blocks import Block, Charts, KeyFigures, Section, Table, Text
from aupipe.fer_display.charts import histogram
from aupipe.fer_display.pages import render
from aupipe.pipeline.landmark_views.summary import FAILURES_SHOWN, Summary, summarise
from aupipe.pipeline.landmarks.work import FinishedWork, open_work

SHEET_NAME = "sheet.png"

_TITLES = {
    "yaw": ("Yaw", "° to image right"),
    "pitch": ("Pitch", "° down"),
    "roll": ("Roll", "° clockwise"),
    "score": ("Detector score", ""),
    "inter_ocular": ("Outer-eye distance", "pixels"),
}


def write_summary(work: Path, out: Path) -> None:
    """Write the page of a finished WORK; it links ``sheet.png`` where one lies beside it.

    Raises :class:`StoreError` when the stage is not finished.
    """
    finished = open_work(work)
    write_text(out, render_page(finished, summarise(finished.rows()), (out.parent / SHEET_NAME).is_file()))


def render_page(work: FinishedWork, summary: Summary, has_sheet: bool) -> str:
    """Render the page's HTML; every name that comes from the dataset is escaped."""
    sections = (
        _section("Outcome", _outcome(summary)),
        _section("Expressions", _labels(work, summary)),
        _section("Tries of the ladder", *_attempts(work, summary)),
        _section("Faces", _histograms(summary)),
        _section("Photos", *_sizes(summary)),
        _section("Without landmarks", *_failures(summary)),
        _section("Detector", _detector(work)),
    )
    return render(
        "landmarks",
        title=f"Landmarks of {work.title}",
        head=[_key_figures(work, summary)],
        blocks=sections,
        sheet=SHEET_NAME if has_sheet else "",
    )


def _key_figures(work: FinishedWork, summary: Summary) -> KeyFigures:
    failed, profiles = summary.total - summary.found, int(is_profile(summary.measures["yaw"]).sum())
    return KeyFigures(
        {
            "samples": f"{summary.total:,}",
            "with landmarks": f"{summary.found:,}",
            f"without ({_share(failed, summary.total)})": f"{failed:,}",
            f"profiles, yaw above {PROFILE_YAW:.0f}°": f"{profiles:,}",
            "detector": work.detector,
            "dataset layout": work.manifest.layout,
        }
    )


def _outcome(summary: Summary) -> Table:
    rows = [
        ("with landmarks" if reason.key == "ok" else reason.key, f"{count:,}", _share(count, summary.total))
        for reason, count in summary.reasons.items()
    ]
    return Table(("Outcome", "Samples", "Share"), rows)


def _labels(work: FinishedWork, summary: Summary) -> Table:
    splits = [split for split in SPLITS if any(key[0] == split for key in summary.labels)]
    heads = ["Expression"]
    for split in splits:
        heads += [f"{split}: found", "failed"]
    body = []
    for label in (*work.manifest.classes, None):
        cells, pairs = [label or "all"], list[tuple[int, int]]()
        for split in splits:
            chosen = [pair for key, pair in summary.labels.items() if key[0] == split and label in (None, key[1])]
            pairs.append((sum(pair[0] for pair in chosen), sum(pair[1] for pair in chosen)))
            cells += [f"{count:,}" for count in pairs[-1]]
        failed, total = sum(pair[1] for pair in pairs), sum(sum(pair) for pair in pairs)
        body.append((*cells, _share(failed, total)))
    return Table((*heads, "Failed share"), body)


def _attempts(work: FinishedWork, summary: Summary) -> tuple[Block, ...]:
    ladder = work.config.get("ladder", [])
    rows = [
        (str(at), f"{count:,}", _share(count, summary.found), describe_attempt(ladder[at]) if at < len(ladder) else "")
        for at, count in summary.attempts.items()
    ]
    note = Text("How many faces each rung of the search found, in order.")
    return note, Table(("Rung", "Faces", "Share", "How it looks"), rows, (0, 3))


def describe_attempt(attempt: Mapping[str, Any]) -> str:
    """Say how a rung of the ladder looks, by its entry in the report."""
    padding, grey = float(attempt.get("padding", 0)), int(attempt.get("grey", 0))
    paper = f" in grey {grey}" if grey else ""
    plain = "overlapping tiles of the photo" if attempt.get("tiles") else "plain photo"
    border = f"border of {padding:.0%}{paper}" if padding else plain
    twice = ", confirmed on the mirrored photo" if attempt.get("twice") else ""
    turned = f", turned clockwise by {90 * turns}°" if (turns := int(attempt.get("turns", 0))) else ""
    least = f", score at least {score:g}" if (score := float(attempt.get("min_score", 0))) else ""
    return f"{border}{turned}, threshold {attempt.get('confidence', 0):g}{least}{twice}"


def _histograms(summary: Summary) -> Charts:
    return Charts([histogram(*_TITLES[name], values) for name, values in summary.measures.items()])


def _sizes(summary: Summary) -> tuple[Block, ...]:
    if not summary.sizes:
        return (Text("No photo could be read."),)
    sizes, counts = np.array(list(summary.sizes)), np.array(list(summary.sizes.values()))
    rows = [(name, *_spread(sizes[:, at], counts)) for at, name in enumerate(("height", "width"))]
    total = int(counts.sum())
    common = [
        (f"{height} × {width}", f"{count:,}", _share(count, total))
        for (height, width), count in list(summary.sizes.items())[:5]
    ]
    note = f"{total:,} photos that could be read; pixels after EXIF rotation; different sizes: {len(counts):,}."
    return (
        Text(note),
        Table(("Side", "Smallest", "Median", "Largest"), rows),
        Table(("Commonest: height × width", "Photos", "Share"), common),
    )


def _spread(sides: np.ndarray, counts: np.ndarray) -> tuple[str, str, str]:
    order = np.argsort(sides, kind="stable")
    below = np.cumsum(counts[order])
    median = sides[order][np.searchsorted(below, below[-1] / 2)]
    return f"{sides.min():,}", f"{median:,}", f"{sides.max():,}"


def _failures(summary: Summary) -> tuple[Block, ...]:
    failed = summary.total - summary.found
    if not failed:
        return (Text("None."),)
    rows = [(row.sample.sample_id, row.sample.label, row.sample.split, row.reason.key) for row in summary.failures]
    more = f"The first {FAILURES_SHOWN} of {failed:,}; " if failed > FAILURES_SHOWN else ""
    note = Text(f"{more}{FAILURES_NAME} lists all of them.")
    return note, Table(("Sample", "Expression", "Split", "Reason"), rows, range(4))


def _detector(work: FinishedWork) -> Table:
    rows = [(key, str(value)) for key, value in sorted(work.config.items()) if key != "ladder"]
    return Table(("Option", "Value"), [*rows, ("manifest", work.manifest_digest)], range(2))


def _section(heading: str, *blocks: Block) -> Section:
    return Section(heading, blocks, heading.lower().replace(" ", "-"))


def _share(count: int, total: int) -> str:
    return f"{count / total:.1%}" if total else "–"
