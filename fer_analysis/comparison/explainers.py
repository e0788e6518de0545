"""Explainers behind one interface: a face and a class in, a map of the face's size out.

LIME, occlusion and RISE only ask for probabilities, so they explain any classifier; ``cam`` and ``attention`` are read
out of our own networks. What is drawn at random depends on the seed and the face's sample id alone.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float32, Float64, Int64, UInt8
from torch import Tensor

from aupipe.fer_analysis.comparison import lime
from aupipe.fer_analysis.comparison.classifiers import Classifier
from aupipe.fer_data.errors import UserInputError, unknown_name
from aupipe.fer_data.spelling import registered_name
from aupipe.fer_models.targets import resize_maps


@dataclass(frozen=True)
class Explained:
    """A map (h, w) of the face, and how well a surrogate fits the classifier (weighted R²), where there is one."""

    values: Float32[np.ndarray, "h w"]
    fit: float | None = None


@dataclass(frozen=True)
class Settings:
    """Settings of an explainer.

    ``samples``: perturbed pictures a face (LIME, RISE); ``batch``: how many at once; ``seed``: of what is random.
    """

    samples: int = 1000
    batch: int = 64
    seed: int = 0


class Explainer(ABC):
    """An explainer of one face for one class. ``version``: raised when the same settings give another map."""

    version = 1

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @abstractmethod
    def explain(
        self, classifier: Classifier, image: UInt8[np.ndarray, "h w 3"], target: int, sample_id: str
    ) -> Explained:
        """Explain why an RGB face is, or is not, of class ``target``, as a map of the face."""

    def random(self, sample_id: str) -> np.random.Generator:
        """Make a generator whose numbers depend on the seed and the sample alone."""
        text = f"{self.settings.seed}/{sample_id}".encode()
        return np.random.default_rng(int.from_bytes(hashlib.sha256(text).digest()[:16], "big"))

    def answers(self, classifier: Classifier, pictures: Iterator[Tensor], target: int) -> Float64[np.ndarray, "n"]:
        """Compute the probability of the target for batches of pictures."""
        parts = [classifier.probabilities(batch)[:, target].double().cpu().numpy() for batch in pictures]
        return np.concatenate(parts)


EXPLAINERS: dict[str, type[Explainer]] = {}
"""All explainers by name."""


def register_explainer(name: str) -> Callable[[type[Explainer]], type[Explainer]]:
    """Register an explainer as ``name`` (class decorator). Raises ``ValueError`` when the name is taken."""

    def add(kind: type[Explainer]) -> type[Explainer]:
        if name in EXPLAINERS:
            raise ValueError(
                f"the explainer {name!r} is registered twice: {EXPLAINERS[name].__name__}, {kind.__name__}"
            )
        EXPLAINERS[name] = kind
        return kind

    return add


def to_tensor(image: UInt8[np.ndarray, "h w 3"], device: torch.device) -> Float32[Tensor, "3 h w"]:
    """Convert an RGB image to a tensor in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(image)).to(device).permute(2, 0, 1).float() / 255


@register_explainer("lime")
class Lime(Explainer):
    """LIME on superpixels; the fit is its weighted R²."""

    def explain(
        self, classifier: Classifier, image: UInt8[np.ndarray, "h w 3"], target: int, sample_id: str
    ) -> Explained:
        """See the base class."""
        segments = lime.superpixels(image)
        samples = lime.draw_samples(self.settings.samples, int(segments.max()) + 1, self.random(sample_id))
        face, places = to_tensor(image, classifier.device), torch.from_numpy(segments).to(classifier.device)
        parts = torch.split(torch.from_numpy(samples).to(classifier.device), self.settings.batch)
        answers = self.answers(classifier, (lime.compose(face, places, part) for part in parts), target)
        fit = lime.fit_ridge(samples, answers, lime.kernel(samples))
        return Explained(lime.paint(segments, fit.coefficients), fit.r2)


@register_explainer("occlusion")
class Occlusion(Explainer):
    """Fall of the probability under a black square (Zeiler & Fergus 2014), averaged over the squares on each pixel."""

    SQUARES = 7
    """Squares beside each other; they move by half their side."""

    def explain(
        self, classifier: Classifier, image: UInt8[np.ndarray, "h w 3"], target: int, sample_id: str
    ) -> Explained:
        """See the base class."""
        face = to_tensor(image, classifier.device)
        size = face.shape[-1]
        side = max(size // self.SQUARES, 1)
        starts = np.unique(np.append(np.arange(0, size - side, max(side // 2, 1)), size - side))
        corners = [(y, x) for y in starts.tolist() for x in starts.tolist()]
        masks = torch.ones(len(corners), size, size)
        for mask, (y, x) in zip(masks, corners, strict=True):
            mask[y : y + side, x : x + side] = 0
        parts = torch.split(masks.to(classifier.device), self.settings.batch)
        whole = float(classifier.probabilities(face[None])[0, target])
        fall = whole - self.answers(classifier, (face * part[:, None] for part in parts), target)
        covered = 1 - masks.numpy()
        values = np.tensordot(fall, covered, 1) / covered.sum(0)
        return Explained(np.maximum(values, 0).astype(np.float32))


@register_explainer("rise")
class Rise(Explainer):
    """Mean of random smooth masks weighted by the probability they leave (RISE, Petsiuk et al. 2018).

    The mean probability is taken out of the weights first: that shifts the expected map by a constant, and spares it
    the noise of the masks themselves. Negative values are 0.
    """

    version = 2
    CELLS, KEPT = 7, 0.5

    def explain(
        self, classifier: Classifier, image: UInt8[np.ndarray, "h w 3"], target: int, sample_id: str
    ) -> Explained:
        """See the base class."""
        face, rng = to_tensor(image, classifier.device), self.random(sample_id)
        weighted, plain = torch.zeros(2, *face.shape[1:], dtype=torch.float64, device=face.device)
        n, size, answered = self.settings.samples, face.shape[-1], 0.0
        # All at once, so that how many are shown at once does not matter.
        grids = rng.random((n, 1, self.CELLS, self.CELLS)) < self.KEPT
        shifts = rng.integers(0, self._cell(size), (n, 2))
        for start in range(0, n, self.settings.batch):
            part = slice(start, start + self.settings.batch)
            masks = self._masks(grids[part], shifts[part], size).to(face.device)
            answers = classifier.probabilities(face * masks[:, None])[:, target].double()
            weighted += torch.einsum("n,nhw->hw", answers, masks.double())
            plain += masks.double().sum(0)
            answered += float(answers.sum())
        values = (weighted - answered / n * plain) / (n * self.KEPT)
        return Explained(values.clamp_min(0).float().cpu().numpy())

    def _cell(self, size: int) -> int:
        return -(-size // self.CELLS)

    def _masks(
        self, grids: Bool[np.ndarray, "n 1 k k"], shifts: Int64[np.ndarray, "n 2"], size: int
    ) -> Float32[Tensor, "n s s"]:
        """Enlarge coarse on-off grids smoothly, and shift them by up to a cell."""
        grown = F.interpolate(
            torch.from_numpy(grids.astype(np.float32)),
            ((self.CELLS + 1) * self._cell(size),) * 2,
            mode="bilinear",
            align_corners=False,
        )[:, 0]
        return torch.stack(
            [mask[y : y + size, x : x + size] for mask, (y, x) in zip(grown, shifts.tolist(), strict=True)]
        )


class OwnMap(Explainer):
    """A map that the network carries itself, enlarged to the face."""

    kind: str

    def explain(
        self, classifier: Classifier, image: UInt8[np.ndarray, "h w 3"], target: int, sample_id: str
    ) -> Explained:
        """See the base class."""
        face = to_tensor(image, classifier.device)[None]
        maps: Float[Tensor, "b y x"] = classifier.own_maps(face, torch.tensor([target], device=face.device), self.kind)
        height, width = image.shape[:2]
        return Explained(resize_maps(maps, (height, width))[0].cpu().numpy())


@register_explainer("cam")
class Cam(OwnMap):
    """The class activation map of the run's method."""

    kind = "cam"


@register_explainer("attention")
class Attention(OwnMap):
    """The attention of the deepest layer: the same for every class."""

    kind = "attention"


def create_explainer(name: str, settings: Settings) -> Explainer:
    """Create the explainer called ``name``, see :func:`explainer_name`."""
    return EXPLAINERS[explainer_name(name)](settings)


def explainer_name(name: str) -> str:
    """Return the registered name of an explainer as people write it (``RISE``).

    Raises :class:`UserInputError` with what exists.
    """
    registered = registered_name(name, EXPLAINERS)
    if registered not in EXPLAINERS:
        raise UserInputError(unknown_name("explainer", name, list(EXPLAINERS)))
    return registered
