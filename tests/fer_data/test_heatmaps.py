from __future__ import annotations

import csv
import itertools
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aupipe.fer_data import geometry
from aupipe.fer_data.au_maps.codebook import builtin_codebooks, load_codebook, parse_codebook
from aupipe.fer_data.au_maps.heatmaps import render_aus, render_faces, render_maps
from aupipe.fer_data.au_maps.mean_face import mean_face
from aupipe.fer_data.au_maps.resizing import area_matrix, bilinear_matrix
from aupipe.fer_data.au_maps.shapes.ellipse import Ellipse
from aupipe.fer_data.au_maps.shapes.gaussian import yaw_from_points
from aupipe.fer_data.errors import UserInputError

SIZE, MAP = 256, 64
DEFAULT, REFERENCE = load_codebook("default"), load_codebook("reference")
MAPPED = DEFAULT.mapped_expressions()
BOOKS = {name: load_codebook(name) for name in builtin_codebooks()}
Case = tuple[str, str]
CASES = [(name, expression) for name, book in BOOKS.items() for expression in book.mapped_expressions()]
"""Every expression of every built-in codebook, as (codebook, expression)."""

gaussian_cases = st.sampled_from([case for case in CASES if BOOKS[case[0]].kind == "gaussian"])
seeds = st.integers(0, 2**32 - 1)


def jittered(seed: int, size: int = SIZE, amount: float = 0.008) -> np.ndarray:
    """A face of its own: the mean face with every point moved by some pixels."""
    return mean_face(size) + np.random.default_rng(seed).normal(0, amount * size, (68, 2))


def turned(points: np.ndarray, angle: float, scale: float, shift: tuple[float, float]) -> np.ndarray:
    middle = np.array([(SIZE - 1) / 2, (SIZE - 1) / 2])
    return geometry.apply_affine(geometry.similarity(-angle, scale, middle, middle + shift), points)


def upright(seed: int) -> np.ndarray:
    """A face of its own, its eyes level."""
    points, middle = jittered(seed), np.array([(SIZE - 1) / 2, (SIZE - 1) / 2])
    return geometry.apply_affine(geometry.similarity(float(geometry.roll(points)), 1, middle, middle), points)


def draw(points: np.ndarray, case: Case | str, size: int = SIZE, map_size: int = MAP) -> np.ndarray:
    """The map of a (codebook, expression), or of an expression of the default codebook."""
    book, expression = ("default", case) if isinstance(case, str) else case
    return render_maps(points[None], [expression], BOOKS[book], size, map_size)[0]


# --- properties of the drawing of Gaussians, for every codebook that has them ---


@given(seeds, gaussian_cases, st.floats(-0.6, 0.6))
@settings(max_examples=60, deadline=None)
def test_the_map_of_a_mirrored_face_is_the_mirrored_map(seed: int, case: Case, angle: float) -> None:
    points = turned(jittered(seed), angle, 0.8, (5, -3))
    mirrored = draw(geometry.flip_points(points, SIZE), case)
    np.testing.assert_allclose(mirrored, draw(points, case)[:, ::-1], atol=2e-6)


@given(seeds, gaussian_cases, st.integers(-8, 8), st.integers(-8, 8))
@settings(max_examples=40, deadline=None)
def test_a_shift_by_whole_map_pixels_shifts_the_map(seed: int, case: Case, right: int, down: int) -> None:
    points, step = turned(jittered(seed), 0.2, 0.6, (0, 0)), SIZE // MAP
    still, moved = draw(points, case), draw(points + np.array([right, down]) * step, case)
    inner = slice(8, MAP - 8)
    there = np.roll(still, (down, right), (0, 1))
    np.testing.assert_allclose(moved[inner, inner], there[inner, inner], atol=2e-6)


@given(seeds, gaussian_cases, st.sampled_from([1, 2, 3]))
@settings(max_examples=40, deadline=None)
def test_a_quarter_turn_turns_the_map(seed: int, case: Case, quarters: int) -> None:
    points = turned(jittered(seed), 0, 0.8, (0, 0))
    rolled = turned(points, -quarters * np.pi / 2, 1, (0, 0))
    np.testing.assert_allclose(draw(rolled, case), np.rot90(draw(points, case), quarters), atol=2e-6)


@given(seeds, gaussian_cases, st.sampled_from([2, 3, 0.5]))
@settings(max_examples=40, deadline=None)
def test_the_map_does_not_depend_on_the_size_of_the_image(seed: int, case: Case, factor: float) -> None:
    points = jittered(seed)
    resized = geometry.rescale_points(points, factor)
    np.testing.assert_allclose(draw(resized, case, int(SIZE * factor)), draw(points, case), atol=2e-6)


@given(seeds, gaussian_cases, st.floats(-np.pi, np.pi), st.floats(0.55, 1.0), st.floats(-12, 12), st.floats(-12, 12))
@settings(max_examples=30, deadline=None)
def test_any_roll_scale_and_shift_moves_the_map_along(
    seed: int, case: Case, angle: float, scale: float, right: float, down: float
) -> None:
    """Compared by warping a finely drawn map; the tolerance allows bilinear reading across the seams of the maximum."""
    points, fine = turned(jittered(seed), 0, 0.72, (0, 0)), SIZE
    middle = np.array([(SIZE - 1) / 2, (SIZE - 1) / 2])
    matrix = geometry.similarity(angle, scale, middle, middle + np.array([right, down]))
    drawn = draw(geometry.apply_affine(matrix, points), case, SIZE, fine)
    source = draw(points, case, SIZE, fine)
    warped = cv2.warpAffine(source, matrix, (fine, fine), flags=cv2.INTER_LINEAR)
    assert np.abs(drawn - warped).max() < 0.05
    assert np.abs(drawn - np.roll(warped, 2, 0)).max() > 0.05  # tight enough to see two pixels of 256


@given(seeds, st.sampled_from(CASES), st.floats(-3.2, 3.2), st.floats(0.2, 1.0), st.integers(16, 96))
@settings(max_examples=60, deadline=None)
def test_maps_fill_the_unit_range(seed: int, case: Case, angle: float, scale: float, map_size: int) -> None:
    drawn = draw(turned(jittered(seed), angle, scale, (0, 0)), case, SIZE, map_size)
    assert drawn.dtype == np.float32 and drawn.shape == (map_size, map_size)
    assert np.isfinite(drawn).all() and drawn.min() >= 0
    if scale * map_size >= 20:  # below, a Gaussian is thinner than a map pixel
        assert drawn.max() == 1
        assert drawn.min() < 0.05


@given(seeds, st.sampled_from([16, 64, 200]))
@settings(max_examples=20, deadline=None)
def test_a_map_does_not_depend_on_the_faces_drawn_with_it(seed: int, map_size: int) -> None:
    """Faces of any pose, some with a hidden half, some partly outside, in books of either kind."""
    rng = np.random.default_rng(seed)
    for book in BOOKS.values():
        names = [str(name) for name in rng.choice(list(book.expressions), 12)]
        points = np.stack(
            [
                turned(jittered(int(rng.integers(2**32))), *rng.uniform([-3, 0.3], [3, 1.3]), rng.uniform(-90, 90, 2))
                for _ in names
            ]
        )
        points[:4] = [yawed(degrees) for degrees in (-85, -60, 60, 85)]
        together = render_maps(points, names, book, SIZE, map_size)
        alone = [
            render_maps(face[None], [name], book, SIZE, map_size)[0] for face, name in zip(points, names, strict=True)
        ]
        np.testing.assert_allclose(together, np.stack(alone), atol=2e-6)


@given(seeds, gaussian_cases)
@settings(max_examples=40, deadline=None)
def test_every_au_of_an_expression_reaches_its_weight_where_it_acts(seed: int, case: Case) -> None:
    points = upright(seed)
    drawn, centres = draw(points, case, SIZE, SIZE), stated_centres(points)
    for au, weight in BOOKS[case[0]].expressions[case[1]].items():
        for x, y in np.rint(centres[au]).astype(int):
            assert drawn[y, x] >= 0.95 * weight, (au, weight)


@given(seeds, gaussian_cases)
@settings(max_examples=40, deadline=None)
def test_the_peak_of_a_map_is_at_one_of_its_strongest_aus(seed: int, case: Case) -> None:
    points, weights = upright(seed), BOOKS[case[0]].expressions[case[1]]
    drawn, centres = draw(points, case, SIZE, SIZE), stated_centres(points)
    (y, x), most = np.unravel_index(drawn.argmax(), drawn.shape), max(weights.values())
    strongest = [centre for au, weight in weights.items() if weight == most for centre in centres[au]]
    assert min(float(np.abs(centre - (x, y)).max()) for centre in strongest) <= 5  # 0.05 d


def test_a_face_out_of_the_frame_gives_no_phantom() -> None:
    assert draw(mean_face(SIZE) + 3 * SIZE, "fear").max() == 0
    assert draw(mean_face(SIZE) + np.array([0, 0.86 * SIZE]), "happiness").max() < 0.5


@pytest.mark.parametrize("codebook", [DEFAULT, REFERENCE])
def test_neutral_has_no_map(codebook: object) -> None:
    assert not render_maps(mean_face(SIZE)[None], ["neutral"], codebook, SIZE, MAP).any()  # type: ignore[arg-type]


def test_an_expression_that_the_codebook_lacks_is_refused() -> None:
    with pytest.raises(UserInputError, match=r"'reference' does not say .* 'contempt'.*Expected: one of anger"):
        render_maps(mean_face(SIZE)[None], ["contempt"], REFERENCE, SIZE, MAP)


def test_expressions_stay_apart() -> None:
    maps = {name: draw(mean_face(SIZE), name) for name in MAPPED if name != "contempt"}
    cosines = {pair: cosine(maps[pair[0]], maps[pair[1]]) for pair in itertools.combinations(maps, 2)}
    for pair, value in cosines.items():
        assert value < (0.92 if set(pair) == {"fear", "surprise"} else 0.87), pair
    assert np.mean(list(cosines.values())) < 0.605


# --- where each action unit acts, written from FACS and the stated landmark geometry, not from the TOML file ---


def stated_centres(p: np.ndarray) -> dict[int, list[np.ndarray]]:
    """Centres on an upright face; ``d`` is the distance of the outer eye corners, y grows downwards."""
    d = float(np.linalg.norm(p[45] - p[36]))

    def mean(*numbers: int) -> np.ndarray:
        return p[list(numbers)].mean(0)

    def pair(left: np.ndarray, right: np.ndarray, out: float = 0, up: float = 0) -> list[np.ndarray]:
        return [left + np.array([-out, -up]) * d, right + np.array([out, -up]) * d]

    eyes = mean(*range(36, 42)), mean(*range(42, 48))
    return {
        1: pair(p[21], p[22], up=0.12),
        2: pair(p[18], p[25], up=0.14),
        4: [*pair(mean(19, 20), mean(23, 24), up=-0.06), mean(21, 22)],
        5: pair(mean(37, 38), mean(43, 44), up=0.05),
        6: pair(p[41], p[46], up=-0.30, out=0.06),
        7: pair(*eyes),
        9: [*pair(p[31], p[35], up=0.22), mean(27, 28)],
        10: pair(p[50], p[52], up=0.05),
        11: pair(mean(31, 48), mean(35, 54)),
        12: pair(p[48], p[54], out=0.046, up=0.046),
        14: pair(p[48], p[54], out=0.09),
        15: pair(p[48], p[54], up=-0.09),
        16: pair(mean(57, 58, 59), mean(55, 56, 57), up=-0.05),
        17: [mean(57, 8)],
        20: pair(p[48], p[54], out=0.11, up=-0.05),
        22: [p[51] + (0, -0.05 * d), p[57] + (0, 0.05 * d)],
        23: [p[51], p[57]],
        24: [mean(62, 66)],
        25: [mean(51, 62), mean(57, 66)],
        26: [p[8] + (0, -0.05 * d), mean(62, 66)],
        27: [mean(48, 51, 54, 57), mean(57, 8)],
        43: pair(*eyes, up=-0.03),
    }


@pytest.mark.parametrize("au", sorted(DEFAULT.action_units))
def test_a_single_au_peaks_where_facs_says(au: int) -> None:
    points = mean_face(SIZE)
    d = float(np.linalg.norm(points[45] - points[36]))
    drawn = render_aus(points, {au: 1.0}, DEFAULT, SIZE, SIZE)
    centres = stated_centres(points)[au]
    for x, y in centres:
        window = drawn[round(y) - 3 : round(y) + 4, round(x) - 3 : round(x) + 4]
        assert window.max() > 0.97, f"AU {au}: nothing at {x:.0f}, {y:.0f}"
    y, x = np.nonzero(drawn > 0.99)
    nearest = np.min([np.hypot(x - cx, y - cy) for cx, cy in centres], axis=0)
    assert nearest.max() < 0.06 * d, f"AU {au}: a peak far from its muscle"
    y, x = np.nonzero(drawn > 0.05)
    nearest = np.min([np.hypot(x - cx, y - cy) for cx, cy in centres], axis=0)
    assert nearest.max() < 0.62 * d, f"AU {au} spills over the face"


def test_contempt_lies_at_the_lip_corners() -> None:
    drawn, points = draw(mean_face(SIZE), "contempt", SIZE, SIZE), mean_face(SIZE)
    for corner in (48, 54):
        x, y = np.rint(points[corner]).astype(int)
        assert drawn[y, x] > 0.6
    middle = points[[51, 57]].mean(0).astype(int)
    assert drawn[middle[1], middle[0]] < 0.4
    assert drawn[: SIZE // 2].max() < 0.1  # nothing at the eyes and brows


def test_aus_are_merged_by_maximum_and_each_reaches_its_weight() -> None:
    points = mean_face(SIZE)
    one, two = (render_aus(points, {au: 1.0}, DEFAULT, SIZE, SIZE) for au in (2, 17))
    both = render_aus(points, {2: 1.0, 17: 1.0}, DEFAULT, SIZE, SIZE)
    np.testing.assert_allclose(both, np.maximum(one, two), atol=5e-3)
    weighted = render_aus(points, {2: 1.0, 17: 0.4}, DEFAULT, SIZE, SIZE)
    x, y = np.rint(points[[8, 57]].mean(0)).astype(int)
    assert weighted[y, x] == pytest.approx(0.4, abs=0.01)
    assert weighted.max() == 1


def test_a_gaussian_may_be_lower_than_the_others_of_its_au() -> None:
    points = mean_face(SIZE)
    d = float(np.linalg.norm(points[45] - points[36]))
    x, y = np.rint(points[[31, 48]].mean(0) - np.array([0, 0.12 * d])).astype(int)
    for weight in (1.0, 0.5):  # of the AU, beside another at its full height
        drawn = render_aus(points, {2: 1.0, 10: weight}, DEFAULT, SIZE, SIZE)
        assert drawn[y, x] == pytest.approx(0.6 * weight, abs=0.03)


# --- yaw ---


def yawed(degrees: float) -> np.ndarray:
    """The mean face with depth, turned to image right by ``degrees`` and projected without perspective."""
    flat = mean_face(SIZE)
    middle = flat[[36, 45]].mean(0)
    half = (flat[45, 0] - flat[36, 0]) / 2
    depth = np.full(68, 0.2)
    depth[:17] = -0.6 * np.abs(np.linspace(-1, 1, 17)) + 0.1
    depth[[36, 45]] = 0
    depth[28] = 0.93  # the bridge stands out by what the renderer assumes
    angle = np.radians(degrees)
    points = flat.copy()
    points[:, 0] = middle[0] + (flat[:, 0] - middle[0]) * np.cos(angle) + depth * half * np.sin(angle)
    return points


@pytest.mark.parametrize("degrees", [-80, -60, -30, 0, 15, 45, 70])
def test_yaw_is_read_from_the_bridge(degrees: float) -> None:
    assert yaw_from_points(yawed(degrees)) == pytest.approx(degrees, abs=0.5)


def halves(points: np.ndarray) -> tuple[float, float]:
    """Peak of the left and of the right outer brow raiser."""
    drawn = render_aus(points, {2: 1.0}, DEFAULT, SIZE, SIZE)
    values = []
    for number in (18, 25):
        x, y = points[number]
        values.append(float(drawn[max(round(y) - 40, 0) : round(y) + 5, round(x) - 2 : round(x) + 3].max()))
    return values[0], values[1]


@pytest.mark.parametrize("degrees", [0, 20, 44])
def test_both_halves_show_below_45_degrees(degrees: float) -> None:
    assert min(*halves(yawed(degrees)), *halves(yawed(-degrees))) > 0.97


@pytest.mark.parametrize("degrees", [76, 80])
def test_the_far_half_is_hidden_above_75_degrees(degrees: float) -> None:
    points = yawed(degrees)
    far = render_aus(points, {2: 1.0}, DEFAULT, SIZE, SIZE)
    frame = points[18] + np.array([0, -0.14]) * max(
        np.linalg.norm(points[45] - points[36]), 0.5 * float(np.ptp(points[:, 1]))
    )
    y, x = np.unravel_index(far.argmax(), far.shape)
    assert abs(x - frame[0]) <= 1 and abs(y - frame[1]) <= 1  # the near half, on image left
    unit = max(float(np.linalg.norm(points[45] - points[36])), 0.5 * float(np.ptp(points[:, 1])))
    dx = np.arange(SIZE)[None] - frame[0]
    dy = np.arange(SIZE)[:, None] - frame[1]
    near_alone = np.exp(-0.5 * ((dx / (0.14 * unit)) ** 2 + (dy / (0.12 * unit)) ** 2))
    np.testing.assert_allclose(far, near_alone, atol=0.01)


def test_the_fade_is_monotonous_and_mirrored() -> None:
    right = [halves(yawed(degrees))[1] for degrees in (40, 52, 60, 68)]
    assert right[0] > 0.97 and right == sorted(right, reverse=True)
    for degrees in (50, 60):
        np.testing.assert_allclose(halves(yawed(degrees)), halves(yawed(-degrees))[::-1], atol=1e-3)


def test_midline_aus_do_not_fade() -> None:
    assert render_aus(yawed(80), {17: 1.0}, DEFAULT, SIZE, SIZE).max() > 0.99
    mixed = render_aus(yawed(80), {2: 1.0, 17: 1.0}, DEFAULT, SIZE, SIZE)
    x, y = np.rint(yawed(80)[[8, 57]].mean(0)).astype(int)
    assert mixed[y, x] > 0.97


def test_weights_below_one_still_fill_the_range() -> None:
    text = """
schema = 1
name = "weak"
kind = "gaussian"
[expressions]
happiness = { "12" = 0.9 }
[[au]]
number = 12
name = "lip corner puller"
gaussians = [{ points = [48], sigma = [0.13, 0.13], mirror = true }]
"""
    weak = parse_codebook(text, "weak")
    assert render_maps(mean_face(SIZE)[None], ["happiness"], weak, SIZE, MAP).max() == 1


# --- the reference's drawing, written again with OpenCV from its rules ---


def reference_ellipses(landmarks: np.ndarray, size: int) -> dict[int, list[tuple[int, int, int, int]]]:
    """Per AU the ellipses ``(x, y, half width, half height)``, all in whole pixels.

    Landmarks and means are cut to whole pixels; a half axis is half of a difference *with its sign*, cut, and where
    that is not positive, a stated number of pixels.
    """
    p = [(int(x), int(y)) for x, y in landmarks]
    brow, cheek = (round(size / 8), round(size / 10)), (round(size / 10), round(size / 10))

    def box(left: int, right: int, top: int, bottom: int, other: int, taller: int = 0) -> tuple[int, int, int, int]:
        (x0, x1), (y0, y1) = (p[left][0], p[right][0]), (p[top][1], p[bottom][1])
        half_width, half_height = max(int((x1 - x0) / 2), 0), max(int((y1 - y0 + 2 * taller) / 2), 0)
        return int((x0 + x1) / 2), int((y0 + y1) / 2), half_width or other, half_height or other

    def disc(a: int, b: int | None = None, down: int = 0, right: int = 0) -> tuple[int, int, int, int]:
        b = a if b is None else b
        return int((p[a][0] + p[b][0]) / 2) + right, int((p[a][1] + p[b][1]) / 2) + down, 20, 20

    eyes = [box(36, 39, 38, 41, 5), box(42, 45, 44, 47, 5)]
    lids = [box(36, 39, 38, 41, 5, taller=10), box(42, 45, 44, 47, 5, taller=10)]
    shut = [box(36, 39, 38, 41, 0, taller=10), box(42, 45, 44, 47, 0, taller=10)]
    corners, mouth = [disc(48), disc(54)], [box(48, 54, 51, 57, 5)]
    return {
        1: [(*p[20], *brow), (*p[23], *brow)],
        2: [(*p[18], *brow), (*p[25], *brow)],
        4: [box(19, 24, 19, 24, 10)],
        5: eyes,
        6: [(p[i][0], p[i][1] + round(size / 6), *cheek) for i in (41, 46)],
        7: lids,
        9: [(p[31][0], p[29][1], 20, 20), (p[35][0], p[29][1], 20, 20)],
        10: [(p[48][0], p[50][1], 20, 20), (p[52][0], p[54][1], 20, 20)],
        12: corners,
        14: [disc(48, right=-20), disc(54, right=20)],
        15: corners,
        16: [disc(59), disc(55)],
        17: [box(59, 8, 59, 8, 5)],
        20: [disc(48, 6), disc(50, 10)],
        23: mouth,
        24: mouth,
        25: [(*p[51], 25, 10), (*p[57], 25, 10)],
        26: mouth,
        27: mouth,
        43: shut,
    }


REFERENCE_SETS = {
    "happiness": (6, 12, 25),
    "sadness": (1, 4, 6, 15, 17),
    "surprise": (1, 2, 5, 26, 27),
    "fear": (1, 2, 4, 5, 20, 25, 26, 27),
    "anger": (4, 5, 7, 10, 17, 23, 24, 25, 26),
    "disgust": (9, 5, 16, 17, 25, 26),
}


def opencv_map(points: np.ndarray, aus: tuple[int, ...], size: int) -> np.ndarray:
    shapes, merged = reference_ellipses(points, size), np.full((size, size), 1e-4, np.float32)
    for au in aus:
        canvas = np.full((size, size), 1e-4, np.float32)
        for x, y, half_width, half_height in shapes[au]:
            cv2.ellipse(canvas, (x, y), (half_width, half_height), 0, 0, 360, 255, cv2.FILLED)
        small = cv2.blur(cv2.resize(canvas, (28, 28), interpolation=cv2.INTER_LINEAR), (3, 3))
        merged = np.maximum(merged, cv2.resize(small, (size, size), interpolation=cv2.INTER_LINEAR))
    return (merged - merged.min()) / max(merged.max() - merged.min(), 1e-6)


def many_faces(count: int, size: int) -> np.ndarray:
    """Faces as aligned crops hold them: level to within a few degrees, brows and mouths at their own heights."""
    rng, middle = np.random.default_rng(0), np.full(2, (size - 1) / 2)
    faces = []
    for seed in range(count):
        face = jittered(seed, size)
        for part in (range(17, 22), range(22, 27), range(48, 68), range(55, 60)):
            face[list(part), 1] += rng.normal(0, 0.015 * size)
        pose = geometry.similarity(rng.normal(0, 0.05), rng.uniform(0.8, 1.1), middle, middle + rng.normal(0, 6, 2))
        faces.append(geometry.apply_affine(pose, face))
    return np.stack(faces)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.ravel().astype(np.float64), b.ravel().astype(np.float64)
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.parametrize("expression", REFERENCE_SETS)
def test_the_reference_codebook_draws_what_the_reference_draws(expression: str) -> None:
    faces = many_faces(100, 224)
    ours = render_maps(faces, [expression] * len(faces), REFERENCE, 224, 224)
    assert (ours.min((1, 2)) == 0).all() and (ours.max((1, 2)) == 1).all()
    cosines = [
        cosine(own, opencv_map(face, REFERENCE_SETS[expression], 224)) for own, face in zip(ours, faces, strict=True)
    ]
    assert min(cosines) >= 0.99 and np.mean(cosines) >= 0.999, (min(cosines), np.mean(cosines))


def test_the_reference_codebook_draws_it_on_faces_whose_points_people_corrected(shared: Path) -> None:
    with (shared / "landmarks68" / "points.csv").open(encoding="utf-8", newline="") as file:
        rows = [[float(value) for value in row[2:138]] for row in list(csv.reader(file))[1:101]]
    faces = np.array(rows).reshape(-1, 68, 2)
    low, high = faces.min(1, keepdims=True), faces.max(1, keepdims=True)
    faces = (faces - (low + high) / 2) / (high - low).max(2, keepdims=True) * 180 + 112
    for expression, aus in REFERENCE_SETS.items():
        ours = render_maps(faces, [expression] * len(faces), REFERENCE, 224, 224)
        cosines = [cosine(own, opencv_map(face, aus, 224)) for own, face in zip(ours, faces, strict=True)]
        assert len(cosines) == 100 and min(cosines) >= 0.99, (expression, min(cosines))


@pytest.mark.parametrize("au", sorted(REFERENCE.action_units))
def test_every_single_au_of_the_reference(au: int) -> None:
    for seed, points in enumerate(many_faces(12, 224)):
        ours, theirs = render_aus(points, {au: 1.0}, REFERENCE, 224, 224), opencv_map(points, (au,), 224)
        if theirs.any():  # a brow line of a few pixels can lie between those that the step to 28 pixels reads
            assert cosine(ours, theirs) >= 0.96, seed  # two rasters of an eye three pixels high
        else:
            assert au == 4 and not ours.any()


def test_a_span_of_the_reference_has_a_sign() -> None:
    """Brow 24 under brow 19 gives AU4 a height, brow 24 over it the 10 pixels that stand for none."""
    points = mean_face(224)
    for right_brow, half_height in ((9, 4), (30, 15), (0, 10), (-30, 10)):
        points[19], points[24] = (60.9, 60.9), (140.2, 60.9 + right_brow)
        x, y, _, height = Ellipse.place(REFERENCE.regions({4: 1.0}), points[None], 224, 224)[0, 0, :4]
        assert (x, y) == (100, 60 + int(right_brow / 2)) and height == half_height + 0.5, right_brow


def test_the_reference_is_as_asymmetric_as_stated() -> None:
    """The slips are kept on purpose; `default` would give 1 here."""
    points = mean_face(224)
    drawn = render_maps(points[None], ["anger"], REFERENCE, 224, 224)[0]
    assert cosine(drawn, drawn[:, ::-1]) < 0.95


# --- resampling ---


@pytest.mark.parametrize(("n_out", "n_in"), [(28, 224), (224, 28), (7, 7), (10, 3), (5, 1)])
def test_bilinear_resampling_is_opencv_s(n_out: int, n_in: int) -> None:
    image = np.random.default_rng(1).random((n_in, n_in))
    matrix = bilinear_matrix(n_out, n_in)
    expected = cv2.resize(image, (n_out, n_out), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(matrix @ image @ matrix.T, expected, atol=1e-6)
    np.testing.assert_allclose(matrix.sum(1), 1)


@pytest.mark.parametrize(("n_out", "n_in"), [(64, 256), (7, 64), (56, 224), (64, 64), (10, 7)])
def test_area_resampling_keeps_the_mean(n_out: int, n_in: int) -> None:
    image = np.random.default_rng(1).random((n_in, n_in))
    matrix = area_matrix(n_out, n_in)
    np.testing.assert_allclose(matrix.sum(1), 1)
    small = matrix @ image @ matrix.T
    np.testing.assert_allclose(small.mean(), image.mean())
    if n_out < n_in:
        np.testing.assert_allclose(small, cv2.resize(image, (n_out, n_out), interpolation=cv2.INTER_AREA), atol=1e-6)


@pytest.mark.parametrize("name", BOOKS)
def test_faces_with_the_label_s_aus_have_the_label_s_map(name: str) -> None:
    book = BOOKS[name]
    points = np.stack([upright(seed) for seed in range(len(book.expressions))])
    weights = np.zeros((len(points), 99, 2))
    for row, aus in enumerate(book.expressions.values()):
        for number, weight in aus.items():
            weights[row, number] = weight
    drawn = render_faces(points, weights, book, SIZE, MAP)
    np.testing.assert_allclose(drawn, render_maps(points, list(book.expressions), book, SIZE, MAP), atol=1e-5)


def test_a_side_is_drawn_on_that_half_of_the_person() -> None:
    weights = np.zeros((3, 99, 2))
    weights[0, 14, 0], weights[1, 14, 1], weights[2, 14], weights[:, 70] = 1, 1, 1, 1
    left, right, both = render_faces(np.stack([upright(1)] * 3), weights, DEFAULT, SIZE, MAP)
    half = MAP // 2
    assert left[:, half:].sum() > 9 * left[:, :half].sum(), "the person's left is on the image's right"
    assert right[:, :half].sum() > 9 * right[:, half:].sum()
    np.testing.assert_allclose(both, np.maximum(left, right), atol=0.02)


def test_a_face_does_not_depend_on_those_drawn_with_it() -> None:
    rng = np.random.default_rng(3)
    points = np.stack([upright(seed) for seed in range(6)])
    weights = rng.random((6, 99, 2)) * (rng.random((6, 99, 1)) < 0.2)
    weights[4] = 0
    together = render_faces(points, weights, DEFAULT, SIZE, MAP)
    alone = [render_faces(points[row : row + 1], weights[row : row + 1], DEFAULT, SIZE, MAP)[0] for row in range(6)]
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert not together[4].any() and together.max() == pytest.approx(1, abs=1e-5)
