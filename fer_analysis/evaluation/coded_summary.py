"""Summary of the coded faces: the part ``coded`` of ``metrics.json``.

**Within a class.** For every action unit and class with :data:`~aupipe.fer_models.metrics.within_class.LEAST_FACES`
faces that show it and as many that do not: the area under the curve of the former against the latter, by a map's score
in the action unit's region; pooled by pairs of faces. Knowing the class, and no more, is worth .5. None where no action
unit has the faces.

**Cosine.** With the map of the coded action units, over the faces that show any; macro mean over the classes.

Intervals are 95 %, persons resampled. ``lead_over`` holds those of what the attention has more than each control,
paired; over ``untrained_unit_maps``, what the network's own maps of single action units have more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64

from aupipe.fer_analysis.evaluation.coded_faces import CodedFaces
from aupipe.fer_analysis.evaluation.coded_maps import CodedMeasures
from aupipe.fer_data.au_maps.codebook import Codebook
from aupipe.fer_data.au_maps.places import shared_places
from aupipe.fer_data.manifest.face_codes import FaceCodes
from aupipe.fer_models import metrics
from aupipe.fer_models.metrics import resampling, within_class
from aupipe.fer_models.metrics.within_class import UnitInClass

MAPS = {
    "attention": "attention of the deepest layer",
    "cam": "CAM of the label",
    "cam_predicted": "CAM of the prediction",
    "unit_maps": "its maps of single action units",
}
CODED_CONTROLS = {
    "another": "codes of another face of the class",
    "label_map": "AU map of the class",
    "predicted_map": "AU map of the prediction",
    "untrained": "untrained network's attention",
    "untrained_unit_maps": "untrained network's maps of single action units",
    "estimate": "estimate from blendshapes or another program",
}
TRUE_MAP = {"true_map": "the coded AUs' own map at that size"}
ROWS = {**MAPS, **CODED_CONTROLS, **TRUE_MAP}
"""Everything that is measured, with its title."""

Interval = tuple[float, float] | None


def summarise_coded(
    faces: CodedFaces, measured: CodedMeasures, classes: Sequence[str], codes: FaceCodes, book: Codebook
) -> dict[str, Any]:
    """Summarise what was measured on coded faces."""
    table = _CodedSummary(faces, measured, tuple(classes))
    return {
        "source": asdict(codes.source),
        "notes": list(codes.notes),
        "n": len(faces),
        "n_groups": len(set(faces.group)),
        "n_uncoded": faces.uncoded,
        "n_without": int((~faces.shown.any(1)).sum()),
        "undrawn": {str(number): count for number, count in faces.undrawn.items()},
        "least_faces": within_class.LEAST_FACES,
        "accuracy": float((measured.predicted == faces.label).mean()),
        "maps": {name: table.figures(name) for name in ROWS},
        "lead_over": {name: table.lead(name) for name in CODED_CONTROLS},
        "by_unit": table.by_unit(),
        "same_place": [list(group) for group in _shared(book, faces.numbers)],
    }


def _shared(book: Codebook, numbers: Sequence[int]) -> list[tuple[int, ...]]:
    """List the groups of these action units that share a place."""
    groups = [tuple(number for number in group if number in numbers) for group in shared_places(book)]
    return [group for group in groups if len(group) > 1]


@dataclass(frozen=True)
class _CodedSummary:
    """Means and areas of what was measured, each with its interval."""

    faces: CodedFaces
    measured: CodedMeasures
    classes: tuple[str, ...]

    @cached_property
    def _weight(self) -> Float64[np.ndarray, "r n"]:
        return within_class.resampled_faces(self.faces.group_number)

    def _shown(self, name: str) -> Bool[np.ndarray, "n k"]:
        return self.faces.shown_by_another if name == "another" else self.faces.shown

    def _scores(self, name: str) -> Float64[np.ndarray, "n k"] | None:
        return self.measured.scores.get("attention" if name == "another" else name)

    def _units(self, name: str, *others: str) -> list[UnitInClass]:
        """The action units in classes that have enough faces with a score, of the ``others`` too."""
        names = (name, *others)
        scores = [found for one in names if (found := self._scores(one)) is not None]
        if len(scores) < len(names):
            return []
        known = np.asarray(np.isfinite(scores).all(0))
        if name == "another":
            known &= self.faces.accompanied[:, None]
        return within_class.units_in_classes(self._shown(name), self.faces.label, known)

    def _area(self, name: str, units: Sequence[UnitInClass]) -> float | None:
        scores = self._scores(name)
        if scores is None or not units:
            return None
        return float(within_class.pooled_area(units, scores, self._shown(name))[0])

    def _areas(self, name: str, units: Sequence[UnitInClass]) -> Float64[np.ndarray, "r"]:
        """The area on resampled persons."""
        scores = self._scores(name)
        if scores is None:
            return np.full(len(self._weight), np.nan)
        return within_class.pooled_area(units, scores, self._shown(name), self._weight)

    def _interval(self, areas: Float64[np.ndarray, "r"]) -> Interval:
        return within_class.area_interval(areas) if len(set(self.faces.group)) > 1 else None

    def _cosine_rows(self, *names: str) -> Bool[np.ndarray, "n"]:
        return np.asarray(np.logical_and.reduce([self._shown(name).any(1) for name in names]))

    def figures(self, name: str) -> dict[str, Any]:
        """Compute cosine and area within a class; None where there is none."""
        units, cosines = self._units(name), self.measured.cosines.get(name)
        rows = self._cosine_rows(name)
        k = len(self.classes)
        return {
            "cosine": None if cosines is None else metrics.macro_mean(cosines, self.faces.label, rows, k),
            "cosine_ci95": None if cosines is None else self._cosine_interval(cosines, rows),
            "within": self._area(name, units),
            "within_ci95": self._interval(self._areas(name, units)),
            "pairs": within_class.pair_count(units, self._shown(name)),
        }

    def _cosine_interval(self, values: Float64[np.ndarray, "n"], rows: Bool[np.ndarray, "n"]) -> Interval:
        if not rows.any():
            return None
        label, group = self.faces.label[rows], self.faces.group_number[rows]
        return resampling.bootstrap_interval(values[rows], label, "classes", group=group)

    def lead(self, name: str) -> dict[str, Interval]:
        """Compute the paired intervals of what a map has more than its control, on what both have."""
        mine = "unit_maps" if name == "untrained_unit_maps" else "attention"
        cosines, rows = self.measured.cosines, self._cosine_rows(mine, name)
        both = None if name not in cosines else self._cosine_interval(cosines[mine] - cosines[name], rows)
        # Of another face the units are its own: its faces show others.
        units = self._units(name) if name == "another" else self._units(name, mine)
        own = self._units(mine) if name == "another" else units
        return {"cosine": both, "within": self._interval(self._areas(mine, own) - self._areas(name, units))}

    def by_unit(self) -> dict[str, Any]:
        """Compute for each action unit the attention's area, and what it is read against."""
        entries, found = {}, {name: self._units(name) for name in ("attention", "estimate", "unit_maps")}
        for unit, number in enumerate(self.faces.numbers):
            units, estimated, mapped = ([one for one in of if one.unit == unit] for of in found.values())
            if not units:
                continue
            entries[str(number)] = {
                "within": self._area("attention", units),
                "within_ci95": self._interval(self._areas("attention", units)),
                "unit_maps": self._area("unit_maps", mapped),
                "untrained": self._area("untrained", units),
                "estimate": self._area("estimate", estimated),
                "true_map": self._area("true_map", units),
                "pairs": within_class.pair_count(units, self.faces.shown),
                "persons": len(np.unique(self.faces.group_number[np.concatenate([one.rows for one in units])])),
                "classes": [self.classes[one.label] for one in units],
            }
        return entries


def with_estimate(measured: CodedMeasures, estimate: Float64[np.ndarray, "n k"] | None) -> CodedMeasures:
    """Add the scores of an estimate, where there is one."""
    if estimate is None:
        return measured
    scores: Mapping[str, np.ndarray] = {**measured.scores, "estimate": estimate}
    return CodedMeasures(measured.predicted, measured.cosines, scores)
