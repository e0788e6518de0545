"""Faces of a split whose action units were coded, with all that is compared with where a network looks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float64, Int64

from aupipe.fer_data.action_units.face_weights import coded_weights
from aupipe.fer_data.action_units.facs import FacsCode
from aupipe.fer_data.action_units.modes import AU_SOURCES, SIDES
from aupipe.fer_data.au_maps.codebook import Codebook
from aupipe.fer_data.errors import UserInputError, paragraph
from aupipe.fer_data.manifest.action_units import CodeSource
from aupipe.fer_data.manifest.face_codes import FaceCodes
from aupipe.fer_data.shards import SplitReader
from aupipe.fer_models.metrics import resampling

NOBODY = -1
"""In place of another face where there is none."""


@dataclass(frozen=True)
class CodedFaces:
    """The coded faces among the first rows of a split, in its order.

    Attributes:
        row: Row in the split.
        sample_id: Of each face.
        group: The person, or else the sample's id.
        label: Index of the class.
        numbers: The action units that were coded on some face and that the codebook draws.
        shown: Which of them each face shows.
        weights: 1 for each coded action unit, by FACS number and side: what its own map is drawn from.
        another: Place of a face of the same class and another person, drawn at random once; :data:`NOBODY` where the
            class has none.
        uncoded: Number of the other rows: nobody coded them.
        undrawn: Faces by action units that were coded and that the codebook does not draw.
    """

    row: Int64[np.ndarray, "n"]
    sample_id: tuple[str, ...]
    group: tuple[str, ...]
    label: Int64[np.ndarray, "n"]
    numbers: tuple[int, ...]
    shown: Bool[np.ndarray, "n k"]
    weights: Float64[np.ndarray, "n 99 2"]
    another: Int64[np.ndarray, "n"]
    uncoded: int
    undrawn: Mapping[int, int]

    def __len__(self) -> int:
        return len(self.row)

    @cached_property
    def group_number(self) -> Int64[np.ndarray, "n"]:
        """Number of each face's person."""
        return np.asarray(np.unique(self.group, return_inverse=True)[1], np.int64)

    @property
    def shown_by_another(self) -> Bool[np.ndarray, "n k"]:
        """Which action units the other face shows; none where there is none."""
        return np.asarray(self.shown[self.another] & self.accompanied[:, None])

    @property
    def weights_of_another(self) -> Float64[np.ndarray, "n 99 2"]:
        """What the other face's map is drawn from; nothing where there is none."""
        return np.asarray(self.weights[self.another] * self.accompanied[:, None, None])

    @property
    def accompanied(self) -> Bool[np.ndarray, "n"]:
        """Whether there is another face."""
        return np.asarray(self.another != NOBODY)


def stored_codes(reader: SplitReader, rows: int) -> FaceCodes:
    """Read the codes that a store carries on the first ``rows`` of a split: those its maps were drawn from.

    Raises:
        UserInputError: It carries none: it was not built with ``--aus annotated``, or none of these faces was coded.
    """
    weights, sources = reader.au_weight, reader.au_source
    found = dict[str, tuple[FacsCode, ...]]()
    if weights is not None and sources is not None:
        for row in np.flatnonzero(sources[:rows] == AU_SOURCES.index("annotated")).tolist():
            found[reader.sample_ids[row]] = tuple(_codes(weights[row] > 0))
    if not found:
        raise UserInputError(
            paragraph(
                "The store carries no coded action units of these faces.",
                where=reader.store.folder,
                expected="a store built with `aupipe build-maps --aus annotated` from a manifest with the column aus",
                fix="Give the codes themselves: --aus FILE, a manifest or a table that names the faces.",
            )
        )
    return FaceCodes(found, CodeSource("the store", samples=len(found)))


def _codes(there: Bool[np.ndarray, "99 2"]) -> Iterator[FacsCode]:
    for number in np.flatnonzero(there.any(1)).tolist():
        sides = [side for side, shown in zip(SIDES, there[number], strict=True) if shown]
        yield FacsCode(number, "" if len(sides) > 1 else sides[0])


def coded_faces(codes: FaceCodes, reader: SplitReader, rows: int, book: Codebook) -> CodedFaces:
    """Choose the coded ones of the first ``rows`` of a split; at least one must be coded.

    Raises:
        UserInputError: None is coded, or the codebook draws none of the action units that were coded.
    """
    chosen = [row for row in range(rows) if reader.sample_ids[row] in codes.codes]
    if not chosen:
        raise UserInputError(
            paragraph(
                f"None of the first {rows} faces of the split {reader.split!r} is coded.", fix="Use a larger --limit."
            )
        )
    its_codes = [codes.codes[reader.sample_ids[row]] for row in chosen]
    coded = [{code.number for code in its} for its in its_codes]
    count = Counter(number for numbers in coded for number in numbers)
    numbers = tuple(sorted(count.keys() & book.action_units.keys()))
    if not numbers:
        raise UserInputError(
            paragraph(
                "The codebook of the store draws none of the action units that were coded on these faces.",
                expected=f"some of {', '.join(map(str, sorted(book.action_units)))}",
                got=", ".join(map(str, sorted(count))) or "faces that show none",
            )
        )
    label = reader.labels[chosen].astype(np.int64)
    group = tuple(reader.groups[row] for row in chosen)
    return CodedFaces(
        row=np.array(chosen, np.int64),
        sample_id=tuple(reader.sample_ids[row] for row in chosen),
        group=group,
        label=label,
        numbers=numbers,
        shown=np.array([[number in found for number in numbers] for found in coded], bool),
        weights=coded_weights(its_codes),
        another=_others(label, group),
        uncoded=rows - len(chosen),
        undrawn={number: count[number] for number in sorted(count.keys() - set(numbers))},
    )


def _others(label: Int64[np.ndarray, "n"], group: Sequence[str]) -> Int64[np.ndarray, "n"]:
    """Draw for each face another person's face of its class."""
    rng, person = np.random.default_rng(resampling.SEED), np.array(group)
    others = np.full(len(label), NOBODY, np.int64)
    for place in range(len(label)):
        candidates = np.flatnonzero((label == label[place]) & (person != person[place]))
        if len(candidates):
            others[place] = rng.choice(candidates)
    return others
