"""How far found landmarks lie from human-corrected ones, by region of the face and by yaw.

    python benchmarks/landmark_accuracy.py [--json]

Uses ``landmarks68`` of the folder AUPIPE_SHARED (default ``../shared``). Every detector climbs its own ladder on the
whole photo; where several faces are found, the true points only choose the one nearest to them. Errors are in % of
the true outer-eye distance (points 36-45). A face not found counts in ``found`` alone, so read the errors beside it.
The yaw of the bins comes from the true points. ``mirror`` is the mean distance between the points found in a photo
and those found in its mirror image, mirrored back.

``cross-validated`` corrects each face with a fit that has not seen it (10 folds); ``in sample`` is the shipped fit, on
the very faces it learned from. ``both looks`` is ``--mirror``: the mean with the points of the
mirror image. dlib's model learned from iBUG 300-W, of which these photos are a part: its rows are in sample too.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float64

from aupipe.fer_data.errors import ModelFileError
from aupipe.fer_data.geometry import flip_points, inter_ocular
from aupipe.fer_data.images import read_image
from aupipe.pipeline.detectors import Face, LandmarkDetector, create_detector, detector_names
from aupipe.pipeline.detectors.mesh68 import map_plain
from aupipe.pipeline.detectors.pose68 import pose_from_points
from aupipe.pipeline.landmarks.passes import detect_pass, mirror_average
from fit_mesh68 import Sample, cross_validated, read_truth, shared_folder

REGIONS = {
    "all 68": slice(0, 68),
    "inner 51": slice(17, 68),
    "jaw": slice(0, 17),
    "brows": slice(17, 27),
    "nose": slice(27, 36),
    "eyes": slice(36, 48),
    "mouth": slice(48, 68),
}
YAW_EDGES = (0, 15, 30, 45)
FAILURE = 8.0

Points = Float64[np.ndarray, "68 2"]
Look = tuple[str, str, Points, int, Face | None, Face | None]
"""Name, source, true points and width of a photo; the face found in it, and in its mirror image."""


@dataclass(frozen=True)
class Outcome:
    """One row: per photo the points found, and those found in the mirror image, mirrored back; None where not found."""

    name: str
    found: Sequence[Points | None]
    mirror: Sequence[Points | None]


def look_at(detector: LandmarkDetector, folder: Path, both: bool = False) -> list[Look]:
    """Every photo of ``landmarks68``, as it is and mirrored; ``both``: each with the mirror average of its points."""
    looks: list[Look] = []
    for name, source, truth in read_truth(folder):
        image = read_image(folder / "images" / name)
        other = flip_points(truth, image.shape[1])
        one = _nearest(image, detector, truth, both)
        two = _nearest(np.ascontiguousarray(image[:, ::-1]), detector, other, both)
        looks.append((name, source, truth, image.shape[1], one, two))
    return looks


def outcome(name: str, looks: Sequence[Look], points: Callable[[Face], Points]) -> Outcome:
    """The row of one detector and one way to take points from its faces."""
    found = [None if one is None else points(one) for *_, one, _ in looks]
    mirror = [None if two is None else flip_points(points(two), width) for *_, width, _, two in looks]
    return Outcome(name, found, mirror)


def mesh_outcomes(name: str, looks: Sequence[Look]) -> list[Outcome]:
    """The rows of a detector that gives meshes: plain mapping, shipped correction, cross-validated correction."""
    rows = [outcome(f"{name}, plain E", looks, _plain), outcome(f"{name}, corrected, in sample", looks, _points)]
    both = [i for i, look_ in enumerate(looks) if look_[4] is not None and look_[5] is not None]
    samples = [_sample(looks[i]) for i in both]
    found: list[Points | None] = [None] * len(looks)
    mirror: list[Points | None] = [None] * len(looks)
    one, two = cross_validated(samples)
    for at, i in enumerate(both):
        found[i], mirror[i] = one[at], two[at]
    mean = [None if a is None or b is None else (a + b) / 2 for a, b in zip(found, mirror, strict=True)]
    return [
        *rows,
        Outcome(f"{name}, corrected, cross-validated", found, mirror),
        Outcome(f"{name}, both looks, cross-validated", mean, [None] * len(looks)),
    ]


def summary(row: Outcome, truths: Float64[np.ndarray, "n 68 2"]) -> dict[str, float]:
    """The numbers of one row; an error is absent where no face was found to measure it on."""
    kept = np.array([points is not None for points in row.found])
    found = np.array([points for points in row.found if points is not None]).reshape(-1, 68, 2)
    error = 100 * np.linalg.norm(found - truths[kept], axis=-1) / inter_ocular(truths[kept])[:, None]
    yaw = np.array([abs(float(pose_from_points(truth)[0])) for truth in truths])
    result = {"photos": float(len(kept)), "found": 100 * float(kept.mean())}
    if kept.any():
        result |= {region: float(error[:, part].mean()) for region, part in REGIONS.items()}
        result["median"] = float(np.median(error.mean(1)))
        result["failures"] = 100 * float((error.mean(1) > FAILURE).mean())
    for low, high in zip(YAW_EDGES, (*YAW_EDGES[1:], np.inf), strict=True):
        result |= _bin(f"yaw {low}{'+' if high == np.inf else f'-{high}'}", (yaw >= low) & (yaw < high), kept, error)
    pairs = [
        (np.linalg.norm(two - one, axis=-1).mean() / inter_ocular(truth))
        for one, two, truth in zip(row.found, row.mirror, truths, strict=True)
        if one is not None and two is not None
    ]
    return result | ({"mirror": 100 * float(np.mean(pairs))} if pairs else {})


def _bin(
    name: str, inside: Bool[np.ndarray, "n"], kept: Bool[np.ndarray, "n"], error: Float64[np.ndarray, "m 68"]
) -> dict[str, float]:
    chosen = error[inside[kept]].mean(1)
    result = {f"{name} photos": float(inside.sum())}
    if inside.any():
        result[f"{name} found"] = 100 * float(kept[inside].mean())
    if len(chosen):
        result |= {name: float(chosen.mean()), f"{name} median": float(np.median(chosen))}
        result[f"{name} failures"] = 100 * float((chosen > FAILURE).mean())
    return result


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    options = parser.parse_args()
    folder = shared_folder() / "landmarks68"
    truths = np.array([truth for _, _, truth in read_truth(folder)])
    rows: dict[str, dict[str, float]] = {}
    missing: list[str] = []
    for name in detector_names():
        try:
            detector = create_detector(name)
        except ModelFileError:
            missing.append(name)
            continue
        if detector.uses_known:
            continue  # it would be handed the truth
        looks = look_at(detector, folder)
        evened_looks = look_at(detector, folder, both=True)
        detector.close()
        meshes = any(one is not None and one.mesh is not None for *_, one, _ in looks)
        for row in mesh_outcomes(name, looks) if meshes else [outcome(name, looks, _points)]:
            rows[row.name] = summary(row, truths)
        even = outcome(f"{name}, both looks, in sample", evened_looks, _points)
        rows[even.name] = summary(even, truths)
    if options.json:
        print(json.dumps({"rows": rows, "not_installed": missing}, indent=2, sort_keys=True))
        return
    _table("Mean error, % of the outer-eye distance", rows, [*REGIONS, "median", "failures", "found", "mirror"])
    names = [f"yaw {low}-{high}" for low, high in itertools.pairwise(YAW_EDGES)]
    for name in [*names, f"yaw {YAW_EDGES[-1]}+"]:
        photos = max((int(row[f"{name} photos"]) for row in rows.values()), default=0)
        columns = [name, f"{name} median", f"{name} failures", f"{name} found"]
        _table(
            f"|{name.partition(' ')[0]}| {name.partition(' ')[2]} degrees, {photos} photos", rows, columns, len(name)
        )
    for name in missing:
        print(f"{name}: not installed")


def _table(title: str, rows: dict[str, dict[str, float]], columns: Sequence[str], cut: int = 0) -> None:
    print(title)
    heads = [column[cut:].strip() or "mean" for column in columns]
    print(f"{'':40}" + "".join(f"{head:>10}" for head in heads))
    for name, row in rows.items():
        print(f"{name:40}" + "".join(f"{row[c]:10.2f}" if c in row else f"{'-':>10}" for c in columns))
    print()


def _nearest(image: np.ndarray, detector: LandmarkDetector, truth: Points, both: bool) -> Face | None:
    for rung in detector.ladder:
        faces, _ = detect_pass(image, detector, rung)
        if faces:
            face = min(faces, key=lambda face: float(np.linalg.norm(face.points.mean(0) - truth.mean(0))))
            return mirror_average(face, image, detector, rung) if both else face
    return None


def _plain(face: Face) -> Points:
    if face.mesh is None:
        raise ValueError("The detector gave a face without a mesh.")
    return map_plain(face.mesh)


def _points(face: Face) -> Points:
    return face.points


def _sample(look_: Look) -> Sample:
    name, source, truth, width, one, two = look_
    if one is None or two is None:
        raise ValueError(f"{name} was not found both times.")
    return Sample(name, source, truth, _plain(one), flip_points(_plain(two), width), one.pose)


if __name__ == "__main__":
    main()
