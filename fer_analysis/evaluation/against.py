"""Two runs set against each other by one call: whatever figures are missing or out of date are measured first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aupipe.fer_analysis.evaluation.comparing import Comparison, compare, figures_of
from aupipe.fer_analysis.evaluation.face_parts import MARGIN
from aupipe.fer_analysis.evaluation.occluded import TABLE as OCCLUDED_TABLE
from aupipe.fer_analysis.evaluation.predictions import EVALUATION, PREDICTIONS
from aupipe.fer_analysis.evaluation.run import Evaluation, check_request, evaluate
from aupipe.fer_data.errors import RunError, StoreError, UserInputError, paragraph
from aupipe.fer_data.files import sha256_file
from aupipe.fer_data.shards.preview import preview_store
from aupipe.fer_data.types import Progress, Silent
from aupipe.fer_models.devices import resolve_device
from aupipe.fer_models.training import measured_run, run_record


def evaluate_against(
    run: Path,
    other: Path,
    store: Path | str | None = None,
    split: str = "test",
    limit: int | None = None,
    device: str = "auto",
    progress: Progress | None = None,
    batch_size: int | None = None,
    aus: Path | None = None,
    estimate: Path | None = None,
    occlude: bool = False,
) -> tuple[Evaluation, Comparison]:
    """Compare two runs on the same faces; figures that still hold are not measured again.

    Args:
        run: Folder of the run that the other is taken from.
        other: Folder of the other.
        store: Where both runs' store is now. None: the one that each was trained on.
        split: What both are measured on.
        limit: Number of rows of it; None: all.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        progress: Told what is measured, and why.
        batch_size: Images at once. None: that of the training.
        aus: Action units that were coded on the faces, as for :func:`evaluate`; with them both are always measured.
        estimate: What another program says of them.
        occlude: Also compare the accuracies with the eyes, and with the mouth, hidden.

    Returns:
        The figures of ``run``, and the differences ``run - other``.

    Raises:
        RunError: One is no run, or they cannot be compared.
        StoreError: A store is missing that is needed.
        UserInputError: A setting that cannot be used.
    """
    check_request(limit, batch_size, aus, estimate, None)
    resolve_device(device)
    shown = progress or Silent()
    before = {one: _figures(one, split, limit) for one in (other, run)}
    occlude = occlude or (aus is not None and any("occluded" in content for content, _ in before.values()))
    places = {one: _reason(one, *found, store, split, limit, occlude) for one, found in before.items()}
    if aus is not None:
        places = {one: reason or "its faces' codes are given" for one, reason in places.items()}
    for one, reason in places.items():
        if reason and "coded" in before[one][0] and aus is None:
            raise UserInputError(_would_lose(one, reason))
    for one, reason in places.items():
        if reason:
            shown.note(f"{one} is measured: {reason}")
            evaluate(one, store, split, limit, device, shown, batch_size, aus=aus, estimate=estimate, occlude=occlude)
    folder, content = figures_of(run, split, limit)
    return Evaluation(run, content, folder), compare(run, other, split, limit)


def _figures(run: Path, split: str, limit: int | None) -> tuple[dict[str, Any], str]:
    """Read a run's figures; where they are not of its weights, or there are none, say so in their place."""
    try:
        return figures_of(run, split, limit)[1], ""
    except RunError as error:
        return {}, str(error).partition(". ")[0]


def _would_lose(run: Path, reason: str) -> str:
    return paragraph(
        f"{run} would lose its figures against coded action units: it has to be measured again, since {reason}.",
        fix="Give the codes again with --aus, or run `aupipe evaluate` on it first.",
    )


def _reason(
    run: Path,
    content: dict[str, Any],
    missing: str,
    store: Path | str | None,
    split: str,
    limit: int | None,
    occlude: bool,
) -> str:
    """Say why a run has to be measured; empty where its figures are what measuring again would give."""
    record = run_record.load_record(run)
    folder = measured_run.results_folder(run, EVALUATION, split, limit)
    if missing:
        return missing
    if not _is(folder / PREDICTIONS, content["predictions_sha256"]):
        return f"its {PREDICTIONS} is not the one of its figures"
    hidden = content.get("occluded")
    if occlude and (hidden is None or hidden["margin"] != MARGIN):
        return "its faces with a part hidden were not measured"
    if hidden is not None and not _is(folder / OCCLUDED_TABLE, hidden["table_sha256"]):
        return f"its {OCCLUDED_TABLE} is not the one of its figures"
    place = measured_run.store_place(run, record) if store is None else store
    try:
        digest = preview_store(place, record.config.fold).index.digest
    except StoreError:
        if store is not None:
            raise
        return ""  # the store is gone: its figures are not
    return "" if digest == content["store_digest"] else "its figures are of another store"


def _is(path: Path, sha256: Any) -> bool:
    return path.is_file() and sha256_file(path) == sha256
