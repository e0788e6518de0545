"""Does guidance by AU maps help, and by whose? Trained on one dataset, tested on it and on coded faces of another.

    python benchmarks/guidance.py OUT --class-store A --fused-store B --estimated-store C --coded-store D --codes CSV

Every arm is trained with every seed, all else equal, and the best epoch chosen on the validation split alone; then it
is measured on the test split (accuracy, with eyes and mouth hidden, calibration) and on the coded faces, from whose
dataset nothing was learned (accuracy, cosine with the coded action units, area within a class). The three stores hold
the same faces with the maps of ``build-maps --aus class``, ``fused`` and ``estimated``. What a call finished is kept,
and the same call continues.

Writes OUT/guidance.csv, a row a training, and OUT/guidance.md: every arm's means and standard deviations over the
seeds, then what it has more than another arm with 95 % intervals, trainings and persons resampled
(two levels; of few seeds they are too narrow). Bold: intervals that leave out 0.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from aupipe.fer_analysis.benchmark.worker import use_threads
from aupipe.fer_analysis.evaluation import METRICS, evaluate
from aupipe.fer_analysis.evaluation.coded_comparing import unit_scores
from aupipe.fer_analysis.evaluation.coded_maps import TABLE as CODED
from aupipe.fer_analysis.evaluation.occluded import TABLE as OCCLUDED
from aupipe.fer_analysis.evaluation.predictions import PREDICTIONS, PredictionTable, load_metrics, read_predictions
from aupipe.fer_display.tables import csv_of_records, markdown_table
from aupipe.fer_models.metrics import within_class
from aupipe.fer_models.metrics.resampling import RESAMPLES, draw_counts, percentile_interval, two_level_means
from aupipe.fer_models.training.config import TrainConfig
from aupipe.fer_models.training.run import train

CONFIG = TrainConfig(backbone="test_resnet", output_stride=8, crop_size=64, epochs=6, lr=0.002, align_weight=4)


@dataclass(frozen=True)
class Arm:
    """A kind of guidance. ``store``: whose maps; ``changes``: of the configuration; ``against``: what decides."""

    title: str
    store: str
    changes: Mapping[str, Any]
    against: tuple[str, ...] = ()


ARMS = {
    "none": Arm("nothing", "class", {"align_weight": 0}),
    "class": Arm("the class's AU map", "class", {}, ("none",)),
    "mean": Arm("one map for all classes", "class", {"align_target": "mean"}, ("none", "class")),
    "shuffled": Arm("another class's AU map", "class", {"align_target": "shuffled"}, ("none", "class")),
    "landmarks": Arm("the landmarks", "class", {"align_target": "landmarks"}, ("none", "class")),
    "fused": Arm("`fused`", "fused", {}, ("none", "class", "fused-other")),
    "fused-other": Arm("another face's `fused`", "fused", {"align_target": "other_face"}),
    "estimated": Arm("`estimated`", "estimated", {}, ("none", "class", "fused")),
    "per-au": Arm("`fused`, `--guidance per-au`", "fused", {"guidance": "per-au"}, ("none", "class", "per-au-other")),
    "per-au-other": Arm(
        "the same with another face's weights", "fused", {"guidance": "per-au", "align_target": "other_face"}
    ),
}


@dataclass(frozen=True)
class Job:
    """A training with its measurements."""

    arm: str
    seed: int
    out: Path
    stores: Mapping[str, Path]
    codes: Path
    estimate: Path | None

    @property
    def folder(self) -> Path:
        """Where the run lies; the figures of the coded faces lie in ``coded`` inside."""
        return self.out / f"{self.arm}-s{self.seed}"


def carry_out(job: Job) -> str:
    """Train and measure what is left; return its name."""
    use_threads(1)
    arm = ARMS[job.arm]
    report = train(job.stores[arm.store], job.folder, replace(CONFIG, seed=job.seed, **arm.changes))
    if report.new_steps or not (job.folder / METRICS).is_file():
        evaluate(job.folder, occlude=True)
    if report.new_steps or not (job.folder / "coded" / METRICS).is_file():
        more: dict[str, Any] = {"aus": job.codes, "estimate": job.estimate, "occlude": True}
        evaluate(job.folder, job.stores["coded"], out=job.folder / "coded", **more)
    return job.folder.name


# --- figures of one training, face by face ---


@dataclass(frozen=True)
class Measured:
    """What a training is compared by: ``faces`` by figure, one a face with those of the other trainings in order."""

    figures: Mapping[str, float]
    faces: Mapping[str, Float64[np.ndarray, "n"]]
    groups: Mapping[str, np.ndarray]
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
PERCENT = {name for name, title in FIGURES.items() if title.endswith("%")}


def measured(folder: Path) -> Measured:
    """Read a training's figures back."""
    coded = folder / "coded"
    contents = {place: load_metrics(place, folder) for place in (folder, coded)}
    figures: dict[str, float] = {"ece": contents[folder]["calibration"]["ece"]}
    faces: dict[str, np.ndarray] = {}
    groups: dict[str, np.ndarray] = {}
    areas: dict[str, np.ndarray] = {}

    def keep(name: str, values: np.ndarray, table: PredictionTable, rows: np.ndarray | None = None) -> None:
        faces[name], groups[name] = values, table.group if rows is None else table.group[rows]
        figures[name] = float(values.mean())

    for place, content in contents.items():
        head = "" if place == folder else "coded_"
        table = read_predictions(place / PREDICTIONS, content["predictions_sha256"])
        keep(f"{head}accuracy", table.flags("correct").astype(np.float64), table)
        hidden = read_predictions(place / OCCLUDED, content["occluded"]["table_sha256"])
        for part in ("eyes", "mouth"):
            keep(f"{head}{part}", hidden.flags(f"correct_{part}").astype(np.float64), hidden)
    table = read_predictions(coded / CODED, contents[coded]["coded"]["table_sha256"])
    rows = np.array([row["cos_attention"] != "" for row in table.rows])
    keep("cosine", table.numbers("cos_attention", rows), table, rows)
    label = np.unique([row["label"] for row in table.rows], return_inverse=True)[1].astype(np.int64)
    weight = within_class.resampled_faces(table.group)
    for name, kind in (("within", "attention"), ("within_units", "unit_maps")):
        scores = unit_scores(table, kind)
        if scores is not None:
            units = within_class.units_in_classes(scores.shown, label, np.isfinite(scores.scores))
            figures[name] = float(within_class.pooled_area(units, scores.scores, scores.shown)[0])
            areas[name] = within_class.pooled_area(units, scores.scores, scores.shown, weight)
    return Measured(figures, faces, groups, areas)


def lead(ours: Sequence[Measured], theirs: Sequence[Measured], name: str) -> tuple[float, tuple[float, float]] | None:
    """Compute what trainings have more than others of the same seeds, and its interval over trainings and persons."""
    if not all(name in one.figures for one in (*ours, *theirs)):
        return None
    means = [statistics.fmean(one.figures[name] for one in side) for side in (ours, theirs)]
    if name in ours[0].faces:
        values = np.stack([one.faces[name] for one in ours]) - np.stack([one.faces[name] for one in theirs])
        return means[0] - means[1], percentile_interval(two_level_means(values, ours[0].groups[name]))
    if name not in ours[0].areas:
        return None
    areas = np.stack([one.areas[name] for one in ours], 1) - np.stack([one.areas[name] for one in theirs], 1)
    trainings = draw_counts(len(ours), RESAMPLES) / len(ours)
    return means[0] - means[1], percentile_interval((trainings * areas).sum(1))


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
            sides = [[one[seed] for seed in seeds] for one in (its, found[other])]
            cells = [_lead(lead(*sides, name), name) for name in FIGURES]
            rows.append((ARMS[arm].title, ARMS[other].title, str(len(seeds)), *cells))
    return markdown_table(("guided by", "less", "seeds", *FIGURES.values()), rows, align="llr")


def _lead(found: tuple[float, tuple[float, float]] | None, name: str) -> str:
    if found is None:
        return ""
    scale, digits = (100, 1) if name in PERCENT else (1, 3)
    value, (low, high) = found
    cell = f"{scale * value:+.{digits}f} ({scale * low:+.{digits}f} to {scale * high:+.{digits}f})"
    return f"**{cell}**" if low > 0 or high < 0 else cell


def records(found: Mapping[str, Mapping[int, Measured]]) -> Iterator[dict[str, Any]]:
    """List every training with its figures."""
    for arm, its in found.items():
        for seed, one in its.items():
            yield {"arm": arm, "seed": seed, **{name: one.figures.get(name) for name in FIGURES}}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    for name in ("class-store", "fused-store", "estimated-store", "coded-store", "codes"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--estimate", type=Path, help="What blendshapes say of the coded faces: landmarks --export csv")
    parser.add_argument("--arms", default=",".join(ARMS), help=f"some of {', '.join(ARMS)}")
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args(arguments)
    stores = {name: getattr(given, f"{name}_store") for name in ("class", "fused", "estimated", "coded")}
    arms, seeds = given.arms.split(","), [int(seed) for seed in given.seeds.split(",")]
    jobs = [Job(arm, seed, given.out, stores, given.codes, given.estimate) for seed in seeds for arm in arms]
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
    (out / "guidance.md").write_text(f"{table_of_means(found)}\n{table_of_leads(found)}")
    print((out / "guidance.md").read_text())


if __name__ == "__main__":
    main()
