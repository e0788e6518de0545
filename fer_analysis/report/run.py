"""The report: put together, and written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aupipe.fer_analysis.report import run_part, store_part
from aupipe.fer_data.errors import RunError, StoreError, UserInputError
from aupipe.fer_data.files import check_replaceable, write_text
from aupipe.fer_data.shards import Store, open_store
from aupipe.fer_data.shards.index import INDEX_NAME
from aupipe.fer_data.shards.remote import local_store
from aupipe.fer_data.types import Progress
from aupipe.fer_data.wrong_path import wrong_path
from aupipe.fer_display.blocks import Block, KeyFigures, Text
from aupipe.fer_display.pages import PAGE_MARK, render
from aupipe.fer_models.devices import resolve_device
from aupipe.fer_models.training import measured_run, run_record


@dataclass(frozen=True)
class Report:
    """A page that was written: of a ``run`` or of a ``store``, ``notes`` say what it lacks."""

    out: Path
    kind: str
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the object that ``--json`` prints."""
        return {"report": str(self.out), "kind": self.kind, "notes": list(self.notes)}

    def lines(self) -> list[str]:
        """Return the summary for people."""
        return [f"report of the {self.kind}: {self.out}", *(f"  {note}" for note in self.notes)]


def write_report(
    subject: Path | str,
    out: Path,
    *,
    store: Path | str | None = None,
    examples: int = 3,
    device: str = "auto",
    progress: Progress | None = None,
) -> Report:
    """Write the page of a run's folder or a store's: one file, no network, no script.

    A run that was not evaluated, or whose store is gone, gets a page that says so and shows what there is.

    Args:
        subject: Folder of a run or of a store, or a store's URL.
        out: The page.
        store: Where the run's store is now, if it was moved.
        examples: Faces of each kind.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``, for the maps of the faces.
        progress: Told what is copied.

    Returns:
        The page's place, and notes about what it lacks.

    Raises:
        UserInputError: ``subject`` is neither a run nor a store, or ``out`` is a file that is no report.
        RunError: The run is damaged.
        StoreError: The store is damaged, or is not where ``store`` says.
    """
    check_replaceable(out, "a report", PAGE_MARK)
    resolve_device(device)
    subject = local_store(subject, progress)
    name, notes = subject.resolve().name, list[str]()
    if (subject / run_record.CONFIG).is_file():
        kind, (body, notes) = "run", _run_body(subject, store, examples, device, progress)
    elif (subject / INDEX_NAME).is_file():
        kind, body = "store", _store_body(open_store(subject), examples)
    else:
        raise UserInputError(wrong_path(subject, "run", "store"))
    write_text(out, render("report", title=f"{kind.capitalize()} {name}", blocks=body))
    return Report(out, kind, tuple(notes))


def _run_body(
    folder: Path, store_folder: Path | str | None, examples: int, device: str, progress: Progress | None
) -> tuple[list[Block], list[str]]:
    record = run_record.load_record(folder)
    run = run_part.load_evaluated(folder)
    store, notes = _store_of(folder, record, store_folder, progress)
    if run is None:
        notes.insert(0, f"The run was not evaluated: there are no figures. Use `aupipe evaluate {folder}`.")
    elif reason := measured_run.outdated(folder, run.metrics, store):
        run = None
        notes.insert(0, f"The run's figures are left out: {reason}. Use `aupipe evaluate {folder}` again.")
    parts: list[Block] = [Text(note, "notice") for note in notes]
    if run is not None:
        parts += [
            KeyFigures(run_part.run_figures(run)),
            run_part.reading_section(run, store),
            run_part.controls_section(run),
            *run_part.occluded_sections(run),
            *run_part.coded_sections(run),
        ]
    parts.append(run_part.curves_section(folder))
    if run is not None:
        parts += [
            run_part.confusion_section(run),
            run_part.cosine_section(run),
            *run_part.average_map_sections(run),
            *([run_part.faces_section(run, store, examples, device)] if store is not None else []),
        ]
    parts.append(run_part.run_provenance_section(folder, record, run.metrics if run is not None else None))
    return [*parts, *(_store_sections(store, examples) if store is not None else [])], notes


def _store_of(
    folder: Path, record: run_record.RunRecord, override: Path | str | None, progress: Progress | None
) -> tuple[Store | None, list[str]]:
    """Open the run's store, or note that it is gone; one that was asked for must be there."""
    try:
        return measured_run.run_store(folder, record, override, progress), []
    except (StoreError, RunError) as error:
        if override is not None:
            raise
        return None, [f"The run's store cannot be used, so no faces are shown; give it with --store. {error}"]


def _store_body(store: Store, examples: int) -> list[Block]:
    return [KeyFigures(store_part.store_figures(store)), *_store_sections(store, examples)]


def _store_sections(store: Store, examples: int) -> list[Block]:
    pictures = [
        section
        for split in store.index.splits[:1]
        for section in (store_part.triplet_section(store, split, examples), store_part.average_section(store, split))
    ]
    return [
        store_part.data_section(store),
        *pictures,
        store_part.failure_section(store),
        store_part.provenance_section(store),
    ]
