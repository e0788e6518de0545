"""Does guidance by AU maps help, and by whose? Trained on one dataset, tested on it and on coded faces of another.

    python benchmarks/guidance.py OUT --class-store A --fused-store B --estimated-store C --coded-store D --codes CSV

Every arm is trained with every seed, all else equal, and the best epoch chosen on the validation split alone; then it
is measured on the test split (accuracy, with eyes and mouth hidden, calibration) and on the coded faces of another
dataset (accuracy, cosine with the coded action units, area within a class). The three stores hold the same faces with
the maps of ``build-maps --aus class``, ``fused`` and ``estimated``. What a call finished is kept, and the same call
continues; what was measured with other weights, stores, codes or estimates is measured again. To learn from few
faces, in an OUT of its own: ``--faces-per-class 25 --epochs 30``.

Writes OUT/guidance.csv, a row a training, and OUT/guidance.md: every arm's means and standard deviations over the
seeds, then what it has more than another arm, with its legend.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64

from aupipe.fer_analysis.benchmark.equivalence import MARGIN, AccuracyDifference, accuracy_difference
from aupipe.fer_analysis.benchmark.worker import use_threads
from aupipe.fer_analysis.evaluation import METRICS, evaluate
from aupipe.fer_analysis.evaluation.coded_comparing import unit_scores
from aupipe.fer_analysis.evaluation.coded_maps import TABLE as CODED
from aupipe.fer_analysis.evaluation.occluded import TABLE as OCCLUDED
from aupipe.fer_analysis.evaluation.pairing import enough_digits
from aupipe.fer_analysis.evaluation.predictions import PREDICTIONS, PredictionTable, load_metrics, read_predictions
from aupipe.fer_data.errors import FerError
from aupipe.fer_data.files import sha256_file
from aupipe.fer_data.shards import open_store
from aupipe.fer_display.tables import csv_of_records, markdown_table
from aupipe.fer_models.metrics import within_class
from aupipe.fer_models.metrics.resampling import RESAMPLES, SEED, draw_counts, percentile_interval, two_level_means
from aupipe.fer_models.training.config import TrainConfig
from aupipe.fer_models.training.measured_run import outdated
from aupipe.fer_models.training.run import train

PROGRAM = 1
"""Raised where the measurements change: what was measured before is measured again."""

CONFIG = TrainConfig(backbone="test_resnet", output_stride=8, crop_size=64, epochs=6, lr=0.002, align_weight=4.0)
CHANGED = ("faces_per_class", "epochs", "align_weight")
"""What of it options change."""


@dataclass(frozen=True)
class Arm:
    """A kind of guidance. ``store``: whose maps; ``changes``: of the configuration; ``against``: what decides."""

    title: str
    store: str
    changes: Mapping[str, Any]
    against: tuple[str, ...] = ()


ARMS = {
    "none": Arm("nothing", "class", {"align_weight": 0}),
    "class": Arm("the class's AU map", "class", {}, ("none", "mean", "landmarks")),
    "mean": Arm("one map for all classes", "class", {"align_target": "mean"}, ("none",)),
    "shuffled": Arm("another class's AU map", "class", {"align_target": "shuffled"}, ("none", "class")),
    "landmarks": Arm("the landmarks", "class", {"align_target": "landmarks"}, ("none",)),
    "fused": Arm("`fused`", "fused", {}, ("none", "class", "fused-other")),
    "fused-other": Arm("another face's `fused`", "fused", {"align_target": "other_face"}),
    "estimated": Arm("`estimated`", "estimated", {}, ("none", "class", "fused", "estimated-other")),
    "estimated-other": Arm("another face's `estimated`", "estimated", {"align_target": "other_face"}),
    "per-au": Arm("`fused`, `--guidance per-au`", "fused", {"guidance": "per-au"}, ("none", "class", "per-au-other")),
    "per-au-other": Arm(
        "the same with another face's weights", "fused", {"guidance": "per-au", "align_target": "other_face"}, ("none",)
    ),
}


@dataclass(frozen=True)
class Job:
    """A training with its measurements. ``changes``: of every arm's configuration, but for what the arm is about."""

    arm: str
    seed: int
    out: Path
    stores: Mapping[str, Path]
    codes: Path
    estimate: Path | None
    changes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where the run lies; the figures of the coded faces lie in ``coded`` inside."""
        return self.out / f"{self.arm}-s{self.seed}"


def carry_out(job: Job) -> str:
    """Train and measure what is left; return its name, and what went wrong."""
    use_threads(1)
    arm = ARMS[job.arm]
    config = replace(CONFIG, seed=job.seed, **{**job.changes, **arm.changes})
    try:
        train(job.stores[arm.store], job.folder, config)
        _measure(job.folder, job.stores[arm.store], job.folder, {})
        _measure(job.folder, job.stores["coded"], job.folder / "coded", {"aus": job.codes, "estimate": job.estimate})
    except FerError as error:
        return f"{job.folder.name} FAILED: {error}"
    return job.folder.name


def _measure(run: Path, store: Path, out: Path, tables: dict[str, Path | None]) -> None:
    """Evaluate a run with the tables of the coded faces, unless that was done with all that is there now."""
    used = {name: path and sha256_file(path) for name, path in tables.items()}
    wanted = {**used, "store": open_store(store).index.digest, "program": PROGRAM}
    note = out / "measured_with.json"
    if note.is_file() and json.loads(note.read_text()) == wanted and not outdated(run, load_metrics(out, run)):
        return
    note.unlink(missing_ok=True)
    evaluate(run, store, out=out, occlude=True, **tables)  # type: ignore[arg-type]
    note.write_text(json.dumps(wanted))


# --- figures of one training, face by face ---


@dataclass(frozen=True)
class FaceValues:
    """One value a face: who they are, of which persons, and the values, whose mean is the figure."""

    identity: tuple[str, ...]
    group: Int64[np.ndarray, "n"]
    values: Float64[np.ndarray, "n"]


@dataclass(frozen=True)
class Measured:
    """What a training is compared by. ``areas``: on resampled persons, the same ones in every training."""

    figures: Mapping[str, float]
    faces: Mapping[str, FaceValues]
    areas: Mapping[str, Float64[np.ndarray, "r"]]


FIGURES = {
    "accuracy": "accuracy %",
    "eyes": "eyes hidden %",
    "mouth": "mouth hidden %",
    "ece": "calibration error %",
    "coded_accuracy": "coded: accuracy %",
    "coded_eyes": "coded: eyes hidden %",
    "coded_mouth": "coded: mouth hidden %",
    "cosine": "coded: cosine",
    "within": "coded: within a class",
    "within_units": "coded: its maps of single AUs",
}
COMPARED = tuple(name for name in FIGURES if name != "ece")
EQUAL = {"accuracy": "equal within, points", "coded_accuracy": "coded: equal within, points"}
"""Accuracies for which it is also tested whether they are equal."""
PERCENT = {name for name, title in FIGURES.items() if title.endswith("%")}


def measured(folder: Path) -> Measured:
    """Read a training's figures back. Of the coded store only the coded faces count."""
    coded = folder / "coded"
    contents = {place: load_metrics(place, folder) for place in (folder, coded)}
    table = read_predictions(coded / CODED, contents[coded]["coded"]["table_sha256"])
    coded_ids = {row["sample_id"] for row in table.rows}
    faces: dict[str, FaceValues] = {}
    for place, content in contents.items():
        head = "" if place == folder else "coded_"
        whole = read_predictions(place / PREDICTIONS, content["predictions_sha256"])
        hidden = read_predictions(place / OCCLUDED, content["occluded"]["table_sha256"])
        rows = np.array([place == folder or row["sample_id"] in coded_ids for row in whole.rows])
        for name, source, column in (
            ("accuracy", whole, "correct"),
            ("eyes", hidden, "correct_eyes"),
            ("mouth", hidden, "correct_mouth"),
        ):
            faces[head + name] = _values(source, rows, source.flags(column)[rows].astype(np.float64))
    shown = np.array([row["cos_attention"] != "" for row in table.rows])
    label = table.label
    # Weighted so that the mean is that over the classes, as everywhere else.
    weight = shown.sum() / (len(np.unique(label[shown])) * np.bincount(label[shown])[label[shown]])
    faces["cosine"] = _values(table, shown, table.numbers("cos_attention", shown) * weight)
    figures = {"ece": float(contents[folder]["calibration"]["ece"])}
    figures |= {name: float(one.values.mean()) for name, one in faces.items()}
    areas: dict[str, np.ndarray] = {}
    resampled = within_class.resampled_faces(table.group)
    for name, kind in (("within", "attention"), ("within_units", "unit_maps")):
        scores = unit_scores(table, kind)
        units = scores and within_class.units_in_classes(scores.shown, label, np.isfinite(scores.scores))
        if scores and units:
            figures[name] = float(within_class.pooled_area(units, scores.scores, scores.shown)[0])
            areas[name] = within_class.pooled_area(units, scores.scores, scores.shown, resampled)
    return Measured(figures, faces, areas)


def _values(table: PredictionTable, rows: Bool[np.ndarray, "n"], values: Float64[np.ndarray, "m"]) -> FaceValues:
    who = tuple(f"{row['sample_id']} {row.get('aus', '')}" for row, kept in zip(table.rows, rows, strict=True) if kept)
    return FaceValues(who, table.group[rows], values)


Lead = tuple[float, tuple[float, float] | None]


def lead(ours: Sequence[Measured], theirs: Sequence[Measured], name: str) -> Lead | None:
    """Compute what trainings have more than others of the same seeds, and its interval over trainings and persons.

    None where one lacks the figure; no interval of a single training or person. Ends the program where they were not
    measured on the same faces.
    """
    both = (*ours, *theirs)
    if not all(name in one.faces or name in one.areas for one in both):
        return None
    value = statistics.fmean(one.figures[name] for one in ours) - statistics.fmean(one.figures[name] for one in theirs)
    if name in ours[0].faces:
        values, group = differences(ours, theirs, name)
        told = len(ours) > 1 and len(np.unique(group)) > 1
        return value, percentile_interval(two_level_means(values, group)) if told else None
    areas = np.stack([a.areas[name] - b.areas[name] for a, b in zip(ours, theirs, strict=True)], 1)
    trainings = draw_counts(len(ours), RESAMPLES, SEED + 1) / len(ours)  # not those that drew the persons
    return value, within_class.area_interval((trainings * areas).sum(1)) if len(ours) > 1 else None


def differences(
    ours: Sequence[Measured], theirs: Sequence[Measured], name: str
) -> tuple[Float64[np.ndarray, "s n"], Int64[np.ndarray, "n"]]:
    """Compute face by face what trainings have more than others of the same seeds, and whose faces they are.

    Ends the program where they were not measured on the same faces.
    """
    first = ours[0].faces[name]
    if any(one.faces[name].identity != first.identity for one in (*ours, *theirs)):
        sys.exit(f"{FIGURES[name]} was not measured on the same faces everywhere: build the stores anew.")
    values = np.stack([a.faces[name].values - b.faces[name].values for a, b in zip(ours, theirs, strict=True)])
    return values, first.group


# --- tables ---


def table_of_means(found: Mapping[str, Mapping[int, Measured]]) -> str:
    """Write every arm's mean and standard deviation over its seeds."""
    rows = []
    for arm, its in found.items():
        cells = []
        for name in FIGURES:
            values = [one.figures[name] for one in its.values() if name in one.figures]
            cells.append(_mean(values, name))
        rows.append((ARMS[arm].title, str(len(its)), *cells))
    return markdown_table(("guided by", "seeds", *FIGURES.values()), rows, align="lr")


def _mean(values: Sequence[float], name: str) -> str:
    if not values:
        return ""
    scale, digits = (100, 1) if name in PERCENT else (1, 3)
    spread = f" ± {scale * statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{scale * statistics.fmean(values):.{digits}f}{spread}"


def table_of_leads(found: Mapping[str, Mapping[int, Measured]]) -> str:
    """Write what each arm has more than those it is to be read against."""
    rows = []
    for arm, its in found.items():
        for other in ARMS[arm].against:
            if other not in found or not its.keys() & found[other].keys():
                continue
            seeds = sorted(its.keys() & found[other].keys())
            ours, theirs = ([one[seed] for seed in seeds] for one in (its, found[other]))
            cells = [_lead(lead(ours, theirs, name), name) for name in COMPARED]
            margins = [_margin(accuracy_difference(*differences(ours, theirs, name))) for name in EQUAL]
            rows.append((ARMS[arm].title, ARMS[other].title, str(len(seeds)), *cells, *margins))
    head = ("guided by", "less", "seeds", *(FIGURES[name] for name in COMPARED), *EQUAL.values())
    return markdown_table(head, rows, align="llr")


def _margin(found: AccuracyDifference) -> str:
    if not found.told:
        return ""
    cell = f"{math.ceil(10 * found.margin) / 10:.1f}"
    return f"**{cell}**" if found.margin <= MARGIN else cell


def _lead(found: Lead | None, name: str) -> str:
    if found is None:
        return ""
    scale, usual = (100, 1) if name in PERCENT else (1, 3)
    value, interval = found
    if interval is None:
        return f"{scale * value:+.{usual}f}"
    ends = [scale * end for end in interval]
    digits = enough_digits(ends, usual)
    cell = f"{scale * value:+.{digits}f} ({' to '.join(f'{end:+.{digits}f}' for end in ends)})"
    return f"**{cell}**" if ends[0] > 0 or ends[1] < 0 else cell


LEGEND = """Means over the seeds, ± their standard deviation. *Coded*: on the faces of another dataset whose action
units people coded. Nothing was learned from these faces; but where the estimator behind `fused` and `estimated` was
fitted on codes of that dataset, as the shipped one was on CK+'s, what blendshapes say of an action unit was learned
there.

Below, what an arm has more than another (the column *less*): 95 % intervals, trainings and persons resampled, paired
by seed and face. Of so few trainings they are somewhat too narrow. Bold: intervals that leave out 0; of {cells} here
about {chance:.0f} would by chance alone. *Equal within*: the smallest margin within which two one-sided tests at 5 %
call the two accuracies equal; bold: within the {margin:g} point that was fixed before.
"""


def records(found: Mapping[str, Mapping[int, Measured]]) -> Iterator[dict[str, Any]]:
    """List every training with its figures."""
    for arm, its in found.items():
        for seed, one in its.items():
            yield {"arm": arm, "seed": seed, **{name: one.figures.get(name) for name in FIGURES}}


def numbers(text: str) -> list[int]:
    """Parse ``0,1,2``."""
    return [int(part) for part in text.split(",")]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    for name in ("class-store", "fused-store", "estimated-store", "coded-store", "codes"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--estimate", type=Path, help="What blendshapes say of the coded faces: landmarks --export csv")
    parser.add_argument("--arms", default=",".join(ARMS), help=f"some of {', '.join(ARMS)}")
    parser.add_argument("--seeds", type=numbers, default="0,1,2,3,4")
    parser.add_argument("--jobs", type=int, default=2)
    for name in CHANGED:
        usual = getattr(CONFIG, name)
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(usual), default=usual)
    given = parser.parse_args(arguments)
    stores = {name: getattr(given, f"{name}_store") for name in ("class", "fused", "estimated", "coded")}
    arms, seeds = given.arms.split(","), given.seeds
    if unknown := set(arms) - set(ARMS):
        parser.error(f"there is no arm {', '.join(sorted(unknown))}; there are {', '.join(ARMS)}")
    changes = {name: getattr(given, name) for name in CHANGED}
    jobs = [Job(arm, seed, given.out, stores, given.codes, given.estimate, changes) for seed in seeds for arm in arms]
    given.out.mkdir(parents=True, exist_ok=True)
    with multiprocessing.get_context("spawn").Pool(given.jobs, maxtasksperchild=1) as pool:
        for name in pool.imap_unordered(carry_out, jobs):
            print(name, flush=True)
    write(given.out, arms, seeds)


def write(out: Path, arms: Sequence[str], seeds: Sequence[int]) -> None:
    """Write the tables of what is finished, seeds in order."""
    found: dict[str, dict[int, Measured]] = {}
    for arm in arms:
        folders = {seed: out / f"{arm}-s{seed}" for seed in seeds}
        its = {seed: measured(folder) for seed, folder in folders.items() if (folder / "coded" / METRICS).is_file()}
        found |= {arm: its} if its else {}
    (out / "guidance.csv").write_text(csv_of_records(list(records(found))))
    leads = table_of_leads(found)
    cells = leads.count("(")
    text = f"{table_of_means(found)}\n{LEGEND.format(cells=cells, chance=cells / 20, margin=MARGIN)}\n{leads}"
    (out / "guidance.md").write_text(text)
    print((out / "guidance.md").read_text())


if __name__ == "__main__":
    main()
