"""A backbone from a name: any timm model that gives feature maps, and our own."""

from __future__ import annotations

import difflib
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from torch import nn

from aupipe.fer_data.errors import RunError, UserInputError, paragraph
from aupipe.fer_models.backbones import factory, ir50, last_convolution
from aupipe.fer_models.backbones.base import Backbone, crop_message
from aupipe.fer_models.backbones.expression_nets import PLANS, ExpressionNet, find_plan
from aupipe.fer_models.backbones.pretrained import (
    PretrainedSource,
    WeightsOrigin,
    pretrained_source,
    unavailable,
    unreadable,
)
from aupipe.fer_models.backbones.tokens import TokenBackbone, TokenNet, has_class_token, shown_blocks
from aupipe.fer_models.backbones.weights import fill, load_weights

OWN = (ir50.NAME, *PLANS)
"""Networks that timm does not have."""

WHOLE_STRIDE = 32
"""The ``output_stride`` that leaves a network as it is."""


def create_backbone(
    name: str,
    *,
    pretrained: bool = False,
    weights: Path | None = None,
    output_stride: int | None = None,
    image_size: int | None = None,
) -> Backbone:
    """Create a network by name: any timm model that gives feature maps, or one of :data:`OWN`.

    Layers are those that timm names; of a network whose blocks all work at one resolution, five evenly spaced blocks;
    of anyone's network (:mod:`~aupipe.fer_models.backbones.factory`) the last of each resolution.

    Args:
        name: The network's name in timm, in :data:`OWN` (``silnet_64``: made for images of 64 pixels), or
            ``module:factory``.
        pretrained: Load timm's own weights: from a hub's cache, an installed package that carries them, or the hub.
        weights: A safetensors file or a weights-only torch file to load instead.
        output_stride: 8 or 16: the last stages keep their resolution (dilated, as timm does it), or a plain
            transformer's patches are that small. 32 or None: as the network is.
        image_size: Side of the images it will see; without it any size that the network takes.

    Raises:
        UserInputError: The name is unknown, the network has no feature maps, or stride or size are impossible.
        RunError: Weights cannot be had or do not fit.
    """
    if factory.is_factory(name):
        return _create_from_factory(name, pretrained, weights, output_stride, image_size)
    if name == ir50.NAME or find_plan(name) is not None:
        return _create_own(name, pretrained, weights, output_stride, image_size)
    _check_name(name)
    features, sizes = _options(name, output_stride, image_size)
    source = pretrained_source(name) if pretrained and weights is None else None
    if name.partition(".")[0] in last_convolution.NETWORKS:
        body: Any = last_convolution.LastConvolutionNet(_timm_body(name, source, num_classes=0, **sizes))
    else:
        body = _timm_body(name, source, features_only=True, **features, **sizes)
    kind = TokenBackbone if isinstance(body, TokenNet) else Backbone
    origin = WeightsOrigin()
    if weights is not None:
        origin = _fill_from_file(name, body, weights, *_as_trained(name, sizes))
    elif source is not None:
        if source.carrier and source.path:
            plain, head = _as_trained(name, sizes)
            fill(name, body, source.carried_tensors(source.path, plain.state_dict()), plain, head, source.path)
        origin = source.origin()
    return kind(name, body, image_size, origin)


def _as_trained(name: str, sizes: dict[str, Any]) -> tuple[nn.Module, tuple[str, ...]]:
    """Make the network as timm trains it, without numbers, and the beginnings of its classifier's names."""
    with torch.device("meta"):
        plain: Any = timm.create_model(name, **sizes)
    classifier = plain.pretrained_cfg.get("classifier") or ()
    heads = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    return plain, tuple(f"{one}." for one in heads)


def _fill_from_file(
    name: str, body: nn.Module, weights: Path, plain: nn.Module, head: tuple[str, ...]
) -> WeightsOrigin:
    """Load a file's weights, and say which of them were taken where it holds several sets that fit."""
    taken = load_weights(name, body, weights, plain, head)
    return WeightsOrigin.of_file("file", f"{weights.name}{taken}", weights)


def _timm_body(name: str, source: PretrainedSource | None, **options: Any) -> Any:
    """Let timm build a network, with its weights where it can load them itself."""
    loading = source.options if source else {}
    try:
        return timm.create_model(name, **options, **loading)
    except (OSError, KeyError, RuntimeError, AttributeError, pickle.UnpicklingError, SafetensorError) as error:
        if source is None or not loading:
            raise
        raise RunError(unreadable(source.path, error) if source.path else unavailable(name, error)) from error
    except AssertionError as error:  # timm's own, where a network's layers cannot be taken out
        raise UserInputError(
            paragraph(f"The network {name} gives no feature maps.", got=error, fix="Choose another backbone.")
        ) from error


def _create_own(
    name: str, pretrained: bool, weights: Path | None, output_stride: int | None, image_size: int | None
) -> Backbone:
    body, spare = _own_body(name)
    stride = body.feature_info.reduction()[-1]  # type: ignore[union-attr,operator]
    if output_stride is not None and output_stride < min(stride, WHOLE_STRIDE):
        reason = f"its {len(body.feature_info)} layers end at a stride of {stride}"  # type: ignore[arg-type]
        raise UserInputError(_stride_message(name, output_stride, reason))
    if pretrained and weights is None:
        raise RunError(
            paragraph(
                f"There are no pretrained weights of {name!r}: timm has no such network.",
                fix="Leave out --pretrained, or give a checkpoint of it (for ir50, one of face recognition) with "
                "--weights FILE.",
            )
        )
    origin = None if weights is None else _fill_from_file(name, body, weights, body, spare)
    return Backbone(name, body, image_size, origin)


def _create_from_factory(
    name: str, pretrained: bool, weights: Path | None, output_stride: int | None, image_size: int | None
) -> Backbone:
    if output_stride not in (None, WHOLE_STRIDE):
        raise UserInputError(
            _stride_message(name, int(output_stride or 0), "its layers are as its factory builds them")
        )
    if pretrained and weights is None:
        raise RunError(
            paragraph(
                f"There are no pretrained weights of {name!r} here: its factory builds it.",
                fix="Let the factory load them, or give a file with --weights.",
            )
        )
    body = factory.FactoryNet(name, image_size)
    origin = None if weights is None else _fill_from_file(name, body.module, weights, body.module, ())
    return Backbone(name, body, image_size, origin)


def _own_body(name: str) -> tuple[nn.Module, tuple[str, ...]]:
    """Make the body, and give the beginnings of names that a whole network's checkpoint holds besides."""
    plan = find_plan(name)
    return (ir50.IR50(), ir50.SPARE) if plan is None else (ExpressionNet(plan), ("head.",))


def _check_name(name: str) -> None:
    if timm.is_model(name):
        return
    close = difflib.get_close_matches(name, [*timm.list_models(), *OWN], n=3, cutoff=0.5)
    raise UserInputError(
        paragraph(
            f"Unknown backbone {name!r}.",
            expected=f"the name of a timm model, for example resnet18, resnet50, convnext_tiny, or {', '.join(OWN)}",
            fix=f"Did you mean {' or '.join(close)}?" if close else None,
        )
    )


def _options(name: str, output_stride: int | None, image_size: int | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Choose what to ask of timm: options of the feature extractor, and of the network."""
    probe, sizes = _probe(name, image_size)
    entries = probe.feature_info.info
    own_stride = entries[-1]["reduction"]
    if output_stride is not None and output_stride < min(own_stride, WHOLE_STRIDE):
        sizes = {**sizes, **_stride_option(name, output_stride, own_stride, sizes)}
    level = len({entry["reduction"] for entry in entries}) == 1
    features: dict[str, Any] = {"out_indices": shown_blocks(len(entries)) if level else tuple(range(len(entries)))}
    if level and has_class_token(probe):
        features["feature_cls"] = TokenNet
    return features, sizes


def _sizings(image_size: int | None) -> Iterator[dict[str, Any]]:
    """Ways of telling a network its input size, the most flexible first; constructors refuse what they do not know."""
    size = {} if image_size is None else {"img_size": image_size}
    yield {**size, "dynamic_img_size": True}
    if size:
        yield size
    yield {}


def _probe(name: str, image_size: int | None, **options: Any) -> tuple[Any, dict[str, Any]]:
    """The network without memory or numbers, and the size options that it takes."""
    for sizing in _sizings(image_size):
        try:
            with torch.device("meta"):
                return timm.create_model(name, features_only=True, **sizing, **options), sizing
        except TypeError as error:
            if "unexpected keyword argument" not in str(error) or not sizing:
                raise
        except (AssertionError, ValueError) as error:
            if image_size is None:
                raise
            raise UserInputError(crop_message(name, image_size, error)) from error
        except (RuntimeError, AttributeError, NotImplementedError) as error:
            raise UserInputError(
                paragraph(
                    f"The model {name!r} cannot give feature maps.",
                    got=error,
                    fix="Choose another, for example resnet18, convnext_tiny or deit_small_patch16_224.",
                )
            ) from error
    raise AssertionError("unreachable: the last way has no option to refuse")


def _stride_option(name: str, wanted: int, own: int, sizes: dict[str, Any]) -> dict[str, int]:
    """The network's own option for a smaller output stride; that of a plain transformer is the size of its patches.

    Raises :class:`UserInputError` when it has none.
    """
    for option in ("output_stride", "patch_size"):
        asked: dict[str, Any] = {option: wanted, **sizes}
        try:
            with torch.device("meta"):
                probe: Any = timm.create_model(name, features_only=True, **asked)
        except (TypeError, AssertionError, NotImplementedError, ValueError, RuntimeError):
            continue
        if probe.feature_info.info[-1]["reduction"] == wanted:
            return {option: wanted}
    raise UserInputError(_stride_message(name, wanted, f"its design fixes the stride of its last layer at {own}"))


def _stride_message(name: str, wanted: int, reason: str) -> str:
    return paragraph(
        f"--output-stride {wanted} is not possible with {name}: {reason}.",
        fix="Leave it out, use a larger crop or a smaller patch, or choose a network that can keep its resolution, "
        "such as resnet50, convnext_tiny or efficientnet_b0.",
    )


def library_versions() -> dict[str, str]:
    """List the versions that a run records: those of the libraries themselves, with their build (``2.13.0+cpu``)."""
    return {"torch": str(torch.__version__), "timm": str(timm.__version__)}
