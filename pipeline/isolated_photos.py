"""Photos prepared in a process of its own: one that ends the detector costs itself alone."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Float64, UInt8

from aupipe.fer_data.files import canonical_json
from aupipe.fer_data.preparation import AlignedFace, MissedFace, Preparation
from aupipe.fer_data.processes import Death, die_silently
from aupipe.fer_data.types import Box, Reason
from aupipe.pipeline.isolation import Isolated
from aupipe.pipeline.photos import ALL, PhotoPreparer

Photo = tuple[UInt8[np.ndarray, "h w 3"], Box | None, Float64[np.ndarray, "68 2"] | None]
Found = tuple[AlignedFace | MissedFace, ...]


class IsolatedPreparer:
    """A :class:`PhotoPreparer` whose detector works in another process; of the same options, notes and results.

    A detector that somebody registered by a script of their own is not known to another process: it works in this one.
    """

    def __init__(
        self, preparation: Preparation, *, detector: str | None = None, model: Path | None = None, faces: str = ALL
    ) -> None:
        self._here = PhotoPreparer(preparation, detector=detector, model=model, faces=faces)
        self.notes = self._here.notes
        task = _Preparing(canonical_json(preparation.as_json()), detector, model, faces)
        self._there: Isolated[Photo, Found] = Isolated(task, import_main=False)
        self._ours = type(self._here.detector).__module__.startswith("aupipe.")

    def __call__(
        self, image: UInt8[np.ndarray, "h w 3"], box: Box | None, known: Float64[np.ndarray, "68 2"] | None
    ) -> Found:
        """Find faces; see :class:`aupipe.fer_data.preparation.FaceFinder`."""
        if not self._ours:
            return self._here(image, box, known)
        found = self._there((image, box, known))
        return (MissedFace(Reason.WORKER_DIED, str(found)),) if isinstance(found, Death) else found

    def close(self) -> None:
        """End the process and free the detectors."""
        self._there.close()
        self._here.close()


@dataclass(frozen=True)
class _Preparing:
    """The other process's task; the preparation as JSON, because it tells one preparer from another."""

    preparation: str
    detector: str | None
    model: Path | None
    faces: str

    def __call__(self, photo: Photo | None, tell: object) -> Found:
        if photo is None:
            die_silently()
        preparer = _shared_preparer(self)
        return () if photo is None else preparer(*photo)


@lru_cache(maxsize=1)
def _shared_preparer(task: _Preparing) -> PhotoPreparer:
    preparation = Preparation(**json.loads(task.preparation))
    return PhotoPreparer(preparation, detector=task.detector, model=task.model, faces=task.faces)
