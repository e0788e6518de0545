from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from aupipe.commands.codebook import codebook
from aupipe.fer_data.au_maps.codebook import codebook_from_dict, load_codebook, parse_codebook, parse_toml
from aupipe.fer_data.au_maps.codebook_check import ERROR, WARNING, check_codebook
from aupipe.fer_data.au_maps.codebook_diff import diff_codebooks
from aupipe.fer_data.errors import CodebookError
from own_codebook import GAUSSIAN as MINE

AU = "[[au]]" + MINE.split("[[au]]")[1]
ELLIPSE = (
    MINE.replace('"gaussian"', '"ellipse"').split("gaussians")[0] + "ellipses = [{ x = [48], y = [48], half = [9, 9] }]"
)


def run(*words: str) -> Result:
    return CliRunner().invoke(codebook, list(words), standalone_mode=False)


@pytest.mark.parametrize("name", ["default", "emfacs", "du2014", "ckplus", "closed_anger"])
def test_built_in_books_are_clean(name: str) -> None:
    assert check_codebook(name) == []


def test_the_reference_s_slips_are_warnings() -> None:
    findings = check_codebook("reference")
    assert {finding.level for finding in findings} == {WARNING}
    lopsided = {finding.where for finding in findings if "lop-sided" in finding.message}
    # AU5 is a few pixels high, so that cutting everything to whole pixels, always towards the left, shows.
    assert lopsided == {f"[[au]] number = {au}" for au in (5, 10, 17, 20)}
    twins = {finding.message for finding in findings if "same region" in finding.message}
    assert "AU 15 covers the same region as AU 12" in twins and "AU 27 covers the same region as AU 23" in twins


CASES = {
    "text as height": (
        MINE.replace("mirror = true", 'mirror = true, weight = "1.0"'),
        ERROR,
        "[[au]] number = 12",
        "weight 1.0 is not",
    ),
    "written for the right": (MINE.replace("[48]", "[54]"), ERROR, "[[au]] number = 12", "with `mirror` write [48]"),
    "version": (MINE.replace("[expr", 'version = "2b"\n[expr', 1), ERROR, "version", "not a whole number"),
    "endless version": (MINE.replace("[expr", "version = inf\n[expr", 1), ERROR, "version", "not a whole number"),
    "date": (MINE.replace("[expr", "day = 2020-01-01\n[expr", 1), ERROR, "file", "has no digest"),
    "undescribed": (MINE.replace("[12]", "[12, 6]"), ERROR, "[expressions] happiness", "names AU 6, which is not"),
    "weight": (MINE.replace("[12]", '{ "12" = 1.5 }'), ERROR, "[expressions] happiness", "not in (0, 1]"),
    "named twice": (MINE.replace("[12]", "[12, 12]"), ERROR, "[expressions] happiness", "named twice"),
    "described twice": (MINE + AU, ERROR, "[[au]] number = 12", "described 2 times"),
    "no region": (MINE.split("gaussians")[0], ERROR, "[[au]] number = 12", "has no gaussian"),
    "outside": (MINE.replace("out = 0.05", "out = 1.2"), ERROR, "[[au]] number = 12", "outside the crop"),
    "cut off": (MINE.replace("out = 0.05", "out = 0.85"), WARNING, "[[au]] number = 12", "cut off by the edge"),
    "one-sided": (MINE.replace("mirror = true", "mirror = false"), ERROR, "[[au]] number = 12", "off the midline"),
    "lop-sided": (ELLIPSE, WARNING, "[[au]] number = 12", "lop-sided"),
    "same place": (
        MINE + AU.replace("12", "15"),
        WARNING,
        "[[au]] number = 15",
        "same region as AU 12",
    ),
    "no such unit": (MINE + AU.replace("12", "3"), WARNING, "[[au]] number = 3", "not an action unit of FACS"),
    "no aus": (MINE.replace("[12]", "[]"), WARNING, "[expressions] happiness", "has no AUs"),
    "unknown expression": (MINE.replace("happiness", "hapiness"), WARNING, "[expressions] hapiness", "'happiness'"),
    "twins": (MINE.replace("neutral = []", "anger = [12]"), WARNING, "[expressions] anger", "same AUs and weights"),
    "typo": (MINE.replace("gaussians", "gausians"), ERROR, "[[au]] number = 12", "unknown key"),
    "no sigma": (MINE.replace(", sigma = [0.13, 0.13]", ""), ERROR, "[[au]] number = 12", "sigma"),
    "no name": (MINE.replace('name = "mine"', ""), ERROR, "name", "missing"),
    "schema": (MINE.replace("schema = 1", "schema = 7"), ERROR, "schema", "schema is 7, not 1"),
    "no meaning": (MINE.replace("schema = 1", "schema = 1\nsoruce = 1"), WARNING, "soruce", "no meaning"),
    "kind": (MINE.replace('"gaussian"', '"blob"'), ERROR, "kind", "'blob'"),
    "not toml": (MINE + "= 3", ERROR, "file", "not valid TOML"),
}


@pytest.mark.parametrize("case", CASES)
def test_findings_name_their_place(case: str, tmp_path: Path) -> None:
    text, level, where, message = CASES[case]
    path = tmp_path / "mine.toml"
    path.write_text(text)
    findings = check_codebook(str(path))
    assert any((f.level, f.where) == (level, where) and message in f.message for f in findings), findings
    if level == WARNING:
        assert all(f.level == WARNING for f in findings), findings
    path.write_text(MINE)
    assert check_codebook(str(path)) == []


def test_one_slip_does_not_hide_the_next(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        MINE.replace("[12]", "[12, 6]").replace("[48]", "[99]") + AU.replace("12", "15").replace("sigma", "s")
    )
    places = [finding.where for finding in check_codebook(str(path)) if finding.level == ERROR]
    assert {"[expressions] happiness", "[[au]] number = 12", "[[au]] number = 15"} <= set(places)


def test_a_store_is_drawn_by_the_slip_it_was_built_with() -> None:
    slip = MINE.replace("[48]", "[54]")
    with pytest.raises(CodebookError, match="lie in the image's right half"):
        parse_codebook(slip, "mine.toml")
    assert 12 in codebook_from_dict(parse_toml(slip, "mine.toml"), "a store's index").action_units


def test_the_command_fails_on_errors_alone(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(CASES["cut off"][0])
    warned = run("check", str(path))
    assert warned.return_value == 0 and "0 errors, 1 warnings" in warned.output
    path.write_text(CASES["outside"][0])
    failed = run("check", str(path), "--json")
    content = json.loads(failed.output)
    assert failed.return_value == 1 and content["errors"] == 1
    assert content["findings"][0]["where"] == "[[au]] number = 12"
    assert isinstance(run("check", str(tmp_path / "none.toml")).exception, CodebookError)


# --- two books ---


def test_a_book_and_itself_do_not_differ() -> None:
    diff = diff_codebooks(load_codebook("default"), load_codebook("default"))
    assert diff.same and not diff.regions and "same content" in diff.lines()[0]
    assert all(entry.cosine is None or entry.cosine == pytest.approx(1) for entry in diff.expressions)


def test_sets_weights_and_regions_are_told_apart() -> None:
    diff = diff_codebooks(load_codebook("default"), load_codebook("du2014"))
    by_name = {entry.expression: entry for entry in diff.expressions}
    assert not diff.same and diff.only_a == ("contempt",) and diff.only_b == () and not diff.regions
    assert by_name["disgust"].only_a == (16, 25, 26) and by_name["disgust"].only_b == (4, 24)
    assert by_name["happiness"].weights == {6: (1.0, 0.51)} and by_name["neutral"].cosine is None
    assert 0.5 < by_name["disgust"].cosine < 0.97  # type: ignore[operator]
    shapes = diff_codebooks(load_codebook("default"), load_codebook("reference"))
    assert set(shapes.regions) == set(load_codebook("reference").action_units)
    assert shapes.expressions[0].regions and "AUs drawn in another place" in "\n".join(shapes.lines())


def test_the_command_compares_in_text_and_json() -> None:
    assert "only A: AU5 AU22" in run("diff", "default", "du2014").output
    content = json.loads(run("diff", "default", "du2014", "--json").output)
    assert content["only_a"] == ["contempt"] and len(content["expressions"]) == 7


def test_readme_and_help_show_the_same_codebook_and_it_has_no_fault(tmp_path: Path) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"```toml\n(schema.*?)```", readme, re.DOTALL)
    lines = shown.splitlines()
    for words in (("--help",), ("check", "--help")):
        printed = [line.strip() for line in run(*words).output.splitlines()]
        assert [line for line in printed if line in lines] == lines
    (tmp_path / "mine.toml").write_text(shown)
    assert check_codebook(str(tmp_path / "mine.toml")) == [] and len(lines) == 6


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name = mine\n", "line 1 is not TOML: name = mine"),
        ('name = "a"\n[expressions]\n[expressions]\n', "line 3 names what is there already: [expressions]"),
        ("expressions = { fear = [1]", "it ends within a text, list or table"),
        ('schema = 1\nname = ["m"]\nregions = "default"\nexpressions = [1]\n', "name is ['m'], not text in quotes"),
        ('schema = 1\nname = "m"\nregions = "default"\nexpressions = [1]\n', "expressions is [1], not a table"),
    ],
)
def test_faults_are_told_without_the_parser_s_own_words(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(text)
    told = "\n".join(finding.message for finding in check_codebook(str(tmp_path / "mine.toml")))
    assert said in told and "column" not in told and "Error" not in told


def test_bytes_that_are_no_text_are_told(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_bytes(b"name\xff")
    with pytest.raises(CodebookError, match=r"not UTF-8 text.*the byte 0xff in place 5\. Save it as UTF-8\."):
        check_codebook(str(tmp_path / "mine.toml"))
