"""Fit the correction of the mesh-to-68 mapping and the mean 3-D face of the pose fit; write both data files.

    python benchmarks/fit_mesh68.py            # cross-validated tables
    python benchmarks/fit_mesh68.py --write    # ... and mesh68.toml, pose68.toml in pipeline/detectors/data/

Learned from ``landmarks68`` of the folder AUPIPE_SHARED (default ``../shared``): photos with human-corrected iBUG-68
points (HELEN and AFW as distributed by 300-W). Every photo is looked at as it is and mirrored, and both looks count as
seen from both sides, so that the correction has no left and right. Written files depend on the photos, the MediaPipe
model and its version only.
"""

from __future__ import annotations

import argparse
import csv
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float64, Int

from aupipe.fer_data.files import write_text
from aupipe.fer_data.geometry import FLIP_68, flip_points, inter_ocular
from aupipe.fer_data.images import read_image
from aupipe.pipeline.detectors.base import LandmarkDetector
from aupipe.pipeline.detectors.mediapipe import MediaPipeDetector
from aupipe.pipeline.detectors.mesh68 import map_plain
from aupipe.pipeline.detectors.mesh68_correction import (
    CORRECTION_FILE,
    Correction,
    apply_correction,
    as_complex,
    as_pairs,
    features,
    format_correction,
    mirrored,
    parse_correction,
    place,
    unit_size,
)
from aupipe.pipeline.detectors.pose68 import SHAPE_FILE, MeanFace, format_mean_face, pose_from_points, rotation_of

COMPONENTS = 12
RIDGE = 0.1
"""Penalty on a component of the largest variance, in samples' worth; on the others in inverse proportion to their
standard deviation."""
YAW_RIDGE = 0.1

Points = Float64[np.ndarray, "n 68 2"]


@dataclass(frozen=True)
class Sample:
    """A photo: its human-corrected points, and what the detector says of it and of its mirror image (mirrored back).

    plain: mapping E. pose: the detector's yaw, pitch, roll in degrees, of the photo as it is.
    """

    name: str
    source: str
    truth: Float64[np.ndarray, "68 2"]
    plain: Float64[np.ndarray, "68 2"]
    plain_mirror: Float64[np.ndarray, "68 2"]
    pose: Float[np.ndarray, "3"]


def shared_folder() -> Path:
    """The development data."""
    return Path(os.environ.get("AUPIPE_SHARED", Path(__file__).parents[2] / "shared")).resolve()


def read_truth(folder: Path) -> Iterator[tuple[str, str, Float64[np.ndarray, "68 2"]]]:
    """File name, source and points (0-based pixels of the stored image) of every photo of ``landmarks68``."""
    with (folder / "points.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            yield row["image"], row["source"], np.array([[float(row[f"{k}{i}"]) for k in "xy"] for i in range(68)])


def look_at_all(folder: Path, detector: LandmarkDetector) -> list[Sample]:
    """Detect every photo of ``landmarks68`` twice; photos not found both times are left out."""
    samples = []
    for name, source, truth in read_truth(folder):
        image = read_image(folder / "images" / name)
        width = image.shape[1]
        one = _nearest(image, detector, truth)
        two = _nearest(np.ascontiguousarray(image[:, ::-1]), detector, flip_points(truth, width))
        if one is not None and two is not None:
            samples.append(Sample(name, source, truth, one[0], flip_points(two[0], width), one[1]))
    return samples


def fit(plain: Points, truth: Points) -> Correction:
    """The correction that takes ``plain`` to ``truth``: ridge regression on principal components of the shape."""
    template = _mean_shape(plain)
    pairs = [_placed_with(one, other, template) for one, other in zip(plain, truth, strict=True)]
    shapes, residuals = (np.array(part) for part in zip(*pairs, strict=True))
    components, deviations, parities = _components(shapes)
    draft = Correction(template, np.zeros((68, 2)), components, np.zeros((len(components) + 1, 68, 2)), parities)
    seen = np.array([features(shape, draft) for shape in np.concatenate([shapes, mirrored(shapes)])])
    wanted = np.concatenate([residuals, mirrored(residuals)]).reshape(len(seen), -1)
    middle, mean = seen.mean(0), wanted.mean(0)
    penalty = len(seen) * np.append(RIDGE * deviations[0] / deviations, YAW_RIDGE)
    gram = (seen - middle).T @ (seen - middle) + np.diag(penalty)
    directions = np.linalg.solve(gram, (seen - middle).T @ (wanted - mean))
    offset = (mean - middle @ directions).reshape(68, 2)
    fitted = Correction(template, offset, components, directions.reshape(-1, 68, 2), parities)
    return parse_correction(format_correction(fitted, []))


def fit_samples(samples: Sequence[Sample]) -> Correction:
    """:func:`fit` on both looks at every sample."""
    plain = np.array([s.plain for s in samples] + [s.plain_mirror for s in samples])
    return fit(plain, np.array([s.truth for s in samples] * 2))


def cross_validated(samples: Sequence[Sample], folds: int = 10, seed: int = 0) -> tuple[Points, Points]:
    """Corrected points of every sample and of its mirror look, each by a correction that was fitted without it."""
    one, two = np.empty((2, len(samples), 68, 2))
    order = np.random.default_rng(seed).permutation(len(samples))
    for fold in range(folds):
        held = set(order[fold::folds].tolist())
        correction = fit_samples([s for i, s in enumerate(samples) if i not in held])
        for i in held:
            one[i] = apply_correction(samples[i].plain, correction)
            two[i] = apply_correction(samples[i].plain_mirror, correction)
    return one, two


def errors(points: Points, samples: Sequence[Sample]) -> Float64[np.ndarray, "n 68"]:
    """Distance of every point to the human-corrected one, in % of the outer-eye distance."""
    truth = np.array([s.truth for s in samples])
    return np.asarray(100 * np.linalg.norm(points - truth, axis=-1) / inter_ocular(truth)[:, None])


def fit_mean_face(samples: Sequence[Sample]) -> MeanFace:
    """The symmetric 3-D face whose scaled orthographic views, turned by the detector's poses, fit the true points.

    The depth so found gives too large a yaw for points that came from a mesh, so it is stretched until the yaw of the
    corrected points agrees best with the detector's.
    """
    points = np.array([s.truth for s in samples])
    points = points - points.mean(1, keepdims=True)
    rotations = [rotation_of(s.pose)[:2] for s in samples]
    scales = np.sqrt((points**2).sum((1, 2)) / 68)
    solid = np.zeros((68, 3))
    for _ in range(10):
        gram = sum((r.T @ r for r in rotations), np.zeros((3, 3)))
        sums = sum((r.T @ (p / s).T for r, p, s in zip(rotations, points, scales, strict=True)), np.zeros((3, 68)))
        solid = np.linalg.solve(gram, sums).T
        views = np.array([solid @ r.T for r in rotations])
        scales = (points * views).sum((1, 2)) / (views**2).sum((1, 2))
    solid = (solid + solid[FLIP_68] * (-1, 1, 1)) / 2
    weights = np.where(np.arange(68) < 17, 0.3, 1.0)
    correction = fit_samples(samples)
    found = [apply_correction(s.plain, correction) for s in samples]

    def disagreement(stretch: float) -> float:
        face = MeanFace(solid * (1, 1, stretch), weights)
        gaps = [abs(pose_from_points(p, face)[0] - s.pose[0]) for p, s in zip(found, samples, strict=True)]
        return float(np.mean(gaps))

    stretch = min(np.round(np.arange(1.0, 1.4, 0.02), 2), key=disagreement)
    return MeanFace(solid * (1, 1, float(stretch)), weights)


def main() -> None:
    """Print the tables; write the files when asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=3, help="repetitions of 10-fold cross-validation")
    parser.add_argument("--write", action="store_true", help="write the data files of the package")
    options = parser.parse_args()
    detector = MediaPipeDetector()
    samples = look_at_all(shared_folder() / "landmarks68", detector)
    detector.close()
    print(f"{len(samples)} faces found. Mean error in % of the outer-eye distance:\n")
    _print_tables(samples, options.seeds)
    face = fit_mean_face(samples)
    if options.write:
        heading = [
            "Correction of 68 points mapped from a face mesh; see pipeline/detectors/mesh68_correction.py.",
            f"Written by benchmarks/fit_mesh68.py from {len(samples)} faces with human-corrected points.",
            "Fields hold the points of the image's left half and of the midline; parity says how the others follow.",
        ]
        write_text(CORRECTION_FILE, format_correction(fit_samples(samples), heading))
        write_text(SHAPE_FILE, format_mean_face(face, ["Mean 3-D face; see pipeline/detectors/pose68.py.", heading[1]]))


def _print_tables(samples: Sequence[Sample], seeds: int) -> None:
    everyone = np.arange(len(samples))
    helen = np.array(["helen" in s.source for s in samples])
    fitted = fit_samples(samples)
    _row("plain", errors(np.array([s.plain for s in samples]), samples))
    _row("corrected, in sample", errors(np.array([apply_correction(s.plain, fitted) for s in samples]), samples))
    repeats = [errors(cross_validated(samples, seed=seed)[0], samples) for seed in range(seeds)]
    _row(f"corrected, 10-fold x {seeds}", np.mean(repeats, 0))
    for name, chosen in (("HELEN -> AFW", helen), ("AFW -> HELEN", ~helen)):
        learned = fit_samples([samples[i] for i in everyone[chosen]])
        held = [samples[i] for i in everyone[~chosen]]
        _row(f"plain, {name[-5:].strip(' >')} only", errors(np.array([s.plain for s in held]), held))
        _row(f"corrected, {name}", errors(np.array([apply_correction(s.plain, learned) for s in held]), held))


def _row(name: str, error: Float64[np.ndarray, "n 68"]) -> None:
    print(
        f"{name:28} all 68 {error.mean():5.2f}   inner 51 {error[:, 17:].mean():5.2f}   jaw {error[:, :17].mean():5.2f}"
    )


def _nearest(
    image: np.ndarray, detector: LandmarkDetector, truth: Float64[np.ndarray, "68 2"]
) -> tuple[Float64[np.ndarray, "68 2"], Float[np.ndarray, "3"]] | None:
    """Mapping E and pose of the face nearest to ``truth``.

    The first rung only, without looks from close by: what comes of it owes nothing to a correction fitted earlier.
    """
    faces = detector.detect(image, detector.ladder[0].confidence)
    plain = [(map_plain(face.mesh), face.pose) for face in faces if face.mesh is not None]
    return min(plain, key=lambda pair: float(np.linalg.norm(pair[0].mean(0) - truth.mean(0))), default=None)


def _mean_shape(plain: Points) -> Float64[np.ndarray, "68 2"]:
    template = unit_size(plain[0])
    for _ in range(5):
        placed = [place(points, template) for points in plain]
        mean = np.mean([as_pairs(p.shape) for p in placed if p is not None], 0)
        template = unit_size((mean + mirrored(mean)) / 2)
    return template


def _placed_with(
    plain: Float64[np.ndarray, "68 2"], truth: Float64[np.ndarray, "68 2"], template: Float64[np.ndarray, "68 2"]
) -> tuple[Float64[np.ndarray, "68 2"], Float64[np.ndarray, "68 2"]]:
    """Shape and residual (truth less plain) in the face's own frame."""
    placed = place(plain, template)
    if placed is None:
        raise ValueError("A face of the training set has no extent.")
    return as_pairs(placed.shape), as_pairs(as_complex(truth - plain) / placed.unit)


def _components(
    shapes: Points,
) -> tuple[Float64[np.ndarray, "k 68 2"], Float64[np.ndarray, "k"], Int[np.ndarray, "k"]]:
    """Leading principal components of the shapes and their mirror images, scaled to unit standard deviation.

    Symmetric and skew parts are independent in such a set, so each has its own decomposition and an exact parity.
    """
    centred = shapes - (shapes + mirrored(shapes)).mean(0) / 2
    found = []
    for parity in (1, -1):
        part = (centred + parity * mirrored(centred)).reshape(len(shapes), -1) / 2
        _, values, axes = np.linalg.svd(part, full_matrices=False)
        for value, axis in zip(values[:COMPONENTS] / np.sqrt(len(shapes)), axes, strict=False):
            found.append((value, parity, axis.reshape(68, 2) * np.sign(axis[np.argmax(np.abs(axis))])))
    found = sorted(found, key=lambda one: -one[0])[:COMPONENTS]
    deviations = np.array([value for value, _, _ in found])
    scaled = np.array([axis / value for value, _, axis in found])
    return scaled, deviations, np.array([parity for _, parity, _ in found])


if __name__ == "__main__":
    main()
