"""Photos are prepared as the store's were: the very same crop, so the very same logits."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from aupipe.fer_analysis.explain import OpenRun
from aupipe.fer_data.files import canonical_json
from aupipe.fer_data.images import read_image
from aupipe.fer_data.loading.loader import TripletLoader
from aupipe.fer_data.preparation import AlignedFace, MissedFace, Preparation
from aupipe.fer_data.shards import Store, open_store
from aupipe.fer_data.types import Reason
from aupipe.pipeline.photos import PhotoPreparer
from explain_runs import Trained


def test_a_test_samples_photo_gives_the_evaluations_logits(
    trained: Trained, opened: OpenRun, preparer: PhotoPreparer
) -> None:
    store = open_store(trained.built.store)
    reader, samples = store.split("test"), {s.sample_id: s for s in trained.built.dataset.manifest.samples}
    loader = TripletLoader(reader, 4, opened.crop, mode="none")
    with contextlib.closing(loader.epoch(0)) as batches, torch.no_grad():
        evaluated = torch.cat([opened.model.read(batch.image).logits for batch in batches]).numpy()
    assert len(evaluated) >= 6
    for row in range(0, len(evaluated), 2):
        path = trained.built.dataset.root / samples[reader.sample_ids[row]].path
        (face,) = preparer(read_image(path), None, None)
        assert isinstance(face, AlignedFace)
        assert np.array_equal(face.image, reader.image(row))
        assert np.array_equal(face.landmarks, reader.landmarks[row])
        (reading,) = opened.predict([face])
        assert reading.logits == pytest.approx(evaluated[row], abs=1e-5)


def test_the_run_remembers_what_the_store_says(trained: Trained, opened: OpenRun, preparer: PhotoPreparer) -> None:
    index = open_store(trained.built.store).index
    assert canonical_json(opened.preparation.as_json()) == canonical_json(Preparation.of_store(index).as_json())
    assert opened.preparation.crop["crop"] == index.config["crop"]
    assert opened.preparation.landmarks["detector"] == "mediapipe" and preparer.notes == ()


def test_other_ways_of_finding_faces_are_told(opened: OpenRun) -> None:
    stated = opened.preparation
    older = replace(stated, landmarks={**stated.landmarks, "mediapipe": "0.1", "part_size": 3, "faces": "central"})
    made = PhotoPreparer(older)
    assert len(made.notes) == 1 and 'mediapipe "0.1" there' in made.notes[0]
    assert "part_size" not in made.notes[0] and "central" not in made.notes[0]
    shipped = PhotoPreparer(replace(stated, landmarks={"detector": "dataset"}))
    assert "came with its dataset" in shipped.notes[0]
    assert "does not say" in PhotoPreparer(replace(stated, landmarks={})).notes[0]


def test_points_that_come_with_a_photo_are_used_only_by_their_detector(trained: Trained, opened: OpenRun) -> None:
    photo = read_image(trained.built.dataset.root / "test" / "anger" / "anger0.png")
    known = np.asarray(open_store(trained.built.store).split("test").landmarks[0], np.float64) * 2
    made = PhotoPreparer(replace(opened.preparation, landmarks={"detector": "dataset"}))
    (given,) = made(photo, None, known)
    (found,) = made(photo, None, None)
    made.close()
    assert isinstance(given, AlignedFace) and isinstance(found, AlignedFace)
    assert given.points == pytest.approx(known, abs=1e-4) and found.points != pytest.approx(known, abs=0.5)


def test_a_jpeg_stores_crop_went_through_jpeg(opened: OpenRun, trained: Trained, preparer: PhotoPreparer) -> None:
    photo = read_image(trained.built.dataset.root / "test" / "anger" / "anger0.png")
    jpeg = replace(opened.preparation, crop={**opened.preparation.crop, "encoding": "jpeg", "jpeg_quality": 30})
    (raw,) = preparer(photo, None, None)
    made = PhotoPreparer(jpeg)
    (coded,) = made(photo, None, None)
    made.close()
    assert isinstance(raw, AlignedFace) and isinstance(coded, AlignedFace)
    difference = np.abs(raw.image.astype(int) - coded.image).mean()
    assert 0.5 < difference < 10


def test_what_shows_no_face_is_missed_with_a_reason(preparer: PhotoPreparer) -> None:
    assert preparer(np.full((64, 64, 3), 90, np.uint8), None, None) == (MissedFace(Reason.NO_FACE),)


def test_every_face_the_largest_first(trained: Trained, preparer: PhotoPreparer) -> None:
    face = read_image(trained.built.dataset.root / "test" / "anger" / "anger0.png")
    photo = np.full((256, 400, 3), 127, np.uint8)
    photo[64:192, 8:136] = face
    photo[20:236, 170:386] = cv2.resize(face, (216, 216))
    first, second = preparer(photo, None, None)
    assert isinstance(first, AlignedFace) and isinstance(second, AlignedFace)
    assert first.points[:, 0].min() > 170 and second.points[:, 0].max() < 140
    assert np.ptp(first.points[:, 1]) > 1.4 * np.ptp(second.points[:, 1])
    largest = PhotoPreparer(preparer.preparation, faces="largest")
    (only,) = largest(photo, None, None)
    largest.close()
    assert isinstance(only, AlignedFace) and np.array_equal(only.points, first.points)


def test_a_store_that_says_nothing_is_prepared_as_usual(store: Store) -> None:
    silent = Preparation.of_store(store.index)
    assert silent.crop == {} and silent.landmarks == {} and silent.image_size == store.index.image_size
