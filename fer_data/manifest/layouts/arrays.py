"""One image and several small ``.npy`` files a face: AffectNet's form."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Set
from functools import lru_cache
from pathlib import Path, PurePosixPath

import numpy as np

from aupipe.fer_data.errors import printable
from aupipe.fer_data.image_names import is_image_name
from aupipe.fer_data.manifest.descriptors import Form
from aupipe.fer_data.manifest.labels import Vocabulary
from aupipe.fer_data.manifest.layouts.base import (
    DatasetListing,
    Gathering,
    RawRow,
    ReadRequest,
    find_role_folder,
    register_reader,
)
from aupipe.fer_data.manifest.layouts.cells import as_points
from aupipe.fer_data.manifest.layouts.walk import WalkLog, scan
from aupipe.fer_data.manifest.problems import NOT_PLAIN, Place, Problem, ProblemReason, is_plain

_LABEL, _POINTS = "_exp.npy", "_lnd.npy"


class ArraysReader:
    """``PART/images/ID.jpg`` with ``PART/annotations/ID_exp.npy`` and, if it is there, ``ID_lnd.npy`` (68 points)."""

    def recognises(self, folder: Path, form: Form, vocabulary: Vocabulary) -> bool:
        """Return whether some part has both folders."""
        return any(_has_both(folder / part, form) for part in form.parts)

    def read(self, request: ReadRequest) -> DatasetListing:
        """List every label file as a row or a problem, and images without one as problems.

        Raises :class:`ManifestError` when no part is there.
        """
        if not self.recognises(request.folder, request.form, Vocabulary()):
            raise request.not_there()
        found = Gathering()
        for part, split in request.form.parts.items():
            for item in _read_part(request.folder, part, split, request.form, found):
                found.add(item)
        return found.listing(request.folder)


def _has_both(folder: Path, form: Form) -> bool:
    return all(find_role_folder(folder, form, role) is not None for role in ("images", "annotations"))


def _read_part(root: Path, part: str, split: str, form: Form, log: WalkLog) -> Iterator[RawRow | Problem]:
    images, annotations = (find_role_folder(root / part, form, role) for role in ("images", "annotations"))
    if images is None or annotations is None:
        return
    image_prefix, array_prefix = (path.relative_to(root).as_posix() + "/" for path in (images, annotations))
    pictures = {
        PurePosixPath(entry.name).stem: entry.name
        for entry in scan(images, log, image_prefix)
        if is_image_name(entry.name)
    }
    arrays = {entry.name for entry in scan(annotations, log, array_prefix)}
    for name in sorted(name for name in arrays if name.endswith(_LABEL)):
        key = name.removesuffix(_LABEL)
        path = image_prefix + pictures.get(key, f"{key}.jpg")
        place = Place(printable(array_prefix + name))
        try:
            if not is_plain(path):
                raise ValueError(NOT_PLAIN)
            label = label_text(load_array(annotations / name))
        except (OSError, ValueError) as error:
            yield Problem(place, path, "", ProblemReason.BAD_ROW, f"not a label: {error}")
            continue
        yield RawRow(path, label, place, split, points=_points(annotations, key + _POINTS, arrays))
    for key in sorted(pictures):
        if key + _LABEL not in arrays:
            path = image_prefix + pictures[key]
            yield Problem(Place(printable(path)), path, "", ProblemReason.UNLISTED_FILE, "no label file belongs to it")


def _points(folder: Path, name: str, present: Set[str]) -> np.ndarray | None:
    if name not in present:
        return None
    try:
        return as_points(load_array(folder / name))
    except (OSError, ValueError):
        return as_points(np.empty(0))


def label_text(array: np.ndarray) -> str:
    """Read the label in an array of one element: text, bytes or a whole number. Raises ``ValueError`` for others."""
    try:
        value = array.item() if array.size == 1 else None
    except SystemError as error:  # text of code points that do not exist
        raise ValueError("it is no text") from error
    if isinstance(value, bytes):
        value = value.decode("ascii")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = value.strip() if isinstance(value, str) else str(value) if type(value) is int else ""
    if not text or not is_plain(text):
        raise ValueError(f"expected one text or whole number, got {array.dtype} of shape {array.shape}")
    return text


def load_array(path: Path) -> np.ndarray:
    """Read a small ``.npy`` file; never unpickles. Raises ``OSError`` or ``ValueError``.

    Quicker than ``numpy.load`` on hundreds of thousands of files: equal headers are parsed once.
    """
    with open(os.fspath(path), "rb") as file:  # noqa: PTH123 - half the cost of Path.read_bytes
        data = file.read()
    try:
        return _parse_array(data)
    except Exception as error:  # NumPy's reader of headers raises nearly anything
        raise ValueError(str(error)) from error


def _parse_array(data: bytes) -> np.ndarray:
    if data[:8] != b"\x93NUMPY\x01\x00":
        return np.asarray(np.load(io.BytesIO(data), allow_pickle=False))
    start = 10 + int.from_bytes(data[8:10], "little")
    shape, fortran, dtype = _header(data[8:start])
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which are never unpickled")
    count = int(np.prod(shape, dtype=np.int64))
    return np.frombuffer(data, dtype, count, start).reshape(shape, order="F" if fortran else "C")


@lru_cache(maxsize=64)
def _header(data: bytes) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(io.BytesIO(data))
    return shape, fortran, dtype


register_reader("arrays", ArraysReader())
