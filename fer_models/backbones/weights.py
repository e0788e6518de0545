"""Weights for a backbone from a file, compared name by name."""

from __future__ import annotations

import argparse
import collections
import contextlib
import importlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, cast

import numpy as np
import safetensors
import safetensors.torch
import timm
import torch
from torch import Tensor, nn

from aupipe.fer_data.errors import RunError, paragraph

WRAPPERS = ("state_dict", "model_state_dict", "model", "teacher", "student", "state_dict_ema", "model_ema")
"""Where training programs put a model's tensors in a checkpoint, in order of preference where several fit as well."""

PREFIX_PARTS = 4
"""How many parts of a tensor's name may be in front of the network's own: ``module.student.backbone.net.``."""

_SCALAR: Callable[..., Any] = cast("Any", np.float64(0).__reduce__())[0]
"""What numpy makes the numbers of a pickle with; its own name differs from version to version."""

SAFE_TYPES: tuple[Callable[..., Any] | tuple[Callable[..., Any], str], ...] = (
    argparse.Namespace,
    collections.defaultdict,
    np.dtype,
    *{type(np.dtype(code)) for code in np.typecodes["AllInteger"] + np.typecodes["AllFloat"] + "?"},
    *((_SCALAR, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    *(
        (PurePosixPath, f"{where}.{kind}Path")
        for where in ("pathlib", "pathlib._local")
        for kind in ("Posix", "Windows")
    ),
)
"""What training programs leave in a checkpoint beside tensors: plain values, none of which runs code when read."""

OWN_PREFIX = "backbone.body."
"""Of a backbone's tensors in the checkpoints of ``aupipe train``."""

SHOWN_NAMES = 4


def read_tensors(path: Path) -> dict[str, dict[str, Tensor]]:
    """Read the tensors of a safetensors file, or of a torch file without running any code it may hold.

    Returns:
        Every group of tensors by name that the file holds, by preference, under its own name in the file (``""``: the
        file is the group); at least one.

    Raises:
        RunError: The file is missing or not of this kind.
    """
    if not path.is_file():
        raise RunError(paragraph(f"The weights file {path} does not exist.", fix="Mend --weights."))
    try:
        if path.suffix == ".safetensors":
            return {"": safetensors.torch.load_file(path)}
        with torch.serialization.safe_globals(list(SAFE_TYPES)), warnings.catch_warnings(action="ignore"):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # bytes that are no pickle raise whatever comes to hand
        raise RunError(
            paragraph(
                f"The weights file {path} cannot be read.",
                expected="tensors by name, as safetensors or as a torch file that needs no code to be run",
                got=_hindrance(path, error),
                fix="Where the file is to be trusted, open it in the program that wrote it and save the model's "
                "tensors alone: torch.save(model.state_dict(), FILE).",
            )
        ) from error
    if groups := dict(_groups(content)):
        return groups
    keys = _some([str(key) for key in content]) if isinstance(content, Mapping) else type(content).__name__
    raise RunError(
        paragraph(
            f"The weights file {path} holds no tensors by name.",
            expected=f"a state_dict, by itself or under a key such as {', '.join(WRAPPERS[:3])}",
            got=keys or "nothing",
            fix="Save the model's tensors: torch.save(model.state_dict(), FILE).",
        )
    )


def _hindrance(path: Path, error: Exception) -> str:
    """Say all that keeps a file from being read safely: every type in it that would have to run code, by name."""
    with contextlib.suppress(Exception), torch.serialization.safe_globals(list(SAFE_TYPES)):
        if unsafe := torch.serialization.get_unsafe_globals_in_checkpoint(path):
            return f"it also holds {', '.join(sorted(unsafe))}, which cannot be read without running code"
    return "a TorchScript archive, which is a program" if "TorchScript" in str(error) else first_line(error)


def _groups(content: Any, name: str = "") -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Every mapping in a checkpoint that has tensors, with its name; those under :data:`WRAPPERS` first."""
    if not isinstance(content, Mapping):
        return
    if tensors := {str(key): value for key, value in content.items() if isinstance(value, Tensor)}:
        yield name, tensors
    for key in (*(key for key in WRAPPERS if key in content), *(key for key in content if key not in WRAPPERS)):
        yield from _groups(content[key], f"{name}.{key}".lstrip("."))


def _best_group(
    groups: Mapping[str, dict[str, Tensor]], networks: Sequence[nn.Module]
) -> tuple[dict[str, Tensor], list[str]]:
    """Choose the group of which most tensors are the network's by name and shape.

    Returns:
        Its tensors, without what stands before their names; and the names of the groups that fit so well, it first.
    """
    known = {(_canonical(key), value.shape) for network in networks for key, value in network.state_dict().items()}

    def counted(group: dict[str, Tensor]) -> tuple[int, str]:
        counts = collections.Counter[str]({"": 0})
        for name, value in group.items():
            for prefix in _prefixes(name):
                counts[prefix] += (_canonical(name[len(prefix) :]), value.shape) in known
        best = max(counts, key=lambda prefix: (counts[prefix], len(prefix) if counts[prefix] else 0))
        return counts[best], best if counts[best] else ""

    found = {name: counted(group) for name, group in groups.items()}
    most = max(count for count, _ in found.values())
    fitting = [name for name, (count, _) in found.items() if count == most]
    group, prefix = groups[fitting[0]], found[fitting[0]][1]
    prefix = prefix or ("module." if all(name.startswith("module.") for name in group) else "")
    return {name.removeprefix(prefix): value for name, value in group.items() if name.startswith(prefix)}, fitting


def _prefixes(name: str) -> Iterator[str]:
    """What may stand before a tensor's own name.

    >>> list(_prefixes("module.net.fc.bias"))
    ['', 'module.', 'module.net.', 'module.net.fc.']
    """
    parts = name.split(".")
    for count in range(min(PREFIX_PARTS + 1, len(parts))):
        yield "".join(f"{part}." for part in parts[:count])


def load_weights(name: str, body: nn.Module, path: Path, plain: nn.Module, head: tuple[str, ...]) -> str:
    """Fill a network from a file of its tensors, a whole classifier's or a checkpoint of ``aupipe train``.

    Args:
        name: The network's name, for the error.
        body: The network to fill.
        path: A safetensors file or a weights-only torch file.
        plain: The same network as timm trains it, whose names the file is expected to use.
        head: The beginnings of names that a backbone does not need.

    Returns:
        Where several sets of tensors in the file fit alike, such as the last weights and their moving average, words on
        which was taken, to stand behind the file's name; else "".

    Raises:
        RunError: Tensors are missing, unexpected, or of another shape: it lists them by name.
    """
    groups = read_tensors(path)
    given, (taken, *others) = _best_group(groups, (body, plain))
    if not any(key.startswith(OWN_PREFIX) for group in groups.values() for key in group):
        given = _converted(name, given, plain, path)
    fill(name, body, given, plain, head, path)
    return f" ({taken or 'its own tensors'}, not {' or '.join(others)})" if others else ""


def fill(
    name: str, body: nn.Module, given: Mapping[str, Tensor], plain: nn.Module, head: tuple[str, ...], path: Path
) -> None:
    """Fill a network with tensors by name: the second half of :func:`load_weights`, whose arguments and errors it has.

    ``given``: the tensors that the file at ``path`` holds, in the network's own naming.
    """
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
                got=f"{first_line(error)}, among the names {_some(list(given))}",
                fix="Use weights of this very model: its state_dict() as timm names the tensors.",
            )
        ) from error


def _canonical(key: str) -> str:
    """One spelling of a tensor's name: timm's feature extractors flatten ``stages.0`` to ``stages_0``."""
    return key.removeprefix("model.").replace(".", "_")


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
    return ", ".join(names[:SHOWN_NAMES]) + more


def first_line(reason: Exception | str) -> str:
    """Return the first line of an error's text, or the error's name where it has none."""
    return (str(reason).strip() or type(reason).__name__).splitlines()[0]
