"""Everything a finished grid is read by: ``results.md``, ``results.csv``, the tables' CSV and PNG, the figures."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from aupipe.fer_analysis.benchmark import figures, state
from aupipe.fer_analysis.benchmark.collect import Results, results_csv
from aupipe.fer_analysis.benchmark.equivalence import equivalence_table
from aupipe.fer_analysis.benchmark.plan import GridRequest, RunSpec
from aupipe.fer_analysis.benchmark.published import Published
from aupipe.fer_analysis.benchmark.tables import ARROW, ResultTable, all_tables
from aupipe.fer_data.files import write_bytes, write_text
from aupipe.fer_data.shards import Store
from aupipe.fer_data.shards.preview import through_fold
from aupipe.fer_data.types import spoken
from aupipe.fer_display.figures import png_bytes
from aupipe.fer_display.table_picture import draw_table
from aupipe.fer_models.methods import METHODS, method_title
from aupipe.fer_models.training import run_record
from aupipe.fer_models.training.selection import describe_selection

SHOWN = (
    "epochs", "batch_size", "crop_size", "optimizer", "lr", "weight_decay", "schedule", "select", "pretrained",
    "weights",
)  # fmt: skip
"""Shared settings that the report names; every run's ``config.json`` has them all."""

_WEIGHT = r"(-w[0-9.e+-]+)?"
MADE = re.compile(
    rf"table-\d(-paper|-lambda|-targets|-equal)?{_WEIGHT}\.(csv|png)|methods{_WEIGHT}\.png|lambda\.png|"
    rf"(matrices|average-maps)-({'|'.join(METHODS)})\.png"
)
"""Names of what a report may consist of, beside results.md and results.csv."""

UNUSUAL = ("faces_per_class", "input_size", "fold")
"""Settings that it names where they are not as usual."""


@dataclass(frozen=True)
class GridProvenance:
    """The origin of the figures, as the report states it. ``failed``: run folder -> reason."""

    command: str
    split: str
    seconds: float
    failed: dict[str, str]


def write_report(
    request: GridRequest, plan: Sequence[RunSpec], results: Results, store: Store, out: Path, how: GridProvenance,
    published: Published | None, n_layers: int,
) -> list[Path]:  # fmt: skip
    """Write every table and figure that there are results for.

    Args:
        request: The grid.
        plan: All its runs, finished or not.
        results: The finished ones.
        store: The store that all were measured on.
        out: Folder to write to.
        how: What the report says about the origin of the figures.
        published: The paper's figures to show beside them.
        n_layers: Number of layers of the ablations' backbone.

    Returns:
        The files, ``results.md`` first.
    """
    write_text(out / "results.csv", results_csv(results))
    files = [out / "results.csv"]
    tables = all_tables(request, results, published, n_layers) if results.all else []
    if (equal := equivalence_table(request, results, out)) is not None:
        tables.append(equal)
    for table in tables:
        write_text(out / f"{table.key}.csv", table.csv())
        files += [out / f"{table.key}.csv", write_bytes(out / f"{table.key}.png", png_bytes(_draw(table)))]
    drawn = [
        (name, title, write_bytes(out / f"{name}.png", png_bytes(figure)))
        for name, title, figure in _drawn(request, results, out)
    ]
    files += [path for *_, path in drawn]
    parts = [
        "# Benchmark\n",
        *_how(request, plan, results, store, out, how),
        *(table.markdown() for table in tables),
        *_how_to_read(tables),
        *(f"![{title}]({name}.png)\n" for name, title, _ in drawn),
    ]
    write_text(out / "results.md", "\n".join(parts))
    for path in set(out.iterdir()) - set(files):
        if MADE.fullmatch(path.name):
            path.unlink()  # of an earlier call that asked for more, or for other tables
    return [out / "results.md", *files]


def _draw(table: ResultTable) -> Figure:
    return draw_table(table.title, table.head, table.rows, ARROW)


def _drawn(request: GridRequest, results: Results, out: Path) -> Iterator[tuple[str, str, Figure]]:
    """Yield file name, title and figure of everything there is to draw."""
    if not results.all:
        return
    guided = [weight for weight in request.weights if weight > 0]
    for weight in guided:
        suffix = f"-w{weight:g}" if len(guided) > 1 else ""
        yield f"methods{suffix}", "every method without and with AUs", figures.draw_methods(request, results, weight)
    if request.lambdas:
        yield "lambda", "accuracy and cosines against the align weight", figures.draw_lambdas(request, results)
    for method in request.methods:
        named = method_title(method)
        if (figure := figures.draw_method_matrices(method, request.weights, results)) is not None:
            yield f"matrices-{method}", f"{named}: confusions, and cosines of every class and layer", figure
        if (figure := figures.draw_average_maps(method, request.weights, results, out)) is not None:
            yield f"average-maps-{method}", f"{named}: average attention and CAM of each class", figure


def _how(
    request: GridRequest, plan: Sequence[RunSpec], results: Results, store: Store, out: Path, how: GridProvenance
) -> list[str]:
    index, base = store.index, request.base.as_json()
    seen = through_fold(store, request.base.fold).index  # the images that were trained on and measured
    trained = {result.spec.folder: result for result in results.all}
    seconds = sum(result.train_seconds for result in trained.values())
    rows: list[tuple[str, Any]] = [
        ("command", f"`{how.command}`"),
        ("runs", f"{len(results.all)} of {len(plan)} finished, from {len(trained)} trainings"),
        ("seeds", ", ".join(map(str, range(request.seeds)))),
        ("settings", ", ".join(f"{name} {base[name]}" for name in (*SHOWN, *filter(base.get, UNUSUAL)))),
        ("measured on", f"{how.split} split ({seen.rows(how.split)} images)"),
        ("kept", describe_selection(request.base, seen.rows("val"))),
        ("store", f"`{index.digest[:16]}`, {', '.join(index.classes)}"),
        ("codebook", f"{store.codebook.name} (`{index.codebook_digest[:16]}`)"),
        ("training time", f"{spoken(seconds)} over all processes; this call took {spoken(how.seconds)}"),
        ("versions", _versions(results, out)),
    ]
    lines = ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows), ""]
    if how.failed:
        lines += ["## Failed runs", "", *(f"- `{name}`: {reason}" for name, reason in how.failed.items()), ""]
    return lines


def _versions(results: Results, out: Path) -> str:
    """Gather the versions of the libraries, as the runs recorded them."""
    found: dict[str, set[str]] = {}
    for folder in dict.fromkeys(result.spec.folder for result in results.all):
        for name, version in run_record.load_record(out / state.RUNS / folder).versions.items():
            found.setdefault(name, set()).add(version)
    return ", ".join(f"{name} {' and '.join(sorted(versions))}" for name, versions in sorted(found.items()))


def _how_to_read(tables: Sequence[ResultTable]) -> list[str]:
    if not tables:
        return []
    return [
        "## How to read the figures\n",
        "`a ± b`: mean and standard deviation (n - 1) over the seeds. Δ: mean and standard deviation of the seeds'"
        " differences. Bold: the highest mean of its column (of its side of the arrow), whether or not the spread would"
        " allow another order. CL: accuracy. CAM-COS, ATT-COS: cosine of the class's CAM and of the last layer's"
        " attention with the AU map, mean over expressions; they mean something only beside the controls, what maps"
        " score that know nothing of the image. Normalised: 0 is a uniform map, 1 the best map of that size."
        " Specificity: cosine with the own AU map less that with other expressions' maps. Pointing: share of faces"
        " whose maximum lies on the AUs.\n",
    ]
