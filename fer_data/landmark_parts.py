"""The landmark stage's HDF5 parts: one row a sample, found or not, in hash order.

A part holds ``sample_id``, ``path``, ``reason`` (:class:`Reason`), ``detail`` (since 2.1: the reason in words),
``landmarks (n, 68, 2) f4`` in source pixels, ``pose (n, 3) f4`` (yaw, pitch, roll in degrees), ``score (n) f4``,
``rung``, ``faces_seen``, ``source_size (n, 2)`` (height, width), ``source_sha256``, and, where ``has_mesh``,
``mesh (n, 478, 3) f4`` in source pixels and ``blendshapes (n, 52) f4``. Where ``reason`` is not OK, or ``has_mesh`` is
0, the arrays are zero: those are the masks.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np
from h5py import h5f
from jaxtyping import Bool, Float32, Int32, UInt8, UInt16

from aupipe.fer_data.errors import StoreError, paragraph
from aupipe.fer_data.files import atomic_path, sha256_bytes, steady_file
from aupipe.fer_data.geometry import is_profile
from aupipe.fer_data.shards.structure import UNREADABLE, Piece, attribute, foreign_pieces, piece_faults, pieces
from aupipe.fer_data.types import Reason

SCHEMA_VERSION = "2.1"

_COLUMNS: dict[str, tuple[str, str]] = {
    "landmarks": ("iBUG-68 landmarks, (x, y)", "pixel"),
    "has_mesh": ("1 where the detector gave mesh and blendshapes", "1"),
    "mesh": ("MediaPipe face mesh, (x, y, z); smaller z is nearer", "pixel"),
    "blendshapes": ("ARKit-style blendshape scores", "1"),
    "pose": ("yaw (positive to image right), pitch (positive down), roll (positive clockwise)", "degree"),
    "score": ("the detector's own confidence: a low one flags a failure, it is no ranking of good faces", "1"),
    "reason": ("0 where a face was found, else why not", "1"),
    "rung": ("detection ladder's rung that found the face", "1"),
    "faces_seen": ("faces on that rung", "1"),
    "source_size": ("height and width of the photo after EXIF rotation", "pixel"),
    "source_sha256": ("SHA-256 of the photo's file, empty where it is missing", "1"),
    "sample_id": ("sample id of the manifest, UTF-8", "1"),
    "path": ("path below the manifest's root, UTF-8", "1"),
    "detail": ("the reason in some words, where there are any, UTF-8", "1"),
}

_NUMBERS: dict[str, tuple[str, tuple[int, ...]]] = {
    "landmarks": ("<f4", (68, 2)),
    "has_mesh": ("u1", ()),
    "mesh": ("<f4", (478, 3)),
    "blendshapes": ("<f4", (52,)),
    "pose": ("<f4", (3,)),
    "score": ("<f4", ()),
    "reason": ("u1", ()),
    "rung": ("u1", ()),
    "faces_seen": ("<u2", ()),
    "source_size": ("<i4", (2,)),
    "source_sha256": ("S64", ()),
}
"""Type of each dataset and shape of a row; the other texts are as long as they must be."""

_TEXTS = ("sample_id", "path", "source_sha256", "detail")
_LATER = ("detail",)  # an earlier 2.x lacks it
_KEPT = ("source_size", "landmarks", "pose", "score", "rung", "faces_seen", "has_mesh", "blendshapes")
_REASONS = {reason.value: reason for reason in Reason}


def _zeros(*shape: int) -> Float32[np.ndarray, "..."]:
    return np.zeros(shape, np.float32)


@dataclass(frozen=True)
class LandmarkRow:
    """One sample's outcome; arrays are zero unless ``reason`` is OK."""

    sample_id: str
    path: str
    reason: Reason
    source_sha256: str = ""
    source_size: tuple[int, int] = (0, 0)
    landmarks: Float32[np.ndarray, "68 2"] = field(default_factory=lambda: _zeros(68, 2))
    mesh: Float32[np.ndarray, "478 3"] | None = None
    blendshapes: Float32[np.ndarray, "52"] | None = None
    pose: Float32[np.ndarray, "3"] = field(default_factory=lambda: _zeros(3))
    score: float = 0.0
    rung: int = 0
    faces_seen: int = 0
    detail: str = ""


@dataclass(frozen=True)
class LandmarkPart:
    """A part read back: the columns as arrays, in the file's row order.

    ``sha256`` is the file's. ``mesh`` has no rows unless it was asked for.
    """

    sha256: str
    plan_digest: str
    config_json: str
    sample_ids: tuple[str, ...]
    paths: tuple[str, ...]
    reasons: tuple[Reason, ...]
    details: tuple[str, ...]
    source_sha256: tuple[str, ...]
    source_size: Int32[np.ndarray, "n 2"]
    landmarks: Float32[np.ndarray, "n 68 2"]
    pose: Float32[np.ndarray, "n 3"]
    score: Float32[np.ndarray, "n"]
    rung: UInt8[np.ndarray, "n"]
    faces_seen: UInt16[np.ndarray, "n"]
    has_mesh: UInt8[np.ndarray, "n"]
    mesh: Float32[np.ndarray, "m 478 3"]
    blendshapes: Float32[np.ndarray, "n 52"]

    @property
    def profile(self) -> Bool[np.ndarray, "n"]:
        """True for faces that are turned beyond :data:`~aupipe.fer_data.geometry.PROFILE_YAW`."""
        return is_profile(self.pose[:, 0])


@dataclass(frozen=True)
class PartFile:
    """A part that WORK's report names: where it lies, and the digests of its file and of its plan."""

    path: Path
    sha256: str
    plan_digest: str

    def read(self, *, mesh: bool = False) -> LandmarkPart:
        """Read the part; HDF5 sees no byte before the file's digest was compared.

        Raises :class:`StoreError` when it is missing or another one.
        """
        data = _file_bytes(self.path)
        known = sha256_bytes(data) == self.sha256
        part = parse_part(data, self.path, mesh=mesh, sha256=self.sha256) if known else None
        if part is None or part.plan_digest != self.plan_digest:
            raise mixed_work(self.path.parents[1])
        return part


def write_part(path: Path, rows: Sequence[LandmarkRow], plan_digest: str, config_json: str) -> None:
    """Write a part atomically; the same rows give the same bytes."""
    columns = {
        "landmarks": np.array([row.landmarks for row in rows], "<f4"),
        "has_mesh": np.array([row.mesh is not None for row in rows], "u1"),
        "mesh": np.array([_zeros(478, 3) if row.mesh is None else row.mesh for row in rows], "<f4"),
        "blendshapes": np.array([_zeros(52) if row.blendshapes is None else row.blendshapes for row in rows], "<f4"),
        "pose": np.array([row.pose for row in rows], "<f4"),
        "score": np.array([row.score for row in rows], "<f4"),
        "reason": np.array([row.reason for row in rows], "u1"),
        "rung": np.array([row.rung for row in rows], "u1"),
        "faces_seen": np.array([row.faces_seen for row in rows], "<u2"),
        "source_size": np.array([row.source_size for row in rows], "<i4"),
        "source_sha256": np.array([row.source_sha256.encode() for row in rows], "S64"),
        "sample_id": np.array([row.sample_id.encode() for row in rows]),
        "path": np.array([row.path.encode() for row in rows]),
        "detail": np.array([row.detail.encode("utf-8", "backslashreplace") for row in rows]),
    }
    with (
        atomic_path(path) as temporary,
        steady_file(temporary) as disk,
        h5py.File(disk, "w", libver=("v110", "v110")) as file,
    ):
        file.attrs["schema_version"] = SCHEMA_VERSION
        file.attrs["plan_digest"] = plan_digest
        file.attrs["config"] = config_json
        file.attrs["crc32"] = _crc32(columns, plan_digest + config_json)
        for name, values in columns.items():
            dataset = file.create_dataset(name, data=values)
            dataset.attrs["long_name"], dataset.attrs["units"] = _COLUMNS[name]
        file["reason"].attrs["flag_values"] = np.array([reason.value for reason in Reason], "u1")
        file["reason"].attrs["flag_meanings"] = " ".join(reason.key for reason in Reason)


def read_part(path: Path, *, mesh: bool = False) -> LandmarkPart:
    """Read a part and check its checksum; ``mesh`` keeps the mesh too (six kilobytes a row).

    Raises :class:`StoreError` when it is damaged or of another version.
    """
    return parse_part(_file_bytes(path), path, mesh=mesh)


def parse_part(data: bytes, path: Path, *, mesh: bool = False, sha256: str = "") -> LandmarkPart:
    """Read a part from its file's bytes.

    Args:
        data: The file's bytes.
        path: Where they lie, for messages.
        mesh: Keep the mesh.
        sha256: The bytes' own, where it is as stated. The part's checksum, which runs over every column, is not needed
            then, and fewer columns are read.

    Raises:
        StoreError: It is damaged or of another version.
    """
    names = [name for name in _COLUMNS if mesh or not sha256 or name != "mesh"]
    try:
        file = h5f.open_file_image(data)
        try:
            version, plan_digest, config_json = (
                attribute(file, name).decode() for name in (b"schema_version", b"plan_digest", b"config")
            )
            stated, found = int(attribute(file, b"crc32")), pieces(file)
        finally:
            file.close()
        if version.split(".")[0] != SCHEMA_VERSION.split(".")[0]:
            raise _damaged(path, f"schema {version} where {SCHEMA_VERSION} is read")
        if faults := foreign_pieces(found) or piece_faults(found, _datasets(found), {}):
            raise _damaged(path, faults[0])
        columns = {name: _column(data, found[name]) for name in names if name in found}
        if not sha256 and _crc32(columns, plan_digest + config_json) != stated:
            raise _damaged(path, "its checksum does not fit")
        texts = {name: tuple(map(bytes.decode, columns[name].tolist())) for name in _TEXTS if name in columns}
        reasons = tuple(_REASONS.get(value) or Reason(value) for value in columns["reason"].tolist())
    except UNREADABLE as error:
        raise error if isinstance(error, StoreError) else _damaged(path, str(error)) from error
    if not all(np.isfinite(values).all() for values in columns.values() if values.dtype.kind == "f"):
        raise _damaged(path, "it holds numbers that are not finite")
    return LandmarkPart(
        sha256=sha256 or sha256_bytes(data),
        plan_digest=plan_digest,
        config_json=config_json,
        sample_ids=texts["sample_id"],
        paths=texts["path"],
        reasons=reasons,
        details=texts.get("detail", ("",) * len(reasons)),
        source_sha256=texts["source_sha256"],
        mesh=columns["mesh"].copy() if mesh else _zeros(0, 478, 3),
        **{name: columns[name].copy() for name in _KEPT},
    )


def _column(data: bytes, piece: Piece | str) -> np.ndarray:
    """A dataset's values, as they lie in the file's bytes."""
    if isinstance(piece, str):
        raise ValueError(piece)
    return np.frombuffer(data, piece.dtype, math.prod(piece.shape), piece.start).reshape(piece.shape)


def _datasets(found: Mapping[str, Piece | str]) -> dict[str, tuple[np.dtype, tuple[int, ...]]]:
    """Type and shape of each dataset; only the file says how many rows there are and how long ids and paths are."""
    texts = {name: found.get(name) for name in ("sample_id", "path", *(name for name in _LATER if name in found))}
    known = {name: piece.dtype for name, piece in texts.items() if isinstance(piece, Piece) and piece.dtype.kind == "S"}
    rows = found.get("sample_id")
    if len(known) < len(texts) or not isinstance(rows, Piece) or len(rows.shape) != 1:
        raise TypeError(f"one of {', '.join(texts)} is no column of texts")
    count = rows.shape[0]
    numbers = {name: (np.dtype(dtype), (count, *shape)) for name, (dtype, shape) in _NUMBERS.items()}
    return numbers | {name: (dtype, (count,)) for name, dtype in known.items()}


def mixed_work(folder: Path) -> StoreError:
    """Say that the files of a WORK folder belong to different runs."""
    return StoreError(
        paragraph(
            f"The landmarks in {folder} are not those that its manifest and landmarks.json speak of: a later run was "
            "interrupted, or files were changed.",
            fix="Run `aupipe landmarks` again with this folder as --out: intact parts are kept.",
        )
    )


def _file_bytes(path: Path) -> bytes:
    """The whole file, so that its digest can be compared before HDF5 has to make sense of it."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise _damaged(path, str(error)) from error


def _crc32(columns: dict[str, np.ndarray], attributes: str) -> int:
    crc = zlib.crc32(attributes.encode())
    for name in sorted(columns):
        crc = zlib.crc32(np.ascontiguousarray(columns[name]).tobytes(), crc)
    return crc


def _damaged(path: Path, why: str) -> StoreError:
    return StoreError(
        paragraph(
            "A landmark part is damaged.",
            where=path,
            got=why,
            fix="Run `aupipe landmarks` again: intact parts are kept and this one is made anew.",
        )
    )
