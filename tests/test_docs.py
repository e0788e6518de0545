"""The documentation names what exists, and its examples work."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from aupipe.fer_data.au_maps.codebook import builtin_codebooks
from aupipe.fer_data.images import write_png
from aupipe.fer_data.landmark_parts import LandmarkRow, write_part
from aupipe.fer_data.manifest.descriptors import layout_names, parse_descriptor
from aupipe.fer_data.manifest.layouts.base import ReadRequest, get_reader
from aupipe.fer_data.manifest.problems import ProblemReason
from aupipe.fer_data.types import Reason
from aupipe.fer_demo.portrait import portrait_faces
from aupipe.fer_models.methods import method_names, option_defaults
from aupipe.pipeline.detectors import detector_names
from aupipe.pipeline.landmarks.faces import POLICIES

DOCS = Path(__file__).parents[1] / "docs"


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("datasets.md", [name for name in layout_names() if name != "auto"]),
        ("datasets.md", [reason.value for reason in ProblemReason]),
        ("landmarks.md", [reason.key for reason in Reason if reason is not Reason.OK]),
        ("landmarks.md", list(POLICIES)),
        ("landmarks.md", detector_names()),
        ("codebooks.md", builtin_codebooks()),
    ],
    ids=["layouts", "problems", "reasons", "policies", "detectors", "codebooks"],
)
def test_a_page_names_them_all(page: str, names: list[str]) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    assert [name for name in names if f"`{name}`" not in text] == []


def test_every_column_of_a_part_is_described(tmp_path: Path) -> None:
    import h5py

    write_part(tmp_path / "p.h5", [LandmarkRow("a", "a.png", Reason.NO_FACE)], "0", "{}")
    text = (DOCS / "landmarks.md").read_text(encoding="utf-8")
    with h5py.File(tmp_path / "p.h5") as file:
        assert [name for name in file if f"`{name}`" not in text] == []


def test_the_example_of_another_dataset_reads_one(tmp_path: Path) -> None:
    example = re.search(r"```toml\n(.*?)```", (DOCS / "datasets.md").read_text(encoding="utf-8"), re.DOTALL)
    assert example is not None
    descriptor = parse_descriptor(example[1], "docs/datasets.md")
    face = next(portrait_faces("happiness", 1, seed=0, size=48)).image
    for name in ("P07_joy_3.png", "P08_rage_1.png"):
        write_png(tmp_path / name, face)
    form = descriptor.forms[0]
    listing = get_reader(form.reader).read(ReadRequest(tmp_path, form, "", tmp_path / "out", descriptor.splits))
    assert {(row.subject, descriptor.labels[row.source_label]) for row in listing.rows} == {
        ("P07", "happiness"),
        ("P08", "anger"),
    }


def test_every_figure_of_an_evaluation_is_described() -> None:
    from aupipe.fer_analysis.evaluation.per_face import FIGURES
    from aupipe.fer_analysis.evaluation.summary import CONTROLS

    text = (DOCS / "evaluation.md").read_text(encoding="utf-8")
    assert [name for name in (*FIGURES, *CONTROLS) if f"`{name}`" not in text] == []


def test_every_command_of_the_gallery_exists_with_its_options() -> None:
    from aupipe.commands import cli

    blocks = re.findall(r"```sh\n(.*?)```", (DOCS / "gallery.md").read_text(encoding="utf-8"), re.DOTALL)
    lines = [shlex.split(line) for block in blocks for line in block.splitlines()]
    shown = [words for program, *words in lines if program == "aupipe"]
    assert len(shown) >= 8
    for words in shown:
        command, context = cli.cli, click.Context(cli.cli)
        while isinstance(command, click.Group):
            _, found, words = command.resolve_command(context, words)
            assert found is not None
            command = found
        command.make_context(command.name, words)  # raises for an option or a choice that does not exist


def test_every_picture_of_the_gallery_exists_and_is_small() -> None:
    named = set(re.findall(r"\]\((figures/gallery/[^)]+)\)", (DOCS / "gallery.md").read_text(encoding="utf-8")))
    there = {path.relative_to(DOCS).as_posix(): path.stat().st_size for path in (DOCS / "figures/gallery").iterdir()}
    assert named == set(there) and named
    assert max(there.values()) <= 250_000 and sum(there.values()) <= 2_500_000
    program = (DOCS / "make_gallery.py").read_text(encoding="utf-8")
    assert [name for name in named if f'Picture("{Path(name).name}"' not in program] == []


def test_every_setting_of_a_method_is_documented_with_its_default() -> None:
    text = (DOCS / "benchmark.md").read_text()
    rows = [line for line in text.split("### A method's own settings")[1].split("###")[0].splitlines() if "| `" in line]
    for method in method_names():
        (row,) = (line for line in rows if f"`{method}`" in line.split("|")[1])
        told = dict(re.findall(r"`(\w+)=([\w.]+)`", row))
        defaults = option_defaults(method)
        assert told.keys() == defaults.keys(), method
        for name, value in defaults.items():
            assert told[name] == (f"{value:.4g}" if isinstance(value, float) and value != round(value) else str(value))
