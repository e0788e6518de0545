"""Making global maps, one a network and expression, or loading those that an earlier call has made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from aupipe.fer_analysis.comparison.canonical import HEIGHT, WIDTH, CanonicalFace
from aupipe.fer_analysis.comparison.classifiers import Classifier
from aupipe.fer_analysis.comparison.explainers import Explainer, Settings, create_explainer, explainer_name
from aupipe.fer_analysis.comparison.global_maps import (
    SELECTIONS,
    GlobalMap,
    choose_rows,
    explain_expression,
    load_map,
    predict,
    save_map,
    save_picture,
)
from aupipe.fer_analysis.comparison.map_files import LeftOut, MapSet, MaskSet
from aupipe.fer_data.errors import UserInputError, paragraph, unknown_name
from aupipe.fer_data.files import digest
from aupipe.fer_data.shards import SplitReader
from aupipe.fer_data.types import Progress

NO_FACE = "no face to explain: none was selected"
FEW = 10
"""Faces below which a mean map says little of the network."""


@dataclass(frozen=True)
class MapOptions:
    """Settings of a comparison of networks; the command's options say what they mean."""

    explainer: str = "lime"
    images: int = 100
    select: str = "correct"
    split: str = "test"
    samples: int = 1000
    seed: int = 0
    shape: str = "own"
    masks: str = "study"
    device: str = "auto"
    batch: int = 64
    resamples: int = 200

    def __post_init__(self) -> None:
        """Check the values. Raises :class:`UserInputError` for one that no comparison can use."""
        object.__setattr__(self, "explainer", explainer_name(self.explainer))
        if self.select not in SELECTIONS:
            raise UserInputError(unknown_name("selection", self.select, list(SELECTIONS)))
        for name, least in (("images", 1), ("samples", 2), ("batch", 1), ("resamples", 0)):
            if getattr(self, name) < least:
                raise UserInputError(paragraph(f"--{name} is too small.", expected=f"{least} or more"))

    @property
    def explainer_words(self) -> str:
        """The explainer and what it draws, in words."""
        samples = f", {self.samples} samples a face" if self.explainer in ("lime", "rise") else ""
        return f"{self.explainer}, seed {self.seed}{samples}"


PERSONS_RESAMPLED = 1
"""Raised where the interval of the IoU changes: a map that is kept has its interval with it."""


class MapMaker:
    """The maker of the global maps of one split, or their reader where they are there.

    Args:
        reader: The faces.
        face: The canonical face that maps are brought to.
        masks: The expressions' masks on it.
        options: How many faces are explained, and how.
        folder: Keeps the maps.
        progress: Told of each face.
    """

    def __init__(
        self,
        reader: SplitReader,
        face: CanonicalFace,
        masks: MaskSet,
        options: MapOptions,
        folder: Path,
        progress: Progress,
    ) -> None:
        self.reader, self.face, self.masks, self.options = reader, face, masks, options
        self.folder, self.progress = folder, progress
        settings = Settings(options.samples, options.batch, options.seed)
        self.explainer: Explainer = create_explainer(options.explainer, settings)
        self._predicted: tuple[str, np.ndarray] = ("", np.zeros(0, np.int64))

    def make(self, classifier: Classifier, expression: str) -> GlobalMap | str:
        """Make or load the map; where there is no face to explain, say so."""
        name = f"{classifier.name}_{expression}"
        mask = self.masks.masks[self.masks.expressions.index(expression)]
        # A map does not depend on the mask, but for the interval of its IoU.
        without = ("device", "batch") if self.options.resamples else ("device", "batch", "masks")
        settings = {key: value for key, value in asdict(self.options).items() if key not in without}
        measured = [PERSONS_RESAMPLED, np.packbits(mask).tolist()] if self.options.resamples else []
        version = [self.explainer.version] if self.explainer.version > 1 else []
        key = digest([classifier.identity, self.reader.store.index.digest, settings, measured, *version])
        if (kept := load_map(self.folder, name, key)) is not None:
            save_picture(self.folder, name, kept)
            return kept
        target = self.reader.store.index.classes.index(expression)
        options = self.options
        rows, available = choose_rows(
            self.reader, self._predictions(classifier), target, options.select, options.images, options.seed
        )
        if not rows:
            for ending in (".png", ".npz"):  # of an earlier choice of faces
                (self.folder / f"{name}{ending}").unlink(missing_ok=True)
            return NO_FACE
        self.progress.start(f"{name}: {options.explainer}", len(rows), "faces")
        made = explain_expression(
            classifier,
            self.explainer,
            self.reader,
            rows,
            available,
            target,
            self.face,
            mask,
            options.resamples,
            self.progress,
        )
        self.progress.finish()
        save_map(self.folder, name, made, key)
        return made

    def _predictions(self, classifier: Classifier) -> np.ndarray:
        if self.options.select == "labelled":
            return self.reader.labels.astype(np.int64)  # whatever is predicted
        if self._predicted[0] != classifier.name:
            self._predicted = classifier.name, predict(classifier, self.reader, self.progress, self.options.batch)
        return self._predicted[1]


def map_set(
    networks: Sequence[str],
    names: Sequence[str],
    found: Mapping[tuple[str, str], GlobalMap | str],
    classes: Sequence[str],
) -> MapSet:
    """Gather the maps that were made.

    Args:
        networks: Names of the networks.
        names: Expressions that have a mask.
        found: The map of each, or why there is none.
        classes: All expressions of the store.

    Raises:
        UserInputError: There is no map at all.
    """
    maps = np.zeros((len(networks), len(names), HEIGHT, WIDTH), np.uint8)
    present, support = np.zeros(maps.shape[:2], bool), np.zeros(maps.shape, np.float32)
    left_out = [LeftOut("all networks", one, "no mask") for one in classes if one not in names]
    for (network, name), made in found.items():
        at = networks.index(network), names.index(name)
        if not isinstance(made, GlobalMap):
            left_out.append(LeftOut(network, name, made))
        elif made.picture.max() == made.picture.min():
            left_out.append(LeftOut(network, name, "the same value everywhere"))
        else:
            maps[at], present[at], support[at] = made.picture, True, made.n / max(made.used, 1)
    if not present.any():
        raise UserInputError(
            paragraph(
                "No network has a map for any expression.",
                got="; ".join(f"{one.what}, {one.expression}: {one.reason}" for one in left_out[:4]),
                fix="Try --select labelled, or another --split.",
            )
        )
    return MapSet(tuple(networks), tuple(names), maps, present, tuple(left_out), support)


def few_faces(found: Mapping[tuple[str, str], GlobalMap | str], select: str) -> tuple[str, ...]:
    """Note which maps stand on few faces because the network is seldom right, and what to do."""
    few = [" ".join(key) for key, made in found.items() if not isinstance(made, GlobalMap) or made.available < FEW]
    if select != "correct" or not few:
        return ()
    some = ", ".join(few[:3]) + (f" and {len(few) - 3} more" if len(few) > 3 else "")
    return (
        f"fewer than {FEW} rightly predicted faces: {some}; --select labelled explains every face of the expression",
    )
