"""The page of a finished WORK: one self-contained HTML file, light and dark, readable on a phone."""

from __future__ import annotations

import html
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from aupipe.fer_data.files import write_text
from aupipe.fer_data.types import SPLITS
from aupipe.pipeline.landmark_views.charts import histogram
from aupipe.pipeline.landmark_views.summary import FAILURES_SHOWN, Summary, summarise
from aupipe.pipeline.landmarks.work import FinishedWork, open_work
from aupipe.pipeline.report import FAILURES_NAME

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
    """The page's HTML; every name that comes from the dataset is escaped."""
    title = html.escape(f"Landmarks of {work.title}")
    sections = (
        _section("Outcome", _outcome(summary)),
        _section("Expressions", _labels(work, summary)),
        _section("Tries of the ladder", _rungs(work, summary)),
        _section("Faces", _histograms(summary)),
        _section("Photos", _sizes(summary)),
        _section("Without landmarks", _failures(summary)),
        _section("Detector", _detector(work)),
    )
    sheet = f'<p><a href="{SHEET_NAME}">Contact sheet</a>: faces with their points</p>' if has_sheet else ""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<header><h1>{title}</h1>{_key_figures(work, summary)}{sheet}</header>\n<main>\n"
        + "\n".join(sections)
        + "\n</main>\n</body>\n</html>\n"
    )


def _key_figures(work: FinishedWork, summary: Summary) -> str:
    failed = summary.total - summary.found
    figures = (
        (f"{summary.total:,}", "samples"),
        (f"{summary.found:,}", "with landmarks"),
        (f"{failed:,}", f"without ({_share(failed, summary.total)})"),
        (html.escape(work.detector), "detector"),
        (html.escape(work.manifest.layout), "dataset layout"),
    )
    return "<dl>" + "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for value, name in figures) + "</dl>"


def _outcome(summary: Summary) -> str:
    rows = [
        ("with landmarks" if reason.key == "ok" else reason.key, f"{count:,}", _share(count, summary.total))
        for reason, count in summary.reasons.items()
    ]
    return _table(("Outcome", "Samples", "Share"), rows)


def _labels(work: FinishedWork, summary: Summary) -> str:
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
    return _table((*heads, "Failed share"), body)


def _rungs(work: FinishedWork, summary: Summary) -> str:
    ladder = work.config.get("ladder", [])
    rows = [
        (str(rung), f"{count:,}", _share(count, summary.found), _try(ladder[rung]) if rung < len(ladder) else "")
        for rung, count in summary.rungs.items()
    ]
    note = "<p>How many faces each try found, in order.</p>"
    return note + _table(("Rung", "Faces", "Share", "Try"), rows, (0, 3))


def _try(rung: Mapping[str, Any]) -> str:
    padding, grey = float(rung.get("padding", 0)), int(rung.get("grey", 0))
    paper = f" in grey {grey}" if grey else ""
    border = f"border of {padding:.0%}{paper}" if padding else "plain photo"
    twice = ", confirmed on the mirrored photo" if rung.get("twice") else ""
    return f"{border}, threshold {rung.get('confidence', 0):g}{twice}"


def _histograms(summary: Summary) -> str:
    drawn = (histogram(*_TITLES[name], values) for name, values in summary.measures.items())
    return f'<div class="charts">{"".join(drawn)}</div>'


def _sizes(summary: Summary) -> str:
    if not summary.sizes:
        return "<p>No photo could be read.</p>"
    sizes, counts = np.array(list(summary.sizes)), np.array(list(summary.sizes.values()))
    rows = [(name, *_spread(sizes[:, at], counts)) for at, name in enumerate(("height", "width"))]
    total = int(counts.sum())
    common = [
        (f"{height} × {width}", f"{count:,}", _share(count, total))
        for (height, width), count in list(summary.sizes.items())[:5]
    ]
    return (
        f"<p>{total:,} photos that could be read; pixels after EXIF rotation; different sizes: {len(counts):,}.</p>"
        + _table(("Side", "Smallest", "Median", "Largest"), rows)
        + _table(("Commonest: height × width", "Photos", "Share"), common)
    )


def _spread(sides: np.ndarray, counts: np.ndarray) -> tuple[str, str, str]:
    order = np.argsort(sides, kind="stable")
    below = np.cumsum(counts[order])
    median = sides[order][np.searchsorted(below, below[-1] / 2)]
    return f"{sides.min():,}", f"{median:,}", f"{sides.max():,}"


def _failures(summary: Summary) -> str:
    failed = summary.total - summary.found
    if not failed:
        return "<p>None.</p>"
    rows = [(row.sample.sample_id, row.sample.label, row.sample.split, row.reason.key) for row in summary.failures]
    more = f"The first {FAILURES_SHOWN} of {failed:,}; " if failed > FAILURES_SHOWN else ""
    note = f"<p>{more}{FAILURES_NAME} lists all of them.</p>"
    return note + _table(("Sample", "Expression", "Split", "Reason"), rows, range(4))


def _detector(work: FinishedWork) -> str:
    rows = [(key, str(value)) for key, value in sorted(work.config.items()) if key != "ladder"]
    return _table(("Option", "Value"), [*rows, ("manifest", work.manifest_digest)], range(2))


def _section(heading: str, content: str) -> str:
    key = heading.lower().replace(" ", "-")
    return f'<section aria-labelledby="{key}"><h2 id="{key}">{heading}</h2>{content}</section>'


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], words: Collection[int] = (0,)) -> str:
    """A table; the columns at ``words`` are text (left), the others numbers (right)."""
    kinds = ["t" if at in words else "n" for at in range(len(heads))]
    head = "".join(
        f'<th scope="col" class="{kind}">{html.escape(text)}</th>' for kind, text in zip(kinds, heads, strict=True)
    )
    body = "".join(
        f'<tr><th scope="row">{html.escape(row[0])}</th>'
        + "".join(f'<td class="{kind}">{html.escape(text)}</td>' for kind, text in zip(kinds[1:], row[1:], strict=True))
        + "</tr>"
        for row in rows
    )
    return f'<div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _share(count: int, total: int) -> str:
    return f"{count / total:.1%}" if total else "–"


_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #fff; --soft: #f4f6f8; --line: #d5dae1; --quiet: #56606c;
  --bar: #2f6db3; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8ebef; --paper: #14171b; --soft: #1d2126; --line: #39414b; --quiet: #a3adb9; --bar: #7db3ee; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 70rem; padding: 1.5rem 1rem 3rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 1rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 0 0 .5rem; }
a { color: var(--bar); } p { margin: .25rem 0 .5rem; color: var(--quiet); }
dl { display: flex; flex-wrap: wrap; gap: .6rem; margin: 0 0 1rem; }
dl div { display: flex; flex-direction: column-reverse; background: var(--soft); border: 1px solid var(--line);
  border-radius: .5rem; padding: .5rem .9rem; flex: 1 1 8rem; }
dt { color: var(--quiet); font-size: .85rem; } dd { margin: 0; font-size: 1.35rem; font-weight: 600; }
section { border-top: 1px solid var(--line); padding: 1.2rem 0 .8rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums;
  margin-bottom: .8rem; font-size: .95rem; }
th, td { padding: .3rem 1.2rem .3rem 0; border-bottom: 1px solid var(--line); text-align: left; white-space: nowrap; }
thead th { color: var(--quiet); font-weight: 500; } tbody th { font-weight: 500; } .n { text-align: right; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 20rem), 1fr)); gap: 1rem; }
figure { margin: 0; background: var(--soft); border: 1px solid var(--line); border-radius: .5rem; padding: .7rem; }
figcaption { color: var(--quiet); font-size: .85rem; } figcaption b { color: var(--ink); font-size: .95rem; }
svg { display: block; width: 100%; height: auto; } svg rect { fill: var(--bar); } svg line { stroke: var(--quiet); }
svg text { fill: var(--quiet); font: 11px system-ui, sans-serif; }
"""
