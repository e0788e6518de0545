"""Explaining a whole input: a PNG and a JSON file per face, one table and one page for all; of a video also a film."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from aupipe.fer_analysis.explain import page
from aupipe.fer_analysis.explain.film import Film
from aupipe.fer_analysis.explain.inputs import Source
from aupipe.fer_analysis.explain.opened import OpenRun
from aupipe.fer_analysis.explain.pictures import face_panels, own_panels, photo_picture, window, write_face_png
from aupipe.fer_analysis.explain.result import FaceResult, limits, result_json, summary_row
from aupipe.fer_analysis.explain.seen import SeenPicture, seen_pictures
from aupipe.fer_analysis.explain.timeline import draw_timeline
from aupipe.fer_data.errors import printable
from aupipe.fer_data.failures import write_failures
from aupipe.fer_data.files import file_name, write_bytes, write_json, write_text
from aupipe.fer_data.folders import EXPLANATION, output_folder
from aupipe.fer_data.preparation import FaceFinder
from aupipe.fer_data.types import Failure, Progress, count_reasons, lines_repr
from aupipe.fer_data.video_files import VideoFacts
from aupipe.fer_display.blocks import Block, Wide
from aupipe.fer_display.figures import png_bytes
from aupipe.fer_display.pages import render
from aupipe.fer_display.tables import csv_of_records

REPORT, TABLE, PAGE, FACES, TIMELINE = "explain.json", "faces.csv", "index.html", "faces", "timeline.png"
WRITTEN = (REPORT, TABLE, PAGE, TIMELINE)
"""What speaks of all faces."""

NO_FILM = "No frame can be decoded, so no video was written."

MAX_SECTIONS = 200
"""Faces on the page; the others are in the table and have their files all the same."""


@dataclass(frozen=True)
class ExplainReport:
    """The outcome of explaining an input.

    ``explained`` pictures have at least one face; ``failures`` lists pictures and single faces; ``files`` are those
    written, relative to ``out``, which is None where only an annotated video was asked for: ``video``, with its facts.
    """

    out: Path | None
    kind: str
    pictures: int
    explained: int
    faces: int
    predicted: Mapping[str, int]
    failures: tuple[Failure, ...]
    notes: tuple[str, ...]
    files: tuple[str, ...]
    video: Path | None = None
    video_facts: VideoFacts | None = None

    @property
    def failed_share(self) -> float:
        """Pictures without an explained face, as a share of all."""
        return (self.pictures - self.explained) / self.pictures if self.pictures else 0.0

    def as_json(self) -> dict[str, Any]:
        """Return the object that ``--json`` prints."""
        video = {} if self.video_facts is None else {"video": {"path": str(self.video), **asdict(self.video_facts)}}
        place = {} if self.out is None else {"out": str(self.out), "page": str(self.out / PAGE)}
        return {
            **place,
            "kind": self.kind,
            "pictures": self.pictures,
            "explained": self.explained,
            "faces": self.faces,
            "predicted": dict(self.predicted),
            "failed": count_reasons(self.failures),
            "notes": list(self.notes),
            **video,
        }

    __repr__ = lines_repr

    def lines(self) -> list[str]:
        """Return the summary for people."""
        said = ", ".join(f"{count} {name}" for name, count in self.predicted.items()) or "none"
        what = "frames" if self.kind == "video" else "photos"
        return [
            f"explain: {self.faces} faces in {self.explained} of {self.pictures} {what}: {said}",
            *(f"  note: {note}" for note in self.notes),
            *([] if self.video_facts is None else [f"  video: {self.video}: {self.video_facts}"]),
            *([] if self.out is None else [f"  look at {self.out / PAGE}"]),
        ]


@dataclass
class _Work:
    """Results that gather while the pictures pass: no pixels are kept."""

    files: list[str] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    probability: list[Float64[np.ndarray, "k"]] = field(default_factory=list)
    limits: tuple[str, ...] = ()
    pictures: int = 0
    explained: int = 0
    predicted: Counter[str] = field(default_factory=Counter)

    def count(self, opened: OpenRun, seen: SeenPicture) -> None:
        """Count a picture, what was predicted of its faces, and what was missed."""
        self.pictures += 1
        self.explained += bool(seen.faces)
        self.failures += seen.missed
        self.predicted.update(opened.record.classes[result.prediction.predicted] for result in seen.faces)

    def see_frame(self, opened: OpenRun, seen: SeenPicture) -> None:
        """Keep when a frame of a video is shown and what was seen in it; NaN where nothing was."""
        seconds = seen.picture.seconds if seen.picture is not None else None
        self.times.append(math.nan if seconds is None else seconds)
        blank = np.full(len(opened.record.classes), np.nan)
        self.probability.append(seen.faces[0].prediction.probability if seen.faces else blank)


def explain(
    opened: OpenRun,
    source: Source,
    out: Path | None,
    find: FaceFinder,
    progress: Progress,
    notes: Sequence[str] = (),
    video: Path | None = None,
) -> ExplainReport:
    """Explain every face of an input.

    Nothing that is wrong with one picture ends the whole: it becomes a failure. The page, table and report of an
    earlier run are withdrawn first; the faces' files are replaced one by one, atomically, and those that this one did
    not make again are removed at the end.

    Args:
        opened: The run.
        source: The pictures.
        out: Receives ``index.html``, ``faces.csv``, ``explain.json``, ``faces/``, and ``timeline.png`` for a video.
            None: nothing but the annotated video is written.
        find: Finds, aligns and cuts out the faces of a photo.
        progress: Told of each picture.
        notes: Sentences for the page and the report, beside the run's own.
        video: Receives the frames of a video with what was seen in them, see :class:`Film`. None: no such file.
    """
    film = None if video is None else Film(opened, source, video)
    seen, work = _watched(opened, source, find, progress, film), _Work()
    with closing(seen):
        if out is None:
            for one in seen:
                work.count(opened, one)
            return _report(opened, source, None, work, (*opened.notes, *notes), film)
        with output_folder(out, EXPLANATION):
            for name in WRITTEN:  # they would speak of faces that are replaced now
                (out / name).unlink(missing_ok=True)
            for one in seen:
                work.count(opened, one)
                if source.kind == "video":
                    work.see_frame(opened, one)
                _explain_picture(opened, one, out, work)
            report = _finish(opened, source, out, work, (*opened.notes, *notes), film)
            made = set(report.files)
            for path in [*(out / FACES).rglob("*.png"), *(out / FACES).rglob("*.json")]:
                if path.relative_to(out).as_posix() not in made:
                    path.unlink()  # of an earlier call, finished or not
    return report


def _watched(
    opened: OpenRun, source: Source, find: FaceFinder, progress: Progress, film: Film | None
) -> Generator[SeenPicture]:
    """Yield the pictures as they are seen, after they went into the film."""
    seen = seen_pictures(opened, source, find)
    progress.start("explain", source.total, "frames" if source.kind == "video" else "photos")
    for one in seen if film is None else film.watch(seen):
        yield one
        progress.advance(1)
    progress.finish()


def _explain_picture(opened: OpenRun, seen: SeenPicture, out: Path, work: _Work) -> None:
    picture, results = seen.picture, seen.faces
    if picture is not None and len(results) > 1 and len(work.rows) < MAX_SECTIONS:
        corners = {result.number: window(opened, result)[1] for result in results}
        work.blocks.append(Wide(photo_picture(picture.image, corners, picture.name)))
    for result in results:
        _write_face(opened, result, out, work)


def _write_face(opened: OpenRun, result: FaceResult, out: Path, work: _Work) -> None:
    stem = f"{FACES}/{file_name(result.name)}"
    panels = face_panels(opened, result)
    write_face_png(out / f"{stem}.png", opened, result, panels)
    write_json(out / f"{stem}.json", result_json(result, opened))
    work.files += [f"{stem}.png", f"{stem}.json"]
    work.rows.append(summary_row(result, opened))
    work.limits = work.limits or limits(opened, result.prediction)
    if len(work.rows) <= MAX_SECTIONS:
        own = [panel.encoded() for panel in own_panels(opened, result)]
        work.blocks.append(page.face_section(opened, result, [panel.encoded() for panel in panels], own))


def _finish(
    opened: OpenRun, source: Source, out: Path, work: _Work, notes: tuple[str, ...], film: Film | None
) -> ExplainReport:
    """Write the failures, the table, the timeline and the page; the report last."""
    write_failures(out, work.failures)
    notes = (*notes, *_more_notes(source, work))
    if work.rows:
        write_text(out / TABLE, csv_of_records(work.rows))
        work.files.append(TABLE)
    blocks = work.blocks
    if any(not np.isnan(row).any() for row in work.probability):
        blocks = [_timeline(opened, source, out, work), *blocks]
        work.files.append(TIMELINE)
    calibration = (opened.calibration.sentence(),) if opened.calibration else ()
    facts = (*notes, _about(opened), *calibration)
    title = f"{printable(source.path.name)} explained"
    said = {"facts": facts, "limits": work.limits, "left_out": work.failures}
    write_text(out / PAGE, render("explain", title=title, blocks=blocks, **said))
    report = _report(opened, source, out, work, notes, film)
    write_json(out / REPORT, {**report.as_json(), "run": str(opened.folder), "files": list(report.files)})
    return report


def _report(
    opened: OpenRun, source: Source, out: Path | None, work: _Work, notes: tuple[str, ...], film: Film | None
) -> ExplainReport:
    without = film is not None and film.facts is None
    return ExplainReport(
        out=out,
        kind=source.kind,
        pictures=work.pictures,
        explained=work.explained,
        faces=work.predicted.total(),
        predicted={name: work.predicted[name] for name in opened.record.classes if work.predicted[name]},
        failures=tuple(work.failures),
        notes=(*notes, *([NO_FILM] if without else [])),
        files=() if out is None else (*work.files, PAGE),
        video=None if film is None else film.path,
        video_facts=None if film is None else film.facts,
    )


def _more_notes(source: Source, work: _Work) -> tuple[str, ...]:
    notes = []
    if source.ignored:
        notes.append(f"{source.ignored} files of the folder are no photos by their name and were passed over.")
    if len(work.rows) > MAX_SECTIONS:
        notes.append(
            f"The page shows the first {MAX_SECTIONS} faces only; {TABLE} and {FACES}/ hold all {len(work.rows)}."
        )
    return tuple(notes)


def _about(opened: OpenRun) -> str:
    config = opened.record.config
    guided = f"guided by AU maps (weight {config.align_weight:g})" if config.align_weight else "without AU guidance"
    return f"Model: {config.backbone}, {config.method}, {guided}; codebook {opened.codebook.name!r}."


def _timeline(opened: OpenRun, source: Source, out: Path, work: _Work) -> Wide:
    times, probability = np.array(work.times), np.stack(work.probability)
    classes = opened.record.classes
    figure = draw_timeline(times, probability, classes)
    png = png_bytes(figure)
    write_bytes(out / TIMELINE, png)
    means = dict(zip(classes, np.nanmean(probability, 0).tolist(), strict=True))
    return page.timeline(png, figure.canvas.get_width_height(), printable(source.path.name), means)
