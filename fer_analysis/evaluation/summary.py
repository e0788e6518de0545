"""Summary of per-sample values: the figures of ``metrics.json``; None where nothing stands behind a figure.

**Means.** Over all faces, and over the rightly or wrongly predicted ones, figures are macro means as in the paper: over
the samples of an expression, then over the expressions. Within one true or predicted class they are plain means.

**Which class's CAM.** ``cam`` is the CAM of the label, ``cam_predicted`` that of the predicted class; both are compared
with the AU map of the label. ``cosine_predicted`` alone compares ``cam_predicted`` with the map of the predicted class.

**Empty maps.** ``empty`` is the share of maps without any positive value: they score 0, and a class whose CAM is empty
on most faces says that its evidence is all against it.

**Normalised score.** ``(cos - floor) / (ceiling - floor)``. The floor is the uniform map: the score of saying nothing,
which any layer can reach. A model also scores above it by pointing at faces in general; ``normalised_over_mean_map``
therefore puts the floor at the class-agnostic mean AU map, and only what exceeds 0 there is knowledge of the sample.
The ceiling is the best that a map of that size can reach; for the controls that of the last layer.

**Controls.** ``predicted_map`` is the AU map of the *predicted* expression, drawn after the fact.
A map that does not beat it tells nothing that the prediction does not.
``au_map`` is the face's own AU map: its specificity is the most that a map can attain.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float64

from aupipe.fer_analysis.evaluation.groups import ALL, CORRECT, LABELLED, WRONG, FaceGroups, GroupMeans
from aupipe.fer_analysis.evaluation.measuring import Samples
from aupipe.fer_analysis.evaluation.per_face import FIGURES, FaceFigure, face_figures
from aupipe.fer_models import metrics
from aupipe.fer_models.metrics import localisation, resampling

CONTROLS = {
    "uniform": "uniform map",
    "centre": "centred Gaussian",
    "mean_map": "mean AU map",
    "predicted_map": "AU map of the prediction",
}
"""Controls that every cosine is read against, with their titles. ``au_map``, the face's own, is measured beside them:
what can be attained."""

WRONG_CLASS = "another expression's map"
"""Title of ``controls.wrong_class``, the mean cosine of the face's AU map with those of the other expressions."""


def summarise(samples: Samples, classes: Sequence[str], n_layers: int) -> dict[str, Any]:
    """Summarise the samples: the content of ``metrics.json`` that comes from them alone. There must be at least one."""
    table = _Summary(samples, tuple(classes), n_layers)
    confusion = metrics.confusion_matrix(samples.label, samples.predicted, len(classes))
    where = table.localisation()
    attentions = {layer: entry["all"] for layer, entry in where["attention"].items()}
    cam = where["cam"]["all"] if where["cam"] else {}
    controls = {name: (entry or {}).get("all", {}) for name, entry in where["controls"].items()}
    return {
        "accuracy": metrics.accuracy(confusion),
        "accuracy_ci95": list(resampling.accuracy_interval(samples.correct, samples.label, samples.group_number)),
        "balanced_accuracy": metrics.balanced_accuracy(confusion),
        "calibration": metrics.calibration(samples.probability, samples.label),
        "intervals": table.intervals(),
        "cam_cos": cam.get("cosine"),
        "cam_cos_wrong": cam.get("cosine_wrong"),
        "att_cos": {layer: figures["cosine"] for layer, figures in attentions.items()},
        "att_cos_wrong": {layer: figures["cosine_wrong"] for layer, figures in attentions.items()},
        "per_class": _per_class(metrics.class_report(confusion, classes), where),
        "cosine_matrix": table.cosine_matrix(where),
        "confusion": {"classes": list(classes), "matrix": confusion.tolist()},
        "controls": {
            **{name: controls[name].get("cosine") for name in CONTROLS},
            "wrong_class": controls["au_map"].get("cosine_wrong"),
            "ceiling": attentions[str(n_layers)]["ceiling"],
            "ceiling_per_layer": {layer: figures["ceiling"] for layer, figures in attentions.items()},
        },
        "localisation": where,
        "n": len(samples.label),
        "n_with_map": int(samples.has_map.sum()),
        "n_groups": len(set(samples.group)),
    }


def _per_class(report: dict[str, dict[str, Any]], where: dict[str, Any]) -> dict[str, dict[str, Any]]:
    for name, entry in report.items():
        entry["cam_cos"] = where["cam"]["by_class"][name]["cosine"] if where["cam"] else None
        entry["att_cos"] = {layer: one["by_class"][name]["cosine"] for layer, one in where["attention"].items()}
    return report


@dataclass(frozen=True)
class _Summary:
    """Means of the samples' figures over groups of them."""

    samples: Samples
    classes: tuple[str, ...]
    n_layers: int

    @property
    def by_person(self) -> bool:
        """True where persons repeat: they are resampled then, not faces."""
        return resampling.repeats(self.samples.group_number)

    @cached_property
    def groups(self) -> FaceGroups:
        """The groups that figures are averaged over."""
        return FaceGroups.of(self.samples.label, self.samples.predicted, len(self.classes))

    @cached_property
    def means(self) -> dict[str, dict[str, GroupMeans]]:
        """Means of every figure of every map, by map and figure."""
        samples, last = self.samples, self.samples.figures[str(self.n_layers)]
        needed = {name: samples.having(figure.needs) for name, figure in face_figures()}
        # A control has no resolution of its own: its ceiling is that of the last layer.
        return {
            owner: {
                name: self.groups.average(columns[figure.column], needed[name])
                for name, figure in face_figures()
                if figure.column in columns
            }
            for owner, columns in (
                (owner, {"ceiling": last["ceiling"], **own}) for owner, own in samples.figures.items()
            )
        }

    def localisation(self) -> dict[str, Any]:
        """Summarise every figure of every map, and what chance scores."""
        samples, layers = self.samples, [str(number) for number in range(1, self.n_layers + 1)]
        return {
            "region_threshold": localisation.REGION_THRESHOLD,
            "chance": {
                name: self.groups.average(figure.chance(samples.region_share), samples.having(figure.needs)).macro[0]
                for name, figure in face_figures()
                if figure.chance is not None
            },
            "attention": {layer: self._groups(layer) for layer in layers},
            "cam": self._groups("cam"),
            "cam_predicted": self._groups("cam_predicted"),
            "controls": {name: self._groups(name) for name in (*CONTROLS, "au_map")},
        }

    def _groups(self, owner: str) -> dict[str, Any] | None:
        if owner not in self.samples.figures:
            return None
        named = LABELLED + len(self.classes)
        return {
            "all": self._describe(owner, ALL, "macro"),
            "correct": self._describe(owner, CORRECT, "macro"),
            "wrong": self._describe(owner, WRONG, "macro"),
            "by_class": {name: self._describe(owner, at, "pooled") for name, at in self._places(LABELLED)},
            "by_predicted": {name: self._describe(owner, at, "pooled") for name, at in self._places(named)},
        }

    def _places(self, first: int) -> Iterator[tuple[str, int]]:
        """Give each class the number of its group."""
        return ((name, first + number) for number, name in enumerate(self.classes))

    def _describe(self, owner: str, group: int, kind: Literal["macro", "pooled"]) -> dict[str, Any]:
        of = partial(self._mean, owner, group, kind)
        return {"n": int((self.groups.members[group] & self.samples.has_map).sum())} | {
            name: of(name) if isinstance(figure, FaceFigure) else figure.derive(of)
            for name, figure in FIGURES.items()
            if not (isinstance(figure, FaceFigure) and figure.only not in ("", owner))
        }

    def _mean(
        self, owner: str, group: int, kind: Literal["macro", "pooled"], name: str, other: str | None = None
    ) -> float | None:
        """Look up a figure's mean of the map ``owner``, or of the map ``other``."""
        means = self.means.get(other or owner, {}).get(name)
        return None if means is None else (means.macro if kind == "macro" else means.pooled)[group]

    def cosine_matrix(self, where: dict[str, Any]) -> dict[str, Any]:
        """Average cosines, classes with a map by maps: attention of each layer, CAM, controls."""
        entries = {**where["attention"], "cam": where["cam"], **{name: where["controls"][name] for name in CONTROLS}}
        maps = {name: entry for name, entry in entries.items() if entry is not None}
        mapped = np.bincount(self.samples.label[self.samples.has_map], minlength=len(self.classes))
        present = [name for number, name in enumerate(self.classes) if mapped[number]]
        return {
            "classes": present,
            "counts": [int(count) for count in mapped if count],
            "maps": list(maps),
            "values": [[entry["by_class"][name]["cosine"] for entry in maps.values()] for name in present],
        }

    def intervals(self) -> dict[str, Any]:
        """Compute bootstrap intervals of the main figures; attention is that of the last layer."""
        samples, last = self.samples, str(self.n_layers)
        right, everyone = samples.correct.astype(np.float64), np.ones(len(samples.label), bool)
        counts = np.bincount(samples.label, minlength=len(self.classes))
        return {
            "level": resampling.LEVEL,
            "method": "percentile bootstrap, " + ("persons resampled" if self.by_person else "stratified by class"),
            "resamples": resampling.RESAMPLES,
            "seed": resampling.SEED,
            "classes_of_one_face": [
                name for name, n in zip(self.classes, counts, strict=True) if n == 1 and not self.by_person
            ],
            "accuracy": self._bootstrap(right, everyone, "samples"),
            "balanced_accuracy": self._bootstrap(right, everyone, "classes"),
            **self._map_intervals("att", last),
            **self._map_intervals("cam", "cam"),
        }

    def _map_intervals(self, name: str, owner: str) -> dict[str, Any]:
        """Compute the intervals of a map's cosine, of its specificities, and of its lead over each control."""
        return {
            f"{name}_cos": self._interval((owner, "cos")),
            f"{name}_specificity": self._interval((owner, "cos"), (owner, "cos_wrong")),
            f"{name}_specificity_nearest": self._interval((owner, "cos"), (owner, "cos_nearest")),
            f"{name}_cos_over": {other: self._interval((owner, "cos"), (other, "cos")) for other in CONTROLS},
        }

    def _interval(self, column: tuple[str, str], less: tuple[str, str] | None = None) -> list[float] | None:
        """Compute the interval of a column's macro mean or, paired, of what it has more than another."""
        rows, figures = self.samples.has_map, self.samples.figures
        values = [figures.get(owner, {}).get(figure) for owner, figure in (column, less or column)]
        if values[0] is None or values[1] is None or not rows.any():
            return None
        difference = values[0] - values[1] if less is not None else values[0]
        return self._bootstrap(difference, rows, "classes")

    def _bootstrap(
        self, values: Float64[np.ndarray, "n"], rows: Bool[np.ndarray, "n"], weighting: resampling.Weighting
    ) -> list[float] | None:
        samples = self.samples
        interval = resampling.bootstrap_interval(
            values[rows], samples.label[rows], weighting, group=samples.group_number[rows]
        )
        return None if interval is None else list(interval)
