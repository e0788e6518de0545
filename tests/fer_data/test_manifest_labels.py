"""Label maps: the datasets' own, the user's, and copies that number their labels otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aupipe.fer_data.errors import ManifestError, UserInputError
from aupipe.fer_data.manifest import (
    COMPOUND_EXPRESSIONS,
    EXPRESSIONS,
    build_manifest,
    canonical_label,
    parse_label_map,
    read_manifest,
)
from aupipe.fer_data.manifest import descriptors as registry
from aupipe.fer_data.manifest.descriptors import get_descriptor, parse_descriptor
from aupipe.fer_data.manifest.labels import make_vocabulary, order_classes
from aupipe.fer_data.manifest.reorder import match_counts, refuse_reordered
from manifest_trees import affectnet_csv, image, labels_of, problems, rafdb_compound

RAFDB = get_descriptor("rafdb")
PUBLISHED = RAFDB.forms[0].counts
ALPHABETICAL = dict(enumerate(sorted(PUBLISHED["train"]), start=1))


def test_label_map_texts(tmp_path: Path) -> None:
    expected = {"0": "anger", "1": "happy"}
    assert parse_label_map(" 0=anger, 1 = happy,") == expected
    (tmp_path / "map.txt").write_text("# my copy\n0=anger\n\n1=happy # they say happy\n")
    assert parse_label_map(str(tmp_path / "map.txt")) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0=anger,1", r"pair that cannot be read\. .*Got: '1'"),
        ("0=", "cannot be read"),
        ("0=anger,0=fear", "names a label twice"),
        ("no such file", "No label map"),
    ],
)
def test_label_maps_that_cannot_be_used(text: str, message: str) -> None:
    with pytest.raises(UserInputError, match=message):
        parse_label_map(text)


def test_an_empty_label_map(tmp_path: Path) -> None:
    (tmp_path / "map.txt").write_text("# nothing\n")
    with pytest.raises(UserInputError, match="A label map is empty"):
        parse_label_map(str(tmp_path / "map.txt"))


def test_compound_expressions_are_classes_of_their_own() -> None:
    assert canonical_label(" Happily surprised") == canonical_label("happily-surprised") == "happily_surprised"
    assert not set(COMPOUND_EXPRESSIONS) & set(EXPRESSIONS)
    assert order_classes({"sadly_angry", "contempt", "happily_surprised", "anger"}) == (
        "anger",
        "contempt",
        "happily_surprised",
        "sadly_angry",
    )


def test_the_order_of_meanings() -> None:
    vocabulary = make_vocabulary({"8": "neutral", "2": "drop"}, {"1": "fear", "2": "anger"}, {"8": "none", "9": "odd"})
    assert [vocabulary.canonical(text) for text in ("1", "2", "8", "9", "Sad")] == [
        "fear",
        None,
        "neutral",
        None,
        "sadness",
    ]
    assert [vocabulary.drop_reason(text) for text in ("1", "2", "8", "9")] == [None, "to be dropped", None, "odd"]
    replaced = make_vocabulary({}, {"1": "fear", "2": "anger"}, {"9": "odd"}, {"1": "sad", "9": "fear"})
    assert [replaced.canonical(text) for text in ("1", "2", "9")] == ["sadness", None, "fear"]
    with pytest.raises(UserInputError, match="Unknown expression 'hapy'"):
        make_vocabulary(labels={"1": "hapy"})


def test_a_label_dropped_by_alias_gives_seven_classes(tmp_path: Path) -> None:
    root = affectnet_csv(tmp_path / "set")
    report = build_manifest("affectnet", root, tmp_path / "M.csv", aliases={"7": "drop"})
    assert report.problems == {"dropped_label": 2}
    assert [(where, label, reason) for where, _, label, reason in problems(tmp_path / "M.csv")] == [
        ("training.csv, line 4", "8", "dropped_label"),
        ("validation.csv, line 2", "7", "dropped_label"),
    ]
    assert "contempt" not in read_manifest(tmp_path / "M.csv").classes


def test_compound_labels_become_a_part_only_when_asked(tmp_path: Path) -> None:
    root = rafdb_compound(tmp_path / "set")
    build_manifest("rafdb-compound", root, tmp_path / "M.csv")
    assert read_manifest(tmp_path / "M.csv").classes == (
        "happily_surprised",
        "sadly_angry",
        "angrily_disgusted",
        "disgustedly_surprised",
    )
    asked = {"1": "happiness", "4": "sad", "10": "anger", "11": "drop"}
    report = build_manifest("rafdb-compound", root, tmp_path / "M.csv", labels=asked)
    manifest = read_manifest(tmp_path / "M.csv")
    assert manifest.classes == ("anger", "happiness", "sadness") and manifest.options["labels"] == asked
    assert report.problems == {"dropped_label": 1, "unknown_label": 1}


# Copies in another order


def rows(order: dict[int, str], *, cut: int = 0, one_split: bool = False) -> list[tuple[str, str]]:
    """Rows of RAF-DB's published sizes, numbered by ``order``; without the last ``cut`` ones."""
    found = [
        ("" if one_split else split, str(number))
        for split, counts in PUBLISHED.items()
        for number, name in order.items()
        for _ in range(counts[name])
    ]
    return found[: len(found) - cut]


def check(found: list[tuple[str, str]], **more: dict[str, str]) -> None:
    refuse_reordered(PUBLISHED, found, make_vocabulary({}, RAFDB.labels, **more), "here")


ORIGINAL = {int(code): name for code, name in RAFDB.labels.items()}
SHIFTED = {code - 1: name for code, name in ORIGINAL.items()}


@pytest.mark.parametrize("one_split", [False, True])
def test_a_renumbered_copy_is_refused_with_the_evidence(one_split: bool) -> None:
    check(rows(ORIGINAL, one_split=one_split))
    with pytest.raises(ManifestError) as error:
        check(rows(ALPHABETICAL, one_split=one_split))
    message = str(error.value)
    assert "label 1: declared surprise, 867 found, which is the published count of anger" in message
    assert "label 5: declared sadness, 3204 found, which is the published count of neutral" in message
    assert "--labels 1=anger,2=disgust,3=fear,4=happiness,5=neutral,6=sadness,7=surprise " in message


def test_one_split_of_a_renumbered_copy_is_refused() -> None:
    check([row for row in rows(ORIGINAL) if row[0] == "test"])
    with pytest.raises(ManifestError, match="label 1: declared surprise, 162 found"):
        check([row for row in rows(ALPHABETICAL) if row[0] == "test"])


def test_a_copy_numbered_from_zero_is_refused() -> None:
    with pytest.raises(ManifestError, match=r"label 0: declared nothing, 1619 found, .* count of surprise"):
        check(rows(SHIFTED))


@pytest.mark.parametrize("cut", [1, 200])
def test_ordinary_deviations_pass(cut: int) -> None:
    check(rows(ORIGINAL, cut=cut))
    check(rows(ALPHABETICAL, cut=cut))
    check([])


def test_class_names_in_words_pass() -> None:
    check([(split, ORIGINAL[int(label)].upper()) for split, label in rows(ORIGINAL)])


def test_dropped_labels_do_not_hide_a_new_order() -> None:
    extra = [("train", "9")] * 50
    check(rows(ORIGINAL) + extra, dropped={"9": "odd"})
    with pytest.raises(ManifestError, match="another order"):
        check(rows(ALPHABETICAL) + extra, dropped={"9": "odd"})


def test_equal_sizes_prove_nothing() -> None:
    sizes = {"all": {"fear": 140, "anger": 140, "sadness": 140}}
    assert match_counts(sizes, {"train": {"fear": 140, "anger": 140, "sadness": 140}}) is None
    every = ("anger", "fear", "sadness")
    renamed = match_counts(sizes, {"train": {"fear": 140, "anger": 140, "0": 140}})
    assert renamed == {"fear": every, "anger": every, "0": every}


@given(st.permutations(sorted(PUBLISHED["train"])))
def test_every_other_order_is_found_and_the_original_never(order: list[str]) -> None:
    names = dict(zip(sorted(PUBLISHED["train"]), order, strict=True))
    found = {split: {name: counts[names[name]] for name in counts} for split, counts in PUBLISHED.items()}
    expected = None if all(name == other for name, other in names.items()) else {k: (v,) for k, v in names.items()}
    assert match_counts(PUBLISHED, found) == expected


def renumbered_copy(root: Path) -> Path:
    """RAF-DB's label list in alphabetical order; two of its images are there."""
    (root / "EmoLabel").mkdir(parents=True)
    lines, counts = list[str](), {"train": 0, "test": 0}
    for split, label in rows(ALPHABETICAL):
        counts[split] += 1
        lines.append(f"{split}_{counts[split]:05d}.jpg {label}")
    (root / "EmoLabel" / "list_patition_label.txt").write_text("\n".join(lines) + "\n")
    for number in (1, 2000):
        image(root / "Image" / "aligned" / f"train_{number:05d}_aligned.jpg", number)
    return root


def test_a_build_refuses_and_goes_on_with_the_map_it_proposes(tmp_path: Path) -> None:
    root, out = renumbered_copy(tmp_path / "set"), tmp_path / "out" / "M.csv"
    with pytest.raises(ManifestError) as error:
        build_manifest("auto", root, out)
    assert not out.parent.exists()
    proposed = str(error.value).partition("--labels ")[2].split()[0]
    report = build_manifest("rafdb", root, out, labels=parse_label_map(proposed))
    assert labels_of(out).keys() == {"Image/aligned/train_00001_aligned", "Image/aligned/train_02000_aligned"}
    assert labels_of(out)["Image/aligned/train_00001_aligned"][0] == "anger"
    assert labels_of(out)["Image/aligned/train_02000_aligned"][0] == "happiness"
    assert report.problems == {"missing_file": 15337} and not any(count.ok for count in report.published)


SMALL = """
name = "small"
title = "Small"
source = "s"
licence = "l"
labels = { 0 = "anger", 1 = "fear", 2 = "sadness" }
[[forms]]
reader = "folder"
looks_for = "class folders"
[forms.counts.train]
anger = 1
fear = 2
sadness = 3
"""


def test_numbered_class_folders_in_another_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "load_descriptors", lambda: {"small": parse_descriptor(SMALL, "small.toml")})
    for label, count in (("0", 2), ("1", 3), ("2", 1)):
        for number in range(count):
            image(tmp_path / "set" / "train" / label / f"{number}.png", 10 * int(label) + number)
    with pytest.raises(ManifestError, match="--labels 0=fear,1=sadness,2=anger "):
        build_manifest("small", tmp_path / "set", tmp_path / "M.csv")
    labels = parse_label_map("0=fear,1=sadness,2=anger")
    report = build_manifest("small", tmp_path / "set", tmp_path / "M.csv", labels=labels, val_fraction=0)
    assert [count.ok for count in report.published] == [True]
    assert report.counts["train"] == {"anger": 1, "fear": 2, "sadness": 3}


def test_numbered_class_folders_of_no_known_set(tmp_path: Path) -> None:
    for label in "01":
        image(tmp_path / "set" / label / "a.png", int(label))
    report = build_manifest("auto", tmp_path / "set", tmp_path / "M.csv", labels={"0": "fear", "1": "anger"})
    assert report.layout == "folder" and report.samples == 2
