"""What the report of a build says beside its counts: where splits came from, and what is likely to disappoint later."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set

from aupipe.fer_data.manifest.labels import Vocabulary, canonical_label
from aupipe.fer_data.manifest.persons import persons_in_names
from aupipe.fer_data.manifest.problems import Problem, ProblemReason
from aupipe.fer_data.manifest.split import assign_splits
from aupipe.fer_data.types import SPLITS, Sample

_FAULTS = (ProblemReason.MISSING_FILE, ProblemReason.UNKNOWN_LABEL, ProblemReason.BAD_ROW)
_MOST_NAMED = 5


def split_notes(given: Set[str], cut: Set[str]) -> Iterator[str]:
    """Say which splits the dataset names (``given``, with the empty one) and which were ``cut`` from it."""
    made = " and ".join({"test": "test", "val": "validation"}[split] for split in ("test", "val") if split in cut)
    if given == {""}:
        yield f"the dataset names no splits: {f'{made} samples were cut from it' if made else 'all samples are train'}"
    elif "val" not in given and "val" in cut:
        yield "the dataset has no validation split: it was cut from train"
    if "train" not in given | cut:
        yield f"there is no training split: what can be used is {' and '.join(sorted(given - {''}))} alone"
    if "test" not in given | cut:
        yield "there is no test split"


def person_notes(samples: Sequence[Sample]) -> Iterator[str]:
    """Say that persons are unknown, and how to give them."""
    unknown = sum(not sample.subject for sample in samples)
    if unknown == len(samples):
        found = persons_in_names(samples)
        way = found.advice() if found is not None else "give them with --subject PATTERN or a column `subject`"
        yield f"persons are unknown, so photos of one person may be in several splits: {way}"
    elif unknown:
        yield f"the person of {unknown} of {len(samples)} samples is unknown"


def own_class_notes(samples: Sequence[Sample]) -> Iterator[str]:
    """Name the classes that are no known expression."""
    own = Counter(sample.label for sample in samples if canonical_label(sample.label) is None)
    if own:
        names = ", ".join(f"{label} {count}" for label, count in sorted(own.items()))
        yield (
            f"classes of your own, no known expressions: {names}. Without action units in the codebook they are "
            "trained without a map; --alias NAME=LABEL makes them another class, NAME=drop leaves them out"
        )


def label_warnings(problems: Sequence[Problem], vocabulary: Vocabulary) -> Iterator[str]:
    """Name the labels that nothing is known of, each with a guess and what to type."""
    unknown = Counter(p.source_label for p in problems if p.reason is ProblemReason.UNKNOWN_LABEL)
    for label, count in unknown.most_common(_MOST_NAMED):
        guess = vocabulary.guess(label)
        meaning = (vocabulary.canonical(guess) if guess else None) or "LABEL"
        option = f"--alias {shlex.quote(f'{label}={meaning}')}"
        asked = f"did you mean {guess}? Then add {option}" if guess else f"give it a meaning with {option}"
        yield f"the label {label!r} is not known, {count} rows were left out: {asked}"
    if len(unknown) > _MOST_NAMED:
        yield f"{len(unknown) - _MOST_NAMED} more labels are not known; see the problems file"


def class_warnings(samples: Sequence[Sample]) -> Iterator[str]:
    """Warn of too few classes, of classes of one image, and of splits that lack a class."""
    counts = Counter(sample.label for sample in samples)
    if len(counts) < 2:
        yield f"there is a single class, {next(iter(counts))}: nothing can be trained on it"
    for label in sorted(label for label, count in counts.items() if count == 1):
        word = next(sample.source_label for sample in samples if sample.label == label)
        drop = shlex.quote(f"{word}=drop")
        yield f"{label} has a single image, which is in one split only: add some, or leave it out: --alias {drop}"
    here = {(sample.split, sample.label) for sample in samples}
    splits = [split for split in SPLITS if any(pair[0] == split for pair in here)]
    for split in splits if len(counts) > 1 else ():
        lacking = sorted(label for label, count in counts.items() if count > 1 and (split, label) not in here)
        if lacking:
            what = "nothing to learn it from" if split == "train" else f"figures of {split} say nothing of it"
            yield f"{split} has no image of {' or '.join(lacking)}: {what}"


def validation_warnings(
    samples: Sequence[Sample], given: Sequence[Sample], seed: int, test_fraction: float
) -> Iterator[str]:
    """Warn where no validation split could be cut, with the share that would; ``given``: before any cut."""
    if any(sample.split == "val" for sample in samples):
        return
    for tenths in range(1, 6):
        cut = assign_splits(given, seed=seed, val_fraction=tenths / 10, test_fraction=test_fraction)
        if {"train", "val"} <= {sample.split for sample in cut}:
            way = f"--val-fraction {tenths / 10} cuts one"
            break
    else:
        way = "there are too few images, or persons, to cut one: add some"
    if not any(sample.split == "train" for sample in samples):
        way = "it is cut from the training split, which has no image"
    yield f"there is no validation split, and `aupipe train` needs one to choose the best epoch: {way}"


def lost_classes(problems: Sequence[Problem], samples: Sequence[Sample], vocabulary: Vocabulary) -> tuple[str, ...]:
    """Name the classes of which everything was left out for a fault: unknown label, missing files, bad rows.

    A label counts as a class when it has more than one row and at least one in a hundred.
    """
    kept = {sample.source_label for sample in samples} | {sample.label for sample in samples}
    faults = (*_FAULTS, ProblemReason.NOT_AN_IMAGE_NAME)
    faulty = Counter(p.source_label for p in problems if p.reason in faults and p.source_label)
    least = max(2, (len(samples) + len(problems)) / 100)
    lost = [label for label, n in faulty.items() if n >= least and not {label, vocabulary.canonical(label)} & kept]
    return tuple(sorted(lost))


def faulty_rows(problems: Mapping[str, int]) -> int:
    """Count the rows left out for a fault, not on purpose and not as duplicates."""
    return sum(problems.get(reason.value, 0) for reason in _FAULTS)
