"""What a run is: its settings, its store, the versions that made it, and what its settings meant (``config.json``)."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from aupipe.fer_data.errors import RunError, UserInputError, paragraph
from aupipe.fer_data.files import json_bytes
from aupipe.fer_data.preparation import Preparation
from aupipe.fer_data.recorded import read_recorded, write_recorded
from aupipe.fer_data.shards import Store
from aupipe.fer_data.typed import convert, parse_json
from aupipe.fer_data.versions import installed_versions
from aupipe.fer_data.wrong_path import wrong_path
from aupipe.fer_models.backbones import library_versions
from aupipe.fer_models.methods import (
    method_class,
    option_defaults,
    parse_options,
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
    """Make the record of a run on this store; one that goes on from ``last.pt`` keeps what its settings meant."""
    index = store.index
    goes_on = all((run_folder / name).is_file() for name in (CONFIG, LAST))
    begun = load_record(run_folder) if goes_on else None
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
        method_settings=begun.method_settings if begun else method_settings(config),
        initial_weights=begun.initial_weights if begun else {},
        backbone_code=begun.backbone_code if begun else "",
        validation_faces=index.rows("val"),
        semantics=begun.semantics if begun else SEMANTICS,
    )


def method_settings(config: TrainConfig) -> dict[str, Any]:
    """Give all of the method's own settings, also those that nobody gave."""
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


def begun_crop(run_folder: Path, config: TrainConfig) -> TrainConfig:
    """Keep the crop of a run that was begun where none is chosen: the usual one may have been another then."""
    if config.crop_size or not (run_folder / CONFIG).is_file():
        return config
    return replace(config, crop_size=load_record(run_folder).config.crop_size)


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


def check_meaning(run_folder: Path, record: RunRecord) -> None:
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
