from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aupipe.fer_data import geometry
from aupipe.fer_data.au_maps.codebook import builtin_codebooks, load_codebook
from aupipe.fer_data.au_maps.device_maps import make_plan, render_faces_on_device, render_on_device
from aupipe.fer_data.au_maps.heatmaps import render_faces, render_maps
from aupipe.fer_data.au_maps.mean_face import mean_face
from aupipe.fer_data.au_maps.shapes.gaussian import LOG_FLOOR
from aupipe.fer_data.errors import UserInputError

SIZE = 256
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
BOOKS = {name: load_codebook(name) for name in builtin_codebooks()}
GAUSSIAN = [name for name, book in BOOKS.items() if book.kind == "gaussian"]


def posed(rng: np.random.Generator, count: int, size: int = SIZE) -> np.ndarray:
    """Faces of any roll, scale and place, some of them partly outside the image."""
    middle = np.full(2, (size - 1) / 2)
    faces = []
    for _ in range(count):
        move = geometry.similarity(
            rng.uniform(-np.pi, np.pi), rng.uniform(0.3, 1.5), middle, middle + rng.uniform(-0.4, 0.4, 2) * size
        )
        faces.append(geometry.apply_affine(move, mean_face(size) + rng.normal(0, 0.01 * size, (68, 2))))
    return np.stack(faces)


def drawn(
    points: np.ndarray, labels: np.ndarray, book: str, size: int, device: str = "cpu", image_size: int = SIZE
) -> torch.Tensor:
    plan = make_plan(BOOKS[book], list(BOOKS[book].expressions), image_size)
    landmarks = torch.from_numpy(points).float().to(device)
    return render_on_device(landmarks, torch.from_numpy(labels).to(device), plan, size)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("book", BOOKS)
@given(st.integers(0, 2**32 - 1), st.sampled_from([(256, 64), (256, 256), (224, 56), (128, 32)]))
@settings(max_examples=12, deadline=None)
def test_maps_drawn_on_the_device_are_the_stored_maps(
    book: str, device: str, seed: int, sizes: tuple[int, int]
) -> None:
    rng, (image_size, size) = np.random.default_rng(seed), sizes
    names = list(BOOKS[book].expressions)
    points = posed(rng, 2 * len(names), image_size).astype(np.float32)
    labels = rng.permutation(np.tile(np.arange(len(names)), 2))
    maps = drawn(points, labels, book, size, device, image_size)
    assert maps.device.type == device and maps.dtype == torch.float32
    stored = render_maps(points, [names[label] for label in labels], BOOKS[book], image_size, size)
    assert np.abs(maps.cpu().numpy() - stored).max() < 1 / 255
    assert stored.max() > 0.9  # not two empty batches


@pytest.mark.parametrize("book", GAUSSIAN)
@given(st.integers(0, 2**32 - 1))
@example(561174)
@settings(max_examples=15, deadline=None)
def test_mirrored_faces_give_mirrored_maps(book: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    points, labels = posed(rng, 7), rng.integers(0, len(BOOKS[book].expressions), 7)
    mirrored = drawn(geometry.flip_points(points, SIZE), labels, book, 64)
    # A pixel on the edge of a Gaussian's window falls on either side of it, as rounding has it.
    edge = 1.1 * float(np.exp(LOG_FLOOR))
    torch.testing.assert_close(mirrored, drawn(points, labels, book, 64).flip(2), atol=edge, rtol=0)


def test_classes_without_aus_and_empty_batches() -> None:
    for book in BOOKS:
        names = list(BOOKS[book].expressions)
        points, labels = np.stack([mean_face(SIZE)] * 2), np.array([names.index("neutral"), names.index("fear")])
        maps = drawn(points, labels, book, 64)
        assert not maps[0].any() and maps[1].max() == 1
        assert not drawn(points[:1], labels[:1], book, 64).any()
        assert drawn(points[:0], labels[:0], book, 64).shape == (0, 64, 64)


@pytest.mark.parametrize("size", [56, 64, 128])
def test_a_face_out_of_the_frame_gives_no_phantom(size: int) -> None:
    """Of a reference's map that held nothing but rounding, both renderers used to stretch the rounding to [0, 1]."""
    for book in BOOKS:
        names = list(BOOKS[book].expressions)
        points, labels = np.stack([mean_face(128) + 3 * 128] * len(names)), np.arange(len(names))
        assert not drawn(points, labels, book, size, image_size=128).any()
        assert not render_maps(points, names, BOOKS[book], 128, size).any()


def test_reduced_precision_around_it_does_not_reach_the_maps() -> None:
    points, labels = posed(np.random.default_rng(1), 6), np.arange(6)
    for book in BOOKS:
        plain = drawn(points, labels, book, 64)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(drawn(points, labels, book, 64), plain)


def test_a_class_that_the_codebook_lacks_is_refused() -> None:
    with pytest.raises(UserInputError, match=r"'du2014' does not say .* 'contempt'"):
        make_plan(BOOKS["du2014"], ["fear", "contempt"], SIZE)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("book", BOOKS)
def test_the_face_s_own_aus_are_drawn_alike(book: str, device: str) -> None:
    rng = np.random.default_rng(2)
    points = posed(rng, 12).astype(np.float32)
    weights = (rng.random((12, 99, 2)) * (rng.random((12, 99, 1)) < 0.3)).astype(np.float32)
    weights[3] = 0
    drawn = render_faces(points, weights, BOOKS[book], SIZE, 64)
    on_device = render_faces_on_device(torch.from_numpy(points).to(device), weights, BOOKS[book], SIZE, 64)
    assert on_device.device.type == device and np.abs(on_device.cpu().numpy() - drawn).max() < 1 / 255
    assert not drawn[3].any() and np.delete(drawn, 3, 0).max((1, 2)).min() > 0.9
