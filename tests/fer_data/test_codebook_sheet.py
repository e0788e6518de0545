from __future__ import annotations

from pathlib import Path

import click
import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from aupipe.commands.codebook import codebook
from aupipe.fer_data.au_maps.codebook_sheet import smooth_curve


@pytest.mark.parametrize("name", ["default", "reference", "ckplus"])
def test_a_sheet_shows_maps_and_faces(name: str, tmp_path: Path) -> None:
    path = tmp_path / "sheet.png"
    result = CliRunner().invoke(codebook, ["show", name, "--png", str(path)])
    assert result.exit_code == 0 and f"drawn: {path}" in result.output
    image = cv2.imread(str(path))
    assert image is not None and min(image.shape[:2]) > 1000
    black, white = (image <= 8).all(2).mean(), (image == 255).all(2).mean()
    bright = ((image[..., 2] > 240) & (image[..., 0] < 150)).mean()  # the peaks of the maps
    assert black > 0.1 and white > 0.2 and bright > 0.005
    page_edge = np.concatenate([image[:, :20].ravel(), image[:, -20:].ravel(), image[:20].ravel(), image[-20:].ravel()])
    assert (page_edge == 255).all()  # nothing runs off the page


def test_two_books_side_by_side(tmp_path: Path) -> None:
    path = tmp_path / "diff.png"
    assert CliRunner().invoke(codebook, ["diff", "default", "du2014", "--png", str(path)]).exit_code == 0
    image = cv2.imread(str(path)).astype(int)
    bluish = (image[..., 0] - image[..., 2] > 60)[-500:].mean()  # du2014 is weaker in places
    assert bluish > 0.005


@pytest.mark.parametrize(
    "words",
    [
        ["show", "--png", "x.png"],
        ["show", "default", "--png", "x.jpg"],
        ["diff", "default", "emfacs", "--png", "no/such/x.png"],
    ],
)
def test_where_a_picture_cannot_go(words: list[str]) -> None:
    result = CliRunner().invoke(codebook, words, standalone_mode=False)
    assert isinstance(result.exception, click.UsageError)


def test_curves_pass_through_their_points_and_close() -> None:
    angles = np.linspace(0, 2 * np.pi, 9)
    circle = np.stack([np.cos(angles), np.sin(angles)], -1)
    curve = smooth_curve(circle)
    assert np.abs(np.linalg.norm(curve, axis=1) - 1).max() < 0.02
    for points in (circle, circle[:4]):
        distances = np.linalg.norm(smooth_curve(points)[:, None] - points[None], axis=-1)
        assert distances.min(0).max() < 1e-9


def test_books_without_a_common_expression_are_told_on_their_page(tmp_path: Path) -> None:
    own, path = tmp_path / "own.toml", tmp_path / "diff.png"
    head = 'schema = 1\nversion = 1\nname = "mine"\nsource = "a test"\nregions = "default"\n'
    own.write_text(f"{head}[expressions]\nFreude = {{ AU6 = 0.5, AU12 = 1.0 }}\n")
    result = CliRunner().invoke(codebook, ["diff", "default", str(own), "--png", str(path)])
    assert result.exit_code == 0, result.output
    image = cv2.imread(str(path))
    edge = np.concatenate([image[:, :20].ravel(), image[:, -20:].ravel(), image[:20].ravel(), image[-20:].ravel()])
    assert (edge == 255).all()
