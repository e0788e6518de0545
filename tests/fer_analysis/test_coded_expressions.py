from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from aupipe.commands.codebook import codebook
from aupipe.fer_analysis.coded_expressions import check_against
from aupipe.fer_data import geometry
from aupipe.fer_data.action_units.facs import parse_facs
from aupipe.fer_data.au_maps.codebook import load_codebook
from aupipe.fer_data.au_maps.mean_face import mean_face
from aupipe.fer_data.errors import ManifestError
from aupipe.fer_data.manifest.model import write_manifest
from aupipe.fer_data.types import Sample

BOOK = load_codebook("default")
HAPPY, SURPRISED = ("+".join(map(str, BOOK.expressions[name])) for name in ("happiness", "surprise"))
FACES = [
    ("happiness", "A", HAPPY), ("happiness", "A", HAPPY), ("happiness", "B", "12"), ("surprise", "B", SURPRISED),
    ("surprise", "C", "9+17"), ("surprise", "C", "1+2+5+25+L14A+61"), ("happiness", "C", ""), ("neutral", "A", "0"),
    ("happiness", "B", "0"), ("surprise", "A", "54+61"),
]  # fmt: skip


def written(folder: Path, faces: list[tuple[str, str, str]], points: np.ndarray | None = None) -> Path:
    samples = [
        Sample(f"{at:02}", f"{at:02}.png", label, label, "train", person, aus=parse_facs(aus),
               landmarks_row=None if points is None else at)
        for at, (label, person, aus) in enumerate(faces)
    ]  # fmt: skip
    write_manifest(folder / "M.csv", samples, root=folder, layout="csv", landmarks=points)
    return folder / "M.csv"


def test_expressions_are_compared_with_what_was_coded(tmp_path: Path) -> None:
    found = check_against(BOOK, written(tmp_path, FACES))
    assert (found.faces, found.persons, found.own_points) == (6, 3, 0)
    happy, surprised = found.expressions["happiness"], found.expressions["surprise"]
    assert (happy.faces, happy.persons) == (3, 2)
    assert happy.precision == pytest.approx((1 + 1 + 1 / 3) / 3) and happy.recall == 1
    assert surprised.precision == pytest.approx((1 + 0 + 3 / 5) / 3)
    assert surprised.recall == pytest.approx((1 + 0 + 3 / 6) / 3)  # 14, 25 and 61 are not the expression's
    assert 0.5 < surprised.cosine < happy.cosine < 1
    assert found.left_out == {
        "not coded": 1,
        "neutral, which has no AUs in the codebook": 1,
        "without a coded AU that the codebook draws": 2,
    }
    overall = found.overall["cosine"]
    assert overall.mean == pytest.approx((happy.cosine + surprised.cosine) / 2)
    assert overall.interval is not None and overall.interval[0] < overall.mean < overall.interval[1]


def test_a_codebook_that_says_what_was_coded_is_perfect_and_the_controls_are_not(tmp_path: Path) -> None:
    found = check_against(BOOK, written(tmp_path, [FACES[0], FACES[1], FACES[3]]))
    assert {name: one.mean for name, one in found.overall.items() if name in ("cosine", "precision", "recall")} == {
        name: pytest.approx(1) for name in ("cosine", "precision", "recall")
    }
    assert found.overall["another"].mean < found.overall["mean_map"].mean < 0.95


def test_faces_with_points_are_drawn_on_them_however_they_lie_in_the_photo(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    faces = [FACES[2], FACES[4], FACES[5]]
    points = np.array([mean_face(90) + rng.normal(0, 1.5, (68, 2)) for _ in faces], np.float32)
    turned = np.array(
        [geometry.apply_affine(geometry.similarity(0.7, 3.1, np.zeros(2), np.array([50.0, 80])), one) for one in points]
    )
    cosines = [
        check_against(BOOK, written(tmp_path, faces, given)).overall["cosine"].mean
        for given in (points, turned.astype(np.float32))
    ]
    assert cosines[0] == pytest.approx(cosines[1], abs=1e-3)
    found = check_against(BOOK, written(tmp_path, faces, points))
    assert found.own_points == 3 and "drawn on their own points" in found.lines()[0]
    assert cosines[0] != pytest.approx(check_against(BOOK, written(tmp_path, faces)).overall["cosine"].mean, abs=1e-4)


@pytest.mark.parametrize(
    ("faces", "said"), [([FACES[6]], "--aus-from"), ([FACES[7], FACES[9]], "1 neutral"), (FACES[8:], "2 without")]
)
def test_faces_that_cannot_be_compared_are_said_to_be_so(
    faces: list[tuple[str, str, str]], said: str, tmp_path: Path
) -> None:
    with pytest.raises(ManifestError, match="No face of the manifest can be compared") as raised:
        check_against(BOOK, written(tmp_path, faces))
    assert said in str(raised.value)


def test_the_command_adds_the_figures_to_the_findings(tmp_path: Path) -> None:
    path = written(tmp_path, FACES)
    words = ["check", "default", "--against", str(path)]
    printed = CliRunner().invoke(codebook, words, standalone_mode=False)
    assert printed.return_value == 0 and "0 errors" in printed.output
    assert "default against M.csv: 6 coded faces, drawn on the mean face" in printed.output
    assert "control: another expression's map" in printed.output and "left out: 1 not coded; " in printed.output
    content = json.loads(CliRunner().invoke(codebook, [*words, "--json"], standalone_mode=False).output)
    assert content["findings"] == [] and content["against"]["expressions"]["happiness"]["faces"] == 3
    path.write_text(path.read_text().replace("9+17", "3+17"))
    refused = CliRunner().invoke(codebook, words, standalone_mode=False)
    assert isinstance(refused.exception, ManifestError) and "FACS has no action unit 3" in str(refused.exception)
    broken = tmp_path / "broken.toml"
    broken.write_text("schema = 1")
    failed = CliRunner().invoke(codebook, ["check", str(broken), *words[2:]], standalone_mode=False)
    assert failed.return_value == 1 and "against" not in failed.output
