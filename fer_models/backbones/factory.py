"""Anyone's network as a backbone: ``--backbone module:factory``.

The factory builds a torch module from images to whatever it likes. Its layers are found by running it once: of every
resolution the last maps ``(b, c, h, w)`` that one of its modules gives, but for single pixels. What comes after the
deepest of them, its own classifier, is not used and not trained.

A name like this is code: importing it runs it. So a run that names one is opened only where the user has named it too:
by training it in this process, or in the environment variable :data:`ALLOWED`. And weights say nothing without the code
that they were trained with: a run records what its files were, and is refused where they are others.
"""

from __future__ import annotations

import importlib
import inspect
import os
import re
import sys
import sysconfig
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from timm.models._features import FeatureInfo
from torch import Tensor, nn

from aupipe.fer_data.errors import UserInputError, paragraph
from aupipe.fer_data.files import digest, sha256_file

ALLOWED = "AUPIPE_MODELS"
"""Environment variable: names of factories, with commas between, that runs may import.

``module:factory#DIGEST`` lets in code that has changed since a run was trained with it.
"""

USUAL_SIZE = 224
"""Side of the images by which layers are found where no other is known."""

_named: set[str] = set()


def is_factory(name: str) -> bool:
    """Return whether a backbone's name is that of a factory, ``module:factory``."""
    return re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", name) is not None


def allow(name: str) -> None:
    """Take note that the user named this backbone in this process."""
    _named.add(name)


def check_allowed(name: str, where: Path) -> None:
    """Refuse a run's backbone that is code which nobody has named here.

    Args:
        name: The backbone of the run.
        where: The run.

    Raises:
        UserInputError: It may not be imported.
    """
    if is_factory(name) and name not in _named | {one.partition("#")[0] for one in _allowed()}:
        raise UserInputError(
            paragraph(
                f"The run's network is built by {name}, which is code that would be imported and run.",
                where=where,
                fix=f"If you trust it, say so: {ALLOWED}={name}",
            )
        )


def _allowed() -> set[str]:
    return {one.strip() for one in os.environ.get(ALLOWED, "").split(",")}


def code_digest(body: nn.Module) -> str:
    """Compute the digest of the user's own files that define a backbone; empty where none are, or it is no factory's.

    What is installed in the environment is left out: a run records these versions.
    """
    if not isinstance(body, FactoryNet):
        return ""
    paths = sysconfig.get_paths()
    installed = [Path(paths[name]).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    files = [
        path
        for path in defining_files(find_factory(body.spec), body.module)
        if not any(path.resolve().is_relative_to(folder) for folder in installed)
    ]
    return digest(sorted(sha256_file(path) for path in files)) if files else ""


def defining_files(factory: Callable[..., Any], module: nn.Module) -> list[Path]:
    """List the files that define a factory and the parts of what it built, but for torch's."""
    names = {factory.__module__, *(type(part).__module__ for part in module.modules())}
    files = {getattr(sys.modules.get(name), "__file__", None) for name in names if name.split(".")[0] != "torch"}
    return [Path(file) for file in files if file and Path(file).is_file()]


def check_code(name: str, trained: str, body: nn.Module, where: Path) -> None:
    """Refuse a run whose network is built by other code than it was trained with.

    Args:
        name: The backbone of the run.
        trained: :func:`code_digest` when it was trained; empty: not known.
        body: The backbone as it is built now.
        where: The run.

    Raises:
        UserInputError: The code has changed, and the user has not let it in.
    """
    now = code_digest(body)
    known = f"{name}#{now[:16]}"
    if trained and now != trained and known not in _allowed():
        raise UserInputError(
            paragraph(
                f"The code of {name} has changed since the run was trained: its weights may give other answers.",
                where=where,
                fix=f"Bring that code back. If the change leaves what it computes as it was, say so: {ALLOWED}={known}",
            )
        )


def find_factory(spec: str) -> Callable[..., Any]:
    """Import a factory. Raises :class:`UserInputError` when there is none of that name."""
    module_name, _, name = spec.partition(":")
    here = str(Path.cwd())
    sys.path.append(here)  # a user's own module lies where they work; what is installed is never overridden by it
    try:
        factory = getattr(importlib.import_module(module_name), name) if module_name and name else None
    except (ImportError, AttributeError) as error:
        raise UserInputError(
            paragraph(
                f"The model {spec!r} cannot be imported.",
                expected="module:factory, importable from here, for example aupipe.fer_models.backbones.zoo:songnet",
                got=error,
            )
        ) from error
    finally:
        sys.path.remove(here)
    if not callable(factory):
        raise UserInputError(paragraph(f"{spec!r} names no function or class.", expected="module:factory"))
    return factory  # type: ignore[no-any-return]


def build(spec: str, n_classes: int) -> nn.Module:
    """Build a factory's module, for so many classes if it asks. Raises :class:`UserInputError` when it builds none."""
    factory = find_factory(spec)
    wanted = [name for name in ("num_classes", "n_classes") if name in inspect.signature(factory).parameters]
    try:
        model = factory(**dict.fromkeys(wanted, n_classes))
    except TypeError as error:
        raise UserInputError(
            paragraph(f"The factory {spec} cannot be called.", expected="no argument but num_classes", got=error)
        ) from error
    if not isinstance(model, nn.Module):
        raise UserInputError(paragraph(f"The factory {spec} does not build a torch module.", got=type(model).__name__))
    return model


class FactoryNet(nn.Module):
    """A factory's module that gives the maps of its layers, the deepest last.

    Raises :class:`UserInputError` where it has no maps.
    """

    def __init__(self, spec: str, image_size: int | None) -> None:
        super().__init__()
        self.spec, self.module = spec, build(spec, 2)
        self._seen: dict[str, Tensor] = {}
        layers = self._find_layers(spec, image_size or USUAL_SIZE)
        entries = [{"num_chs": one.shape[1], "reduction": (image_size or USUAL_SIZE) // one.shape[2], "module": name}
                   for name, one in layers.items()]  # fmt: skip
        self.feature_info = FeatureInfo(entries, tuple(range(len(entries))))
        self.names = tuple(layers)
        modules = dict(self.named_modules())
        for name in self.names:
            # A partial of a method, unlike a closure, follows the network when it is copied.
            modules[name].register_forward_hook(partial(self._keep, name))

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> list[Float[Tensor, "b _ _ _"]]:
        """Compute the maps of every layer."""
        self.module(images)
        seen, self._seen = self._seen, {}
        return [seen[name] for name in self.names]

    def _keep(self, name: str, _module: nn.Module, _inputs: Any, output: Tensor) -> None:
        self._seen[name] = output

    def _find_layers(self, spec: str, size: int) -> dict[str, Tensor]:
        """Run the module once: the last maps of every resolution by the module that gives them, as they arise."""
        last: dict[tuple[int, int], tuple[str, Tensor]] = {}

        def note(name: str) -> Callable[[nn.Module, Any, Any], None]:
            def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
                if isinstance(output, Tensor) and output.ndim == 4 and output.shape[2] * output.shape[3] > 1:
                    place = (int(output.shape[2]), int(output.shape[3]))
                    last.pop(place, None)
                    last[place] = (name, output)

            return keep

        hooks = [one.register_forward_hook(note(name)) for name, one in self.named_modules() if name]
        was_training = self.module.training
        self.module.eval()
        try:
            self.module(torch.zeros(1, 3, size, size))
        except (RuntimeError, ValueError, AssertionError) as error:
            raise UserInputError(
                paragraph(
                    f"The model {spec} does not take images of {size} pixels.",
                    got=(str(error).strip() or type(error).__name__).splitlines()[0],
                    fix="Scale crops to the size it takes with --input-size.",
                )
            ) from error
        finally:
            for hook in hooks:
                hook.remove()
            self.module.train(was_training)
        if not last:
            raise UserInputError(
                paragraph(
                    f"The model {spec} has no feature maps: none of its modules gives a tensor of four axes.",
                    expected="maps (batch, channels, height, width) larger than a pixel",
                    fix="Choose a convolutional network, or one of timm's, whose tokens are known to be a grid.",
                )
            )
        self._freeze_what_is_not_used(next(reversed(last.values()))[1])
        # A module that is called at several resolutions is read at its last call.
        kept: dict[str, Tensor] = {}
        for name, maps in reversed(last.values()):
            kept.setdefault(name, maps)
        return dict(reversed(kept.items()))

    def _freeze_what_is_not_used(self, deepest: Tensor) -> None:
        """Take out of training what the deepest maps do not depend on: the module's own classifier."""
        parameters = [one for one in self.module.parameters() if one.requires_grad]
        if not parameters or not deepest.requires_grad:
            return
        used = torch.autograd.grad(deepest.sum(), parameters, allow_unused=True)
        for parameter, gradient in zip(parameters, used, strict=True):
            parameter.requires_grad_(gradient is not None)
