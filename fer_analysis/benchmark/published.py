"""The paper's own figures, from ``published.toml``, where a store holds the same dataset."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from aupipe.fer_data.au_maps.codebook import load_codebook
from aupipe.fer_data.errors import UserInputError, unknown_name
from aupipe.fer_data.shards import Store

AUTO, NONE = "auto", "none"

Pair = tuple[float, float]


@dataclass(frozen=True)
class Published:
    """One dataset's figures. ``methods``: name -> ``cl`` (percent), ``cam_cos``, ``att_cos`` -> (without, with AUs).

    ``layers``: aligned layers of CAM (``none``, ``5``, ``5,4`` ..) -> (accuracy in percent, CAM-COS). ``codebook``:
    whose maps the cosines compare with; ``comparable``: whether the store's are the same. ``differs``: method -> what
    was done otherwise there.
    """

    title: str
    source: str
    setting: str
    codebook: str
    comparable: bool
    differs: Mapping[str, str]
    methods: Mapping[str, Mapping[str, Pair]]
    layers: Mapping[str, Pair] = field(default_factory=dict)


def load_published(name: str, store: Store) -> Published | None:
    """Load the figures of a dataset by name.

    Args:
        name: Name of the dataset; ``auto``: the store's own, which it remembers from the layout that it was built from;
            ``none``: no figures.
        store: The store whose figures they stand beside.

    Returns:
        The figures; None for ``none``, and where ``auto`` finds nothing published on the store's dataset.

    Raises:
        UserInputError: An unknown name.
    """
    content = _content()
    datasets = {key: value for key, value in content.items() if isinstance(value, dict) and key != "differs"}
    if name == AUTO:
        name = next((key for key, value in datasets.items() if _same_dataset(value, store)), NONE)
    if name == NONE:
        return None
    if name not in datasets:
        raise UserInputError(unknown_name("published table", name, [AUTO, NONE, *datasets]))
    chosen = datasets[name]
    return Published(
        title=chosen["title"],
        source=content["source"],
        setting=content["setting"],
        codebook=content["codebook"],
        comparable=store.index.codebook_digest == load_codebook(content["codebook"]).digest,
        differs=content["differs"],
        methods={key: {one: _pair(value[one]) for one in value} for key, value in chosen["methods"].items()},
        layers={key: _pair(value) for key, value in chosen.get("layers", {}).items()},
    )


def _content() -> dict[str, Any]:
    return tomllib.loads(resources.files(__package__).joinpath("published.toml").read_text(encoding="utf-8"))


def _same_dataset(entry: Mapping[str, Any], store: Store) -> bool:
    return store.index.provenance.get("layout") in entry["layouts"] and len(store.index.classes) == entry["classes"]


def _pair(values: list[float]) -> Pair:
    without, with_units = values
    return float(without), float(with_units)
