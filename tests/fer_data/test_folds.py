"""A store seen through a fold: whole persons, every row tested once, the very same pixels."""

from __future__ import annotations

import pickle
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aupipe.fer_data.errors import UserInputError
from aupipe.fer_data.fold import parse_fold
from aupipe.fer_data.loading.augment import AugmentConfig
from aupipe.fer_data.loading.loader import TripletLoader
from aupipe.fer_data.shards import Store, TripletRow
from aupipe.fer_data.shards.chosen_rows import few_of_each_class
from aupipe.fer_data.shards.folds import fold_store, folded_digest
from aupipe.fer_data.shards.preview import open_previewed, preview_store
from synthetic import synthetic_store

PERSONS = 12
SPLITS = ("train", "val", "test")


def of_a_person(row: TripletRow) -> TripletRow:
    split, number = row.sample_id.split("/")
    return replace(row, group=f"p{(int(number) * 5 + len(split)) % PERSONS}")


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return synthetic_store(tmp_path_factory.mktemp("people"), train=150, val=30, test=40, change=of_a_person)


def its_rows(store: Store) -> dict[str, list[str]]:
    return {split: store.split(split).sample_ids for split in SPLITS}


@pytest.mark.parametrize("count", [2, 3, 5])
def test_every_row_is_tested_in_one_fold_and_persons_stay_together(people: Store, count: int) -> None:
    whole = sorted(sample for ids in its_rows(people).values() for sample in ids)
    tested: Counter[str] = Counter()
    for number in range(1, count + 1):
        fold = fold_store(people, f"{number}/{count}")
        ids = its_rows(fold)
        assert sorted(sample for its in ids.values() for sample in its) == whole
        persons = [set(fold.split(split).groups) for split in SPLITS]
        assert persons[0].isdisjoint(persons[1] | persons[2]) and persons[1].isdisjoint(persons[2])
        assert all(fold.index.rows(split) == len(ids[split]) for split in SPLITS) and fold.index.splits == SPLITS
        assert sum(fold.index.label_counts("test").values()) == len(ids["test"])
        assert all(fold.index.label_counts("test").values()), "every class is tested"
        tested.update(ids["test"])
    assert set(tested.values()) == {1} and sorted(tested) == whole


def test_its_rows_are_those_of_the_store(people: Store) -> None:
    fold = fold_store(people, "2/3")
    before = {}
    for split in SPLITS:
        reader = people.split(split)
        for row, sample in enumerate(reader.sample_ids):
            before[sample] = (reader.image(row), reader.au_map(row), reader.labels[row], reader.landmarks[row])
    for split in SPLITS:
        reader = pickle.loads(pickle.dumps(fold.split(split)))
        rows = np.random.default_rng(0).permutation(len(reader))
        images, maps = np.empty((len(rows), 64, 64, 3), np.uint8), np.empty((len(rows), 16, 16), np.uint8)
        reader.gather(rows, images, maps)
        for place, row in enumerate(rows.tolist()):
            image, au_map, label, points = before[reader.sample_ids[row]]
            assert np.array_equal(images[place], image) and np.array_equal(reader.image(row), image)
            assert np.array_equal(maps[place], np.rint(au_map * 255)) and reader.labels[row] == label
            assert np.array_equal(reader.landmarks[row], points)
        with pytest.raises(IndexError):
            reader.image(len(reader))
        with pytest.raises(IndexError):
            reader.gather(np.array([len(reader)]), images[:1], maps[:1])


@pytest.mark.parametrize("mode", ["full", "block"])
def test_batches_have_every_row_of_the_fold_once(people: Store, mode: str) -> None:
    reader = fold_store(people, "1/3").split("train")
    whole = {sample: people.split(split) for split in SPLITS for sample in people.split(split).sample_ids}
    seen = []
    for batch in TripletLoader(reader, 16, AugmentConfig(64, enabled=False), mode=mode).epoch(0):  # type: ignore[arg-type]
        for at, row in enumerate(batch.index.tolist()):
            sample = reader.sample_ids[row]
            there = whole[sample]
            pixels = there.image(there.sample_ids.index(sample)) / 255
            given = batch.image[at].permute(1, 2, 0).numpy() * 0.2 + 0.45
            np.testing.assert_allclose(given, pixels, atol=1e-5)
            seen.append(row)
    assert sorted(seen) == list(range(len(reader)))


def test_a_fold_is_another_store_to_those_who_ask(people: Store) -> None:
    fold, other = fold_store(people, "1/3"), fold_store(people, "2/3")
    assert len({people.index.digest, fold.index.digest, other.index.digest}) == 3
    assert fold.index.digest == folded_digest(people.index.digest, "1/3") and fold.index.fold == "1/3"
    assert fold_store(people, "") is people and folded_digest("d", "") == "d"
    seen = preview_store(people.folder, "1/3")
    assert seen.index.digest == fold.index.digest
    assert its_rows(open_previewed(people.folder, seen)) == its_rows(fold)


def test_the_deal_does_not_depend_on_the_order_of_rows(people: Store, tmp_path: Path) -> None:
    """Another order of the same rows in other shards, and each person is in the same fold."""
    again = synthetic_store(tmp_path, train=150, val=30, test=40, change=of_a_person, rows_per_shard=7)
    for text in ("1/4", "4/4"):
        first, second = its_rows(fold_store(people, text)), its_rows(fold_store(again, text))
        assert {split: sorted(ids) for split, ids in first.items()} == {
            split: sorted(ids) for split, ids in second.items()
        }


@pytest.mark.parametrize("text", ["0/5", "6/5", "1/1", "1", "a/b", "1/101", "1/5/2", "-1/5"])
def test_what_is_no_fold_is_refused(text: str) -> None:
    with pytest.raises(UserInputError, match="fold cannot be read"):
        parse_fold(text)


def test_more_folds_than_persons_are_refused(people: Store) -> None:
    with pytest.raises(UserInputError, match=r"too few persons.*13 persons or more.*12"):
        fold_store(people, "1/13")


def test_the_first_rows_of_a_test_fold_are_a_fair_draw(people: Store) -> None:
    ids = fold_store(people, "1/2").split("test").sample_ids
    first = Counter(sample.split("/")[0] for sample in ids[: len(ids) // 2])
    assert set(first) == set(SPLITS), "not those of the store's own train split first"
    assert "Store people" in repr(fold_store(people, "1/2"))


def test_a_fold_with_an_empty_part_is_refused(tmp_path: Path) -> None:
    def two(row: TripletRow) -> TripletRow:
        return replace(row, group=f"p{int(row.sample_id.split('/')[1]) % 2}")

    store = synthetic_store(tmp_path, train=14, val=7, test=7, change=two)
    with pytest.raises(UserInputError, match="has no faces for"):
        fold_store(store, "1/2")


@pytest.mark.parametrize("fold", ["", "2/3"])
def test_a_few_of_each_class_are_among_the_more(people: Store, fold: str) -> None:
    train = fold_store(people, fold).split("train")
    some = {count: few_of_each_class(train, count, seed=0) for count in (1, 5, 10**6)}
    for count in (1, 5):
        assert Counter(some[count].labels.tolist()) == dict.fromkeys(range(len(people.index.classes)), count)
    assert set(some[1].sample_ids) < set(some[5].sample_ids) < set(train.sample_ids) == set(some[10**6].sample_ids)
    assert some[5].sample_ids == few_of_each_class(train, 5, seed=0).sample_ids
    assert set(few_of_each_class(train, 5, seed=1).sample_ids) != set(some[5].sample_ids)
    at = train.sample_ids.index(some[5].sample_ids[7])
    np.testing.assert_array_equal(some[5].image(7), train.image(at))
    np.testing.assert_array_equal(some[5].au_map(7), train.au_map(at))
    loader = TripletLoader(some[5], 8, AugmentConfig(32, enabled=False), mode="full", even=True)
    shown = [row for batch in loader.epoch(0) for row in batch.index.tolist()]
    assert sorted(shown) == list(range(5 * len(people.index.classes)))
