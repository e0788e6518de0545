"""Randomised weights, from the head down to the stem: does a map depend on what the network has learned?

The model parameter randomisation test of Adebayo et al. 2018 (Sanity Checks for Saliency Maps, NeurIPS), cascading. A
map that stays as it was when every weight is random shows the picture and not the network.

**Stages.** A parameter belongs to the first layer (1 .. n, from the stem) whose feature maps depend on it, as their
gradient says, and to the head when none does. That needs no names and holds for any backbone.

**Random weights.** Every parameter tensor is replaced by independent normal numbers of its own mean and standard
deviation: what was learned is gone, while signals keep a size that the network works at, with any architecture. Batch
normalisation then gets the statistics of the randomised network, measured on the first :data:`CALIBRATION` faces, as
its running means and variances: with those of the trained one it would flood or starve the layers after it.

**Draws.** Faces are aligned, so one random network tilts the maps of all faces alike; :data:`DRAWS` networks are drawn.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from aupipe.fer_analysis.evaluation import explanation_maps
from aupipe.fer_data.types import Progress
from aupipe.fer_models.methods import Method

DRAWS = 5
"""Random networks."""

FACES = 50
"""Faces the test looks at, at most: networks differ more than faces do."""

CALIBRATION = 32
"""Faces the statistics of batch normalisation are measured on, at once."""

FAILS_FROM = 0.5
"""Mean rank correlation, with everything random, from which a map fails."""

Correlations = Float64[np.ndarray, "draws stages n"]


def stage_parameters(model: Method, images: Float32[Tensor, "b 3 c c"]) -> dict[str, list[str]]:
    """Name the learned parameters by stage: ``head``, then ``layer n`` .. ``layer 1``; without empty stages."""
    learned = {name: value for name, value in model.named_parameters() if value.requires_grad}
    owner = dict.fromkeys(learned, "head")
    with torch.enable_grad():
        features = model.backbone(images)
        for number in range(len(features), 0, -1):
            reached = torch.autograd.grad(
                features[number - 1].sum(), list(learned.values()), retain_graph=True, allow_unused=True
            )
            owner |= {name: f"layer {number}" for name, one in zip(learned, reached, strict=True) if one is not None}
    stages = ["head", *(f"layer {number}" for number in range(len(features), 0, -1))]
    members = {stage: [name for name, its in owner.items() if its == stage] for stage in stages}
    return {stage: names for stage, names in members.items() if names}


@torch.no_grad()
def randomise(
    model: Method, names: Sequence[str], generator: torch.Generator, images: Tensor, before: Sequence[str] = ()
) -> None:
    """Replace these parameters, in place, and measure the statistics of their batch normalisations on ``images``.

    So are those of the parameters that were replaced ``before``: what comes in to them is another now. Numbers are
    drawn on the CPU, so that every device has the same.
    """
    parameters = dict(model.named_parameters())
    for name in names:
        value = parameters[name]
        noise = torch.randn(value.shape, generator=generator).to(value)
        value.copy_(value.mean() + value.std(correction=0) * noise)
    owners = {name.rpartition(".")[0] for name in (*before, *names)}
    norms = [module for name, module in model.named_modules() if name in owners and isinstance(module, _BatchNorm)]
    if len(images) > 1:  # one face may be one value a channel, which has no variance
        _measure_statistics(model, norms, images)


def _measure_statistics(model: Method, norms: Sequence[_BatchNorm], images: Tensor) -> None:
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.train().momentum = 1.0  # the running statistics become those of this batch
    model(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.eval().momentum = momentum


def rank_correlation(first: Float[np.ndarray, "n p"], second: Float[np.ndarray, "n p"]) -> Float64[np.ndarray, "n"]:
    """Compute Spearman's rank correlation of each pair of rows; 0 where one has no order: constant, or not finite."""
    finite = [np.where(np.isfinite(values).all(1, keepdims=True), values, 0) for values in (first, second)]
    from scipy import stats  # half a second that reports do not need

    ranks = [stats.rankdata(values, axis=1) for values in finite]
    x, y = (values - values.mean(1, keepdims=True) for values in ranks)
    norms = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    return np.asarray(np.divide((x * y).sum(1), norms, out=np.zeros(len(x)), where=norms > 0))


def cascade(
    model: Method, images: Float32[Tensor, "n 3 c c"], batch_size: int, seed: int, label: str, progress: Progress
) -> tuple[list[str], dict[str, Correlations]]:
    """Randomise a network stage by stage, and correlate its maps with what they were before.

    The model has its own weights again when this returns.

    Args:
        model: The trained network.
        images: Faces to look at.
        batch_size: Faces at once.
        seed: Of the random weights.
        label: Name of the test for the progress.
        progress: Told of each random network.

    Returns:
        The stages, and for each map (``attention`` of the last layer, ``cam``) its correlations. ``cam`` is that of the
        class which the trained network predicts, throughout; both are positive parts. Only faces whose map has an order
        at first are kept, so the last axis may be shorter than ``n``.
    """
    stages = stage_parameters(model, images[:1])
    predicted = torch.cat([_scores(model, part).argmax(1) for part in torch.split(images, batch_size)])
    before = _maps(model, images, predicted, batch_size)
    generator = torch.Generator().manual_seed(seed)
    found: dict[str, list[list[np.ndarray]]] = {kind: [] for kind in before}
    progress.start(f"randomise {label}", DRAWS * len(stages), "networks")
    try:
        for _ in range(DRAWS):
            with _restored(model):
                drawn, replaced = [], list[str]()
                for names in stages.values():
                    randomise(model, names, generator, images[:CALIBRATION], replaced)
                    replaced += names
                    drawn.append(_maps(model, images, predicted, batch_size))
                    progress.advance(1)
            for kind, values in before.items():
                found[kind].append([rank_correlation(values, after[kind]) for after in drawn])
    finally:
        progress.finish()
    ordered = {kind: np.ptp(values, axis=1) > 0 for kind, values in before.items()}
    return list(stages), {kind: np.array(values)[:, :, ordered[kind]] for kind, values in found.items()}


def between_faces(
    model: Method, images: Float32[Tensor, "n 3 c c"], batch_size: int
) -> dict[str, Float64[np.ndarray, "_"]]:
    """Correlate each face's maps with the next face's, both of this network and the first face's prediction's class.

    The null of :func:`cascade`: as much is common to the maps of any two faces. Faces whose map has no order are left
    out, and one face alone has no other.
    """
    predicted = torch.cat([_scores(model, part).argmax(1) for part in torch.split(images, batch_size)])
    own, other = (_maps(model, pictures, predicted, batch_size) for pictures in (images, images.roll(-1, 0)))
    ordered = {kind: (np.ptp(values, axis=1) > 0) & (len(images) > 1) for kind, values in own.items()}
    return {kind: rank_correlation(own[kind][rows], other[kind][rows]) for kind, rows in ordered.items()}


@contextlib.contextmanager
def _restored(model: Method) -> Iterator[None]:
    """Give the model its own weights and statistics again at the end, whatever happens inside."""
    trained = {name: value.clone() for name, value in model.state_dict().items()}
    try:
        yield
    finally:
        model.load_state_dict(trained)


@torch.no_grad()
def _scores(model: Method, images: Tensor) -> Tensor:
    scores: Tensor = model(images).logits
    return scores


def _maps(
    model: Method, images: Tensor, class_index: Tensor, batch_size: int
) -> Mapping[str, Float32[np.ndarray, "n p"]]:
    parts = list(_map_parts(model, images, class_index, batch_size))
    return {kind: np.concatenate([part[kind] for part in parts]) for kind in parts[0]}


def _map_parts(model: Method, images: Tensor, class_index: Tensor, batch_size: int) -> Iterator[dict[str, np.ndarray]]:
    for part, chosen in zip(torch.split(images, batch_size), torch.split(class_index, batch_size), strict=True):
        maps = explanation_maps(model, model.read(part), chosen)
        kinds = {"attention": maps[str(model.backbone.n_layers)]} | ({"cam": maps["cam"]} if "cam" in maps else {})
        yield {kind: values.flatten(1).cpu().numpy() for kind, values in kinds.items()}
