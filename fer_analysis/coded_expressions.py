"""A codebook's expressions beside the action units that were coded on faces: are these what such faces show?

Every coded face has its expression's map, as the codebook draws it, and the map of its own coded action units, drawn by
the same codebook. Precision: the share of the expression's action units, by their weight, that were coded on the face;
recall: the share of the coded ones that the expression has. Sides and intensities of codes are passed over, as a
codebook has none.

A codebook that was made from these very faces flatters itself here; other persons' codes tell.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

from aupipe.fer_data import geometry
from aupipe.fer_data.au_maps.codebook import Codebook
from aupipe.fer_data.au_maps.codebook_check import SIZE, cosine
from aupipe.fer_data.au_maps.heatmaps import render_aus
from aupipe.fer_data.au_maps.mean_face import mean_face
from aupipe.fer_data.errors import ManifestError, paragraph
from aupipe.fer_data.manifest import Manifest, read_manifest
from aupipe.fer_data.manifest.points import read_points
from aupipe.fer_data.types import Sample
from aupipe.fer_display.tables import text_table
from aupipe.fer_models.metrics import resampling

MAP = 64
"""Side of the maps that are compared."""

FIGURES = ("cosine", "precision", "recall")
CONTROLS = {"mean_map": "mean of the expressions' maps", "another": "another expression's map"}


@dataclass(frozen=True)
class FaceMean:
    """A mean over faces, with its 95 % interval over persons; None where these are too few."""

    mean: float
    interval: tuple[float, float] | None

    def __str__(self) -> str:
        if self.interval is None:
            return f"{self.mean:.3f}"
        return f"{self.mean:.3f} ({self.interval[0]:.3f} to {self.interval[1]:.3f})"


@dataclass(frozen=True)
class ExpressionAgreement:
    """An expression on its coded faces: means over the faces."""

    faces: int
    persons: int
    cosine: float
    precision: float
    recall: float


@dataclass(frozen=True)
class CodebookAgreement:
    """A codebook against coded faces.

    Attributes:
        codebook: Its name.
        manifest: Where the faces come from.
        faces: Coded faces behind the figures, of so many ``persons``.
        own_points: How many were drawn on landmarks of their own; the others are drawn on the mean face.
        expressions: By name.
        overall: ``cosine, precision, recall`` over all faces, then the cosines of the controls.
        left_out: Number of faces by reason.
    """

    codebook: str
    manifest: str
    faces: int
    persons: int
    own_points: int
    expressions: Mapping[str, ExpressionAgreement]
    overall: Mapping[str, FaceMean]
    left_out: Mapping[str, int]

    def as_json(self) -> dict[str, Any]:
        """Return the object that ``--json`` prints."""
        return asdict(self)

    def lines(self) -> list[str]:
        """Return the figures for people."""
        rows: list[Sequence[str]] = [("", "faces", "persons", *FIGURES)]
        for name, one in self.expressions.items():
            rows.append((name, str(one.faces), str(one.persons), *(f"{getattr(one, f):.3f}" for f in FIGURES)))
        rows.append(("all", str(self.faces), str(self.persons), *(str(self.overall[name]) for name in FIGURES)))
        rows += [(f"control: {title}", "", "", str(self.overall[name])) for name, title in CONTROLS.items()]
        where = f"{self.own_points} of them drawn on their own points, the others on the mean face"
        if self.own_points in (0, self.faces):
            where = f"drawn on {'their own points' if self.own_points else 'the mean face'}"
        left = "; ".join(f"{count} {reason}" for reason, count in self.left_out.items() if count)
        return [
            f"{self.codebook} against {self.manifest}: {self.faces} coded faces, {where}",
            *text_table(rows),
            *([f"left out: {left}"] if left else []),
            "cosine: of the expression's map with that of the coded AUs; precision: share of the expression's AUs, by "
            "weight, that were coded; recall: share of the coded AUs that it has. In brackets 95 %, persons resampled. "
            "A codebook made from these faces flatters itself.",
        ]


def check_against(book: Codebook, path: Path) -> CodebookAgreement:
    """Compare a codebook with the faces of a manifest that have coded action units.

    Args:
        book: The codebook.
        path: A manifest with the column ``aus``. Faces with landmarks are drawn on these.

    Raises:
        ManifestError: It cannot be read, or no face of it can be compared.
    """
    manifest = read_manifest(path)
    kept, left_out = _comparable(book, manifest.samples)
    if not kept:
        raise _nothing_to_compare(book, path, manifest, left_out)
    labels = [sample.label for sample in kept]
    persons = np.unique([sample.subject or f"\n{sample.sample_id}" for sample in kept], return_inverse=True)[1]
    values = _measure(book, kept, _drawings(book, manifest, kept, sorted(set(labels))))
    rows = {name: np.array([label == name for label in labels]) for name in manifest.classes if name in labels}
    return CodebookAgreement(
        codebook=book.name,
        manifest=path.name,
        faces=len(kept),
        persons=len(np.unique(persons)),
        own_points=sum(sample.landmarks_row is not None for sample in kept),
        expressions={name: _of_expression(values, persons, chosen) for name, chosen in rows.items()},
        overall={
            name: FaceMean(float(one.mean()), resampling.bootstrap_interval(one, group=persons))
            for name, one in values.items()
        },
        left_out=left_out,
    )


def _of_expression(
    values: Mapping[str, Float64[np.ndarray, "n"]], persons: Int64[np.ndarray, "n"], rows: Bool[np.ndarray, "n"]
) -> ExpressionAgreement:
    figures = {name: float(values[name][rows].mean()) for name in FIGURES}
    return ExpressionAgreement(int(rows.sum()), len(np.unique(persons[rows])), **figures)


def _drawn_units(book: Codebook, sample: Sample) -> frozenset[int]:
    """The coded action units that the codebook can draw."""
    return frozenset(code.number for code in sample.aus or () if code.number in book.action_units)


def _comparable(book: Codebook, samples: Sequence[Sample]) -> tuple[list[Sample], dict[str, int]]:
    """Choose the faces that have both maps, and count the others by reason."""
    kept, without_map, uncoded, undrawn = list[Sample](), Counter[str](), 0, 0
    for sample in samples:
        if sample.aus is None:
            uncoded += 1
        elif not book.has_map(sample.label):
            without_map[sample.label] += 1
        elif not _drawn_units(book, sample):
            undrawn += 1
        else:
            kept.append(sample)
    reasons = {f"{name}, which has no AUs in the codebook": count for name, count in sorted(without_map.items())}
    return kept, {"not coded": uncoded, **reasons, "without a coded AU that the codebook draws": undrawn}


def _nothing_to_compare(book: Codebook, path: Path, manifest: Manifest, left_out: Mapping[str, int]) -> ManifestError:
    coded = any(sample.aus is not None for sample in manifest.samples)
    return ManifestError(
        paragraph(
            f"No face of the manifest can be compared with the codebook {book.name!r}.",
            where=path,
            expected="faces with coded action units in the column aus, of expressions that have AUs in the codebook",
            got="; ".join(f"{count} {reason}" for reason, count in left_out.items() if count),
            fix=None if coded else "Build the manifest with --aus-from FILE.",
        )
    )


class _Drawing:
    """Maps on one set of points: of each expression, and of whatever was coded."""

    def __init__(self, book: Codebook, points: Float[np.ndarray, "68 2"], expressions: Sequence[str]) -> None:
        self._book, self._points, self._expressions = book, points, expressions
        self._known: dict[frozenset[int], dict[str, float]] = {}

    @cached_property
    def _maps(self) -> dict[str, np.ndarray]:
        return {name: self._draw(self._book.expressions[name]) for name in self._expressions}

    def _draw(self, weights: Mapping[int, float]) -> np.ndarray:
        return render_aus(self._points, weights, self._book, SIZE, MAP)

    def cosines(self, units: frozenset[int]) -> dict[str, float]:
        """Compare each expression's map, and under an empty name the mean of them, with that of these AUs."""
        if units not in self._known:
            coded = self._draw(dict.fromkeys(sorted(units), 1.0))
            found = {name: cosine(drawn, coded) for name, drawn in self._maps.items()}
            self._known[units] = {**found, "": cosine(np.mean(list(self._maps.values()), axis=0), coded)}
        return self._known[units]


def _drawings(
    book: Codebook, manifest: Manifest, samples: Sequence[Sample], expressions: Sequence[str]
) -> Callable[[Sample], _Drawing]:
    """Give each face its drawing; faces without landmarks share that of the mean face."""
    face = mean_face(SIZE)
    shared = _Drawing(book, face, expressions)
    rows = [sample.landmarks_row for sample in samples if sample.landmarks_row is not None]
    points = read_points(manifest.landmarks, 1 + max(rows)) if manifest.landmarks is not None and rows else None

    def drawing(sample: Sample) -> _Drawing:
        if points is None or sample.landmarks_row is None:
            return shared
        return _Drawing(book, _upright(points[sample.landmarks_row].astype(np.float64), face), expressions)

    return drawing


def _upright(points: Float[np.ndarray, "68 2"], face: Float[np.ndarray, "68 2"]) -> Float64[np.ndarray, "68 2"]:
    """Turn, scale and shift points so that the outer eye corners lie on the line and at the size of the mean face's."""
    scale = float(geometry.inter_ocular(face) / geometry.inter_ocular(points))
    eyes = [one[[36, 45]].mean(0) for one in (points, face)]
    return geometry.apply_affine(geometry.similarity(float(geometry.roll(points)), scale, *eyes), points)


def _measure(
    book: Codebook, samples: Sequence[Sample], drawing: Callable[[Sample], _Drawing]
) -> dict[str, Float64[np.ndarray, "n"]]:
    """Measure every figure on every face."""
    found: dict[str, list[float]] = {name: [] for name in (*FIGURES, *CONTROLS)}
    for sample in samples:
        cosines = drawing(sample).cosines(_drawn_units(book, sample))
        weights, coded = book.expressions[sample.label], {code.number for code in sample.aus or ()}
        others = [value for name, value in cosines.items() if name not in ("", sample.label)]
        found["cosine"].append(cosines[sample.label])
        found["precision"].append(sum(w for au, w in weights.items() if au in coded) / sum(weights.values()))
        found["recall"].append(len(coded & weights.keys()) / len(coded))
        found["mean_map"].append(cosines[""])
        found["another"].append(float(np.mean(others)) if others else 0.0)
    return {name: np.array(values) for name, values in found.items()}
