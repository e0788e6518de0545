"""The declared shape of ``metrics.json``: the parts of it that are read back."""

from __future__ import annotations

from typing import NotRequired, TypedDict

from aupipe.fer_analysis.evaluation.coded_summary import CODED_CONTROLS, ROWS
from aupipe.fer_analysis.evaluation.face_parts import PARTS
from aupipe.fer_analysis.evaluation.summary import CONTROLS
from aupipe.fer_data.typed import UnreadableTextError

Figures = dict[str, float | None]
Interval = tuple[float, float] | None


class CalibrationJson(TypedDict):
    """Errors of the stated probabilities."""

    ece: float
    nll: float
    brier: float


class IntervalsJson(TypedDict):
    """Bootstrap intervals of the main figures."""

    classes_of_one_face: list[str]
    accuracy: Interval
    balanced_accuracy: Interval
    att_cos: Interval
    att_cos_over: dict[str, Interval]
    att_specificity: Interval
    att_specificity_nearest: Interval
    cam_cos: Interval
    cam_cos_over: dict[str, Interval]
    cam_specificity: Interval
    cam_specificity_nearest: Interval


class PerClassJson(TypedDict):
    """The cosines of one class."""

    cam_cos: float | None
    att_cos: Figures


class CosineMatrixJson(TypedDict):
    """Cosines by class and map."""

    classes: list[str]
    counts: list[int]
    maps: list[str]
    values: list[list[float | None]]


class ConfusionJson(TypedDict):
    """Faces by true and predicted class."""

    classes: list[str]
    matrix: list[list[int]]


class ControlsJson(TypedDict):
    """Cosines that come for free."""

    uniform: float | None
    centre: float | None
    mean_map: float | None
    predicted_map: float | None
    wrong_class: float | None
    ceiling: float | None


class GroupJson(TypedDict):
    """The figures of one map over groups of faces."""

    all: Figures
    correct: Figures
    wrong: Figures
    by_class: dict[str, Figures]


class LocalisationJson(TypedDict):
    """Every figure of every map."""

    chance: Figures
    attention: dict[str, GroupJson]
    cam: GroupJson | None
    cam_predicted: GroupJson | None
    controls: dict[str, GroupJson | None]


class CodeSourceJson(TypedDict):
    """Where codes come from."""

    name: str
    scale: str


class CodedMapJson(TypedDict):
    """The figures of one map on coded faces."""

    cosine: float | None
    cosine_ci95: Interval
    within: float | None
    within_ci95: Interval
    pairs: int


class CodedLeadJson(TypedDict):
    """Paired intervals of what a map has more than its control."""

    cosine: Interval
    within: Interval


class CodedUnitJson(TypedDict):
    """One action unit's areas within a class."""

    within: float
    within_ci95: Interval
    unit_maps: float | None
    untrained: float | None
    estimate: float | None
    true_map: float | None
    pairs: int
    persons: int


class CodedJson(TypedDict):
    """Figures against coded action units."""

    source: CodeSourceJson
    notes: list[str]
    n: int
    n_groups: int
    n_uncoded: int
    n_without: int
    undrawn: dict[str, int]
    least_faces: int
    accuracy: float
    maps: dict[str, CodedMapJson]
    lead_over: dict[str, CodedLeadJson]
    by_unit: dict[str, CodedUnitJson]
    same_place: list[list[int]]
    table_sha256: str


class OccludedPartJson(TypedDict):
    """What hiding a part of the face costs."""

    hidden: float
    accuracy: float
    accuracy_ci95: Interval
    lost: float
    lost_ci95: Interval
    elsewhere: float
    elsewhere_covers: dict[str, float]
    lost_more: float
    lost_more_ci95: Interval


class OccludedJson(TypedDict):
    """Figures of faces with a part hidden."""

    margin: float
    parts: dict[str, OccludedPartJson]
    table_sha256: str


class MetricsJson(TypedDict):
    """``metrics.json``; ``coded`` and ``occluded`` where they were asked for, ``aus``: whose the maps show (newer)."""

    coded: NotRequired[CodedJson]
    occluded: NotRequired[OccludedJson]
    aus: NotRequired[str]

    accuracy: float
    accuracy_ci95: tuple[float, float]
    balanced_accuracy: float
    calibration: CalibrationJson
    intervals: IntervalsJson
    cam_cos: float | None
    att_cos: Figures
    per_class: dict[str, PerClassJson]
    cosine_matrix: CosineMatrixJson
    confusion: ConfusionJson
    controls: ControlsJson
    localisation: LocalisationJson
    n: int
    n_with_map: int
    n_groups: int
    predictions_sha256: str
    split: str
    limit: int | None
    store_digest: str
    codebook_digest: str
    checkpoint: str
    epoch: int
    crop_size: int


def check_shapes(content: MetricsJson) -> None:
    """Check that the parts belong together. Raises :class:`UnreadableTextError`."""
    layers = [str(number) for number in range(1, len(content["att_cos"]) + 1)]
    where, matrix = content["localisation"], content["cosine_matrix"]
    classes, counts = content["confusion"]["classes"], content["confusion"]["matrix"]
    groups = [*where["attention"].values(), where["cam"], where["cam_predicted"]]
    if not (
        layers
        and all(sorted(found) == sorted(layers) for found in (content["att_cos"], where["attention"]))
        and {len(counts), *map(len, counts)} == {len(classes)}
        and sorted(content["per_class"]) == sorted(classes)
        and all(sorted(one["att_cos"]) == sorted(layers) for one in content["per_class"].values())
        and len(matrix["values"]) == len(matrix["classes"]) == len(matrix["counts"])
        and all(len(row) == len(matrix["maps"]) for row in matrix["values"])
        and {*CONTROLS, "au_map"} <= where["controls"].keys()
        and all(CONTROLS.keys() == content["intervals"][over].keys() for over in ("att_cos_over", "cam_cos_over"))
        and all({"n", "cosine"} <= one[part].keys() for one in groups if one for part in ("all", "correct", "wrong"))
        and content["n"] > 0
    ):
        raise UnreadableTextError("its classes, layers and maps do not add up")
    coded = content.get("coded")
    if coded and (coded["maps"].keys() != ROWS.keys() or coded["lead_over"].keys() != CODED_CONTROLS.keys()):
        raise UnreadableTextError("its maps on coded faces are others than those that are measured")
    hidden = content.get("occluded")
    covers = [set(one["elsewhere_covers"]) for one in hidden["parts"].values()] if hidden else []
    if hidden and any(named != set(PARTS) for named in (set(hidden["parts"]), *covers)):
        raise UnreadableTextError("its hidden parts of the face are others than those that are measured")
