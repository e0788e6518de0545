"""The tables: mean and standard deviation over seeds, paired differences, controls and published figures beside them.

No significance is claimed: the spread over seeds and their number are shown, and the reader judges.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aupipe.fer_analysis.benchmark.collect import FIGURES, Mean, Results, mean_of
from aupipe.fer_analysis.benchmark.plan import GridCell, GridRequest
from aupipe.fer_analysis.benchmark.published import Pair, Published
from aupipe.fer_analysis.evaluation import summary as evaluation
from aupipe.fer_display.tables import csv_of_records, markdown_table
from aupipe.fer_models.methods import method_title

CONTROLS = {**evaluation.CONTROLS, "wrong_class": evaluation.WRONG_CLASS}
"""Controls of a table by key. The AU map of the prediction is each network's own: its mean over the runs is shown."""

MAIN = ("cl", "cam_cos", "att_cos")
PAPER = {"cl": "cl", "cam_cos_paper": "cam_cos", "att_cos_paper": "att_cos"}
"""Our figures that may stand beside published ones, and these."""
DETAIL = tuple(name for name in FIGURES if name not in (*MAIN, *PAPER))
NOTHING = "–"
ARROW = " → "
"""Between the figure without and the figure with action units."""


@dataclass(frozen=True)
class ResultTable:
    """A table to read (``head``, ``rows``: text, ``**`` around what is best) and to compute with (``records``)."""

    key: str
    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    records: tuple[Mapping[str, Any], ...]
    notes: tuple[str, ...] = field(default=())

    def markdown(self) -> str:
        """Write the table as Markdown, with its heading and notes."""
        lines = [f"## {self.title}", "", markdown_table(self.head, self.rows, align="lr")]
        lines += ["", *(f"{note}  " for note in self.notes)] if self.notes else []
        return "\n".join(lines) + "\n"

    def csv(self) -> str:
        """Write numbers only, unrounded: for each figure mean, standard deviation and number of seeds."""
        return csv_of_records(self.records)


def shown(value: Mean | None, decimals: int, *, sign: bool = False) -> str:
    """Format a mean as ``0.702 ± 0.004``; without a spread for a single seed.

    >>> shown(Mean(0.7018, 0.0041, 3), 3), shown(Mean(0.7018, None, 1), 2, sign=True)
    ('0.702 ± 0.004', '+0.70')
    """
    if value is None:
        return NOTHING
    rounded = round(value.mean, decimals) + 0.0  # no minus before a zero
    text = f"{rounded:{'+' if sign else ''}.{decimals}f}"
    return text if value.sd is None else f"{text} ± {value.sd:.{decimals}f}"


def bold_best(values: Sequence[Mean | None], decimals: int) -> list[str]:
    """Format the values, the highest mean (as it is shown) in bold where there is anything to compare it with."""
    texts = [shown(value, decimals) for value in values]
    means = [None if value is None else round(value.mean, decimals) for value in values]
    known = [mean for mean in means if mean is not None]
    if len(known) < 2:
        return texts
    best = max(known)
    return [f"**{text}**" if mean == best else text for mean, text in zip(means, texts, strict=True)]


def seeds_of(cells: Iterable[GridCell], results: Results) -> str:
    """Count the seeds behind a row, ``2/3`` where its cells have different numbers."""
    return "/".join(dict.fromkeys(str(len(results.of(cell))) for cell in cells))


def methods_tables(request: GridRequest, results: Results, published: Published | None) -> list[ResultTable]:
    """Make tables 1 and 2, one pair for each weight above 0: without and with AUs, method by method."""
    guided = [weight for weight in request.weights if weight > 0] or [0.0]
    tables = []
    for weight in guided:
        suffix = f"-w{weight:g}" if len(guided) > 1 else ""
        at = f" (align weight {weight:g})" if weight else " (without action units)"
        main = f"Table 1: classification and localisation, without → with action units{at}"
        detail = f"Table 2: what the localisation is worth, without → with action units{at}"
        tables.append(_methods(f"table-1{suffix}", main, MAIN, weight, request, results))
        if published is not None:
            tables.append(_beside_the_paper(f"table-1-paper{suffix}", at, weight, request, results, published))
        present = [name for name in DETAIL if any(result.figure(name) is not None for result in results.all)]
        if present:
            tables.append(_methods(f"table-2{suffix}", detail, present, weight, request, results))
    return tables


def _methods(
    key: str, title: str, figures: Sequence[str], weight: float, request: GridRequest, results: Results
) -> ResultTable:
    base = [GridCell(method, 0.0) for method in request.methods]
    with_units = [GridCell(method, weight) for method in request.methods]
    head, columns = _first_columns(request, base, with_units, results)
    for name in figures:
        head += [FIGURES[name].title, "Δ"]
        columns += _without_and_with(name, base, with_units, results)
    rows = [tuple(row) for row in zip(*columns, strict=True)]
    places = {"cam_cos": head.index("CAM-COS"), "att_cos": head.index("ATT-COS")} if "att_cos" in figures else {}
    controls = _controls(results, len(head), list(places.values())) if places else []
    records = _method_records(request, [*base, *with_units], figures, results)
    return ResultTable(key, title, tuple(head), (*rows, *controls), records)


def _beside_the_paper(
    key: str, at: str, weight: float, request: GridRequest, results: Results, published: Published
) -> ResultTable:
    """Make the table of our figures, by the conventions of the published ones, beside these."""
    base = [GridCell(method, 0.0) for method in request.methods]
    with_units = [GridCell(method, weight) for method in request.methods]
    head, columns = _first_columns(request, base, with_units, results)
    for name, theirs in PAPER.items():
        ours = _without_and_with(name, base, with_units, results)[0]
        head += [FIGURES[name].title, "paper"]
        columns += [
            ours if _comparable(name, published) else [NOTHING] * len(ours),
            [_pair_shown(published.methods.get(method, {}).get(theirs)) for method in request.methods],
        ]
    notes = _comparison_notes(published, results)
    notes += tuple(
        f"{method_title(method)}: {published.differs[method]}."
        for method in request.methods if method in published.differs
    )  # fmt: skip
    shown_figures = [name for name in PAPER if _comparable(name, published)]
    records = _method_records(request, [*base, *with_units], shown_figures, results)
    title = f"Table 1 beside the paper's, by its conventions, without → with action units{at}"
    return ResultTable(key, title, tuple(head), tuple(zip(*columns, strict=True)), records, notes)


def _comparable(name: str, published: Published) -> bool:
    """Return whether our figure may stand beside the published one: a cosine with other maps may not."""
    return name == "cl" or published.comparable


def _first_columns(
    request: GridRequest, base: Sequence[GridCell], with_units: Sequence[GridCell], results: Results
) -> tuple[list[str], list[list[str]]]:
    """Make heads and columns that name each row's method, backbone and seeds."""
    return ["method", "backbone", "seeds"], [
        [method_title(method) for method in request.methods],
        [request.backbone(method) for method in request.methods],
        [seeds_of(pair, results) for pair in zip(base, with_units, strict=True)],
    ]


def _method_records(
    request: GridRequest, cells: Sequence[GridCell], figures: Sequence[str], results: Results
) -> tuple[Mapping[str, Any], ...]:
    records = [
        _record(
            {"method": cell.method, "backbone": request.backbone(cell.method)},
            cell,
            GridCell(cell.method, 0.0),
            figures,
            results,
        )
        for cell in cells
    ]
    return tuple(dict_unique(records))


def dict_unique(records: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Drop repeated records."""
    kept: list[dict[str, Any]] = []
    for record in records:
        if record not in kept:
            kept.append(record)
    return kept


def _without_and_with(
    name: str, base: Sequence[GridCell], guided: Sequence[GridCell], results: Results
) -> list[list[str]]:
    """Make two columns: ``without → with``, the better one of each side in bold, and the paired difference."""
    decimals = FIGURES[name].decimals
    sides = []
    for cells in (base, guided):
        means = [results.mean(cell, name) for cell in cells]
        sides.append(bold_best(means, decimals))
    if base == guided:
        return [sides[0], [NOTHING] * len(base)]
    both = [f"{one}{ARROW}{other}" for one, other in zip(*sides, strict=True)]
    gain = [shown(results.difference(cell, one, name), decimals, sign=True)
            for one, cell in zip(base, guided, strict=True)]  # fmt: skip
    return [both, gain]


def _pair_shown(pair: Pair | None) -> str:
    return NOTHING if pair is None else f"{pair[0]:.2f}{ARROW}{pair[1]:.2f}"


def _paper_shown(figures: Pair | None) -> str:
    return NOTHING if figures is None else f"{figures[0]:.2f}, {figures[1]:.2f}"


def control_values(results: Results) -> dict[str, Mean]:
    """Gather the controls' cosines by title.

    They depend on the store and the crop, the ceiling on the last layer's size, which some methods change.
    """
    found: dict[str, list[float]] = {}
    for result in results.all:
        controls = result.metrics["controls"]
        for key, title in CONTROLS.items():
            found.setdefault(title, []).append(controls[key])
    found |= _ceilings(results)
    means = {title: mean_of([value for value in values if value is not None]) for title, values in found.items()}
    return {title: mean for title, mean in means.items() if mean is not None}


def _ceilings(results: Results) -> dict[str, list[float]]:
    """Gather the ceilings of each backbone; where its methods end in layers of different sizes, of each size."""
    sizes: dict[str, dict[float, list[str]]] = {}
    for result in results.all:
        if (value := result.metrics["controls"]["ceiling"]) is not None:
            of_size = sizes.setdefault(result.spec.config.backbone, {}).setdefault(round(value, 3), [])
            of_size.append(method_title(result.spec.cell.method))
    found: dict[str, list[float]] = {}
    for backbone, values in sizes.items():
        for value, methods in values.items():
            whose = f" in {', '.join(dict.fromkeys(methods))}" if len(values) > 1 else ""
            found[f"ceiling of {backbone}{whose}"] = [value]
    return found


def _controls(results: Results, width: int, places: Sequence[int]) -> list[tuple[str, ...]]:
    rows = []
    for title, value in control_values(results).items():
        row = [f"control: {title}", *[""] * (width - 1)]
        for place in places:
            row[place] = f"{value.mean:.3f}"
        rows.append(tuple(row))
    return rows


def _comparison_notes(published: Published, results: Results) -> tuple[str, ...]:
    """Say what stands in the column *paper*, and why ours may have a dash beside it."""
    old = [result.spec.name for result in results.all if result.figure("att_cos_paper") is None]
    notes = [
        f"*paper*: {published.title}, {published.source}. {published.setting}; its controls were not published.",
        "*as published*: the cosine of maps read out as there. The other tables' cosines are of positive parts and may "
        "not be compared with published ones.",
    ]
    if not published.comparable:
        notes.append(
            f"{NOTHING} beside a published cosine: it was taken with the maps of the codebook `{published.codebook}`, "
            "and this store has others."
        )
    elif old:
        notes.append(f"{NOTHING}: not measured yet, `aupipe evaluate` does it: {', '.join(old)}.")
    return tuple(notes)


def _record(
    about: Mapping[str, Any], cell: GridCell, base: GridCell, figures: Iterable[str], results: Results
) -> dict[str, Any]:
    record: dict[str, Any] = {**about, "align_weight": cell.weight, "seeds": len(results.of(cell))}
    for name in figures:
        for prefix, value in (("", results.mean(cell, name)), ("gain_", results.difference(cell, base, name))):
            if prefix and cell == base:
                continue
            record[f"{prefix}{name}"] = None if value is None else value.mean
            record[f"{prefix}{name}_sd"] = None if value is None else value.sd
    return record


def ablation_table(
    key: str,
    title: str,
    what: str,
    cells: Sequence[GridCell],
    named: Callable[[GridCell], str],
    results: Results,
    published: Published | None = None,
    notes: Sequence[str] = (),
) -> ResultTable:
    """Make a table of one row a cell, each compared with the unguided network.

    Args:
        key: Name of the table's files.
        title: Heading.
        what: Heading of the first column: what is varied.
        cells: The rows, the unguided network first.
        named: What the first column says of a cell.
        results: The finished runs.
        published: Published CL and CAM-COS, by the words of the first column.
        notes: Sentences under the table.

    Returns:
        The table.
    """
    base = GridCell(cells[0].method, 0.0)
    figures = [*MAIN, *(name for name in ("att_specificity", "cam_specificity")
                        if any(result.figure(name) is not None for result in results.all))]  # fmt: skip
    head, columns = [what, "seeds"], [[named(cell) for cell in cells], [seeds_of([cell], results) for cell in cells]]
    for name in figures:
        means = [results.mean(cell, name) for cell in cells]
        decimals = FIGURES[name].decimals
        head += [FIGURES[name].title, "Δ"]
        columns.append(bold_best(means, decimals))
        columns.append(["" if cell == base else shown(results.difference(cell, base, name), decimals, sign=True)
                        for cell in cells])  # fmt: skip
    if published is not None:
        means = [results.mean(cell, "cam_cos_paper") if published.comparable else None for cell in cells]
        head += [FIGURES["cam_cos_paper"].title, "paper: CL %, CAM-COS"]
        columns.append([shown(mean, FIGURES["cam_cos_paper"].decimals) for mean in means])
        columns.append([_paper_shown(published.layers.get(named(cell))) for cell in cells])
        notes = _comparison_notes(published, results)
    rows = tuple(tuple(row) for row in zip(*columns, strict=True))
    records = tuple(_record({what: named(cell)}, cell, base, figures, results) for cell in cells)
    return ResultTable(key, title, tuple(head), rows, records, tuple(notes))


def layer_table(request: GridRequest, results: Results, published: Published | None, n_layers: int) -> ResultTable:
    """Make table 3: which layers are aligned."""

    def named(cell: GridCell) -> str:
        if cell.weight == 0:
            return "none"
        return str(n_layers) if cell.layers == "last" else cell.layers

    title = f"Table 3: aligned layers ({method_title(request.ablation)}, align weight {request.guided:g})"
    paper = published if published is not None and published.layers and request.ablation == "cam" else None
    return ablation_table("table-3", title, "layers", list(request.layer_cells()), named, results, paper)


def lambda_table(request: GridRequest, results: Results) -> ResultTable:
    """Make table 4: the align weight."""
    title = f"Table 4: align weight λ ({method_title(request.ablation)})"
    cells = list(request.lambda_cells())
    return ablation_table("table-4-lambda", title, "λ", cells, lambda cell: f"{cell.weight:g}", results)


TARGETS = {
    "class": "the class's AU map",
    "mean": "the mean AU map, the same for every class",
    "shuffled": "another expression's AU map",
    "other_face": "the AUs of another face of the class",
    "landmarks": "plain landmarks",
}


def target_table(request: GridRequest, results: Results) -> ResultTable:
    """Make table 5: guidance towards something else than the class's AUs."""
    title = f"Table 5: what the alignment aims at ({method_title(request.ablation)}, align weight {request.guided:g})"
    note = "Every row is measured against the class's AU map. What the mean map gains as well is not owed to AUs."
    return ablation_table(
        "table-5-targets", title, "target", list(request.target_cells()),
        lambda cell: "none" if cell.weight == 0 else TARGETS.get(cell.target, cell.target), results, notes=(note,),
    )  # fmt: skip


def all_tables(request: GridRequest, results: Results, published: Published | None, n_layers: int) -> list[ResultTable]:
    """Make every table that the request has runs for. ``n_layers``: of the ablations' backbone."""
    tables = methods_tables(request, results, published)
    tables += [layer_table(request, results, published, n_layers)] if request.layers else []
    tables += [lambda_table(request, results)] if request.lambdas else []
    tables += [target_table(request, results)] if request.targets else []
    return tables
