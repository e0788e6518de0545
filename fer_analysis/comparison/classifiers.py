"""Classifiers to compare: trained runs, and anyone's torch modules, behind one small interface."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from aupipe.fer_data.errors import RunError, UserInputError, paragraph
from aupipe.fer_data.files import digest, sha256_file
from aupipe.fer_models.backbones.base import scale_images
from aupipe.fer_models.backbones.factory import build, defining_files, find_factory
from aupipe.fer_models.methods import Method
from aupipe.fer_models.targets import attention, positive_part
from aupipe.fer_models.training import checkpoint, run_record

NORMALISATIONS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}
"""Mean and standard deviation of images in [0, 1], by name."""


class Classifier(ABC):
    """A network that tells expressions apart.

    ``crop``: side of the central square of the store's images that it is shown, which is what gets explained.
    ``identity``: changes whenever its answers may. ``description``: for the report.
    """

    name: str
    crop: int
    device: torch.device
    identity: str
    description: str

    @abstractmethod
    def probabilities(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k"]:
        """Compute the probabilities of the classes for images in [0, 1], RGB, on the classifier's device."""

    def own_maps(
        self, images: Float[Tensor, "b 3 h w"], target: Int64[Tensor, "b"], kind: str
    ) -> Float[Tensor, "b y x"]:
        """Read out the maps that the network carries itself.

        Args:
            images: Images in [0, 1], RGB.
            target: The class a CAM is of.
            kind: ``cam``, or ``attention`` of the deepest layer.

        Returns:
            Their positive part at native resolution.

        Raises:
            UserInputError: The network has no such maps.
        """
        raise UserInputError(
            paragraph(
                f"{self.name} has no {kind} of its own: it is known by its answers alone.",
                fix="Use --explainer lime, occlusion or rise.",
            )
        )


class RunClassifier(Classifier):
    """The best model of a run of ``aupipe train``, normalised as it was trained."""

    def __init__(self, name: str, folder: Path, record: run_record.RunRecord, model: Method, device: torch.device):
        self.name, self.device, self.model = name, device, model
        self.crop = record.config.crop_size
        self.identity = sha256_file(folder / run_record.BEST)
        self.description = f"run {folder}: {record.config.backbone}, {record.config.method}"
        self.mean = torch.tensor(record.channel_mean, device=device)[:, None, None]
        self.std = torch.tensor(record.channel_std, device=device).clamp_min(1e-6)[:, None, None]

    def probabilities(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k"]:
        """See the base class."""
        with torch.no_grad():
            return torch.softmax(self.model((images - self.mean) / self.std).logits.float(), 1)

    def own_maps(
        self, images: Float[Tensor, "b 3 h w"], target: Int64[Tensor, "b"], kind: str
    ) -> Float[Tensor, "b y x"]:
        """See the base class; a method without a CAM raises :class:`UserInputError`."""
        if kind == "cam" and not self.model.has_cam:
            return super().own_maps(images, target, kind)
        out = self.model.read((images - self.mean) / self.std)
        maps = self.model.cam(out, target) if kind == "cam" else attention(out.features[-1])
        return positive_part(maps.detach().float())


class ExternalClassifier(Classifier):
    """Any torch module that maps normalised images to logits ``(B, K)``."""

    def __init__(
        self,
        name: str,
        model: nn.Module,
        n_classes: int,
        *,
        crop: int,
        input_size: int,
        normalisation: str,
        device: torch.device,
        identity: str,
    ) -> None:
        self.name, self.crop, self.device, self.identity = name, crop, device, identity
        self.input_size = input_size
        self.model = model.to(device).eval()
        mean, std = NORMALISATIONS[normalisation]
        self.mean = torch.tensor(mean, device=device)[:, None, None]
        self.std = torch.tensor(std, device=device)[:, None, None]
        self.description = f"{name}: {input_size} x {input_size} pixels, normalisation {normalisation}"
        self._check(n_classes)

    def _check(self, n_classes: int) -> None:
        """Check that the model gives one score per class. Raises :class:`UserInputError`."""
        try:
            with torch.no_grad():
                out = self.model(torch.zeros(2, 3, self.input_size, self.input_size, device=self.device))
        except (RuntimeError, AssertionError, ValueError, TypeError, IndexError) as error:  # people's own, of any kind
            raise UserInputError(
                paragraph(
                    f"The model {self.name} does not take images of {self.input_size} pixels.",
                    got=str(error).splitlines()[0],
                    fix="Give the size it was trained on with --input-size.",
                )
            ) from error
        shape = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
        if shape != (2, n_classes):
            raise UserInputError(
                paragraph(
                    f"The model {self.name} does not give one score per class of the store.",
                    expected=f"logits of shape (2, {n_classes}) for 2 images",
                    got=shape,
                    fix="Let the factory build a model with as many outputs, in the order of the store's classes.",
                )
            )

    def probabilities(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k"]:
        """See the base class."""
        images = scale_images(images, self.input_size)
        with torch.no_grad():
            return torch.softmax(self.model((images - self.mean) / self.std).float(), 1)


def load_runs(folders: list[Path], classes: tuple[str, ...], device: torch.device) -> list[Classifier]:
    """Load the best models of runs, named after their folders. Raises :class:`RunError` for one with other classes."""
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        names = ["-".join(folder.resolve().parts[-2:]) for folder in folders]
    loaded: list[Classifier] = []
    for name, folder in zip(names, folders, strict=True):
        record, model, _ = checkpoint.load_best(folder, device)
        if record.classes != classes:
            raise RunError(
                paragraph(
                    "The run was trained on other classes than the store has.",
                    where=folder,
                    expected=", ".join(classes),
                    got=", ".join(record.classes),
                    fix="Compare runs on a store built with the same labels.",
                )
            )
        loaded.append(RunClassifier(name, folder, record, model, device))
    return loaded


def load_external(
    spec: str,
    weights: Path | None,
    n_classes: int,
    *,
    crop: int,
    input_size: int | None,
    normalisation: str,
    device: torch.device,
) -> Classifier:
    """Build anyone's classifier with ``module:factory`` and load its weights.

    Args:
        spec: ``module:factory``. A factory with a parameter ``num_classes`` or ``n_classes`` is given the number of
            classes.
        weights: A torch state dict or a safetensors file. None: as the factory makes them, with seed 0.
        n_classes: Number of classes, in the store's order.
        crop: Side of the central square of the store's images that it is shown.
        input_size: Side that the network sees. None: the model's own attribute ``input_size``, or ``crop``.
        normalisation: How its images are prepared.
        device: Where it runs.

    Returns:
        The classifier, named after the factory.

    Raises:
        UserInputError: No such factory, or one that builds something else.
        RunError: The weights are missing, damaged or of another model.
    """
    factory = find_factory(spec)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build(spec, n_classes)
    if weights is not None:
        _fill(model, weights)
    stated = getattr(model, "input_size", crop)
    size = input_size or int(stated[-1] if isinstance(stated, Sequence) else stated)  # a side, or (3, height, width)
    return ExternalClassifier(
        spec.rpartition(":")[2],
        model,
        n_classes,
        crop=crop,
        input_size=size,
        normalisation=normalisation,
        device=device,
        identity=f"{spec} {_content(factory, model)} {size} {normalisation}",
    )


def _content(factory: Callable[..., Any], model: nn.Module) -> str:
    """Compute the digest of a model's weights, and of the files that define its parts and its factory."""
    sources = sorted(sha256_file(path) for path in defining_files(factory, model))
    weights = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        data = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        weights.update(f"{name} {tuple(tensor.shape)} {tensor.dtype} ".encode() + data.tobytes())
    return digest([torch.__version__, sources, weights.hexdigest()])


def _fill(model: nn.Module, path: Path) -> None:
    """Load weights into a model. Raises :class:`RunError` when the file is missing, damaged or of another model."""
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state: Any = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
            state = state.get("state_dict", state.get("model", state))
        model.load_state_dict(state)
    except Exception as error:  # torch, pickle, zipfile and safetensors each raise their own
        raise RunError(
            paragraph(
                f"The weights in {path} cannot be loaded into the model.",
                expected="a state dict of this very model, as safetensors or a weights-only torch file",
                got="; ".join(line.strip() for line in str(error).splitlines()[:3]),
                fix="Mend --weights.",
            )
        ) from error
