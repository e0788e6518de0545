"""FERPlus: ten vote columns for the rows of FER2013's own table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from aupipe.fer_data.errors import ManifestError, paragraph
from aupipe.fer_data.manifest.descriptors import Form
from aupipe.fer_data.manifest.labels import Vocabulary
from aupipe.fer_data.manifest.layouts.base import (
    DatasetListing,
    Gathering,
    RawRow,
    ReadRequest,
    canonical_split,
    register_reader,
    write_once,
)
from aupipe.fer_data.manifest.layouts.pixels import encode_grey, parse_pixels, pixel_rows
from aupipe.fer_data.manifest.layouts.table import find_table
from aupipe.fer_data.manifest.layouts.text import csv_rows, read_lines
from aupipe.fer_data.manifest.problems import Place, Problem, ProblemReason

VOTES_TABLE = "fer2013new.csv"
_FACES = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")
_OTHERS = ("unknown", "nf")
_LEAST_VOTES = 2


class VotesReader:
    """``fer2013new.csv`` beside FER2013's table, row by row; the majority of the votes is the label.

    A single vote for a class counts as an outlier. What then has more than half of the votes wins.
    """

    def recognises(self, folder: Path, form: Form, vocabulary: Vocabulary) -> bool:
        """Return whether both tables are there."""
        return folder.is_dir() and find_table(folder, form) is not None and (folder / VOTES_TABLE).is_file()

    def read(self, request: ReadRequest) -> DatasetListing:
        """Write each usable row's image below ``request.images_out`` and list it.

        Raises :class:`ManifestError` when a table is absent, lacks a column, or they differ in length.
        """
        if not self.recognises(request.folder, request.form, Vocabulary()):
            raise request.not_there("No table of labels")
        table, votes = find_table(request.folder, request.form), request.folder / VOTES_TABLE
        rows, problems = list[RawRow](), list[Problem]()
        for index, (voted, pixels) in enumerate(zip_longest(_vote_rows(votes), pixel_rows(table or votes))):
            if voted is None or pixels is None:
                raise ManifestError(
                    paragraph(
                        f"{VOTES_TABLE} and the table of the images do not have the same number of rows.",
                        where=votes,
                        expected="one row of votes for each image, in the same order",
                        got=f"only one of them has a row {index + 1}",
                    )
                )
            parsed = _parse(voted[1], pixels[1], index, Place(VOTES_TABLE, voted[0]), request.splits)
            if isinstance(parsed, Problem):
                problems.append(parsed)
            else:
                rows.append(parsed[0])
                write_once(request.images_out / parsed[0].path, encode_grey(parsed[1]))
        return DatasetListing(request.images_out, tuple(rows), tuple(problems))


def _vote_rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    rows = csv_rows(read_lines(path), path)
    _, header = next(rows, (0, []))
    names = [cell.strip().casefold() for cell in header]
    missing = [name for name in ("usage", "image name", *_FACES, *_OTHERS) if name not in names]
    if missing:
        raise ManifestError(
            paragraph(
                f"{VOTES_TABLE} lacks the column {missing[0]!r}.",
                where=f"{path}, line 1",
                expected=f"Usage, Image name, {', '.join(_FACES)}, unknown, NF",
                got=",".join(header)[:200] or "an empty file",
            )
        )
    return [(line, {name: cell.strip() for name, cell in zip(names, cells, strict=False)}) for line, cells in rows]


def _parse(
    row: Mapping[str, str], pixels: Mapping[str, str], index: int, place: Place, splits: Mapping[str, str]
) -> tuple[RawRow, UInt8[np.ndarray, "h w"]] | Problem:
    def problem(reason: ProblemReason, detail: str, label: str = "") -> Problem:
        return Problem(place, "", label, reason, detail)

    usage = row.get("usage", "")
    split = canonical_split(usage, splits)
    if split is None:
        detail = f"unknown Usage {usage!r}, expected Training, PublicTest or PrivateTest"
        return problem(ProblemReason.BAD_ROW, detail)
    if usage.casefold() != pixels.get("split", "").casefold():
        detail = f"Usage is {usage!r} here and {pixels.get('split', '')!r} at its image"
        return problem(ProblemReason.BAD_ROW, detail)
    votes = [row.get(name, "") for name in (*_FACES, *_OTHERS)]
    if all(map(str.isdecimal, votes)) and not row.get("image name"):
        return problem(ProblemReason.DROPPED_LABEL, "it has no image name: FERPlus removed it")
    winner = _winner(votes, "", place)
    if isinstance(winner, Problem):
        return winner
    image = parse_pixels(pixels.get("pixels", ""))
    if image is None:
        return problem(ProblemReason.BAD_ROW, "its image has not the grey values it needs", winner)
    return RawRow(f"{split}/row_{index:05d}.png", winner, place, split), image


def _winner(votes: Sequence[str], path: str, place: Place) -> str | Problem:
    if len(votes) != len((*_FACES, *_OTHERS)) or not all(
        vote.isascii() and vote.isdigit() and len(vote) < 10 for vote in votes
    ):
        return Problem(place, path, "", ProblemReason.BAD_ROW, "the votes are not ten whole numbers")
    winner = majority(dict(zip((*_FACES, *_OTHERS), map(int, votes), strict=True)))
    if winner is None:
        return Problem(place, path, "", ProblemReason.NO_MAJORITY, "no class has more than half of the votes")
    if winner in _OTHERS:
        meaning = "no face" if winner == "nf" else "an unknown expression"
        return Problem(place, path, winner, ProblemReason.DROPPED_LABEL, f"the majority voted for {meaning}")
    return winner


class PreparedVotesReader:
    """``FER2013Train/label.csv`` beside its images, as FERPlus's own program writes it: name, box, ten votes."""

    def recognises(self, folder: Path, form: Form, vocabulary: Vocabulary) -> bool:
        """Return whether some part has its table."""
        return any((folder / table).is_file() for table in form.parts)

    def read(self, request: ReadRequest) -> DatasetListing:
        """List every line of the parts' tables as a row or a problem. Raises :class:`ManifestError` without any."""
        if not self.recognises(request.folder, request.form, Vocabulary()):
            raise request.not_there("No table of votes")
        found = Gathering()
        for name, split in request.form.parts.items():
            table = request.folder / name
            for line, cells in csv_rows(read_lines(table), table) if table.is_file() else ():
                path, place = f"{name.rpartition('/')[0]}/{cells[0].strip()}", Place(name, line)
                winner = _winner([cell.strip() for cell in cells[2:]], path, place)
                found.add(RawRow(path, winner, place, split) if isinstance(winner, str) else winner)
        return found.listing(request.folder)


def majority(votes: Mapping[str, int]) -> str | None:
    """Return the class with more than half of the votes, single votes for a class not counted; None without one.

    >>> majority({"fear": 4, "anger": 3, "sadness": 1}), majority({"fear": 5, "anger": 5})
    ('fear', None)
    """
    counted = {name: count for name, count in votes.items() if count >= _LEAST_VOTES}
    winner = max(counted, key=lambda name: counted[name], default=None)
    return winner if winner is not None and 2 * counted[winner] > sum(counted.values()) else None


register_reader("votes", VotesReader())
register_reader("prepared-votes", PreparedVotesReader())
