"""FER2013's own form: grey pixels as numbers in a CSV. They are written out as PNG files beside the manifest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from aupipe.fer_data.errors import ManifestError, paragraph
from aupipe.fer_data.manifest.descriptors import Form
from aupipe.fer_data.manifest.labels import Vocabulary
from aupipe.fer_data.manifest.layouts.base import (
    DatasetListing,
    RawRow,
    ReadRequest,
    canonical_split,
    register_reader,
    write_once,
)
from aupipe.fer_data.manifest.layouts.table import find_table
from aupipe.fer_data.manifest.layouts.text import column_roles, csv_rows, read_header, read_lines
from aupipe.fer_data.manifest.problems import Place, Problem, ProblemReason, is_plain

SIDE = 48
_ROLES = {"label", "pixels", "split"}
_GREY = {str(value): value for value in range(256)}


class PixelsReader:
    """``emotion,pixels,Usage`` with 48 x 48 grey values; ``SPLIT/row_00012.png`` is data row 12, from 0."""

    def recognises(self, folder: Path, form: Form, vocabulary: Vocabulary) -> bool:
        """Return whether a folder holds the CSV by its name, or the file given has a header with the three columns."""
        table = find_table(folder, form)
        return table is not None and (folder.is_dir() or column_roles(read_header(table)).keys() >= _ROLES)

    def read(self, request: ReadRequest) -> DatasetListing:
        """Write each usable row's image below ``request.images_out`` and list it."""
        table = find_table(request.folder, request.form)
        if table is None:
            raise request.not_there("No table of labels")
        found, problems = list[RawRow](), list[Problem]()
        for index, (line, row) in enumerate(pixel_rows(table)):
            parsed = _parse(row, index, Place(table.name, line), request.splits)
            if isinstance(parsed, Problem):
                problems.append(parsed)
            else:
                found.append(parsed[0])
                write_once(request.images_out / parsed[0].path, encode_grey(parsed[1]))
        return DatasetListing(request.images_out, tuple(found), tuple(problems))


def pixel_rows(table: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield ``(line number, cells by role)`` of each row of FER2013's table.

    Raises :class:`ManifestError` when it lacks a column.
    """
    rows = csv_rows(read_lines(table), table)
    _, header = next(rows, (0, []))
    roles = column_roles(header)
    if not roles.keys() >= _ROLES:
        raise ManifestError(
            paragraph(
                "A FER2013 table lacks a column.",
                where=f"{table}, line 1",
                expected="emotion, pixels and Usage",
                got=",".join(header)[:200] or "an empty file",
            )
        )
    for line, cells in rows:
        yield line, {role: cells[at].strip() for role, at in roles.items() if at < len(cells)}


def _parse(
    row: Mapping[str, str], index: int, place: Place, splits: Mapping[str, str]
) -> tuple[RawRow, UInt8[np.ndarray, "h w"]] | Problem:
    label, usage = row.get("label", ""), row.get("split", "")
    split, image = canonical_split(usage, splits), parse_pixels(row.get("pixels", ""))
    detail = ""
    if not label or not is_plain(label):
        detail = "no label"
    elif split is None:
        detail = f"unknown Usage {usage!r}, expected Training, PublicTest or PrivateTest"
    elif image is None:
        detail = f"expected {SIDE * SIDE} grey values from 0 to 255"
    if detail or split is None or image is None:
        return Problem(place, "", label, ProblemReason.BAD_ROW, detail)
    return RawRow(f"{split}/row_{index:05d}.png", label, place, split), image


def parse_pixels(text: str) -> UInt8[np.ndarray, "48 48"] | None:
    """Parse the grey image of a cell ``pixels``; None when it is not 2304 whole numbers from 0 to 255."""
    try:
        values = bytes(map(_GREY.__getitem__, text.split()))
    except KeyError:
        return None
    return np.frombuffer(values, np.uint8).reshape(SIDE, SIDE) if len(values) == SIDE * SIDE else None


def encode_grey(image: UInt8[np.ndarray, "h w"]) -> bytes:
    """Encode a grey image as PNG."""
    import cv2  # here, so that other layouts are read without it

    return cv2.imencode(".png", image)[1].tobytes()


register_reader("pixels", PixelsReader())
