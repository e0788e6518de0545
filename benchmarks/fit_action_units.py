"""Fit the estimator of action units on faces that people coded, and measure it on persons that the fit did not see.

    aupipe manifest build ckplus CK+48 -o ck.csv --aus-from facs.csv
    aupipe landmarks ck.csv --out work
    python benchmarks/fit_action_units.py work [--neutral fer-work] [--write]

For each action unit that at least five persons show: area under the curve of faces with it against faces without, five
folds by person, with a 95 % interval from resampling persons; calibration error in ten bins; the best single
blendshape's area, chosen with all codes in sight, for comparison. ``within``: the same inside one expression, over
all pairs of action unit and expression with six faces of each kind, weighted by pairs: whether it tells this face from
another face of the same expression. ``shares``: what the expression alone tells, from the other folds' codes.

``--neutral``: coded faces at their peak hold no face at rest, so without it a neutral face is said to show much.

The regressions are fitted by least penalised likelihood (SciPy). ``--write`` replaces the shipped file by a fit on all
persons; its figures are still those of the folds.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64
from scipy import optimize, stats

import aupipe.fer_data.action_units as room
from aupipe.fer_data.action_units.blendshapes import blendshape_features, feature_values, features_near
from aupipe.fer_data.action_units.estimator import EstimatedUnit, load_estimator, root_features
from aupipe.fer_data.types import Sample
from aupipe.fer_models.metrics.within_class import (
    UnitInClass,
    area_interval,
    area_under_curve,
    pooled_area,
    resampled_faces,
    units_in_classes,
)
from aupipe.pipeline.landmarks.work import open_work

PENALTY, FOLDS, DRAWS, BINS = 10.0, 5, 1000, 10
LEAST_PERSONS = 5
VERSION = 1


@dataclass(frozen=True)
class CodedFaces:
    """Faces with blendshapes, persons and expressions as numbers, and whether each AU of ``numbers`` is there."""

    blendshapes: Float[np.ndarray, "n 52"]
    person: Int64[np.ndarray, "n"]
    expression: Int64[np.ndarray, "n"]
    numbers: tuple[int, ...]
    shown: Bool[np.ndarray, "n k"]


def read_rows(work: Path) -> list[tuple[Sample, Float[np.ndarray, "52"]]]:
    """Read the samples of a finished WORK folder that have blendshapes, and these."""
    finished = open_work(work)
    return [
        (finished.samples[key], part.blendshapes[at])
        for part in finished.parts(mesh=True)
        for at, key in enumerate(part.sample_ids)
        if part.has_mesh[at]
    ]


def read_faces(work: Path) -> CodedFaces:
    """Read the coded faces, with the AUs that enough persons show."""
    rows = [(sample, blendshapes) for sample, blendshapes in read_rows(work) if sample.aus is not None]
    codes = [{code.number for code in sample.aus or ()} for sample, _ in rows]
    persons = [sample.subject for sample, _ in rows]
    shown_by = defaultdict[int, set[str]](set)
    for person, found in zip(persons, codes, strict=True):
        for number in found:
            shown_by[number].add(person)
    numbers = tuple(sorted(number for number, who in shown_by.items() if len(who) >= LEAST_PERSONS))
    return CodedFaces(
        np.stack([blendshapes for _, blendshapes in rows]),
        np.unique(persons, return_inverse=True)[1],
        np.unique([sample.label for sample, _ in rows], return_inverse=True)[1],
        numbers,
        np.array([[number in found for number in numbers] for found in codes]),
    )


def read_neutral(work: Path | None) -> Float64[np.ndarray, "m f"]:
    """Read the features of a WORK folder's training faces with the label neutral; none without a folder."""
    rows = read_rows(work) if work is not None else []
    neutral = [blendshapes for sample, blendshapes in rows if (sample.label, sample.split) == ("neutral", "train")]
    return root_features(np.stack(neutral)) if neutral else np.empty((0, len(blendshape_features())))


def fit(features: Float64[np.ndarray, "n f"], shown: Bool[np.ndarray, "n"]) -> Float64[np.ndarray, "f1"]:
    """Fit a penalised logistic regression; returns the coefficients of the features as they are, then the intercept."""
    mean, deviation = features.mean(0), features.std(0) + 1e-6
    scaled, target = (features - mean) / deviation, shown.astype(float)

    def loss(weights: Float64[np.ndarray, "f1"]) -> tuple[float, Float64[np.ndarray, "f1"]]:
        logit = scaled @ weights[:-1] + weights[-1]
        error = 1 / (1 + np.exp(-logit)) - target
        value = np.logaddexp(0, logit).sum() - target @ logit + PENALTY / 2 * weights[:-1] @ weights[:-1]
        return float(value), np.append(scaled.T @ error + PENALTY * weights[:-1], error.sum())

    found = optimize.minimize(loss, np.zeros(features.shape[1] + 1), jac=True, method="L-BFGS-B").x
    weights = found[:-1] / deviation
    return np.append(weights, found[-1] - weights @ mean)


def apply(weights: Float64[np.ndarray, "f1"], features: Float64[np.ndarray, "n f"]) -> Float64[np.ndarray, "n"]:
    """Compute the logits."""
    return np.asarray(features @ weights[:-1] + weights[-1])


def fit_unit(
    number: int, features: Float64[np.ndarray, "n f"], shown: Bool[np.ndarray, "n"], neutral: Float64[np.ndarray, "m f"]
) -> Float64[np.ndarray, "f1"]:
    """Fit one AU on coded faces and on neutral ones, which are taken to show nothing; 0 for features of elsewhere."""
    near = np.isin(blendshape_features(), features_near(number))
    target = np.append(shown, np.zeros(len(neutral), bool))
    weights = np.zeros(features.shape[1] + 1)
    weights[np.append(near, True)] = fit(np.concatenate([features, neutral])[:, near], target)
    return weights


def fit_all(
    faces: CodedFaces, rest: Bool[np.ndarray, "n"], neutral: Float64[np.ndarray, "m f"]
) -> list[Float64[np.ndarray, "f1"]]:
    """Fit every AU on the faces of ``rest``."""
    features = root_features(faces.blendshapes[rest])
    return [fit_unit(number, features, faces.shown[rest, unit], neutral) for unit, number in enumerate(faces.numbers)]


def folds(faces: CodedFaces) -> Int64[np.ndarray, "n"]:
    """Deal the persons to the folds."""
    return np.random.default_rng(0).permutation(faces.person.max() + 1)[faces.person] % FOLDS


def held_out(
    faces: CodedFaces, neutral: Float64[np.ndarray, "m f"]
) -> tuple[Float64[np.ndarray, "n k"], Float64[np.ndarray, "n k"]]:
    """Compute, for each face from the other folds' persons, the logits and the share of its expression."""
    features = root_features(faces.blendshapes)
    logits, shares = (np.zeros(faces.shown.shape) for _ in range(2))
    fold = folds(faces)
    for at in range(FOLDS):
        rest, here = fold != at, fold == at
        for unit, weights in enumerate(fit_all(faces, rest, neutral)):
            logits[here, unit] = apply(weights, features[here])
        for expression in np.unique(faces.expression):
            same = faces.expression == expression
            shares[here & same] = faces.shown[rest & same].mean(0)
    return logits, shares


def calibration(logit: Float64[np.ndarray, "n"], shown: Bool[np.ndarray, "n"]) -> float:
    """Compute the mean distance of probability and share, in bins of equal size."""
    chance = 1 / (1 + np.exp(-logit))
    bins = np.array_split(np.argsort(chance), BINS)
    return float(
        np.average([abs(chance[at].mean() - shown[at].mean()) for at in bins], weights=[len(at) for at in bins])
    )


def measure(faces: CodedFaces, logits: Float64[np.ndarray, "n k"], unit: int) -> tuple[EstimatedUnit, str]:
    """Measure one AU, as an entry without its regression, and name the best single blendshape."""
    shown, score = faces.shown[:, unit], logits[:, unit]
    everyone = [UnitInClass(unit, 0, np.arange(len(shown)))]
    span = area_interval(pooled_area(everyone, logits, faces.shown, resampled_faces(faces.person, DRAWS)))
    columns = zip(feature_values(faces.blendshapes).T, blendshape_features(), strict=True)
    best, name = max((area_under_curve(column, shown), name) for column, name in columns)
    entry = EstimatedUnit(
        number=faces.numbers[unit],
        auc=area_under_curve(score, shown),
        interval=span or (0.0, 1.0),
        persons=len(np.unique(faces.person[shown])),
        share=float(shown.mean()),
        calibration=calibration(score, shown),
        intercept=0.0,
        coefficients={},
    )
    return entry, f"{name} {best:.3f}"


def table_line(unit: EstimatedUnit, best: str) -> str:
    """Write one line of the table."""
    span = f"{unit.interval[0]:.3f} - {unit.interval[1]:.3f}"
    told = "" if unit.told else "  not told"
    return f"{unit.number:4}{unit.persons:9}{unit.auc:7.3f}  {span} {unit.calibration:12.3f}   {best}{told}"


def toml_text(units: Iterable[EstimatedUnit], source: str) -> str:
    """Write the estimator's file."""
    lines = ["# Written by benchmarks/fit_action_units.py.", "", f"version = {VERSION}", f'source = "{source}"', ""]
    lines += ["# Chosen by the figures of benchmarks/au_maps.py.", "[fusion]"]
    lines += [f"{name} = {value}" for name, value in asdict(load_estimator().fusion).items()]
    for unit in units:
        lines += ["", "[[au]]", f"number = {unit.number}", f"auc = {unit.auc:.3f}"]
        lines += [f"interval = [{unit.interval[0]:.3f}, {unit.interval[1]:.3f}]", f"persons = {unit.persons}"]
        lines += [f"share = {unit.share:.4f}", f"calibration = {unit.calibration:.3f}"]
        lines += [f"intercept = {unit.intercept:.4f}"]
        lines += ["[au.coefficients]", *(f"{name} = {value:.4f}" for name, value in unit.coefficients.items())]
    return "\n".join(lines) + "\n"


def print_means(faces: CodedFaces, logits: Float64[np.ndarray, "n k"], shares: Float64[np.ndarray, "n k"]) -> None:
    """Print the means over AUs, and the area within an expression."""
    odds = np.log(np.clip(shares, 0.01, 0.99) / np.clip(1 - shares, 0.01, 0.99))
    for title, score in (
        ("estimate", logits),
        ("shares of the expression", shares),
        ("both", stats.zscore(logits) + stats.zscore(odds)),
    ):
        mean = np.mean([area_under_curve(score[:, unit], faces.shown[:, unit]) for unit in range(len(faces.numbers))])
        print(f"{title}: mean AUC {mean:.3f}")
    units = units_in_classes(faces.shown, faces.expression)
    areas = pooled_area(units, logits, faces.shown, resampled_faces(faces.person, DRAWS))
    low, high = area_interval(areas) or (0.0, 1.0)
    within = pooled_area(units, logits, faces.shown)[0]
    print(f"estimate within an expression: {within:.3f} ({low:.3f} - {high:.3f})")


def main() -> None:
    """Print the table, and write the file where asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument(
        "--neutral", type=Path, help="a WORK folder; its neutral training faces are taken to show nothing"
    )
    parser.add_argument("--write", action="store_true", help="replace the shipped estimator")
    options = parser.parse_args()
    faces, neutral = read_faces(options.work), read_neutral(options.neutral)
    logits, shares = held_out(faces, neutral)
    persons = int(faces.person.max()) + 1
    print(f"{len(faces.person)} faces of {persons} persons; {len(faces.numbers)} AUs that {LEAST_PERSONS} persons show")
    print(f"{'AU':>4}{'persons':>9}{'AUC':>7}  95 % by person   calibration  best single blendshape")
    units = list[EstimatedUnit]()
    for unit in range(len(faces.numbers)):
        measured, best = measure(faces, logits, unit)
        print(table_line(measured, best))
        number = faces.numbers[unit]
        weights = fit_unit(number, root_features(faces.blendshapes), faces.shown[:, unit], neutral)
        named = dict(zip(blendshape_features(), weights.tolist(), strict=False))
        near = {name: named[name] for name in features_near(number)}
        units.append(replace(measured, intercept=float(weights[-1]), coefficients=near))
    print_means(faces, logits, shares)
    if options.write:
        source = (
            f"{len(faces.person)} peak frames of {persons} persons of CK+ (posed; Lucey et al. 2010) with FACS codes"
        )
        source += f"; {len(neutral)} training faces of FER2013 labelled neutral, taken to show nothing"
        (Path(room.__path__[0]) / "estimator.toml").write_text(toml_text(units, source))


if __name__ == "__main__":
    main()
