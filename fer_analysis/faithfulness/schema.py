"""The declared shape of ``faithfulness.json``: the parts of it that are read back."""

from __future__ import annotations

from typing import TypedDict

from aupipe.fer_analysis.faithfulness.regions import REMOVALS
from aupipe.fer_data.typed import UnreadableTextError


class MeanJson(TypedDict):
    """A mean over faces and its 95 % interval."""

    mean: float
    ci95: tuple[float, float] | None


class AreaJson(TypedDict):
    """One curve of a map."""

    auc: float
    over_random: MeanJson | None


class CurveJson(TypedDict):
    """A map's curves, and the control that they are read against."""

    control: str | None
    deletion: AreaJson
    insertion: AreaJson


class RemovedJson(TypedDict):
    """What removing some pixels did."""

    fall: MeanJson | None


class RegionsJson(TypedDict):
    """Removal of the AU regions."""

    n: int
    n_with_region: int
    n_right: int
    room: float
    removed: dict[str, RemovedJson]
    fall_inside_over: dict[str, MeanJson | None]


class RandomisedJson(TypedDict):
    """A map's correlation when every weight is random."""

    final: float | None
    other_face: float | None


class RandomisationJson(TypedDict):
    """The randomisation test."""

    maps: dict[str, RandomisedJson]


class MeasuredJson(TypedDict):
    """``faithfulness.json``."""

    depends_on_picture: bool
    curves: dict[str, CurveJson]
    regions: RegionsJson
    randomisation: RandomisationJson
    split: str
    limit: int | None
    store_digest: str


class ComparedJson(MeasuredJson):
    """``faithfulness.json`` with what a comparison of two runs needs."""

    codebook_digest: str
    crop_size: int
    baseline: str
    seed: int
    faces_sha256: str


def check_parts(content: MeasuredJson) -> None:
    """Check that what a report reads is there. Raises :class:`UnreadableTextError`."""
    curves, regions = content["curves"], content["regions"]
    attention = curves.get("attention")
    complete = attention is not None and attention["control"] in curves
    if attention is not None:
        over = (attention["deletion"]["over_random"], attention["insertion"]["over_random"])
        complete = complete and None not in over
    complete = complete and "attention" in content["randomisation"]["maps"]
    if complete and regions["n"]:
        falls = [regions["removed"][kind]["fall"] if kind in regions["removed"] else None for kind in REMOVALS]
        complete = None not in (*falls, regions["fall_inside_over"].get("outside_face"))
    if not complete:
        raise UnreadableTextError("parts of it are missing")
