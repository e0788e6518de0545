"""The AU card: shares beside chance, sides, what is missed; known answers from planted maps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from aupipe.fer_analysis.explain.action_units import (
    UNEXPECTED_LIFT,
    Canvas,
    Regions,
    action_unit_card,
    face_regions,
    highest_own,
    named,
    right_of_midline,
    unseen_sentences,
)
from aupipe.fer_analysis.explain.page import card_sentences, own_sentence
from aupipe.fer_analysis.explain.pictures import shown_action_units
from aupipe.fer_data import geometry
from aupipe.fer_data.action_units.modes import DRAWN_AUS
from aupipe.fer_data.au_maps.codebook import load_codebook
from aupipe.fer_data.au_maps.heatmaps import render_maps
from aupipe.fer_data.au_maps.mean_face import mean_face
from aupipe.fer_data.au_maps.places import shared_places
from aupipe.fer_data.loading.augment import AugmentConfig, sample_parameters

BOOK = load_codebook("default")
SIZE = 128


def canvas(crop: int = SIZE) -> Canvas:
    config = AugmentConfig(crop_size=crop, enabled=False)
    return Canvas(BOOK, config, sample_parameters(config, 0, 0, np.arange(1), SIZE), SIZE, 32)


def regions(expression: str = "happiness", crop: int = SIZE) -> Regions:
    return face_regions(mean_face(SIZE), canvas(crop), expression)


def test_an_even_map_gets_exactly_chance() -> None:
    card = action_unit_card(regions(), BOOK, np.full((4, 4), 0.3), np.full((7, 7), 2.0))
    assert {unit.number for unit in card.action_units} == set(BOOK.action_units)
    for unit in card.action_units:
        assert unit.attention.share == pytest.approx(unit.chance, rel=1e-5)
        assert unit.cam is not None and unit.cam.share == pytest.approx(unit.chance, rel=1e-5)
        assert 0 < unit.chance < 0.2
    assert card.asymmetry == pytest.approx(0, abs=0.05)
    assert card.cosine == pytest.approx(card.cosine_uniform)
    assert card.elsewhere == ()


@pytest.mark.parametrize("au", [1, 4, 6, 9, 12, 43])
def test_a_map_planted_at_an_au_is_found_there(au: int) -> None:
    drawn = regions()
    card = action_unit_card(drawn, BOOK, drawn.maps[au] ** 2)
    best = max(card.action_units, key=lambda unit: unit.attention.share)
    assert best.number == au and best.lift > 5
    assert best.attention.left + best.attention.right == pytest.approx(best.attention.share)


def test_what_is_expected_missed_and_elsewhere() -> None:
    drawn = regions("happiness")
    card = action_unit_card(drawn, BOOK, drawn.maps[1])
    assert card.expected == card.missed == (6, 12, 25)
    assert 1 in card.elsewhere and not set(card.elsewhere) & {6, 12, 25}
    assert [unit.number for unit in shown_action_units(card)][:4] == [6, 12, 25, 1]
    words = " ".join(card_sentences(card))
    missed = "AU 6, AU 12 (the place of AU 14/20 too), AU 25 (the place of AU 22/23/24 too)"
    assert (
        f"(AU 6, AU 12, AU 25) the attention misses {missed}: no more than chance on this face." in words
        and "also looks at AU 1" in words
    )
    assert drawn.target is not None
    full = action_unit_card(drawn, BOOK, drawn.target)
    assert full.missed == () and full.cosine == pytest.approx(1)
    # AU 23 covers the same lips.
    assert any(unit.lift >= UNEXPECTED_LIFT and not unit.expected for unit in full.action_units)
    assert full.elsewhere == ()
    assert "All AUs expected for happiness" in " ".join(card_sentences(full))


def test_the_target_is_the_evaluations_map() -> None:
    drawn = regions("anger", 96).target
    whole = render_maps(mean_face(SIZE)[None], ["anger"], BOOK, SIZE, 32)[0]
    assert drawn is not None and drawn.shape == (24, 24) and np.array_equal(drawn, whole[4:28, 4:28])


def test_neutral_expects_nothing() -> None:
    card = action_unit_card(regions("neutral"), BOOK, np.eye(5))
    assert card.expected == card.missed == () and card.cosine is None
    assert "nothing is expected" in card_sentences(card)[0]


def test_one_side_shows_as_asymmetry_and_a_mirror_image_turns_it() -> None:
    drawn = regions()
    one_sided = drawn.maps[12] * drawn.right
    card, mirrored = action_unit_card(drawn, BOOK, one_sided), action_unit_card(drawn, BOOK, one_sided[:, ::-1])
    smile = next(unit for unit in card.action_units if unit.number == 12).attention
    assert card.asymmetry == pytest.approx(1) and smile.left == pytest.approx(0) and smile.right > 0.2
    assert mirrored.asymmetry == pytest.approx(-1, abs=0.05)
    assert "lies right of" in card_sentences(card)[-1] and "lies left of" in card_sentences(mirrored)[-1]


def test_the_midline_leans_with_the_face() -> None:
    points = mean_face(33)
    lean = geometry.similarity(-np.deg2rad(40), 1.0, np.full(2, 16.0), np.full(2, 16.0))
    turned = geometry.apply_affine(lean, points)
    right = right_of_midline(turned, 33)
    for left_point, right_point in ((36, 45), (48, 54), (4, 12)):
        inside = [np.clip(np.rint(turned[point]), 0, 32).astype(int) for point in (left_point, right_point)]
        assert not right[inside[0][1], inside[0][0]] and right[inside[1][1], inside[1][0]]


def test_an_empty_map_has_no_shares() -> None:
    card = action_unit_card(regions(), BOOK, np.zeros((4, 4)))
    assert all(unit.attention.share == 0 for unit in card.action_units) and card.asymmetry == 0 and card.cosine == 0


def test_a_crop_leaves_out_what_it_does_not_show() -> None:
    small = regions(crop=40)
    assert 9 in small.maps and 17 not in small.maps
    assert {*small.maps, *small.outside} == set(BOOK.action_units) and not set(small.maps) & set(small.outside)


def test_what_the_network_could_not_see_is_neither_missed_nor_hit() -> None:
    card = action_unit_card(regions("fear", 40), BOOK, np.eye(4))
    unseen = set(card.expected) & set(card.outside)
    assert unseen and set(card.expected) - unseen and not unseen & set(card.missed)
    words = card_sentences(card)
    assert f"outside of what the network saw: {named(sorted(unseen))}. Nothing" in " ".join(words)
    assert f"({named([au for au in card.expected if au not in unseen])})" in words[0]
    assert unseen_sentences(action_unit_card(regions("fear"), BOOK, np.eye(4))) == []


def test_action_units_that_share_a_place_are_named_together() -> None:
    assert shared_places(BOOK) == ((5, 7, 43), (12, 14, 20), (22, 23, 24, 25), (26, 27))
    drawn = regions("sadness")
    card = action_unit_card(drawn, BOOK, drawn.maps[12])
    assert {12, 14} <= set(card.elsewhere) and card.shared == shared_places(BOOK)
    words = " ".join(card_sentences(replace(card, elsewhere=(1, 12, 14))))
    assert "looks at AU 1, AU 12/14 (the place of AU 20 too), which" in words


def test_the_networks_own_maps_are_read_where_their_action_unit_lies() -> None:
    drawn, maps = regions(), np.zeros((len(DRAWN_AUS), 8, 8), np.float32)
    maps[DRAWN_AUS.index(12)] = 0.5
    lower = np.zeros((8, 8), np.float32)
    lower[4:] = 0.9
    maps[DRAWN_AUS.index(1)] = lower  # away from the brows
    maps[DRAWN_AUS.index(26)] = lower
    card = action_unit_card(drawn, BOOK, np.ones((8, 8)), au_maps=maps)
    own = {unit.number: unit.own for unit in card.action_units}
    assert own[12] == pytest.approx(0.5) and own[1] < 0.1 and own[26] > 0.85 and own[4] == 0
    assert [number for number, _ in highest_own(card)[:2]] == [26, 12]
    assert "at AU 26 (0.9" in own_sentence(card) and "AU 12 (0.50)" in own_sentence(card)
    plain = action_unit_card(drawn, BOOK, np.ones((8, 8)))
    assert highest_own(plain) == [] and all(unit.own is None for unit in plain.action_units)
