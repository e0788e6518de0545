"""A run's folder: configuration, checkpoints, and rebuilding the model they belong to.

Checkpoints hold tensors and plain values only, so ``torch.load(weights_only=True)`` reads them.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from aupipe.fer_data.errors import FerError, RunError, StoreError, UserInputError, paragraph
from aupipe.fer_data.files import json_bytes, sha256_file, steady_file
from aupipe.fer_data.preparation import Preparation
from aupipe.fer_data.recorded import check_recorded, read_recorded, recorded_path, write_recorded
from aupipe.fer_data.shards import Store
from aupipe.fer_data.shards.preview import open_previewed, preview_store
from aupipe.fer_data.shards.remote import is_url
from aupipe.fer_data.typed import convert, parse_json
from aupipe.fer_data.types import Progress
from aupipe.fer_data.versions import installed_versions
from aupipe.fer_data.wrong_path import wrong_path
from aupipe.fer_models.backbones import create_backbone, library_versions
from aupipe.fer_models.backbones.factory import check_allowed, check_code
from aupipe.fer_models.methods import (
    METHODS,
    Method,
    create_method,
    method_class,
    method_name,
    option_defaults,
    parse_options,
    training_name,
)
from aupipe.fer_models.training.config import TrainConfig

CONFIG, LAST, BEST = "config.json", "last.pt", "best.pt"

WAYS_OUT = {
    CONFIG: "Restore it from a copy, or train into a new folder.",
    LAST: f"Restore it from a copy, or remove it and run `aupipe train` with the same settings: training then starts "
    f"again. {BEST} does not depend on it and can still be evaluated.",
    BEST: f"Run `aupipe train` with the same settings: it writes {BEST} again where {LAST} holds the same weights, and "
    "says what else can be done.",
}
"""What to do about a damaged file of a run."""

MAY_DIFFER = frozenset({"preset", "max_steps", "device", "checkpoint_minutes", "checkpoint_steps", "tensorboard"})
"""Options that may differ when a run is continued: where it computes, how far it goes, how often it
saves, and the name of settings that are compared one by one."""


SEMANTICS = 2
"""What the settings mean. 1: the rest of an epoch that filled no batch was left out, attention in erased areas counted
as misplaced, and the method's own settings were not recorded. 2: every face is used, erased areas do not count."""


@dataclass(frozen=True, kw_only=True)
class _Origins:
    """The content of ``config.json`` beside the settings."""

    store: str
    store_digest: str
    codebook: str
    codebook_digest: str
    classes: tuple[str, ...]
    image_size: int
    map_size: int
    channel_mean: tuple[float, ...]
    channel_std: tuple[float, ...]
    versions: dict[str, str]
    preparation: dict[str, Any] = field(default_factory=dict)
    method_settings: dict[str, Any] = field(default_factory=dict)
    initial_weights: dict[str, str] = field(default_factory=dict)
    backbone_code: str = ""
    validation_faces: int = 0
    semantics: int = 1


@dataclass(frozen=True, kw_only=True)
class RunRecord(_Origins):
    """The content of ``config.json``.

    ``store`` is relative to the run's folder where both are on one drive; of a store at a URL it is the URL with the
    store's digest. ``preparation``: how the store's photos became crops, :class:`Preparation` as JSON; empty in older
    runs. ``method_settings``: all of the method's own settings, also those that nobody gave, so that the network stays
    the one that was trained when a default changes. ``initial_weights``: where the backbone's first weights came from,
    :class:`WeightsOrigin` as JSON; empty in older runs. ``backbone_code``: the digest of the files that define the
    network, where it is the user's own. ``semantics``: :data:`SEMANTICS` of the program that trained.
    """

    config: TrainConfig

    def as_json(self) -> dict[str, Any]:
        """Return the plain content of ``config.json``."""
        content = {name: value for name, value in vars(self).items() if name != "config"}
        return json.loads(json.dumps({**content, "config": self.config.as_json()}))  # type: ignore[no-any-return]


def describe_run(store: Store, run_folder: Path, config: TrainConfig) -> RunRecord:
    """Make the record of a run on this store; one that was begun keeps what its settings meant."""
    index = store.index
    begun = load_record(run_folder) if (run_folder / CONFIG).is_file() else None
    return RunRecord(
        config=config,
        store=store.url or _relative(store.folder, run_folder),
        store_digest=index.digest,
        codebook=store.codebook.name,
        codebook_digest=index.codebook_digest,
        classes=index.classes,
        image_size=index.image_size,
        map_size=index.map_size,
        channel_mean=tuple(index.channel_mean),
        channel_std=tuple(index.channel_std),
        versions={
            **library_versions(),
            **installed_versions(("aupipe", "numpy"), "not installed"),
            "python": platform.python_version(),
        },
        preparation=Preparation.of_store(index).as_json(),
        method_settings=begun.method_settings if begun else _method_settings(config),
        initial_weights=begun.initial_weights if begun else {},
        backbone_code=begun.backbone_code if begun else "",
        validation_faces=index.rows("val"),
        semantics=begun.semantics if begun else SEMANTICS,
    )


def _method_settings(config: TrainConfig) -> dict[str, Any]:
    return {**option_defaults(config.method), **parse_options(config.method, config.method_options)}


def _relative(store: Path, run_folder: Path) -> str:
    place = Path(os.path.relpath(store.resolve(), run_folder.resolve())).as_posix()
    try:
        place.encode()
    except UnicodeEncodeError as error:
        raise UserInputError(
            paragraph(
                "The store's path has bytes that are no text, so a run cannot record it.",
                got=repr(place),
                fix="Rename the folder.",
            )
        ) from error
    return place


def save_record(run_folder: Path, record: RunRecord) -> None:
    """Write ``config.json``."""
    write_recorded(run_folder / CONFIG, json_bytes(record.as_json()))


def load_record(run_folder: Path) -> RunRecord:
    """Read ``config.json``. Raises :class:`RunError` when the folder is not a run."""
    path = run_folder / CONFIG
    if not path.is_file():
        raise RunError(wrong_path(run_folder, "run"))
    data = read_recorded(path, WAYS_OUT[CONFIG])
    try:
        content = parse_json(data, dict[str, Any])
        config = TrainConfig.from_json(convert(content.get("config"), dict[str, Any]))
        record = RunRecord(config=config, **vars(convert(content, _Origins)))
        if len(record.channel_mean) != 3 or len(record.channel_std) != 3:
            raise ValueError("channel_mean and channel_std have a value for each of three channels")
    except (ValueError, TypeError) as error:
        raise RunError(
            paragraph(
                "The run's configuration is damaged or was written by another version.",
                where=path,
                got=error,
                fix=WAYS_OUT[CONFIG],
            )
        ) from error
    return record


def check_same_run(run_folder: Path, record: RunRecord) -> None:
    """Raise :class:`RunError` when the folder belongs to another configuration or store, naming what differs."""
    if not (run_folder / CONFIG).is_file():
        return
    before, now = load_record(run_folder), record
    old, new = before.config.as_json(), now.config.as_json()
    different = {
        name: (old.get(name), new[name]) for name in new if name not in MAY_DIFFER and old.get(name) != new[name]
    }
    if before.store_digest != now.store_digest:
        different["store"] = (f"{before.store} ({before.store_digest[:12]})", f"{now.store} ({now.store_digest[:12]})")
    if different:
        raise RunError(
            paragraph(
                f"The folder {run_folder} belongs to a run with other settings: {', '.join(sorted(different))}.",
                expected="; ".join(f"{name} = {value[0]}" for name, value in sorted(different.items())),
                got="; ".join(f"{name} = {value[1]}" for name, value in sorted(different.items())),
                fix="Repeat the settings it was started with to continue it, or choose another --out.",
            )
        )


def build_model(
    config: TrainConfig, n_classes: int, *, with_weights: bool, settings: Mapping[str, Any] | None = None
) -> Method:
    """Build the network of a configuration.

    Args:
        config: The run's settings.
        n_classes: Number of expressions.
        with_weights: False for a network whose weights come from a checkpoint.
        settings: The method's own settings as a run recorded them; none: those of the configuration and the defaults.
    """
    if n_classes < 2:
        raise UserInputError(
            paragraph(
                "The store has a single class: there is nothing to classify.",
                expected="images of two classes or more",
                got=n_classes,
                fix="Build the manifest of a folder that holds other classes too; its WARN lines name labels left out.",
            )
        )
    backbone = create_backbone(
        config.backbone,
        pretrained=config.pretrained and with_weights,
        weights=Path(config.weights) if config.weights and with_weights else None,
        output_stride=config.output_stride,
        image_size=config.input_size or config.crop_size,
    )
    backbone.input_size = config.input_size or None
    model = create_method(config.method, backbone, n_classes, **(settings or _method_settings(config)))
    if config.guidance != "merged":
        model.add_au_maps(contrast=config.guidance == "per-au-contrast")
    return model


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint atomically, with its digest. Raises :class:`FerError` when the disk refuses."""
    with recorded_path(path) as temporary, steady_file(temporary) as file:
        torch.save(state, file)


def load_checkpoint(path: Path, device: torch.device, needed: Collection[str]) -> tuple[dict[str, Any], str]:
    """Read a checkpoint that is the one that was written.

    Args:
        path: The file.
        device: Where its tensors go.
        needed: What it must hold.

    Returns:
        Its content and its SHA-256.

    Raises:
        RunError: It is missing or damaged.
    """
    if not path.is_file():
        raise RunError(
            paragraph(
                f"The run has no checkpoint {path.name} yet.",
                where=path.parent,
                fix="Run `aupipe train` with the same settings: it continues where it stopped.",
            )
        )
    sha256 = check_recorded(path, WAYS_OUT[path.name])
    with explaining_damage(path):
        state = torch.load(path, map_location=device, weights_only=True)
        if not isinstance(state, dict) or not state.keys() >= set(needed):
            raise ValueError(f"it does not hold {', '.join(sorted(needed))}")
    return state, sha256


@contextlib.contextmanager
def explaining_damage(path: Path) -> Iterator[None]:
    """Turn whatever damaged content raises into a :class:`RunError`: files of earlier versions have no digest."""
    try:
        yield
    except (FerError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # unpickled bytes, and states of other networks, raise whatever comes to hand
        raise RunError(
            paragraph(
                "The checkpoint cannot be read.",
                where=path,
                got=(str(error).strip() or type(error).__name__).splitlines()[0],
                fix=WAYS_OUT[path.name],
            )
        ) from error


def load_weights(model: Method, weights: Mapping[str, Any], path: Path) -> None:
    """Load a checkpoint's weights into a model. Raises :class:`RunError` naming what does not fit."""
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise RunError(
            paragraph(
                "The checkpoint belongs to another architecture.",
                where=path,
                got="; ".join(line.strip() for line in str(error).splitlines()[1:4]),
                fix="Train into a new folder.",
            )
        ) from error
    # A finite sum, which is quick, has finite terms; a sum may overflow where its terms are finite.
    doubtful = {name: value for name, value in model.state_dict().items() if not bool(value.sum().isfinite())}
    broken = [name for name, value in doubtful.items() if not bool(value.isfinite().all())]
    if broken:
        raise RunError(
            paragraph(
                "The checkpoint's weights are not finite numbers: it is damaged, or the training diverged.",
                where=path,
                got=f"{len(broken)} tensors, {broken[0]} the first",
                fix="Restore it from a copy, or train again with a smaller --lr in a new --out folder.",
            )
        )


@dataclass(frozen=True)
class BestCheckpoint:
    """The identity of a run's best weights: the epoch they are from, and the SHA-256 of ``best.pt``."""

    epoch: int
    sha256: str


def load_best(
    run_folder: Path, device: torch.device, method: str | None = None, method_options: str = ""
) -> tuple[RunRecord, Method, BestCheckpoint]:
    """Load a run's best model.

    Args:
        run_folder: The run.
        device: Where the model goes.
        method: Read the maps out as another method that shares the run's training; the record then names it.
        method_options: That method's own settings.

    Returns:
        The run's record, the model in evaluation mode, and the checkpoint's identity.

    Raises:
        RunError: The folder is not a run, its checkpoint cannot be read, or it was trained as another method.
        UserInputError: Its network is code that the user has not named.
    """
    record = trained = load_record(run_folder)
    check_allowed(trained.config.backbone, run_folder)
    _check_meaning(run_folder, trained)
    if method is not None:
        config = _read_out_as(run_folder, record.config, method, method_options)
        record = replace(record, config=config)
        if config != trained.config:
            record = replace(record, method_settings=_read_out_settings(trained, record))
    path = run_folder / BEST
    state, sha256 = load_checkpoint(path, device, ("model", "epoch"))
    model = build_model(record.config, len(record.classes), with_weights=False, settings=record.method_settings)
    check_code(record.config.backbone, record.backbone_code, model.backbone.body, run_folder)
    with explaining_damage(path):
        load_weights(model, state["model"], path)
        kept = BestCheckpoint(int(state["epoch"]), sha256)
    return record, _ready(model, device), kept


def untrained_model(record: RunRecord, device: torch.device) -> Method:
    """Build the network of a run that :func:`load_best` read, with random weights: those of the run's seed."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(record.config.seed)
        settings = record.method_settings
        model = build_model(record.config, len(record.classes), with_weights=False, settings=settings)
    return _ready(model, device)


def _ready(model: Method, device: torch.device) -> Method:
    """Put a model where it computes, in evaluation mode."""
    return model.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload,no-any-return]


def _read_out_settings(trained: RunRecord, record: RunRecord) -> dict[str, Any]:
    """The settings of another method that reads the maps out, but for those that the trained weights depend on."""
    names = method_class(record.config.method).network_options
    fixed = {name: value for name, value in trained.method_settings.items() if name in names}
    return {**_method_settings(record.config), **fixed}


def _check_meaning(run_folder: Path, record: RunRecord) -> None:
    """Refuse weights whose network would be built otherwise here than where they were trained."""
    changed = method_class(record.config.method).changed
    if record.semantics > 1 or not changed:
        return
    raise RunError(
        paragraph(
            f"The run was trained before the method {record.config.method} changed: {changed}. Its weights would "
            "silently give other answers here.",
            where=run_folder / CONFIG,
            expected=f"semantics {SEMANTICS}, with the method's settings",
            got=f"semantics {record.semantics}",
            fix="Train it again in a new --out folder, or use the version that trained it (`versions` in that file).",
        )
    )


def check_can_continue(run_folder: Path, record: RunRecord) -> None:
    """Raise :class:`RunError` for an unfinished run whose epochs this program would go on with otherwise."""
    if record.semantics == SEMANTICS:
        return
    raise RunError(
        paragraph(
            "The run was begun by an earlier version, which left out the rest of an epoch that filled no batch and "
            "counted attention in erased areas as misplaced. It can be evaluated, but not continued here.",
            where=run_folder / CONFIG,
            expected=f"semantics {SEMANTICS}",
            got=f"semantics {record.semantics}",
            fix="Train in a new --out folder, or continue with the version that began it (`versions` in that file).",
        )
    )


def _read_out_as(run_folder: Path, config: TrainConfig, method: str, options: str) -> TrainConfig:
    if training_name(method) != training_name(config.method):
        same = [name for name in sorted(METHODS) if training_name(name) == training_name(config.method)]
        raise RunError(
            paragraph(
                f"The run {run_folder} was trained as {config.method}: its maps cannot be read out as {method}.",
                expected=f"a method with the same training: {', '.join(same)}",
                got=method,
                fix=f"Train a run with --method {method}.",
            )
        )
    return replace(config, method=method_name(method), method_options=options)


def run_store(
    run_folder: Path,
    record: RunRecord,
    override: Path | str | None,
    progress: Progress | None = None,
    *,
    split: str | None = None,
) -> Store:
    """Open the run's store, or ``override`` instead; a remote one is copied only if it can be used.

    Args:
        run_folder: The run.
        record: Its record.
        override: Another store.
        progress: Told what is copied.
        split: What is wanted of it; None: anything.

    Raises:
        RunError: Its classes are not the run's, or the run learned from a fold of another store.
        StoreError: There is no such store, or it has no such split.
    """
    place = store_place(run_folder, record) if override is None else override
    if override is None and isinstance(place, Path) and not place.exists():
        raise StoreError(
            paragraph(
                "The store that the run was trained on is not where it was: it was moved or removed.",
                where=run_folder,
                expected=f"a store at {place}",
                fix="Give its place with --store.",
            )
        )
    store = preview_store(place, record.config.fold, progress)
    check_fold(run_folder, record, store)
    if store.index.classes != record.classes:
        raise RunError(
            paragraph(
                "The store's classes are not those the run was trained on.",
                where=store.folder,
                expected=", ".join(record.classes),
                got=", ".join(store.index.classes),
                fix="Evaluate on a store built with the same labels.",
            )
        )
    if split is not None:
        store.split(split)
    return open_previewed(place, store, progress)


def check_fold(run_folder: Path, record: RunRecord, store: Store) -> None:
    """Refuse a store whose fold may hold persons that the run learned from: any but the one it was trained on.

    Who is in a fold depends on all persons of a store and their classes.

    Raises:
        RunError: It is another store.
    """
    if record.config.fold and store.index.digest != record.store_digest:
        raise RunError(
            paragraph(
                f"The run learned from all but fold {record.config.fold} of another store, so which faces of this one "
                "it has seen is not known.",
                where=run_folder,
                expected=f"the store it was trained on, {record.store_digest[:12]}",
                got=f"{store.folder}, {store.index.digest[:12]}",
                fix="Give that store with --store, or train on this one.",
            )
        )


def store_place(run_folder: Path, record: RunRecord) -> Path | str:
    """Return the folder or the URL of the store that a run was trained on."""
    return record.store if is_url(record.store) else (run_folder / record.store).resolve()


def describe_measurement(
    record: RunRecord, kept: BestCheckpoint, store: Store, split: str, limit: int | None
) -> dict[str, Any]:
    """Describe what a run's best model was measured on, for the file that holds its figures."""
    config = record.config
    return {
        "split": split,
        "limit": limit,
        "store_digest": store.index.digest,
        "codebook": store.codebook.name,
        "codebook_digest": store.index.codebook_digest,
        "checkpoint": BEST,
        "checkpoint_sha256": kept.sha256,
        "epoch": kept.epoch,
        "backbone": config.backbone,
        "method": config.method,
        "method_options": config.method_options,
        "align_weight": config.align_weight,
        "crop_size": config.crop_size,
    }


def results_folder(
    run_folder: Path, kind: str, split: str, limit: int | None, usual: int | None = None, *, maps: str | None = None
) -> Path:
    """Choose the folder of results: the run's own for the whole test split, else one of their own inside it.

    Args:
        run_folder: The run.
        kind: First word of the folder.
        split: What they are measured on.
        limit: Number of its rows; None: all.
        usual: The limit of the run's own results.
        maps: Name of maps made elsewhere that were measured.

    >>> results_folder(Path("run"), "evaluation", "val", 100).name
    'evaluation-val-limit-100'
    """
    if (split, limit, maps) == ("test", usual, None):
        return run_folder
    rows = () if limit == usual else ("all",) if limit is None else (f"limit-{limit}",)
    return run_folder / "-".join((kind, *(("maps", maps) if maps else ()), split, *rows))


def outdated(run_folder: Path, content: Mapping[str, Any], store: Store | None = None) -> str | None:
    """Say why the figures of a run no longer belong to it; None where they do.

    Args:
        run_folder: The run.
        content: The file of the figures, with what :func:`describe_measurement` put into it.
        store: The store that would be shown beside them; None: none is.

    Returns:
        A sentence. Without ``best.pt``, or of figures of an earlier version, nobody can tell: None.
    """
    path, measured = run_folder / BEST, content.get("checkpoint_sha256")
    if measured is not None and path.is_file() and sha256_file(path) != measured:
        return f"they were measured with other weights, those of epoch {content.get('epoch')}, than {BEST} now holds"
    if store is not None and content.get("store_digest") != store.index.digest:
        digests = f"{str(content.get('store_digest'))[:12]}, not {store.index.digest[:12]}"
        return f"they were measured on another store than the one at {store.folder} ({digests})"
    return None
