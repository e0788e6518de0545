"""The plan of a grid: which runs it consists of, and which of them share a training. Pure: no files, no networks.

The main grid is method x align weight x seed. Three ablations vary one setting of one method at its guided weight: the
aligned layers, the align weight itself, the alignment's target. A run that several tables need appears once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from aupipe.fer_data.errors import UserInputError, paragraph
from aupipe.fer_data.files import digest
from aupipe.fer_models.methods import method_name, method_names, training_name
from aupipe.fer_models.targets import parse_layers
from aupipe.fer_models.training.config import TrainConfig

DEFAULT_BACKBONES = {"tscam": "deit_tiny_patch16_224"}
"""Backbones of methods that cannot use a convolutional one, where the caller names none."""


@dataclass(frozen=True, order=True)
class GridCell:
    """The settings of the runs that are averaged together: everything the grid varies, save the seed."""

    method: str
    weight: float
    layers: str = "last"
    target: str = "class"

    @property
    def label(self) -> str:
        """Short name, for example ``cam-w4-layers5+4-target-mean``, without what is the default."""
        parts = [self.method, f"w{self.weight:g}"]
        parts += [f"layers{self.layers.replace(',', '+')}"] if self.layers != "last" else []
        parts += [f"target-{self.target}"] if self.target != "class" else []
        return "-".join(parts)


@dataclass(frozen=True)
class GridRequest:
    """The grid that was asked for. ``base`` holds the settings that all runs share.

    ``backbones``, ``options``: of single methods, by name. ``layers``, ``lambdas``, ``targets``: the ablations of the
    method ``ablation``, none where empty. Raises :class:`UserInputError` for what no grid can be made of.
    """

    methods: tuple[str, ...]
    seeds: int
    weights: tuple[float, ...] = (0.0, 4.0)
    base: TrainConfig = field(default_factory=TrainConfig)
    backbones: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    layers: tuple[str, ...] = ()
    lambdas: tuple[float, ...] = ()
    targets: tuple[str, ...] = ()
    ablation: str = "cam"

    def __post_init__(self) -> None:
        """Check the request. Raises :class:`UserInputError` for what no grid can be made of."""
        if self.seeds < 1 or not self.methods or not self.weights:
            raise UserInputError(paragraph("A grid needs a method, an align weight and a seed at least."))
        for name in (*self.methods, *self.backbones, *self.options, self.ablation):
            training_name(name)
        spelled = {
            "methods": tuple(map(method_name, self.methods)),
            "backbones": {method_name(name): value for name, value in self.backbones.items()},
            "options": {method_name(name): value for name, value in self.options.items()},
            "ablation": method_name(self.ablation),
        }
        for field_name, value in spelled.items():
            object.__setattr__(self, field_name, value)
        if (self.layers or self.targets) and self.guided is None:
            raise UserInputError(
                paragraph(
                    "--layers and --align-targets vary guided runs, and there are none.",
                    expected="a weight above 0 in --align-weight",
                    got=", ".join(f"{weight:g}" for weight in self.weights),
                )
            )

    @property
    def guided(self) -> float | None:
        """The weight of the guided runs that the ablations vary: the first one above 0."""
        return next((weight for weight in self.weights if weight > 0), None)

    def backbone(self, method: str) -> str:
        """Return the backbone of a method's runs."""
        return self.backbones.get(method, DEFAULT_BACKBONES.get(method, self.base.backbone))

    def main_cells(self) -> Iterator[GridCell]:
        """List the cells of the comparison of methods."""
        return (GridCell(method, weight) for method in self.methods for weight in self.weights)

    def layer_cells(self) -> Iterator[GridCell]:
        """List the cells of the layer ablation, the unguided network first."""
        if self.layers and self.guided is not None:
            yield GridCell(self.ablation, 0.0)
            yield from (GridCell(self.ablation, self.guided, layers) for layers in self.layers)

    def lambda_cells(self) -> Iterator[GridCell]:
        """List the cells of the sweep of the align weight."""
        return (GridCell(self.ablation, weight) for weight in sorted(set(self.lambdas)))

    def target_cells(self) -> Iterator[GridCell]:
        """List the cells of the controls of the alignment's target, the unguided network first."""
        if self.targets and self.guided is not None:
            yield GridCell(self.ablation, 0.0)
            yield from (GridCell(self.ablation, self.guided, target=target) for target in self.targets)

    def cells(self) -> list[GridCell]:
        """List all cells, each once, in a stable order."""
        every = (*self.main_cells(), *self.layer_cells(), *self.lambda_cells(), *self.target_cells())
        return list(dict.fromkeys(every))


@dataclass(frozen=True)
class RunSpec:
    """One row of the results: a cell and a seed, how it is trained, and where its figures lie.

    ``training``: the configuration that is trained, the same for all read-outs of one network. ``folder``: of the
    training, under ``OUT/runs``. ``output``: of ``metrics.json``, under ``OUT/runs`` too.
    """

    name: str
    cell: GridCell
    config: TrainConfig
    training: TrainConfig
    folder: str
    output: str


@dataclass(frozen=True)
class Training:
    """One training and the runs that are evaluated on it."""

    name: str
    config: TrainConfig
    runs: tuple[RunSpec, ...]


def plan_grid(request: GridRequest) -> list[RunSpec]:
    """List the runs in the order of their training: seed by seed, so that a grid cut short compares all methods."""
    return [_spec(request, cell, seed) for seed in range(request.seeds) for cell in request.cells()]


def trainings(runs: Sequence[RunSpec]) -> list[Training]:
    """List the trainings that the runs need, each once."""
    groups: dict[str, list[RunSpec]] = {}
    for run in runs:
        groups.setdefault(training_key(run.training), []).append(run)
    return [Training(group[0].folder, group[0].training, tuple(group)) for group in groups.values()]


def training_key(config: TrainConfig) -> str:
    """Identify what is trained: equal for runs that differ only in how the map is read out, or where they compute.

    Without guidance nothing depends on which layers or which target would be aligned.
    """
    return digest({**training_config(config).as_json(), "device": None})


def training_config(config: TrainConfig, options: str = "") -> TrainConfig:
    """Derive the configuration that a run is trained with. ``options``: of the method it is trained as."""
    trained_as = training_name(config.method)
    changes: dict[str, Any] = {}
    if trained_as != config.method:
        changes |= {"method": trained_as, "method_options": options}
    if config.align_weight == 0:
        changes |= {"align_layers": TrainConfig.align_layers, "align_target": TrainConfig.align_target}
    return replace(config, **changes)


def ablation_network(request: GridRequest) -> TrainConfig:
    """Return the configuration of the network that the ablations vary."""
    return _spec(request, GridCell(request.ablation, 0.0), 0).training


def _spec(request: GridRequest, cell: GridCell, seed: int) -> RunSpec:
    config = replace(
        request.base,
        method=cell.method,
        method_options=request.options.get(cell.method, ""),
        backbone=request.backbone(cell.method),
        align_weight=cell.weight,
        align_layers=cell.layers,
        align_target=cell.target,  # type: ignore[arg-type]  # checked by the configuration itself
        seed=seed,
    )
    training = training_config(config, request.options.get(training_name(cell.method), ""))
    folder = _name(replace(cell, method=training.method), config)
    output = folder if training.method == cell.method else f"{folder}/{cell.method}"
    return RunSpec(_name(cell, config), cell, config, training, folder, output)


def _name(cell: GridCell, config: TrainConfig) -> str:
    network = re.sub(r"[^A-Za-z0-9._]+", "_", config.backbone)
    return f"{cell.label.replace(cell.method, f'{cell.method}-{network}', 1)}-s{config.seed}"


def parse_methods(text: str) -> tuple[str, ...]:
    """Parse ``all`` or names separated by commas into names, each once, in the paper's order.

    Raises:
        UserInputError: An unknown method.
    """
    every = method_names()
    given = {method_name(name.strip()) for name in text.split(",") if name.strip()}
    names = set(every) if text.strip() == "all" else given
    for name in names:
        training_name(name)
    return tuple(name for name in every if name in names)


def parse_weights(text: str, option: str) -> tuple[float, ...]:
    """Parse ``0,4`` into numbers of 0 or more, each once, in their order. Raises :class:`UserInputError`."""
    try:
        weights = tuple(dict.fromkeys(float(part) for part in text.split(",") if part.strip()))
    except ValueError:
        weights = (-1.0,)
    if not all(0 <= weight < float("inf") for weight in weights):
        raise UserInputError(paragraph(f"--{option} cannot be read.", expected="numbers like 0,4", got=text))
    return weights


def parse_pairs(pairs: Sequence[str], option: str) -> dict[str, str]:
    """Parse ``tscam=deit_tiny`` into method and value, split at the first ``=``. Raises :class:`UserInputError`."""
    split = [pair.partition("=") for pair in pairs]
    for (name, sign, value), pair in zip(split, pairs, strict=True):
        if not (name and sign and value):
            raise UserInputError(paragraph(f"--{option} cannot be read.", expected="METHOD=VALUE", got=pair))
        training_name(name)
    return {method_name(name): value for name, _, value in split}


def parse_layer_sets(sets: Iterable[str], n_layers: int) -> tuple[str, ...]:
    """Parse ``last``, ``5`` and ``5,4`` into layer sets of a network, each once.

    Args:
        sets: ``last``, or numbers, deepest first (see ``parse_layers``).
        n_layers: Number of layers of the network.

    Returns:
        The sets. ``last`` and the deepest layer's number are one and the same, and come out as ``last``.
    """
    numbers = [parse_layers(part, n_layers) for part in sets if part.strip()]
    named = ["last" if one == (n_layers,) else ",".join(map(str, one)) for one in numbers]
    return tuple(dict.fromkeys(named))
