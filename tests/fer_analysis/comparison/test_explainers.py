from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError
from sklearn.linear_model import Ridge
from sklearn.metrics import pairwise_distances
from torch import Tensor

from aupipe.fer_analysis.comparison import lime
from aupipe.fer_analysis.comparison.classifiers import Classifier
from aupipe.fer_analysis.comparison.explainers import EXPLAINERS, Settings, create_explainer
from aupipe.fer_data.errors import UserInputError

RNG = np.random.default_rng(3)
SIZE = 56
SQUARE = (slice(8, 24), slice(28, 44))
"""The only part of the image that the planted classifier looks at."""


class SquareReader(Classifier):
    """Class 1 is as likely as the square is bright."""

    def __init__(self) -> None:
        self.name, self.crop, self.device = "square", SIZE, torch.device("cpu")
        self.identity = self.description = "planted"

    def probabilities(self, images: Tensor) -> Tensor:
        bright = images[:, :, *SQUARE].mean((1, 2, 3))
        return torch.stack([1 - bright, bright], 1)


IMAGE = cv2.resize(RNG.integers(120, 256, (7, 7, 3)).astype(np.uint8), (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)


def test_the_fit_is_sklearns() -> None:
    samples = lime.draw_samples(200, 12, RNG)
    answers, weights = RNG.random(200), lime.kernel(samples)
    model = Ridge(alpha=1.0, fit_intercept=True).fit(samples, answers, sample_weight=weights)
    found = lime.fit_ridge(samples, answers, weights)
    assert found.coefficients == pytest.approx(model.coef_, abs=1e-10)
    assert found.intercept == pytest.approx(model.intercept_)
    assert found.r2 == pytest.approx(model.score(samples, answers, sample_weight=weights))
    flat = lime.fit_ridge(samples, np.full(200, 0.3), weights)
    assert flat.r2 == 0 and np.abs(flat.coefficients).max() < 1e-12


def test_the_kernel_is_the_studys() -> None:
    samples = lime.draw_samples(50, 9, RNG)
    samples[7] = 0
    distance = pairwise_distances(samples, samples[:1], metric="cosine").ravel()
    assert lime.kernel(samples) == pytest.approx(np.sqrt(np.exp(-(distance**2) / 0.25**2)), abs=1e-9)
    assert samples[0].all() and 0.4 < samples[1:].mean() < 0.6


def test_switched_off_segments_are_black() -> None:
    segments = np.arange(16).reshape(4, 4) // 6
    image = RNG.random((3, 4, 4)).astype(np.float32)
    samples = np.array([[1, 1, 1], [0, 1, 0]], np.uint8)
    made = lime.compose(torch.from_numpy(image), torch.from_numpy(segments), torch.from_numpy(samples)).numpy()
    assert np.array_equal(made[0], image)
    assert np.array_equal(made[1], np.where(segments == 1, image, 0))


def test_negative_evidence_is_not_shown() -> None:
    painted = lime.paint(np.array([[0, 1], [2, 1]]), np.array([0.5, -2.0, 0.25]))
    assert painted.dtype == np.float32 and painted.tolist() == [[0.5, 0.0], [0.25, 0.0]]


def test_superpixels_are_numbered_without_gaps() -> None:
    segments = lime.superpixels(IMAGE)
    assert segments.min() == 0 and len(np.unique(segments)) == segments.max() + 1
    assert 15 <= segments.max() + 1 <= 45


@pytest.mark.parametrize("name", ["lime", "occlusion", "rise"])
def test_what_a_classifier_looks_at_is_found(name: str) -> None:
    found = create_explainer(name, Settings(samples=400)).explain(SquareReader(), IMAGE, 1, "face")
    inside = np.zeros((SIZE, SIZE), bool)
    inside[SQUARE] = True
    values = found.values
    assert values.shape == (SIZE, SIZE) and values.dtype == np.float32 and values.min() >= 0
    assert values[inside].mean() > {"lime": 4, "occlusion": 4, "rise": 4}[name] * values[~inside].mean()
    assert inside[np.unravel_index(values.argmax(), values.shape)] or name == "lime"
    assert (found.fit is not None) == (name == "lime")
    if found.fit is not None:
        assert found.fit > 0.9, "the planted classifier is linear in its segments"


@pytest.mark.parametrize("name", ["lime", "rise"])
def test_chance_hangs_on_the_seed_and_the_face_alone(name: str) -> None:
    def values(seed: int, face: str, batch: int) -> np.ndarray:
        settings = Settings(samples=30, batch=batch, seed=seed)
        return create_explainer(name, settings).explain(SquareReader(), IMAGE, 1, face).values

    first = values(0, "a", 30)
    assert np.array_equal(first, values(0, "a", 30))
    assert not np.array_equal(first, values(0, "b", 30)) and not np.array_equal(first, values(1, "a", 30))
    assert np.allclose(first, values(0, "a", 7), atol=1e-6)


@pytest.mark.parametrize("name", ["cam", "attention"])
def test_a_classifier_without_maps_says_so(name: str) -> None:
    with pytest.raises(UserInputError, match="known by its answers alone"):
        create_explainer(name, Settings()).explain(SquareReader(), IMAGE, 1, "face")


def test_unknown_explainers_are_told() -> None:
    with pytest.raises(UserInputError, match="Did you mean 'lime'"):
        create_explainer("lima", Settings())
    assert set(EXPLAINERS) == {"lime", "occlusion", "rise", "cam", "attention"}


def test_shapes_are_checked() -> None:
    with pytest.raises(TypeCheckError):
        lime.kernel(np.ones((3, 4)))
