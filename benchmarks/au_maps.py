"""Compare the maps of ``build-maps --aus`` with the maps of the action units that people coded on the same faces.

    python benchmarks/au_maps.py work [--neutral fer-work] [--codebook du2014 --codebook ckplus]

``work``: landmarks of a manifest with the column ``aus``, as for benchmarks/fit_action_units.py. The cosine of each
face's map with the map of its coded action units, mean over faces, with a 95 % interval from resampling persons. The
estimator is fitted without the face's person (five folds); the codebooks are as they ship, so ``ckplus``, counted on
these faces and others, flatters itself: ``shares`` counts its weights among the other folds' persons. Rows
``beta``: another weight of the face's evidence.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Float64

from aupipe.fer_data.action_units.blendshapes import blendshape_features
from aupipe.fer_data.action_units.estimates import blendshape_estimates
from aupipe.fer_data.action_units.estimator import AuEstimator, load_estimator
from aupipe.fer_data.action_units.face_weights import ObservedFaces, weigh_faces
from aupipe.fer_data.action_units.facs import FacsCode
from aupipe.fer_data.action_units.modes import AuMode
from aupipe.fer_data.au_maps.codebook import load_codebook
from aupipe.fer_data.au_maps.heatmaps import render_faces
from aupipe.fer_models.metrics.resampling import percentile_interval
from aupipe.fer_models.metrics.within_class import resampled_faces
from aupipe.pipeline.landmarks.work import open_work
from aupipe.pipeline.maps.crops import CropGeometry, place_face
from fit_action_units import DRAWS, FOLDS, CodedFaces, fit_all, folds, read_faces, read_neutral

IMAGE, MAP = 96, 24
BETAS = (0.0, 0.25, 0.5, 0.75, 1.0)
Expressions = Mapping[str, Mapping[int, float]]


@dataclass(frozen=True)
class SeenFaces:
    """Coded faces as the landmark stage stored them."""

    expressions: Sequence[str]
    codes: Sequence[Sequence[FacsCode]]
    blendshapes: Float[np.ndarray, "n 52"]
    yaw: Float[np.ndarray, "n"]

    def observed(self, rows: Bool[np.ndarray, "n"], estimator: AuEstimator) -> ObservedFaces:
        """Estimate the action units of some of the faces."""
        at = np.flatnonzero(rows)
        estimates = blendshape_estimates(self.blendshapes[at], np.ones(len(at), bool), self.yaw[at], estimator)
        return ObservedFaces([self.expressions[row] for row in at], [self.codes[row] for row in at], estimates)


def read(work: Path) -> tuple[SeenFaces, Float[np.ndarray, "n 68 2"]]:
    """Read the coded faces, with their landmarks in the crop."""
    finished = open_work(work)
    rows = [
        (finished.samples[key], part.blendshapes[at], part.landmarks[at], part.pose[at, 0])
        for part in finished.parts(mesh=True)
        for at, key in enumerate(part.sample_ids)
        if part.has_mesh[at] and finished.samples[key].aus is not None
    ]
    samples, blendshapes, points, yaw = zip(*rows, strict=True)
    labels, codes = [sample.label for sample in samples], [sample.aus for sample in samples]
    faces = SeenFaces(labels, codes, np.stack(blendshapes), np.array(yaw))
    return faces, np.stack([place_face(one, IMAGE, CropGeometry()).landmarks for one in points])


def estimator_without(
    faces: CodedFaces, rest: Bool[np.ndarray, "n"], neutral: Float64[np.ndarray, "m f"]
) -> AuEstimator:
    """Make the shipped estimator with the regressions and shares of some faces."""
    shipped, names = load_estimator(), blendshape_features()
    fitted = dict(zip(faces.numbers, fit_all(faces, rest, neutral), strict=True))
    shares = dict(zip(faces.numbers, faces.shown[rest].mean(0), strict=True))
    units = [
        replace(
            unit,
            share=float(shares[unit.number]),
            intercept=float(fitted[unit.number][-1]),
            coefficients=dict(zip(names, fitted[unit.number].tolist(), strict=False)),
        )
        for unit in shipped.units
    ]
    return replace(shipped, units=tuple(units))


def counted(faces: SeenFaces, rest: Bool[np.ndarray, "n"]) -> Expressions:
    """Count how often each action unit goes with each expression among some faces."""
    book = dict[str, dict[int, float]]()
    for label in sorted(set(faces.expressions)):
        codes = [faces.codes[row] for row in np.flatnonzero(rest) if faces.expressions[row] == label]
        numbers = sorted({code.number for found in codes for code in found})
        shares = {number: np.mean([any(c.number == number for c in found) for found in codes]) for number in numbers}
        book[label] = {number: float(share) for number, share in shares.items() if share >= 0.1}
    return book


def cosines(maps: Float[np.ndarray, "n m m"], others: Float[np.ndarray, "n m m"]) -> Float64[np.ndarray, "n"]:
    """Compute each face's cosine; 0 where one of the two is empty."""
    a, b = (stack.reshape(len(stack), -1).astype(np.float64) for stack in (maps, others))
    return np.asarray((a * b).sum(1) / np.maximum(np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1), 1e-12))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--neutral", type=Path, help="as for fit_action_units.py")
    parser.add_argument("--codebook", action="append", help="default: default, du2014, ckplus")
    options = parser.parse_args()
    coded, neutral = read_faces(options.work), read_neutral(options.neutral)
    faces, points = read(options.work)
    fold, geometry = folds(coded), load_codebook("default")
    without = [estimator_without(coded, fold != at, neutral) for at in range(FOLDS)]
    counts = [counted(faces, fold != at) for at in range(FOLDS)]
    named: dict[str, list[Expressions]] = {
        name: [load_codebook(name).expressions] * FOLDS for name in options.codebook or ("default", "du2014", "ckplus")
    }
    named["shares"] = counts

    def maps(mode: AuMode, books: list[Expressions], beta: float | None = None) -> Float[np.ndarray, "n m m"]:
        drawn = np.zeros((len(points), MAP, MAP), np.float32)
        for at, (estimator, book) in enumerate(zip(without, books, strict=True)):
            fusion = estimator.fusion if beta is None else replace(estimator.fusion, beta=beta)
            here = fold == at
            weights = weigh_faces(faces.observed(here, estimator), book, fusion, mode).weights
            drawn[here] = render_faces(points[here], weights / 255, geometry, IMAGE, MAP)
        return drawn

    truth = maps("annotated", counts)
    known = truth.any((1, 2))
    times = resampled_faces(coded.person, DRAWS)[:, known]
    print(f"{known.sum()} faces of {len(np.unique(coded.person))} persons")

    def line(title: str, drawn: Float[np.ndarray, "n m m"]) -> None:
        found = cosines(drawn, truth)
        span = percentile_interval(times @ found[known] / times.sum(1))
        print(f"{title:34}{found[known].mean():.3f}  {span[0]:.3f} - {span[1]:.3f}")

    line("estimated", maps("estimated", counts))
    for name, books in named.items():
        line(f"class  {name}", maps("class", books))
        line(f"fused  {name}", maps("fused", books))
        for beta in BETAS:
            line(f"  beta {beta:g}", maps("fused", books, beta))


if __name__ == "__main__":
    main()
