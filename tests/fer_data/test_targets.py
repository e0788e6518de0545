"""What is aligned with: the controls take the same way as the class's map, and keep off samples without a map."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from aupipe.fer_data.au_maps.heatmaps import render_faces, render_maps
from aupipe.fer_data.errors import UserInputError
from aupipe.fer_data.loading import augment
from aupipe.fer_data.loading.augment import AugmentConfig
from aupipe.fer_data.loading.loader import Batch, TripletLoader
from aupipe.fer_data.loading.targets import Targets, absent_classes, mean_map, other_expression, other_face
from aupipe.fer_data.shards import Store, TripletRow
from synthetic import CLASSES, synthetic_store

WILD = AugmentConfig(56, rotation=30, rotation_p=1.0, erasing=0.5)
WHOLE = AugmentConfig(64, enabled=False)


def batches(store: Store, config: AugmentConfig, **choices: Any) -> list[Batch]:
    return list(TripletLoader(store.split("train"), 14, config, seed=3, **choices).epoch(1))


def test_the_mean_map_takes_the_way_of_the_image(store: Store) -> None:
    template = torch.from_numpy(mean_map(store).astype(np.float32))
    for batch in batches(store, WILD, target="mean"):
        parameters = augment.sample_parameters(WILD, 3, 1, batch.index.numpy(), 64)
        expected = augment.apply_to_maps(WILD, parameters, template.expand(14, -1, -1), 64)
        assert torch.equal(batch.au_map[batch.has_map], expected[batch.has_map])
        assert not batch.au_map[~batch.has_map].any() and not batch.has_map.all()


def test_shuffled_aus_are_another_expressions_on_the_same_face(store: Store) -> None:
    reader = store.split("train")
    partner = {name: set[str]() for name in CLASSES}
    for batch in batches(store, WHOLE, target="shuffled"):
        for row, got in zip(batch.index.tolist(), batch.au_map.numpy(), strict=True):
            own = CLASSES[reader.labels[row]]
            points = np.repeat(reader.landmarks[row][None], len(CLASSES), 0)
            gaps = np.abs(render_maps(points, CLASSES, store.codebook, 64, 16) - got).max((1, 2))
            assert gaps.min() < 1 / 255
            partner[own].add(CLASSES[int(gaps.argmin())])
    assert partner.pop("neutral") == {"neutral"}
    given_to = [names.pop() for names in partner.values()]
    assert sorted(given_to) == sorted(partner) and all(a != b for a, b in zip(partner, given_to, strict=True))


@settings(deadline=None)
@given(st.lists(st.booleans(), min_size=2, max_size=12).filter(lambda mapped: sum(mapped) > 1), st.integers(0, 99))
def test_no_expression_keeps_its_aus(mapped: list[bool], seed: int) -> None:
    others = other_expression(np.array(mapped), seed)
    assert sorted(others) == list(range(len(mapped)))
    assert [bool(others[place] != place) for place in range(len(mapped))] == mapped
    assert np.array_equal(others, other_expression(np.array(mapped), seed))


def test_seeds_shuffle_differently_and_one_expression_cannot_be_shuffled() -> None:
    every = np.ones(7, bool)
    assert len({tuple(other_expression(every, seed)) for seed in range(20)}) > 10
    with pytest.raises(UserInputError, match=r"cannot be exchanged.*Got: 1\..*--align-target mean"):
        other_expression(np.array([True, False]), 0)


def test_landmark_blobs_stay_on_the_landmarks(tmp_path: Path) -> None:
    store = synthetic_store(tmp_path, train=28, val=0, test=0, size=64, map_size=64)
    plain = AugmentConfig(56, rotation=30, rotation_p=1.0, erasing=0)
    for batch in batches(store, plain, target="landmarks"):
        size = batch.au_map.shape[-1]
        places = ((2 * batch.landmarks + 1) / 56 - 1)[:, :, None]
        at = F.grid_sample(batch.au_map[:, None], places, align_corners=False)[:, 0, :, 0]
        inside = (places.abs() < 1 - 1 / size).all(-1)[..., 0] & batch.has_map[:, None]
        assert at[inside].median() > 0.8 and at[inside].min() > 0.4
        assert batch.au_map[batch.has_map].mean() < 0.25


def test_neutral_faces_get_a_uniform_map_where_asked(store: Store) -> None:
    plain = batches(store, WILD)
    for source in ("stored", "rendered"):
        for batch, skipped in zip(batches(store, WILD, neutral="uniform", maps=source), plain, strict=True):
            neutral = batch.label == CLASSES.index("neutral")
            assert batch.has_map.all() and torch.equal(~skipped.has_map, neutral)
            assert ((batch.au_map[neutral] == 0) | (batch.au_map[neutral] > 0.999)).all()
            assert (batch.au_map[neutral] > 0).float().mean() > 0.8
            assert torch.allclose(batch.au_map[~neutral], skipped.au_map[~neutral], atol=1.5 / 255)


def test_controls_do_not_read_the_stored_maps(store: Store) -> None:
    loader = TripletLoader(store.split("train"), 14, WILD, target="mean")
    batch = next(loader.uint8_epoch(0))
    assert batch.maps is None


def test_a_neutral_face_keeps_its_own_map(tmp_path: Path) -> None:
    def resting(row: TripletRow) -> TripletRow:
        shown = row.label == CLASSES.index("neutral") and row.sample_id.endswith(tuple("02468"))
        return replace(row, has_map=1, au_map=np.full_like(row.au_map, 51)) if shown else row

    store = synthetic_store(tmp_path / "store", change=resting, config={"aus": "estimated"})
    plain = batches(store, WHOLE)
    for batch, skipped in zip(batches(store, WHOLE, neutral="uniform"), plain, strict=True):
        assert batch.has_map.all() and torch.equal(batch.au_map[skipped.has_map], skipped.au_map[skipped.has_map])
        assert (batch.au_map[~skipped.has_map] == 1).all()
    neutral = torch.cat([one.label for one in plain]) == CLASSES.index("neutral")
    own = torch.cat([one.has_map for one in plain])[neutral]
    assert own.any() and not own.all()


def test_a_mean_of_no_faces_is_refused(tmp_path: Path) -> None:
    reader = synthetic_store(tmp_path / "store", train=0).split("test")
    with pytest.raises(UserInputError, match="the store has no train split"):
        TripletLoader(reader, 7, target="mean")
    TripletLoader(reader, 7, target="mean", learned=reader)


@pytest.mark.parametrize("choice", [{"target": "means"}, {"neutral": "uniforms"}, {"maps": "store"}])
def test_unknown_choices_are_refused(store: Store, choice: dict[str, Any]) -> None:
    (name,) = choice
    with pytest.raises(UserInputError, match=rf"Unknown value of {name} .* Did you mean"):
        batches(store, WILD, **choice)


def test_classes_without_rows_are_named(store: Store, tmp_path: Path) -> None:
    assert absent_classes(store.split("train")) == []
    few = synthetic_store(tmp_path, train=5, val=0, test=0, size=32, map_size=8)
    assert absent_classes(few.split("train")) == ["surprise", "neutral"]


def test_maps_of_the_face_s_own_aus_are_rendered_as_they_are_stored(own_aus: Store) -> None:
    for stored, drawn in zip(batches(own_aus, WHOLE), batches(own_aus, WHOLE, maps="rendered"), strict=True):
        torch.testing.assert_close(stored.au_map, drawn.au_map, atol=1.1 / 255, rtol=0)
        assert torch.equal(stored.has_map, drawn.has_map) and stored.au_map.any()


def test_another_face_s_aus_are_drawn_on_this_face(own_aus: Store) -> None:
    reader = own_aus.split("train")
    assert reader.au_weight is not None
    others = other_face(reader.labels, reader.has_map, 3)
    mapped = reader.has_map > 0
    np.testing.assert_array_equal(reader.labels[others], reader.labels)
    assert sorted(others) == list(range(len(reader))) and (others[mapped] != np.flatnonzero(mapped)).all()
    expected = render_faces(reader.landmarks, reader.au_weight[others] / 255, own_aus.codebook, 64, 16)
    for batch in batches(own_aus, WHOLE, target="other_face"):
        np.testing.assert_allclose(
            batch.au_map, expected[batch.index] * batch.has_map[:, None, None].numpy(), atol=1 / 255
        )


def test_a_store_of_the_label_s_maps_has_no_other_face_s(store: Store) -> None:
    with pytest.raises(UserInputError, match=r"build-maps --aus fused"):
        batches(store, WHOLE, target="other_face")


def test_shuffled_leaves_out_faces_of_a_class_without_aus(own_aus: Store) -> None:
    """Where neutral faces have maps of their own, none is drawn for their label."""
    reader = own_aus.split("train")
    vars(reader)["has_map"] = np.ones(len(reader), np.uint8)
    neutral = reader.labels == own_aus.index.classes.index("neutral")
    shuffled = Targets(reader, torch.device("cpu"), target="shuffled")
    assert np.array_equal(shuffled.has_map(np.arange(len(reader))), ~neutral)
