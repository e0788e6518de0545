"""One explained face: everything that was found out about it, as values and as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from aupipe.fer_analysis.explain.action_units import ActionUnitCard
from aupipe.fer_analysis.explain.inputs import InputPicture
from aupipe.fer_analysis.explain.observed import ObservedAus
from aupipe.fer_analysis.explain.opened import FacePrediction, OpenRun
from aupipe.fer_data import geometry
from aupipe.fer_data.action_units.modes import DRAWN_AUS
from aupipe.fer_data.preparation import AlignedFace

TURNED = 30.0
"""From this yaw in degrees on, much of the far half is hidden."""

OWN_MAP_LIMIT = (
    "The network's own map of an action unit is what it learned of it, not a measurement: `aupipe evaluate --aus` says "
    "what such maps tell on faces that people coded."
)

ENLARGED = 2.0
"""From this magnification on, the network saw more interpolated pixels than the photo has."""


@dataclass(frozen=True)
class FaceResult:
    """A face of a picture. ``number`` counts the picture's faces from 1; ``notes`` say what makes it less reliable."""

    picture: InputPicture
    number: int
    face: AlignedFace
    prediction: FacePrediction
    card: ActionUnitCard
    notes: tuple[str, ...]
    observed: ObservedAus | None = None

    @property
    def name(self) -> str:
        """A name unique within the input."""
        return f"{self.picture.name}.face{self.number}"

    @property
    def title(self) -> str:
        """A title for people."""
        return f"{self.picture.name}, face {self.number}"

    def confidence(self) -> float:
        """Return the probability of the prediction."""
        return float(self.prediction.probability[self.prediction.predicted])


def face_notes(face: AlignedFace) -> tuple[str, ...]:
    """Note what makes this face's landmarks, and so everything drawn on them, less reliable, and other faces seen."""
    notes = []
    if face.faces_seen > 1:
        notes.append(f"In this picture {face.faces_seen} faces were seen: --faces says which are explained.")
    if face.rung:
        notes.append(f"The face was found only on rung {face.rung} of the search: its points may be less exact.")
    if abs(face.pose[0]) >= TURNED:
        notes.append(
            f"The face is turned by {abs(face.pose[0]):.0f} degrees: the points of its far half are partly guessed."
        )
    if (zoom := magnification(face)) >= ENLARGED:
        notes.append(f"The face is small: the network saw it enlarged {zoom:.1f} times.")
    return tuple(notes)


def magnification(face: AlignedFace) -> float:
    """Compute the number of crop pixels per photo pixel."""
    return float(1 / np.sqrt(abs(np.linalg.det(face.to_source[:, :2]))))


def summary_row(result: FaceResult, opened: OpenRun) -> dict[str, Any]:
    """Make the face's row of ``faces.csv``."""
    classes = opened.record.classes
    yaw, pitch, roll = (round(float(angle), 1) for angle in result.face.pose)
    probability = {f"p_{name}": round(float(result.prediction.probability[k]), 6) for k, name in enumerate(classes)}
    return {
        "sample_id": result.picture.name,
        "frame": "" if result.picture.frame is None else result.picture.frame,
        "seconds": "" if result.picture.seconds is None else result.picture.seconds,
        "face": result.number,
        "label": result.picture.label,
        "predicted": classes[result.prediction.predicted],
        "confidence": round(result.confidence(), 6),
        **probability,
        "asymmetry": round(result.card.asymmetry, 4),
        "missed_aus": " ".join(map(str, result.card.missed)),
        "unseen_aus": " ".join(map(str, result.card.outside)),
        "shown_aus": " ".join(map(str, result.observed.shown)) if result.observed else "",
        "score": round(result.face.score, 4),
        "rung": result.face.rung,
        "yaw": yaw,
        "pitch": pitch,
        "roll": roll,
    }


def result_json(result: FaceResult, opened: OpenRun) -> dict[str, Any]:
    """Make the content of a face's JSON file. Points and corners in photo pixels, integers at pixel centres."""
    prediction, face, card, classes = result.prediction, result.face, result.card, opened.record.classes
    yaw, pitch, roll = (float(angle) for angle in face.pose)
    predicted = classes[prediction.predicted]
    cam = None if prediction.cam is None else {"class": predicted, "map": _rounded(prediction.cam)}
    return {
        "sample_id": result.picture.name,
        "face": result.number,
        "frame": result.picture.frame,
        "seconds": result.picture.seconds,
        "label": result.picture.label or None,
        "predicted": predicted,
        "confidence": result.confidence(),
        "calibration": {**asdict(opened.calibration), "applied": opened.calibration.helps}
        if opened.calibration
        else None,
        "probabilities": {name: float(prediction.probability[k]) for k, name in enumerate(classes)},
        "logits": {name: float(prediction.logits[k]) for k, name in enumerate(classes)},
        "attention": {"layer": opened.layer, "map": _rounded(prediction.attention)},
        "cam": cam,
        "au_maps": _au_maps(prediction.au_maps),
        "codebook": opened.codebook.name,
        "action_units": [{**asdict(unit), "lift": unit.lift} for unit in card.action_units],
        "expected": list(card.expected),
        "missed": list(card.missed),
        "elsewhere": list(card.elsewhere),
        "outside": list(card.outside),
        "shared": [list(group) for group in card.shared],
        "observed": None if result.observed is None else asdict(result.observed),
        "asymmetry": card.asymmetry,
        "cosine": card.cosine,
        "cosine_uniform": card.cosine_uniform,
        "landmarks": {
            "points": _rounded(face.points),
            "score": face.score,
            "rung": face.rung,
            "faces_seen": face.faces_seen,
            "pose": {"yaw": yaw, "pitch": pitch, "roll": roll},
            "eye_distance": float(geometry.inter_ocular(face.points)),
            "magnification": magnification(face),
        },
        "crop": {"size": opened.preparation.image_size, "to_photo": face.to_source.tolist()},
        "notes": [*result.notes, *opened.notes],
        "limits": list(limits(opened, prediction)),
    }


def limits(opened: OpenRun, prediction: FacePrediction) -> tuple[str, ...]:
    """List what an explanation does not say; true of every face of the run."""
    rows, columns = prediction.attention.shape
    places = ", ".join("AU " + "/".join(map(str, group)) for group in opened.canvas.shared)
    return (
        "A map shows where the network's features are strong. It does not show which muscles moved: an AU's share is "
        "attention at the AU's place, not the AU's activity.",
        f"The attention has {columns} x {rows} cells over the framed window; AUs that lie within one cell of each "
        "other cannot be told apart. AU regions overlap, so shares do not add up to 100 %."
        + (f" These share a place, whatever the resolution: {places}." if places else ""),
        f"Expected AUs are what the codebook {opened.codebook.name!r} gives the predicted expression, not what this "
        "face shows.",
        "Action units told by blendshapes are an estimate, fitted on posed, frontal faces: which of two faces of one "
        "expression shows one, it hardly knows.",
        *(() if prediction.au_maps is None else (OWN_MAP_LIMIT,)),
        "Chance and the even map are those of this one face, which decides nothing about the network: over faces and "
        "persons, `aupipe report` decides with intervals.",
        f"The classifier always names one of its {len(opened.record.classes)} classes, whatever the photo shows, and "
        "its confidence holds only for photos like those of its validation split. An expression is not an emotion.",
    )


def _au_maps(au_maps: np.ndarray | None) -> dict[str, Any] | None:
    if au_maps is None:
        return None
    return {str(number): _rounded(values) for number, values in zip(DRAWN_AUS, au_maps, strict=True)}


def _rounded(values: np.ndarray) -> list[Any]:
    return np.round(np.asarray(values, np.float64), 5).tolist()  # type: ignore[no-any-return]
