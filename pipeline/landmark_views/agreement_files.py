"""The files of a comparison: agreement.json, agreement.csv (a row a sample), agreement.png (the worst pairs)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from aupipe.fer_data.files import atomic_path, write_json
from aupipe.fer_data.folders import AGREEMENT, output_folder
from aupipe.fer_data.images import write_png
from aupipe.fer_display.tables import csv_lines
from aupipe.pipeline.landmark_views.agreement import ANGLES, OUTCOMES, REGIONS, Agreement, Pair
from aupipe.pipeline.landmark_views.drawing import (
    Colour,
    FaceSection,
    FaceTile,
    compose,
    face_picture,
    load_photo,
    notice_picture,
)
from aupipe.pipeline.landmarks.work import Row

COLOUR_A: Colour = (255, 176, 0)
COLOUR_B: Colour = (86, 180, 255)
COLUMNS = ("sample_id", "outcome", *(f"nme_{name}" for name in REGIONS), *(f"{name}_change" for name in ANGLES))


def write_agreement(agreement: Agreement, out: Path) -> tuple[Path, ...]:
    """Write the comparison's three files into the folder ``out``.

    Rows of the CSV keep the landmarks' order (hash order); NME in percent and pose changes (b - a, degrees) are empty
    unless both found a face.

    Returns:
        The paths of JSON, CSV and PNG.

    Raises:
        UserInputError: The folder holds something else.
    """
    paths = out / "agreement.json", out / "agreement.csv", out / "agreement.png"
    with output_folder(out, AGREEMENT):
        write_json(paths[0], agreement.as_json())
        _write_csv(agreement, paths[1])
        _write_sheet(agreement, paths[2])
    return paths


def _write_csv(agreement: Agreement, path: Path) -> None:
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        file.writelines(csv_lines(COLUMNS, _csv_rows(agreement)))


def _csv_rows(agreement: Agreement) -> Iterator[list[str]]:
    for at, sample_id in enumerate(agreement.sample_ids):
        kind = OUTCOMES[agreement.outcome[at]]
        values = (*agreement.nme[at].tolist(), *agreement.turned[at].tolist())
        yield [sample_id, kind, *(f"{value:.4f}" if kind == "both" else "" for value in values)]


def _write_sheet(agreement: Agreement, path: Path) -> None:
    both = agreement.outcomes["both"]
    note = (
        f"{both} of {len(agreement.sample_ids)} faces found by both; median NME {agreement.regions['all'].median:.2f} %"
    )
    heading = "Largest disagreement"
    chosen = f"{len(agreement.worst)} of {both}: largest NME of all 68 points, in % of the outer-eye distance"
    section = FaceSection(heading, chosen, tuple(_tile(pair, agreement) for pair in agreement.worst))
    legend = list(zip(agreement.names, (COLOUR_A, COLOUR_B), strict=True))
    with atomic_path(path) as temporary:
        write_png(temporary, compose(f"Agreement on {agreement.title}", note, [section], legend))


def _tile(pair: Pair, agreement: Agreement) -> FaceTile:
    photo = load_photo(agreement.root / pair.a.sample.path, pair.a.sha256)
    marks = [(pair.a.points, COLOUR_A), (pair.b.points, COLOUR_B)]
    picture = notice_picture(photo) if isinstance(photo, str) else face_picture(photo, marks)
    yaws = f"yaw {_yaw(pair.a)} / {_yaw(pair.b)}"
    return FaceTile(picture, (pair.a.sample.sample_id, pair.a.sample.label, f"NME {pair.nme:.1f} % · {yaws}"))


def _yaw(row: Row) -> str:
    return f"{round(float(row.pose[0])):+d}°"
