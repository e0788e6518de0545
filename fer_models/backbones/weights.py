"""Weights for a backbone: a file, compared name by name, or timm's own, from the cache before the network."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import timm
import torch
from torch import Tensor, nn

from aupipe.fer_data.errors import RunError, paragraph

WRAPPERS = ("state_dict", "model", "state_dict_ema", "model_ema")
"""Where training programs put a model's tensors in a checkpoint, in order of preference."""

OWN_PREFIX = "backbone.body."
"""Of a backbone's tensors in the checkpoints of ``aupipe train``."""

REACH_SECONDS = 5.0
"""How long to wait for the hub before giving up: its client retries for most of a minute."""

SHOWN_NAMES = 4


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file, or of a torch file without running any code it may hold.

    Raises :class:`RunError` when the file is missing or not of this kind.
    """
    if not path.is_file():
        raise RunError(paragraph(f"The weights file {path} does not exist.", fix="Mend --weights."))
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # bytes that are no pickle raise whatever comes to hand
        raise RunError(
            paragraph(
                f"The weights file {path} cannot be read.",
                expected="tensors by name, as safetensors or as a torch file that needs no code to be run",
                got=_first_line(error),
                fix="Save the model's state_dict() again with torch.save or safetensors.",
            )
        ) from error
    while isinstance(content, Mapping) and (inner := [content[key] for key in WRAPPERS if key in content]):
        content = inner[0]
    tensors = {} if not isinstance(content, Mapping) else {k: v for k, v in content.items() if isinstance(v, Tensor)}
    if not tensors:
        raise RunError(paragraph(f"The weights file {path} holds no tensors by name.", got=type(content).__name__))
    return {str(name).removeprefix("module."): value for name, value in tensors.items()}


def load_weights(name: str, body: nn.Module, path: Path, plain: nn.Module, head: tuple[str, ...]) -> None:
    """Fill a network from a file of its tensors, a whole classifier's or a checkpoint of ``aupipe train``.

    Args:
        name: The network's name, for the error.
        body: The network to fill.
        path: A safetensors file or a weights-only torch file.
        plain: The same network as timm trains it, whose names the file is expected to use.
        head: The beginnings of names that a backbone does not need.

    Raises:
        RunError: Tensors are missing, unexpected, or of another shape: it lists them by name.
    """
    given = read_tensors(path)
    if any(key.startswith(OWN_PREFIX) for key in given):
        given = {key.removeprefix(OWN_PREFIX): value for key, value in given.items() if key.startswith(OWN_PREFIX)}
    else:
        given = _converted(name, given, plain, path)
    found = {_canonical(key): (key, value) for key, value in given.items()}
    wanted = body.state_dict()
    missing, other_shape, state = [], [], {}
    for key, value in wanted.items():
        _, tensor = found.get(_canonical(key), (key, None))
        if tensor is None and key.endswith("num_batches_tracked"):
            tensor = value
        if tensor is None:
            missing.append(key)
        elif tensor.shape != value.shape:
            other_shape.append(f"{key} {tuple(tensor.shape)} instead of {tuple(value.shape)}")
        else:
            state[key] = tensor
    known = {_canonical(key) for key in (*wanted, *plain.state_dict())}
    unexpected = [key for key in given if _canonical(key) not in known and not key.startswith(head)]
    problems = {"missing": missing, "unexpected": unexpected, "of another shape": other_shape}
    if any(problems.values()):
        raise RunError(
            paragraph(
                f"The weights in {path} do not fit {name!r}.",
                got="; ".join(f"{what}: {_some(names)}" for what, names in problems.items() if names),
                fix="Use weights of this very model: its state_dict() as timm names the tensors.",
            )
        )
    body.load_state_dict(state)


def _converted(name: str, given: dict[str, Tensor], plain: nn.Module, path: Path) -> dict[str, Tensor]:
    """Tensors renamed and position embeddings resized as timm does for this family, where it does."""
    if not timm.is_model(name):
        return given
    module = importlib.import_module(timm.model_entrypoint(name).__module__)
    convert: Callable[..., dict[str, Tensor]] | None = getattr(module, "checkpoint_filter_fn", None)
    if convert is None:
        return given
    try:
        return convert(given, plain)
    except (KeyError, RuntimeError, AttributeError, ValueError, IndexError) as error:
        raise RunError(
            paragraph(
                f"The weights in {path} do not fit {name!r}.",
                got=f"{_first_line(error)}, among the names {_some(list(given))}",
                fix="Use weights of this very model: its state_dict() as timm names the tensors.",
            )
        ) from error


def _canonical(key: str) -> str:
    """One spelling of a tensor's name: timm's feature extractors flatten ``stages.0`` to ``stages_0``."""
    return key.removeprefix("model.").replace(".", "_")


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
    return ", ".join(names[:SHOWN_NAMES]) + more


def pretrained_source(name: str) -> dict[str, Any]:
    """Return what makes ``timm.create_model`` load its own weights: from the cache without a word to the network.

    Raises :class:`RunError` when there are none, or when they are not in the cache and the hub cannot be reached.
    """
    config = timm.get_pretrained_cfg(name)
    if config is None or not config.has_weights:
        raise RunError(paragraph(f"timm has no pretrained weights of {name!r}.", fix="Leave out --pretrained."))
    if cached := _cached(config):
        return {"pretrained": True, "pretrained_cfg_overlay": {"file": str(cached)}}
    if reason := _unreachable():
        raise RunError(unavailable(name, reason))
    return {"pretrained": True}


def unavailable(name: str, reason: Exception | str) -> str:
    """Write the message for pretrained weights that could not be had."""
    return paragraph(
        f"The pretrained weights of {name!r} could not be had: they come from the network on first use.",
        got=_first_line(reason),
        fix="Without a network, leave out --pretrained, or download them elsewhere and give them with --weights FILE.",
    )


def _cached(config: Any) -> Path | None:
    """The file of a model's weights in the hub's cache."""
    from huggingface_hub import try_to_load_from_cache

    if not config.hf_hub_id:
        return None
    repository, _, revision = config.hf_hub_id.partition("@")
    names = (config.hf_hub_filename,) if config.hf_hub_filename else ("model.safetensors", "pytorch_model.bin")
    for name in names:
        if isinstance(path := try_to_load_from_cache(repository, name, revision=revision or None), str):
            return Path(path)
    return None


def _unreachable() -> str | None:
    """Say why the hub does not answer; None when it does. Proxies and HF_HUB_OFFLINE are honoured by its own client."""
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=REACH_SECONDS)
    except Exception as error:  # whatever its client raises, which changes from version to version, is the reason
        return _first_line(error)
    return None


def _first_line(reason: Exception | str) -> str:
    return (str(reason).strip() or type(reason).__name__).splitlines()[0]
