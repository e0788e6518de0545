"""A run's best model as one file for other programs: logits, attention of every layer and the CAM of every class.

Three forms: ``onnx`` (onnxruntime and others), ``torchscript`` (libtorch and older torch; torch itself is phasing it
out) and ``pt2`` (what ``torch.export`` saves). The batch is dynamic, the crop's size is fixed.
"""

from __future__ import annotations

import importlib.util
import io
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from aupipe.fer_analysis.explain import OpenRun, open_run
from aupipe.fer_data.action_units.modes import DRAWN_AUS
from aupipe.fer_data.errors import RunError, UserInputError, paragraph, unknown_name
from aupipe.fer_data.files import check_replaceable, write_bytes
from aupipe.fer_models.methods import Method
from aupipe.fer_models.targets import attention, positive_part
from aupipe.fer_models.training import run_record

METADATA = "aupipe"
"""Key of the metadata: of the ONNX model's properties, and ``aupipe.json`` in the other two."""

INPUT = (
    "image: float32 (batch, 3, crop_size, crop_size), RGB in [0, 1], less channel_mean, over channel_std; the central "
    "crop_size pixels of an aligned face of image_size pixels"
)
MARKS = (INPUT.encode(), f"{METADATA}.json".encode())
"""What a file of ours holds: the metadata as it is, or in the other two forms its name."""

TOLERANCE = 1e-4
"""Largest difference between the file's outputs and the model's, as a share of the output's largest value."""

EXAMPLE_BATCH, CHECK_BATCH = 2, 3
"""The file is made with one batch size and checked with another: its batch must be free."""


class ExportableModel(nn.Module):
    """The graph that is exported.

    ``image (B, 3, c, c)`` -> logits ``(B, K)``, attention ``(B, h, w)`` of each layer and, ``with_cam``, the CAM of
    every class ``(B, K, h, w)``; of a network with maps of single action units also those, ``(B, A, h, w)``. Attention
    and CAM are positive parts, as shown and measured everywhere else.
    """

    def __init__(self, method: Method, with_cam: bool) -> None:
        super().__init__()
        self.method, self.with_cam = method, with_cam

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the outputs."""
        layers = tuple(f"attention_{number}" for number in range(1, self.method.backbone.n_layers + 1))
        au_maps = () if self.method.au_maps is None else ("au_maps",)
        return ("logits", *layers, *(("cam",) if self.with_cam else ()), *au_maps)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Compute the outputs, see the class."""
        out = self.method.read(image) if self.with_cam else self.method(image)
        maps = [positive_part(attention(layer)) for layer in out.features]
        if self.with_cam:
            chosen = torch.zeros(image.shape[0], dtype=torch.int64, device=image.device)
            cams = [self.method.cam(out, chosen + number) for number in range(self.method.n_classes)]
            maps.append(torch.stack([positive_part(cam) for cam in cams], 1))
        au_maps = self.method.read_au_maps(out)
        return (out.logits, *maps, *(() if au_maps is None else (au_maps,)))


@dataclass(frozen=True)
class ModelExportReport:
    """The file that was written.

    ``difference``: largest deviation of its outputs from the model's, as a share of each output's largest value; None
    where the file could not be run here. ``notes``: what the file lacks, and why.
    """

    path: Path
    form: str
    outputs: tuple[str, ...]
    bytes: int
    difference: float | None
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the object that ``--json`` prints."""
        return {**vars(self), "path": str(self.path), "outputs": list(self.outputs), "notes": list(self.notes)}

    def lines(self) -> list[str]:
        """Return the summary for people."""
        checked = "not checked" if self.difference is None else f"checked: differs by at most {self.difference:.1e}"
        return [
            f"{self.path}: {self.form}, {self.bytes / 1e6:.1f} MB, {checked}",
            f"  outputs: {', '.join(self.outputs)}",
            *(f"  note: {note}" for note in self.notes),
        ]


def export_model(
    run_folder: Path,
    form: str,
    out: Path,
    *,
    store_folder: Path | str | None = None,
    method: str | None = None,
    method_options: str = "",
) -> ModelExportReport:
    """Write a run's best model as one file, and check the file against the model.

    Args:
        run_folder: The run.
        form: The file's format, a key of :data:`EXPORTERS`.
        out: The file.
        store_folder: The run's store, where it no longer lies where the run says.
        method: The method whose CAM the file holds, if not the run's own: one that shares its training.
        method_options: That method's own settings.

    Raises:
        UserInputError: The format is unknown, a library for it is missing, or ``out`` is a file that is no model.
        RunError: The model cannot be exported, or the file does not do what the model does.
    """
    if form not in EXPORTERS:
        raise UserInputError(unknown_name("export format", form, sorted(EXPORTERS)))
    if form == "onnx":
        _check_onnx()
    check_replaceable(out, "a model", *MARKS)
    opened = open_run(run_folder, store_folder=store_folder, method=method, method_options=method_options, device="cpu")
    model, notes = opened.model, []
    with_cam = model.has_cam and not model.needs_graph
    if not with_cam:
        why = "its maps are made of gradients, which no exported graph holds" if model.has_cam else "it has none"
        notes.append(f"The file has no CAM: the method {opened.record.config.method!r} cannot give one, {why}.")
    graph = ExportableModel(model, with_cam).eval()
    size = opened.crop.crop_size
    content = json.dumps(describe_export(opened, graph), ensure_ascii=False)
    try:
        data = EXPORTERS[form](graph, torch.randn(EXAMPLE_BATCH, 3, size, size), content)
        checked = form != "onnx" or _has("onnxruntime")
        difference = largest_difference(graph, RUNNERS[form](data), size) if checked else None
    except Exception as error:  # the exporters raise whatever comes to hand
        raise RunError(
            paragraph(
                f"The model cannot be exported as {form}.",
                where=run_folder,
                got=(str(error).strip() or type(error).__name__).splitlines()[0],
                fix=f"Try another format: {', '.join(sorted(set(EXPORTERS) - {form}))}.",
            )
        ) from error
    if difference is None:
        notes.append("The file was not run: onnxruntime is not installed (extra [onnx]).")
    elif not difference <= TOLERANCE:
        raise RunError(
            paragraph(
                f"The {form} file does not give the model's outputs, so it was not written.",
                expected=f"a difference of at most {TOLERANCE:g}",
                got=f"{difference:.2g}",
                fix=f"Try another format: {', '.join(sorted(set(EXPORTERS) - {form}))}.",
            )
        )
    write_bytes(out, data)
    return ModelExportReport(out, form, graph.names, len(data), difference, tuple(notes))


def describe_export(opened: OpenRun, graph: ExportableModel) -> dict[str, Any]:
    """Describe what a program needs to feed the file and to read its outputs."""
    record = opened.record
    return {
        "aupipe": record.versions.get("aupipe", ""),
        "classes": list(record.classes),
        "crop_size": opened.crop.crop_size,
        "channel_mean": list(record.channel_mean),
        "channel_std": list(record.channel_std),
        "input": INPUT,
        "image_size": opened.preparation.image_size,
        "alignment": dict(opened.preparation.crop.get("crop", {})),
        "outputs": list(graph.names),
        "layers": [name for name in graph.names if name.startswith("attention_")],
        "au_maps": [] if graph.method.au_maps is None else list(DRAWN_AUS),
        "temperature": opened.temperature if opened.calibration else None,
        "backbone": record.config.backbone,
        "method": record.config.method,
        "codebook": record.codebook,
        "checkpoint": run_record.BEST,
    }


def _to_onnx(graph: ExportableModel, example: Tensor, content: str) -> bytes:
    with warnings.catch_warnings():  # the exporter's own use of torch is deprecated in places
        warnings.simplefilter("ignore")
        program: Any = torch.onnx.export(
            graph,
            (example,),
            input_names=["image"],
            output_names=list(graph.names),
            dynamic_shapes={"image": {0: torch.export.Dim("batch")}},
            dynamo=True,
            verbose=False,
        )
    program.model.metadata_props[METADATA] = content
    data: bytes = program.model_proto.SerializeToString()
    return data


def _to_torchscript(graph: ExportableModel, example: Tensor, content: str) -> bytes:
    data = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():  # torch.jit warns that it is deprecated
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(graph, (example,), check_trace=False)  # type: ignore[no-untyped-call]
        torch.jit.save(traced, data, _extra_files={f"{METADATA}.json": content})
    return data.getvalue()


def _to_pt2(graph: ExportableModel, example: Tensor, content: str) -> bytes:
    data = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        shapes = {"image": {0: torch.export.Dim("batch")}}
        program = torch.export.export(graph, (example,), dynamic_shapes=shapes)
        torch.export.save(program, data, extra_files={f"{METADATA}.json": content})
    return data.getvalue()


EXPORTERS: dict[str, Callable[[ExportableModel, Tensor, str], bytes]] = {
    "onnx": _to_onnx,
    "torchscript": _to_torchscript,
    "pt2": _to_pt2,
}
"""The formats: graph, example input and metadata to the file's bytes."""

Runner = Callable[[Tensor], list[np.ndarray]]


def _run_onnx(data: bytes) -> Runner:
    import onnxruntime

    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return lambda image: list(session.run(None, {"image": image.numpy()}))


def _run_torchscript(data: bytes) -> Runner:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = torch.jit.load(io.BytesIO(data))  # type: ignore[no-untyped-call]
    return lambda image: [value.numpy() for value in module(image)]


def _run_pt2(data: bytes) -> Runner:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = torch.export.load(io.BytesIO(data)).module()
    return lambda image: [value.numpy() for value in module(image)]


RUNNERS: dict[str, Callable[[bytes], Runner]] = {
    "onnx": _run_onnx,
    "torchscript": _run_torchscript,
    "pt2": _run_pt2,
}
"""The way to run a file of each format again."""


@torch.no_grad()
def largest_difference(graph: ExportableModel, run: Runner, size: int) -> float:
    """Measure a file's largest deviation from the graph on fresh input, as a share of each output's largest value."""
    image = torch.randn(CHECK_BATCH, 3, size, size, generator=torch.Generator().manual_seed(0))
    pairs = zip((value.numpy() for value in graph(image)), run(image), strict=True)
    return max(float(np.abs(mine - its).max() / max(np.abs(mine).max(), 1e-6)) for mine, its in pairs)


def _check_onnx() -> None:
    missing = [name for name in ("onnx", "onnxscript") if not _has(name)]
    if missing:
        raise UserInputError(
            paragraph(
                f"Exporting to ONNX needs {' and '.join(missing)}.",
                fix='Install the extra: pip install "aupipe[onnx]". The formats torchscript and pt2 need nothing.',
            )
        )


def _has(module: str) -> bool:
    return importlib.util.find_spec(module) is not None
