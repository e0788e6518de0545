"""How far apart a codebook keeps expressions, and how near its maps come to the AUs that people coded.

    python benchmarks/codebooks.py [BOOK ...]
    python benchmarks/codebooks.py [BOOK ...] --store STORE --codes facs.csv [--regions]

``apart``: cosine between the maps of two of the six basic expressions on the mean face, mean over the 15 pairs and the
nearest pair; lower keeps them further apart.

With a store of faces whose action units people coded (``facs.csv``: ``sequence,subject,emotion,aus`` as CK+ has them;
the sample id ends in ``SEQUENCE_FRAME``, and a sequence's last frame counts), ``coded``: cosine of the map of a face's
expression with the map of the AUs that were coded on that very face, both drawn by the same codebook; mean over faces,
with a 95 % interval from resampling persons. All books are measured on the same faces, those of the six basic
expressions. ``than``: the difference to the first book, face by face, with its interval. Then what comes for free:
``mean`` of all expressions' maps, ``even``, and ``wrong``, another expression's map. ``shown``: the share of the book's
AUs (by weight) that were coded.

``ckplus*`` is the built-in ``ckplus`` made as that book was made, for each person from the other persons alone: its
figure is the honest one.

``--regions``: whether an AU can be told from the pixels under its region alone: area under the curve of a ridge
regression on the crop multiplied by the region, persons left out; beside it the 95 % interval of the difference to the
first book. It compares places of one AU, and says nothing about one place. Books that draw AUs alike share a column.
"""

from __future__ import annotations

import argparse
import csv
import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, Float

from aupipe.fer_data.au_maps.codebook import Codebook, builtin_codebooks, codebook_from_dict, load_codebook
from aupipe.fer_data.au_maps.codebook_check import cosine
from aupipe.fer_data.au_maps.heatmaps import render_aus, render_maps
from aupipe.fer_data.au_maps.mean_face import mean_face
from aupipe.fer_data.shards.reader import open_store
from aupipe.fer_models.metrics.within_class import area_under_curve

BASIC = ("anger", "disgust", "fear", "happiness", "sadness", "surprise")
SIZE = 64
RARE = 0.10
"""Share of an expression's faces below which an AU is left out of a codebook of frequencies."""

LEAST = 8
"""Faces with an AU, and without it, that a region is judged by."""

FOLDS, RIDGE, DRAWS = 10, 0.1, 2000


@dataclass(frozen=True)
class Face:
    """A person's face at its peak: expression, coded AUs, 68 points and grey values in a crop of ``size``."""

    person: str
    expression: str
    aus: frozenset[int]
    points: Float[np.ndarray, "68 2"]
    grey: Float[np.ndarray, "64 64"]
    size: int


def read_faces(store: Path, codes: Path) -> list[Face]:
    """Read the last frame of every sequence of a basic expression that has codes."""
    opened = open_store(store)
    with codes.open(encoding="utf-8", newline="") as file:
        coded = {row["sequence"]: row for row in csv.DictReader(file)}
    last: dict[str, tuple[str, Face]] = {}
    for reader in map(opened.split, opened.index.splits):
        for row, sample in enumerate(reader.sample_ids):
            sequence, _, frame = Path(sample).name.rpartition("_")
            expression = opened.index.classes[reader.labels[row]]
            known = sequence in coded and expression in BASIC and reader.has_map[row]
            if known and frame > last.get(sequence, ("", None))[0]:
                grey = cv2.cvtColor(reader.image(row), cv2.COLOR_RGB2GRAY).astype(np.float32)
                entry = coded[sequence]
                # A code such as 1.7, a slip of the source, is no AU.
                aus = frozenset(int(au) for au in entry["aus"].split("+") if au.isdecimal())
                small = cv2.resize(grey, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
                points, size = reader.landmarks[row].astype(np.float64), opened.index.image_size
                last[sequence] = (frame, Face(entry["subject"], expression, aus, points, small, size))
    return [face for _, (_, face) in sorted(last.items())]


# --- codebooks ---


def apart(book: Codebook) -> tuple[float, float, str]:
    """Cosine between the maps of two expressions on the mean face: mean of all pairs, the largest, and whose it is."""
    face, names = mean_face(224), [name for name in BASIC if book.has_map(name)]
    maps = {name: render_aus(face, book.expressions[name], book, 224, SIZE) for name in names}
    pairs = {f"{a}, {b}": cosine(maps[a], maps[b]) for a, b in itertools.combinations(names, 2)}
    nearest = max(pairs, key=lambda pair: pairs[pair])
    return float(np.mean(list(pairs.values()))), pairs[nearest], nearest


def of_frequencies(faces: Iterable[Face]) -> Codebook:
    """Make the codebook of the AUs' frequencies in some faces, with the regions of `default`."""
    shown: dict[str, Counter[int]] = {name: Counter() for name in BASIC}
    count: Counter[str] = Counter()
    default = load_codebook("default")
    for face in faces:
        shown[face.expression].update(face.aus & default.action_units.keys())
        count[face.expression] += 1
    weights = {
        name: {str(au): round(n / count[name], 2) for au, n in aus.items() if n / count[name] >= RARE}
        for name, aus in shown.items()
    }
    return codebook_from_dict({**default.content, "name": "ckplus*", "expressions": weights}, "frequencies")


def of_other_persons(faces: Sequence[Face]) -> dict[str, Codebook]:
    """Make for each person the codebook of frequencies of all others."""
    persons = sorted({face.person for face in faces})
    return {person: of_frequencies(face for face in faces if face.person != person) for person in persons}


# --- the figures ---


def coded_cosines(books: Mapping[str, Codebook], faces: Sequence[Face]) -> dict[str, Float[np.ndarray, "n"]]:
    """Compare every face's maps with that of its coded AUs; ``books``: the codebook of each person."""
    found: dict[str, list[float]] = {name: [] for name in ("coded", "mean", "even", "wrong", "shown")}
    for face in faces:
        book, points = books[face.person], face.points
        described = dict.fromkeys(sorted(face.aus & book.action_units.keys()), 1.0)
        truth = render_aus(points, described, book, face.size, SIZE)
        maps = dict(zip(BASIC, render_maps(np.stack([points] * len(BASIC)), BASIC, book, face.size, SIZE), strict=True))
        cosines = {name: cosine(drawn, truth) for name, drawn in maps.items()}
        weights = book.expressions[face.expression]
        found["coded"].append(cosines[face.expression])
        found["mean"].append(cosine(np.mean(list(maps.values()), axis=0), truth))
        found["even"].append(cosine(np.ones_like(truth), truth))
        found["wrong"].append(float(np.mean([cosines[name] for name in BASIC if name != face.expression])))
        found["shown"].append(sum(w for au, w in weights.items() if au in face.aus) / sum(weights.values()))
    return {name: np.array(values) for name, values in found.items()}


def interval(values: Float[np.ndarray, "n"], persons: Sequence[str]) -> tuple[float, float]:
    """95 % of the means over faces when persons are drawn anew, with replacement."""
    names, row = np.unique(persons, return_inverse=True)
    total, count = np.bincount(row, values), np.bincount(row)
    drawn = np.random.default_rng(0).integers(0, len(names), (DRAWS, len(names)))
    low, high = np.percentile(total[drawn].sum(1) / count[drawn].sum(1), [2.5, 97.5])
    return float(low), float(high)


def region_scores(book: Codebook, au: int, faces: Sequence[Face]) -> Float[np.ndarray, "n"]:
    """Score every face for an AU by the pixels under its region, with what the faces of other persons teach."""
    seen = []
    for face in faces:
        region = render_aus(face.points, {au: 1.0}, book, face.size, SIZE)
        level = float((face.grey * region).sum() / region.sum())
        patch = (face.grey - level) * region
        seen.append((patch / max(float(np.linalg.norm(patch)), 1e-6)).ravel())
    x, y = np.stack(seen), np.array([au in face.aus for face in faces])
    fold = np.unique([face.person for face in faces], return_inverse=True)[1] % FOLDS
    scores, kernel = np.zeros(len(y)), x @ x.T
    for number in range(FOLDS):
        test = fold == number
        train = ~test
        own, middle = kernel[:, train].mean(1), kernel[train][:, train].mean()
        centred = kernel - own[:, None] - own + middle
        solved = np.linalg.solve(centred[train][:, train] + RIDGE * np.eye(train.sum()), y[train] - y[train].mean())
        scores[test] = centred[test][:, train] @ solved
    return scores


def auc_difference(
    first: Float[np.ndarray, "n"],
    other: Float[np.ndarray, "n"],
    positive: Bool[np.ndarray, "n"],
    persons: Sequence[str],
) -> tuple[float, float]:
    """95 % of the differences between two areas under the curve when persons are drawn anew, with replacement."""
    names, row = np.unique(persons, return_inverse=True)
    members = [np.flatnonzero(row == number) for number in range(len(names))]
    rng, found = np.random.default_rng(0), []
    for _ in range(DRAWS // 4):
        rows = np.concatenate([members[number] for number in rng.integers(0, len(names), len(names))])
        if 0 < positive[rows].sum() < len(rows):
            one, two = (area_under_curve(scores[rows], positive[rows]) for scores in (first, other))
            found.append(two - one)
    low, high = np.percentile(found, [2.5, 97.5])
    return float(low), float(high)


# --- tables ---


def print_apart(books: Sequence[Codebook]) -> None:
    """Print how far each book keeps the expressions apart."""
    print(f"{'':<14}{'apart':>8}{'nearest pair':>15}")
    for book in books:
        mean, most, pair = apart(book)
        print(f"{book.name:<14}{mean:>8.3f}{most:>9.3f}  {pair}")


def print_coded(books: Sequence[Codebook], faces: Sequence[Face]) -> None:
    """Print how near each book comes to the coded AUs, the one of other persons' frequencies last."""
    persons = [face.person for face in faces]
    rows = [(book.name, dict.fromkeys(persons, book)) for book in books] + [("ckplus*", of_other_persons(faces))]
    print(f"\n{len(faces)} faces of {len(set(persons))} persons, cosine with the map of their coded AUs")
    print(f"{'':<14}{'coded':>7}{'95 % by person':>18}{f'than {books[0].name}':>28}", end="")
    print("".join(f"{name:>8}" for name in ("mean", "even", "wrong", "shown", *(name[:7] for name in BASIC))))
    first = None
    for name, own in rows:
        found = coded_cosines(own, faces)
        values = found.pop("coded")
        first = values if first is None else first
        each = [values[[face.expression == expression for face in faces]].mean() for expression in BASIC]
        low, high = interval(values, persons)
        down, up = interval(values - first, persons)
        paired = f"{(values - first).mean():+.3f} ({down:+.3f} to {up:+.3f})"
        print(f"{name:<14}{values.mean():>7.3f}{f'{low:.3f} to {high:.3f}':>18}{paired:>28}", end="")
        print("".join(f"{value:>8.3f}" for value in (*(column.mean() for column in found.values()), *each)))


def print_regions(books: Sequence[Codebook], faces: Sequence[Face]) -> None:
    """Print for each AU how well it can be told from the pixels under its region."""
    books = list({str(book.action_units): book for book in reversed(books)}.values())[::-1]
    count = Counter(au for face in faces for au in face.aus & books[0].action_units.keys())
    print("\narea under the curve of an AU from the pixels under its region")
    print(f"{'AU (faces)':<14}" + "".join(f"{book.name:>26}" for book in books))
    for au in sorted(au for au in count if LEAST <= count[au] <= len(faces) - LEAST):
        shown = np.array([au in face.aus for face in faces])
        scores = [region_scores(book, au, faces) for book in books if au in book.action_units]
        drawn = [auc_difference(scores[0], other, shown, [face.person for face in faces]) for other in scores[1:]]
        cells = ["", *(f" ({low:+.3f} to {high:+.3f})" for low, high in drawn)]
        values = [f"{area_under_curve(own, shown):.3f}{cell}" for own, cell in zip(scores, cells, strict=True)]
        print(f"{f'{au} ({count[au]})':<14}" + "".join(f"{value:>26}" for value in values))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("books", nargs="*", help="Built-in codebooks or TOML files; by default all that are built in.")
    parser.add_argument("--store", type=Path)
    parser.add_argument("--codes", type=Path)
    parser.add_argument("--regions", action="store_true")
    options = parser.parse_args()
    books = [load_codebook(name) for name in options.books or builtin_codebooks()]
    print_apart(books)
    if options.store and options.codes:
        faces = read_faces(options.store, options.codes)
        print_coded(books, faces)
        if options.regions:
            print_regions(books, faces)


if __name__ == "__main__":
    main()
