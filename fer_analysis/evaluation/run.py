"""Evaluation of a run's folder: load, measure, summarise, write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aupipe.fer_analysis.evaluation.averages import AVERAGES, AverageMaps, save_averages
from aupipe.fer_analysis.evaluation.coded import CODED_FILES, choose_coded, measure_coded_split, write_coded_split
from aupipe.fer_analysis.evaluation.coded_maps import Networks
from aupipe.fer_analysis.evaluation.coded_text import coded_lines
from aupipe.fer_analysis.evaluation.comparing import Comparison, compare
from aupipe.fer_analysis.evaluation.measuring import measure
from aupipe.fer_analysis.evaluation.occluded import TABLE as OCCLUDED_TABLE
from aupipe.fer_analysis.evaluation.occluded import measure_occluded, summarise_occluded, write_occluded
from aupipe.fer_analysis.evaluation.occluded_text import occluded_lines
from aupipe.fer_analysis.evaluation.pairing import withdraw_comparisons
from aupipe.fer_analysis.evaluation.predictions import EVALUATION, METRICS, PREDICTIONS, write_predictions
from aupipe.fer_analysis.evaluation.summary import summarise
from aupipe.fer_analysis.evaluation.text import summary_lines
from aupipe.fer_analysis.given_maps import find_maps
from aupipe.fer_data.errors import UserInputError, paragraph
from aupipe.fer_data.files import json_bytes, withdraw, write_bytes
from aupipe.fer_data.frames import csv_frame
from aupipe.fer_data.manifest.face_codes import FaceCodes
from aupipe.fer_data.recorded import write_recorded
from aupipe.fer_data.types import Progress, Silent, lines_repr
from aupipe.fer_models.devices import resolve_device
from aupipe.fer_models.training import checkpoint, measured_run

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Evaluation:
    """The figures of a run on one split; ``content`` is what ``metrics.json`` holds."""

    run: Path
    content: Mapping[str, Any]
    out: Path

    def to_pandas(self) -> pandas.DataFrame:
        """Read ``predictions.csv``: a row a face, its prediction and the figures of its maps.

        Raises :class:`UserInputError` when pandas is not installed.
        """
        return csv_frame(self.out / PREDICTIONS, ("sample_id", "label", "predicted"))

    def against(self, other: Path | str) -> Comparison:
        """Compare with another evaluated run, face by face.

        Raises:
            RunError: They cannot be compared.
            UserInputError: These figures are of maps made elsewhere: two runs are compared by their own maps.
        """
        if self.content.get("maps_from"):
            raise UserInputError("Two runs are compared by their own maps: evaluate without --maps first.")
        return compare(self.run, Path(other), self.content["split"], self.content["limit"])

    def as_json(self) -> dict[str, Any]:
        """Return the object that ``--json`` prints."""
        return dict(self.content)

    __repr__ = lines_repr

    def lines(self) -> list[str]:
        """Return the summary for people: figures, then what they must be read against."""
        coded, occluded = self.content.get("coded"), self.content.get("occluded")
        return [
            *summary_lines(self.run, self.content),
            *(["", *occluded_lines(self.content)] if occluded else []),
            *(["", *coded_lines(coded)] if coded else []),
        ]


def evaluate(
    run_folder: Path,
    store_folder: Path | str | None = None,
    split: str = "test",
    limit: int | None = None,
    device: str = "auto",
    progress: Progress | None = None,
    batch_size: int | None = None,
    method: str | None = None,
    method_options: str = "",
    out: Path | None = None,
    aus: Path | FaceCodes | None = None,
    estimate: Path | None = None,
    maps: Path | None = None,
    occlude: bool = False,
) -> Evaluation:
    """Measure a run's best checkpoint on a split.

    Writes ``predictions.csv`` (every face), ``average_maps.npz`` and ``.png``, ``confusion.png``, ``cosines.png`` and,
    last, ``metrics.json``; with ``aus`` also ``coded.csv`` and ``.png``, with ``occlude`` ``occluded.csv``.

    Args:
        run_folder: The run.
        store_folder: Where its store is now. None: the store it was trained on.
        split: What to measure on.
        limit: Number of rows: the first of the split, which lie in hash order and so are a random sample. None: all.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        progress: Told how many images are done.
        batch_size: Images at once. None: that of the training.
        method: Read the maps out as another method that shares the run's training.
        method_options: That method's settings.
        out: Folder to write to. None: the run's, or for another split than test or with a limit one inside it, such as
            ``evaluation-val`` or ``evaluation-test-limit-100``.
        aus: Action units that were coded on the faces: a manifest, a table that names faces, ``annotated`` for those
            that the store carries, or the codes themselves. None: the attention is not compared with any.
        estimate: A table of what another program says of them, by file, sequence or person, to be read against.
        maps: Folder of maps made elsewhere (see :mod:`aupipe.fer_analysis.given_maps`) that are measured in the place
            of the CAM, into a folder of their own such as ``evaluation-maps-NAME-test``.
        occlude: Also ask for the class of every face with its eyes, and with its mouth, hidden.

    Returns:
        The figures, as ``metrics.json`` holds them.

    Raises:
        RunError: The run has no checkpoint or a damaged one, or its output is not finite.
        StoreError: The store is missing or damaged.
        ManifestError: The table of action units cannot be used, or names none of these faces.
        UserInputError: A setting that cannot be used.
    """
    check_request(limit, batch_size, aus, estimate, maps, occlude=occlude)
    where = resolve_device(device)
    record, model, kept = checkpoint.load_best(run_folder, where, method, method_options)
    store = measured_run.run_store(run_folder, record, store_folder, progress, split=split)
    config = record.config
    loader = measured_run.measuring_loader(record, store, split, where, batch_size, limit)
    coded = None if aus is None else choose_coded(aus, estimate, loader)
    given = None if maps is None else find_maps(maps, loader.reader.sample_ids[: loader.rows])
    shown = progress or Silent()
    samples, averages = measure(model, store, loader, config.centre_crop, shown, given)
    hidden = measure_occluded(model, loader, config.centre_crop, shown) if occlude else None
    measured = None
    if coded is not None:
        networks = Networks(model, checkpoint.untrained_model(record, where))
        measured = measure_coded_split(coded, networks, loader, shown)
    layers = model.backbone.n_layers
    figures = summarise(samples, record.classes, layers)
    title = "CAM" if given is None else f"maps of {given.name}"
    out = out or measured_run.results_folder(run_folder, EVALUATION, split, limit, maps=given.name if given else None)
    for name in (METRICS, *CODED_FILES, OCCLUDED_TABLE):  # they would not belong to the files that are written now
        withdraw(out / name)
    withdraw_comparisons(out, "")
    digest = write_predictions(out / PREDICTIONS, samples, record.classes)
    save_averages(out / AVERAGES, averages, record.classes)
    _draw(out, figures, averages, record.classes, layers, title)
    if hidden is not None:
        digest_hidden = write_occluded(out / OCCLUDED_TABLE, samples, hidden, record.classes)
        figures["occluded"] = {**summarise_occluded(samples, hidden), "table_sha256": digest_hidden}
    if coded is not None and measured is not None:
        figures["coded"] = write_coded_split(coded, measured, store, out)
    content = {
        **figures,
        "predictions_sha256": digest,
        **measured_run.describe_measurement(record, kept, store, split, limit),
        "aus": store.index.aus,
        "same_codebook_as_training": store.index.codebook_digest == record.codebook_digest,
        "align_layers": config.align_layers,
        "seed": config.seed,
        **({"maps_from": given.as_json()} if given else {}),
    }
    # Last: whoever finds it finds all the other files of the same evaluation.
    write_recorded(out / METRICS, json_bytes(content))
    return Evaluation(run_folder, content, out)


def check_request(
    limit: int | None, batch_size: int | None, aus: object, estimate: object, maps: object, *, occlude: bool = False
) -> None:
    """Check the settings of :func:`evaluate`. Raises :class:`UserInputError` for those that cannot be used together."""
    for name, value in (("limit", limit), ("batch-size", batch_size)):
        if value is not None and value < 1:
            raise UserInputError(paragraph(f"--{name} must be 1 or more.", got=value))
    if estimate is not None and aus is None:
        raise UserInputError("--estimate is read beside coded action units: give these with --aus.")
    if aus is not None and maps is not None:
        raise UserInputError(
            "--maps is measured alone: coded action units (--aus) are asked of the network's own maps."
        )
    if occlude and maps is not None:
        raise UserInputError("--maps is measured alone: hiding parts of faces (--occlude) asks the network, not maps.")


def _draw(
    out: Path, content: Mapping[str, Any], averages: AverageMaps, classes: Sequence[str], layers: int, title: str
) -> None:
    """Draw the three pictures; Matplotlib is loaded here, so that measuring need not wait for it."""
    from aupipe.fer_analysis.evaluation.figures import draw_averages, draw_confusion, draw_cosines
    from aupipe.fer_display.figures import png_bytes

    confusion = content["confusion"]
    write_bytes(out / "confusion.png", png_bytes(draw_confusion(confusion["classes"], confusion["matrix"])))
    write_bytes(out / "cosines.png", png_bytes(draw_cosines(content["cosine_matrix"], title)))
    write_bytes(out / "average_maps.png", png_bytes(draw_averages(averages, classes, layers, title)))
