"""A detector for tests of the landmark stage: no model, any pace, and some images are deadly.

It is registered only on first use, so that the conformance suite never meets it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aupipe.fer_data.au_maps.mean_face import mean_face
from aupipe.fer_data.images import write_png
from aupipe.fer_data.manifest import Manifest, build_manifest, read_manifest
from aupipe.pipeline.detectors import Attempt, Face, detector_names, register_detector
from aupipe.pipeline.landmarks.tasks import LandmarkConfig

KILL, SEGFAULT, EXIT = 250, 251, 252
"""First pixel of an image that ends the process that looks at it: by SIGKILL, by a crash, by a plain exit."""

SIZE = 48


@dataclass(frozen=True)
class SimulatedConfig(LandmarkConfig):
    """Registers the detectors wherever it is unpickled: in every worker process."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        register()
        self.__dict__.update(state)


def simulated_config(part_size: int = 8, seconds: float = 0.0) -> SimulatedConfig:
    """A config of the simulated detector; ``seconds`` is what it takes for an image."""
    register()
    return SimulatedConfig("simulated-slow" if seconds else "simulated", Path(str(seconds)), part_size=part_size)


def simulated_manifest(folder: Path, count: int, special: Mapping[int, int] | None = None) -> Manifest:
    """``count`` small images; ``special`` gives the first pixel's value of some of them."""
    for number in range(count):
        image = np.full((SIZE, SIZE, 3), (special or {}).get(number, number % 200), np.uint8)
        image[1, :2, 0] = divmod(number, 256)  # a manifest takes no photo twice
        write_png(folder / "faces" / "fear" / f"{number:04d}.png", image)
    build_manifest("folder", folder / "faces", folder / "faces.csv")
    return read_manifest(folder / "faces.csv")


def register() -> None:
    """Make the simulated detectors known to this process."""
    for name in {"simulated", "simulated-slow"} - set(detector_names()):
        register_detector(name)(SimulatedDetector)


class SimulatedDetector:
    """The mean face, moved a little by the image's first pixel."""

    ladder = (Attempt(0.0, 0.5),)
    reach = 0.0
    uses_known = False
    packages = ()

    def __init__(self, model: Path | None = None) -> None:
        self.seconds = float(model.name if model else 0)
        self.closed = False

    def identity(self) -> dict[str, Any]:
        return {"detector": "simulated"}

    def detect(self, image: np.ndarray, confidence: float, known: np.ndarray | None = None) -> list[Face]:
        if self.closed:
            raise RuntimeError("a closed detector is used")
        value = int(image[0, 0, 0])
        if value == KILL:
            os.kill(os.getpid(), signal.SIGKILL)
        if value == SEGFAULT:
            ctypes.string_at(0)
        if value == EXIT:
            os._exit(3)
        time.sleep(self.seconds)
        pose = np.full(3, value, np.float32)
        mesh = np.full((478, 3), value, np.float32)
        return [Face(mean_face(SIZE) + value / 255, pose, 1.0, mesh, np.zeros(52, np.float32))]

    def complete(self, image: np.ndarray, face: Face) -> Face:
        return face

    def close(self) -> None:
        self.closed = True
