"""Faithfulness of a run's maps: load, perturb, randomise, summarise, write."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aupipe.fer_analysis.evaluation.measuring import memory_message
from aupipe.fer_analysis.evaluation.pairing import withdraw_comparisons
from aupipe.fer_analysis.faithfulness import randomising
from aupipe.fer_analysis.faithfulness.faces import TABLE, write_faces
from aupipe.fer_analysis.faithfulness.figures import draw_faithfulness
from aupipe.fer_analysis.faithfulness.measuring import Perturbation, measure
from aupipe.fer_analysis.faithfulness.perturbing import BASELINES
from aupipe.fer_analysis.faithfulness.randomising import between_faces, cascade
from aupipe.fer_analysis.faithfulness.schema import ComparedJson, MeasuredJson, check_parts
from aupipe.fer_analysis.faithfulness.summary import summarise, summarise_randomisation
from aupipe.fer_analysis.faithfulness.text import page_lines
from aupipe.fer_analysis.given_maps import find_maps
from aupipe.fer_data.errors import RunError, UserInputError, paragraph, unknown_name
from aupipe.fer_data.files import json_bytes, withdraw, write_bytes
from aupipe.fer_data.loading.loader import TripletLoader
from aupipe.fer_data.recorded import read_declared, write_recorded
from aupipe.fer_data.types import Progress, Silent
from aupipe.fer_display.figures import png_bytes
from aupipe.fer_models.devices import resolve_device
from aupipe.fer_models.methods import METHODS, Method, method_class, training_name
from aupipe.fer_models.training import checkpoint, measured_run

FAITHFULNESS = "faithfulness.json"
COMPARED = "faithfulness-"
"""What the names of comparisons with other runs begin with."""

FIGURE = "faithfulness.png"
LIMIT = 200
"""Faces by default: each is shown to the network some two hundred times."""


@dataclass(frozen=True)
class Faithfulness:
    """The ground that a run's decisions and maps rest on; ``content`` is what ``faithfulness.json`` holds."""

    run: Path
    content: Mapping[str, Any]

    def as_json(self) -> dict[str, Any]:
        """Return the object that ``--json`` prints."""
        return dict(self.content)

    def lines(self) -> list[str]:
        """Return the summary for people."""
        return page_lines(self.run, self.content)


def measure_faithfulness(
    run_folder: Path,
    store_folder: Path | str | None = None,
    split: str = "test",
    limit: int | None = LIMIT,
    baseline: str = "blur",
    steps: int = 20,
    seed: int = 0,
    device: str = "auto",
    batch_size: int | None = None,
    progress: Progress | None = None,
    out: Path | None = None,
    maps: Path | None = None,
) -> Faithfulness:
    """Test a run's best checkpoint: deletion and insertion, removal of the AU regions, randomised weights.

    Writes ``faithfulness.csv`` (every face), ``faithfulness.png`` and, last, ``faithfulness.json``; of the
    run's other files only ``digests.json`` changes.

    Args:
        run_folder: The run.
        store_folder: Where its store is now. None: the store it was trained on.
        split: What to measure on.
        limit: Number of rows: the first of the split, a random sample as they lie in hash order. None: all.
        baseline: What removed pixels are replaced with, ``blur`` or ``mean``.
        steps: Steps of the curves.
        seed: Of everything that is drawn at random.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        batch_size: Faces at once. None: that of the training.
        progress: Told what is done.
        out: Folder to write to. None: the run's, or for another split than test or another limit one inside it, such
            as ``faithfulness-val``.
        maps: Folder of maps made elsewhere (see :mod:`aupipe.fer_analysis.given_maps`) that are measured in the place
            of the CAM, into a folder of their own such as ``faithfulness-maps-NAME-test``.

    Returns:
        The figures, as ``faithfulness.json`` holds them.

    Raises:
        RunError: The run has no checkpoint or a damaged one, or its scores are not finite.
        StoreError: The store is missing or damaged.
        UserInputError: A setting that cannot be used.
    """
    _check(limit, baseline, steps, seed, batch_size)
    where, shown = resolve_device(device), progress or Silent()
    record, model, kept = checkpoint.load_best(run_folder, where)
    store = measured_run.run_store(run_folder, record, store_folder, progress, split=split)
    config = record.config
    loader = measured_run.measuring_loader(record, store, split, where, batch_size, limit)
    given = None if maps is None else find_maps(maps, loader.reader.sample_ids[: loader.rows])
    try:
        faces = measure(model, loader, Perturbation(baseline, steps, seed), shown, given)
        randomisation = _randomise(run_folder, config.method, model, loader, seed, shown)
    except torch.OutOfMemoryError as error:
        raise RunError(memory_message(loader)) from error
    content = {
        **summarise(faces),
        "randomisation": randomisation,
        "baseline": baseline,
        "steps": steps,
        "seed": seed,
        **measured_run.describe_measurement(record, kept, store, split, limit),
        **({"maps_from": given.as_json()} if given else {}),
    }
    place = given.name if given else None
    out = out or measured_run.results_folder(run_folder, "faithfulness", split, limit, LIMIT, maps=place)
    withdraw_comparisons(out, COMPARED)
    withdraw(out / FAITHFULNESS)  # it would not belong to the files that are written now
    content["faces_sha256"] = write_faces(out / TABLE, faces, record.classes)
    write_bytes(out / FIGURE, png_bytes(draw_faithfulness(content)))
    # Last: whoever finds it finds the other files of the same measurement.
    write_recorded(out / FAITHFULNESS, json_bytes(content))
    return Faithfulness(run_folder, content)


def load_faithfulness(folder: Path, run: Path | None = None, *, to_compare: bool = False) -> dict[str, Any] | None:
    """Load ``faithfulness.json`` of a folder; None when there is none.

    Args:
        folder: Where it lies.
        run: The run that it is about, where that is another folder.
        to_compare: Whether it must hold what a comparison of two runs needs.

    Raises:
        RunError: It is damaged or of an older version.
    """
    path, fix = folder / FAITHFULNESS, f"Run `aupipe faithfulness {run or folder}` again."
    if not path.is_file():
        return None
    kind = ComparedJson if to_compare else MeasuredJson
    return read_declared(path, kind, check_parts, "faithfulness figures", fix)


def _check(limit: int | None, baseline: str, steps: int, seed: int, batch_size: int | None) -> None:
    """Check the settings. Raises :class:`UserInputError` for one that cannot be used."""
    if baseline not in BASELINES:
        raise UserInputError(unknown_name("baseline", baseline, list(BASELINES)))
    for name, value, least in (
        ("limit", limit, 1),
        ("steps", steps, 2),
        ("seed", seed, 0),
        ("batch-size", batch_size, 1),
    ):
        if value is not None and value < least:
            raise UserInputError(paragraph(f"--{name} must be {least} or more.", got=value))


def _randomise(
    run_folder: Path, method: str, model: Method, loader: TripletLoader, seed: int, progress: Progress
) -> dict[str, Any]:
    """Test the attention, the run's own CAM, and those of the methods that read the same training out."""
    images = _first_images(loader)
    others = [
        name
        for name in sorted(METHODS)
        if name != method and training_name(name) == training_name(method) and method_class(name).has_cam
    ]
    stages, own = cascade(model, images, loader.batch_size, seed, method, progress)
    maps = {method if kind == "cam" else kind: values for kind, values in own.items()}
    found = between_faces(model, images, loader.batch_size)
    null = {method if kind == "cam" else kind: values for kind, values in found.items()}
    for name in others:
        _, reader, _ = checkpoint.load_best(run_folder, loader.device, name)
        maps[name] = cascade(reader, images, loader.batch_size, seed, name, progress)[1]["cam"]
        null[name] = between_faces(reader, images, loader.batch_size)["cam"]
    return summarise_randomisation(stages, maps, len(images), null)


def _first_images(loader: TripletLoader) -> Tensor:
    """Take the first :data:`~aupipe.fer_analysis.faithfulness.randomising.FACES` faces of the loader."""
    parts: list[Tensor] = []
    with contextlib.closing(loader.epoch(0)) as batches:
        for batch in batches:
            parts.append(batch.image)
            if sum(map(len, parts)) >= randomising.FACES:
                break
    return torch.cat(parts)[: randomising.FACES]
