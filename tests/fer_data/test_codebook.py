from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest

from aupipe.fer_data.au_maps.codebook import (
    Codebook,
    builtin_codebooks,
    codebook_from_dict,
    describe,
    load_codebook,
    parse_codebook,
    parse_weights,
)
from aupipe.fer_data.errors import CodebookError
from own_codebook import GAUSSIAN

SOURCES = Path(__file__).parents[2] / "fer_data" / "au_maps" / "codebooks"

MARTINEZ = {
    "happiness": {6, 12, 25},
    "sadness": {1, 4, 6, 11, 15, 17},
    "surprise": {1, 2, 5, 26, 27},
    "fear": {1, 2, 4, 5, 20, 25, 26, 27},
    "anger": {4, 5, 7, 10, 17, 22, 23, 24, 25, 26},
    "disgust": {9, 10, 16, 17, 25, 26},
    "contempt": {12, 14},
    "neutral": set(),
}

EMFACS = {
    "happiness": {6, 12},
    "sadness": {1, 4, 15},
    "surprise": {1, 2, 5, 26},
    "fear": {1, 2, 4, 5, 7, 20, 26},
    "anger": {4, 5, 7, 23},
    "disgust": {9, 15, 16},
    "contempt": {12, 14},
    "neutral": set(),
}

DU_PROTOTYPICAL = {
    "happiness": {12, 25},
    "sadness": {4, 15},
    "surprise": {1, 2, 25, 26},
    "fear": {1, 4, 20, 25},
    "anger": {4, 7, 24},
    "disgust": {9, 10, 17},
    "neutral": set(),
}
DU_FRACTIONS = {
    "happiness": {6: 0.51},
    "sadness": {1: 0.60, 6: 0.50, 11: 0.26, 17: 0.67},
    "surprise": {5: 0.66},
    "fear": {2: 0.57, 5: 0.63, 26: 0.33},
    "anger": {10: 0.26, 17: 0.52, 23: 0.29},
    "disgust": {4: 0.31, 24: 0.26},
    "neutral": {},
}

ELLIPSE = """
schema = 1
name = "mine"
kind = "ellipse"
[expressions]
happiness = [25]
[[au]]
number = 25
name = "lips part"
ellipses = [{ x = [51], y = [51, 57], shift = [0, "h/6"], half = [{ span = [48, 54], zero = 5, plus = 10 }, 10] }]
"""


def test_the_default_codebook_holds_the_sets_of_the_survey() -> None:
    codebook = load_codebook("default")
    assert {name: set(aus) for name, aus in codebook.expressions.items()} == MARTINEZ
    assert all(weight == 1 for aus in codebook.expressions.values() for weight in aus.values())
    assert {unit.number for unit in codebook.action_units.values()} >= set().union(*MARTINEZ.values())


def test_emfacs_holds_the_prototypes() -> None:
    codebook = load_codebook("emfacs")
    assert {name: set(aus) for name, aus in codebook.expressions.items()} == EMFACS
    assert all(weight == 1 for aus in codebook.expressions.values() for weight in aus.values())


def test_du2014_weighs_what_fewer_people_show() -> None:
    found = load_codebook("du2014").expressions
    assert {name: {au for au, weight in aus.items() if weight == 1} for name, aus in found.items()} == DU_PROTOTYPICAL
    fractions = {name: {au: weight for au, weight in aus.items() if weight < 1} for name, aus in found.items()}
    assert fractions == DU_FRACTIONS


def test_closed_anger_is_default_without_what_pressed_lips_exclude() -> None:
    default, closed = load_codebook("default"), load_codebook("closed_anger")
    assert set(default.expressions["anger"]) - set(closed.expressions["anger"]) == {10, 22, 25, 26}
    assert {name: aus for name, aus in closed.expressions.items() if name != "anger"} == {
        name: aus for name, aus in default.expressions.items() if name != "anger"
    }


def test_ckplus_holds_the_shares_of_the_sequences_that_showed_an_au(shared: Path) -> None:
    """The codes of 219 of its 327 sequences are here; the shares among them are near those of all."""
    with (shared / "faces" / "ckplus48" / "facs.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for expression, weights in load_codebook("ckplus").expressions.items():
        label = {"happiness": "happy"}.get(expression, expression)
        coded = [row["aus"].split("+") for row in rows if row["emotion"] == label]
        for au, weight in weights.items():
            share = sum(str(au) in aus for aus in coded) / len(coded)
            assert share == pytest.approx(weight, abs=0.08 if len(coded) >= 20 else 0.12), (expression, au)


def test_a_codebook_has_a_version_and_one_without_is_the_first() -> None:
    default = load_codebook("default")
    assert default.version == 2 and "default (gaussian)  version 2  digest" in describe(default)[0]
    assert parse_codebook(GAUSSIAN, "mine.toml").version == 1
    later = parse_codebook("version = 2\n" + GAUSSIAN, "mine.toml")
    assert later.version == 2 and later.digest != parse_codebook(GAUSSIAN, "mine.toml").digest


SHARING = ["emfacs", "du2014", "ckplus", "closed_anger"]


@pytest.mark.parametrize("name", SHARING)
def test_books_that_share_regions_hold_them(name: str) -> None:
    codebook, default = load_codebook(name), load_codebook("default")
    assert codebook.action_units == default.action_units and codebook.kind == default.kind
    assert codebook.content["au"] == default.content["au"] and "regions" not in codebook.content


SHARED = """
schema = 1
name = "mine"
regions = "default"
[expressions]
happiness = [12]
"""


def test_the_digest_covers_regions_taken_from_another_book() -> None:
    default, shared = load_codebook("default"), parse_codebook(SHARED, "mine.toml")
    written_out = codebook_from_dict(
        {
            "schema": 1,
            "name": "mine",
            "kind": "gaussian",
            "expressions": {"happiness": [12]},
            "au": default.content["au"],
        },
        "mine.toml",
    )
    assert shared.digest == written_out.digest
    moved = parse_codebook(SHARED + "[[au]]" + GAUSSIAN.split("[[au]]")[1], "mine.toml")
    assert moved.digest != shared.digest


def test_own_regions_replace_or_add_to_the_shared_ones() -> None:
    own = "[[au]]" + GAUSSIAN.split("[[au]]")[1]
    default, book = load_codebook("default"), parse_codebook(SHARED + own + own.replace("12", "18"), "mine.toml")
    assert book.action_units[12].shapes[0].up == 0.05 != default.action_units[12].shapes[0].up
    assert set(book.action_units) == {*default.action_units, 18}
    assert book.action_units[1] == default.action_units[1]
    assert parse_codebook(SHARED + own.replace("12", '"AU12"'), "mine.toml").action_units[12] == book.action_units[12]


def test_a_codebook_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(SHARED, encoding="utf-8-sig")
    assert load_codebook(tmp_path / "mine.toml").digest == parse_codebook(SHARED, "mine.toml").digest


def test_the_reference_codebook_keeps_the_reference_s_slips() -> None:
    codebook = load_codebook("reference")
    changed = {"sadness": MARTINEZ["sadness"] - {11}, "anger": MARTINEZ["anger"] - {22}}
    changed["disgust"] = MARTINEZ["disgust"] - {10} | {5}
    expected = {name: aus for name, aus in (MARTINEZ | changed).items() if name != "contempt"}
    assert {name: set(aus) for name, aus in codebook.expressions.items()} == expected


@pytest.mark.parametrize("name", ["default", "reference", *SHARING])
def test_built_in_codebooks_load_and_describe_themselves(name: str) -> None:
    codebook = load_codebook(name)
    assert codebook.name == name
    assert name in builtin_codebooks()
    assert not codebook.has_map("neutral") and codebook.has_map("fear") and not codebook.has_map("no such")
    assert "neutral" not in codebook.mapped_expressions() and list(codebook.mapped_expressions()) == sorted(
        expression for expression in codebook.expressions if expression != "neutral"
    )
    text = "\n".join(describe(codebook))
    assert codebook.digest[:16] in text
    assert all(unit.name in text for unit in codebook.action_units.values())


def test_the_digest_ignores_comments_and_layout_and_nothing_else() -> None:
    text = (SOURCES / "default.toml").read_text()
    bare = "\n\n".join(line.strip() for line in text.splitlines() if not line.lstrip().startswith("#"))
    digest = load_codebook("default").digest
    assert parse_codebook(bare, "bare").digest == digest
    assert parse_codebook("# one more\n" + text.replace(" = ", "="), "tight").digest == digest
    assert parse_codebook(text.replace("up = 0.12", "up = 0.13", 1), "moved").digest != digest
    assert load_codebook("reference").digest != digest


@pytest.mark.parametrize("name", ["default", "reference", *SHARING])
def test_a_codebook_survives_the_index(name: str) -> None:
    codebook = load_codebook(name)
    again = codebook_from_dict(json.loads(json.dumps(codebook.content)), "index.json")
    assert again == codebook and again.digest == codebook.digest


def test_a_user_s_own_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(GAUSSIAN.replace("happiness = [12]", 'happiness = { "12" = 0.67 }'))
    codebook = load_codebook(str(path))
    assert codebook.expressions["happiness"] == {12: 0.67}
    assert codebook.action_units[12].shapes[0].mirror
    assert parse_codebook(ELLIPSE, "here").action_units[25].shapes[0].y == (51, 57)


def test_unknown_names_list_what_exists_and_suggest(tmp_path: Path) -> None:
    known = "one of ckplus, closed_anger, default, du2014, emfacs, reference, a path"
    with pytest.raises(CodebookError, match=known + r" .*Did you mean 'default'\?"):
        load_codebook("defualt")
    with pytest.raises(CodebookError, match="does not exist"):
        load_codebook(str(tmp_path / "none.toml"))
    (tmp_path / "latin.toml").write_bytes('name = "größe"'.encode("latin-1"))
    with pytest.raises(CodebookError, match="not UTF-8"):
        load_codebook(str(tmp_path / "latin.toml"))


def edited(old: str, new: str, text: str = GAUSSIAN) -> str:
    assert old in text
    return text.replace(old, new)


PROBLEMS = {
    "not toml": (GAUSSIAN + "= 3", "not valid TOML"),
    "schema": (edited("schema = 1", "schema = 2"), r"another schema.*Expected: 1\. Got: 2"),
    "no name": (edited('name = "mine"\n', ""), "lacks a key.*'name'"),
    "no au": (GAUSSIAN.split("[[au]]")[0], "lacks a key.*'au'"),
    "aus not a list": (edited("[12]", "12"), "lacks a key or has one of the wrong type"),
    "au not a number": (edited("[12]", '["twelve"]'), "lacks a key or has one of the wrong type.*twelve"),
    "au number not a number": (edited("number = 12", 'number = "x"'), "lacks a key or has one of the wrong type"),
    "shape without sigma": (edited(", sigma = [0.13, 0.13]", ""), "lacks a key.*sigma"),
    "shape with a typo": (edited("mirror", "miror"), "wrong type.*miror"),
    "au with a typo": (edited("gaussians", "gausians"), "AU 12 has an unknown key.*gausians"),
    "kind": (edited('"gaussian"', '"blob"'), "kind is 'blob'"),
    "regions": (edited('"default"', '"defualt"', SHARED), "Unknown codebook to take regions from 'defualt'.*'default'"),
    "regions of a kind": (edited("regions", 'kind = "ellipse"\nregions', SHARED), "another kind.*Got: ellipse"),
    "regions and no list": (edited("regions", "au = 3\nregions", SHARED), "`au` is not a list of tables.*Got: 3"),
    "au named twice": (edited("[12]", "[12, 12]"), "AU 12 is named twice"),
    "twice": (GAUSSIAN + "[[au]]" + GAUSSIAN.split("[[au]]")[1], "an AU number appears twice"),
    "undescribed": (edited("[12]", "[12, 6]"), "happiness names AU 6, which is not described"),
    "weight": (edited("[12]", '{ "12" = 1.5 }'), r"happiness: weight of AU 12 is not in \(0, 1\]"),
    "weight nan": (edited("[12]", '{ "12" = nan }'), r"happiness: weight of AU 12 is not in \(0, 1\]"),
    "weight zero": (edited("[12]", '{ "12" = 0 }'), r"happiness: weight of AU 12 is not in \(0, 1\]"),
    "no shape": (edited("{ points", "#").replace("[#", "[]  #"), "AU 12 has no gaussian"),
    "other shape": (edited('"gaussian"', '"ellipse"'), "AU 12 has no ellipse"),
    "point": (edited("[48]", "[68]"), r"AU 12: points \[68\] are not landmark numbers 0-67"),
    "no point": (edited("[48]", "[]"), r"AU 12: points \[\] are not landmark numbers"),
    "half a point": (edited("[48]", "[48.5]"), r"AU 12: points \[48.5\] are not landmark numbers"),
    "sigma": (edited("sigma = [0.13, 0.13]", "sigma = [0.13, 0]"), r"sigma \[0.13, 0\] is not two positive"),
    "one sigma": (edited("sigma = [0.13, 0.13]", "sigma = [0.13]"), r"sigma \[0.13\] is not two positive"),
    "sigma nan": (edited("sigma = [0.13, 0.13]", "sigma = [nan, 0.13]"), "is not two positive"),
    "height": (edited("mirror = true", "mirror = true, weight = 1.5"), r"AU 12: weight 1.5 is not in \(0, 1\]"),
    "offset": (edited("up = 0.05", "up = inf"), "up inf is not finite"),
    "one-sided": (edited("mirror = true", "mirror = false"), r"points \[48\] are off the midline"),
    "midline moved out": (edited("points = [48]", "points = [51]").replace("= true", "= false"), "off the midline"),
    "ellipse point": (edited("x = [51]", "x = [70]", ELLIPSE), r"AU 25: x \[70\] are not landmark numbers"),
    "ellipse fraction": (edited('"h/6"', '"h/0"', ELLIPSE), r"AU 25: shift \[0, 'h/0'\] is not two lengths"),
    "ellipse span": (edited("span = [48, 54]", "span = [48]", ELLIPSE), "AU 25: half .* is not two lengths"),
    "a date": (edited("up = 0.05", "up = 1979-05-27"), "up 1979-05-27 is not finite"),
    "a date nobody reads": (GAUSSIAN.replace("schema", "made = 1979-05-27\nschema"), "no digest.*date"),
    "a name that is none": (edited('name = "mine"', "name = [1]"), "wrong type"),
    "a kind that is none": (edited('kind = "gaussian"', "kind = 3"), "wrong type"),
    "expressions that are a list": (GAUSSIAN.replace("[expressions]", "[x]") + "\n[y]", "lacks a key"),
    "au that is no table": (edited("[[au]]", "au = [3]\n[x]"), "3 is no table|wrong type|lacks a key"),
    "half an au": (edited("[12]", "[12.5]"), "12.5 is not the number of an AU"),
    "an au of inf": (edited("number = 12", "number = inf"), "inf is not the number of an AU"),
    "no truth value": (edited("mirror = true", "mirror = [1]"), r"mirror is \[1\]|wrong type"),
    "a point that is true": (edited("points = [48]", "points = [true]"), r"points \[True\] are not landmark numbers"),
    "brackets": ("a = " + "[" * 2000, "not valid TOML"),
    "many digits": (edited("number = 12", "number = " + "9" * 5000), "not valid TOML"),
    "huge sigma": (edited("sigma = [0.13, 0.13]", "sigma = [1e308, 0.13]"), "is not two positive"),
    "regions with a list": (edited("regions", "au = [{ number = [1] }]\nregions", SHARED), "wrong type|lacks a key"),
    "ellipse time": (edited("span = [48, 54]", "span = 07:32:00", ELLIPSE), "AU 25: half .* is not two lengths"),
    "ellipse typo": (edited("zero = 5", "null = 5", ELLIPSE), "AU 25: half .* is not two lengths"),
}


@pytest.mark.parametrize("case", PROBLEMS)
def test_every_problem_is_named_with_its_place(case: str) -> None:
    text, message = PROBLEMS[case]
    with pytest.raises(CodebookError, match=message) as caught:
        parse_codebook(text, "mine.toml")
    assert "Where: mine.toml" in str(caught.value)


def test_all_problems_are_listed_at_once() -> None:
    text = GAUSSIAN.replace("[48]", "[99]").replace("happiness = [12]", "happiness = [12, 6]")
    with pytest.raises(CodebookError, match="AU 6, which is not described; AU 12: points"):
        parse_codebook(text, "mine.toml")


def test_left_and_right_are_described_once() -> None:
    """Off-midline points need `mirror`, so no built-in Gaussian can be lop-sided."""
    codebook: Codebook = load_codebook("default")
    for unit in codebook.action_units.values():
        for shape in unit.shapes:
            assert shape.mirror or all(point in {8, 21, 22, 27, 28, 48, 51, 54, 57, 62, 66} for point in shape.points)


def test_action_units_are_named_as_people_name_them() -> None:
    assert parse_weights([6, "12", "AU25", "au 1"]) == {6: 1.0, 12: 1.0, 25: 1.0, 1: 1.0}
    assert parse_weights({"AU6": 0.5, "12": 1}) == {6: 0.5, 12: 1.0}
    with pytest.raises(ValueError, match="AU 6 is named twice"):
        parse_weights({"AU6": 0.5, "6": 1})


@pytest.mark.parametrize(
    "written", [["smile"], [6.7], [True], {"AU6": "much"}, {"6": True}, "AU6", 6, ["AU"], ["6+12"]]
)
def test_what_is_no_action_unit_is_said_in_our_own_words(written: object) -> None:
    with pytest.raises(TypeError) as refused:
        parse_weights(written)
    assert re.search("is not the number of an AU|the weight of AU 6 is|is no list of AUs", str(refused.value))
