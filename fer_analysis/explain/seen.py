"""What a run saw in each picture of an input, one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from aupipe.fer_analysis.explain.action_units import action_unit_card, face_regions
from aupipe.fer_analysis.explain.inputs import InputPicture, Source
from aupipe.fer_analysis.explain.observed import observe
from aupipe.fer_analysis.explain.opened import OpenRun
from aupipe.fer_analysis.explain.result import FaceResult, face_notes
from aupipe.fer_data.preparation import AlignedFace, FaceFinder, MissedFace
from aupipe.fer_data.types import Failure


@dataclass(frozen=True)
class SeenPicture:
    """A picture, its explained faces, and what was missed of it. ``picture`` is None where it could not be read."""

    picture: InputPicture | None
    faces: tuple[FaceResult, ...]
    missed: tuple[Failure, ...]


def seen_pictures(opened: OpenRun, source: Source, find: FaceFinder) -> Iterator[SeenPicture]:
    """Look at the pictures of an input in order; what is wrong with one becomes a failure and ends nothing."""
    for picture in source.pictures():
        if isinstance(picture, Failure):
            yield SeenPicture(None, (), (picture,))
        else:
            yield _look(opened, picture, find)


def _look(opened: OpenRun, picture: InputPicture, find: FaceFinder) -> SeenPicture:
    found = find(picture.image, picture.box, picture.known)
    faces = {number: one for number, one in enumerate(found, 1) if isinstance(one, AlignedFace)}
    missed = []
    for number, one in enumerate(found, 1):
        if isinstance(one, MissedFace):
            name = picture.name if not faces else f"{picture.name}.face{number}"
            missed.append(Failure(name, picture.name, one.reason.key, one.detail))
    return SeenPicture(picture, tuple(explain_faces(opened, picture, faces)), tuple(missed))


def explain_faces(opened: OpenRun, picture: InputPicture, faces: Mapping[int, AlignedFace]) -> list[FaceResult]:
    """Classify and explain the numbered faces of one picture."""
    if not faces:
        return []
    results = []
    for (number, face), prediction in zip(faces.items(), opened.predict(list(faces.values())), strict=True):
        regions = face_regions(face.landmarks, opened.canvas, opened.record.classes[prediction.predicted])
        maps = (prediction.attention, prediction.cam, prediction.au_maps)
        card = action_unit_card(regions, opened.codebook, *maps)
        observed = observe(face.blendshapes, card)
        results.append(FaceResult(picture, number, face, prediction, card, face_notes(face), observed))
    return results
