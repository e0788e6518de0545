"""Thousands of damaged manifests, read in this process: a manifest or one paragraph, whatever is in the file."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random

import cv2
import numpy as np
import pytest

from aupipe.fer_data.errors import ManifestError
from aupipe.fer_data.manifest import check_manifest, read_manifest, write_manifest
from aupipe.fer_data.types import Box, Sample
from fuzz.mutations import CSV, changed_by

COUNT = 5_000


@pytest.mark.slow
def test_five_thousand_damaged_manifests(tmp_path: Path) -> None:
    for number in range(4):
        assert cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((8, 8), number, np.uint8))
    samples = [
        Sample(f"s{n}", f"{n}.png", "anger", "Anger", ("train", "test")[n % 2], f"p{n}", Box(0, 0.5, 7, 8))
        for n in range(4)
    ]
    path = tmp_path / "m.csv"
    write_manifest(path, samples, root=tmp_path, layout="csv")
    sound, twin = path.read_bytes(), path.read_bytes().replace(b"anger", b"fear")
    whole, names, counts = read_manifest(path), list(CSV), Counter[str]()
    for number in range(COUNT):
        name, seed = names[number % len(names)], str(number)
        path.write_bytes(changed_by(CSV[name], sound, Random(seed), twin))
        try:
            manifest = read_manifest(path)
            counts["read"] += 1
            assert manifest.samples != whole.samples or manifest.digest != whole.digest
        except ManifestError as error:
            counts["refused"] += 1
            assert len(str(error).splitlines()) == 1 and "Where: " in str(error), (name, seed, str(error))
        except Exception as error:
            raise AssertionError(f"mutation {name!r}, seed {seed!r}") from error
        report = check_manifest(path)
        assert report.findings, (name, seed)
    assert counts["read"] > 500 and counts["refused"] > 2_000, counts
