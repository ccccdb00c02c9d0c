"""Lens models against closed forms, and pictures of a known pattern made straight again."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.scenes.capture import Distortion
from common.scenes.undistortion import distort, undistort_picture

WIDTH, HEIGHT = 160, 120
K = np.array([[150.0, 0.4, 82.3], [0, 145.0, 57.1], [0, 0, 1]])  # with skew, off the middle
# As strong as wide-angle lenses are; none folds back within this picture.
LENSES = {
    "barrel": Distortion("brown", (-0.25, 0.08)),
    "pincushion": Distortion("brown", (0.15,)),
    "tangential": Distortion("brown", (-0.1, 0.02, 0.01, -0.015)),
    "rational": Distortion("brown", (0.1, 0.05, 0.003, -0.002, 0.01, 0.3, 0.03, 0.004)),
    "equidistant": Distortion("fisheye", ()),
    "fisheye": Distortion("fisheye", (0.05, -0.01, 0.002, -0.001)),
}


def pattern(plane: np.ndarray) -> np.ndarray:
    """Smooth waves over the plane z = 1, three channels of 0 to 255."""
    x, y = plane[..., 0], plane[..., 1]
    waves = [np.sin(9 * x + 2 * y), np.cos(8 * y - x), np.sin(6 * x) * np.cos(7 * y)]
    return 127.5 + 110 * np.stack(waves, axis=-1)


def on_plane(pixels: np.ndarray) -> np.ndarray:
    return (pixels - K[:2, 2]) @ np.linalg.inv(K[:2, :2]).T


def pixel_centres() -> np.ndarray:
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float64)
    return np.stack([x, y], axis=-1).reshape(-1, 2)


def straightened(bent: np.ndarray, lens: Distortion) -> np.ndarray:
    """The points that the lens puts here, by Newton's method with differences."""
    points, step = bent.copy(), 1e-6
    for _ in range(20):
        here = distort(points, lens)
        x, y = ((distort(points + step * axis, lens) - here) / step for axis in np.eye(2))
        jacobian = np.stack([x, y], axis=-1)
        points -= np.linalg.solve(jacobian, (here - bent)[..., None])[..., 0]
    assert np.abs(distort(points, lens) - bent).max() < 1e-9
    return points


@pytest.fixture(scope="module", params=LENSES)
def lens(request) -> Distortion:
    return LENSES[request.param]


def photograph(lens: Distortion) -> np.ndarray:
    """The pattern as it is seen through the lens."""
    values = pattern(straightened(on_plane(pixel_centres()), lens))
    return values.round().astype(np.uint8).reshape(HEIGHT, WIDTH, 3)


def source_pixels(lens: Distortion) -> np.ndarray:
    """Where the undistorted picture's pixels are in the photograph."""
    return distort(on_plane(pixel_centres()), lens) @ K[:2, :2].T + K[:2, 2]


def test_a_pattern_seen_through_a_lens_is_straight_again(lens):
    picture, known = undistort_picture(photograph(lens), K, lens)
    truth = pattern(on_plane(pixel_centres())).reshape(HEIGHT, WIDTH, 3)
    source = source_pixels(lens).reshape(HEIGHT, WIDTH, 2)
    # Linear interpolation errs by at most 1/8 (h_x^2 |f_xx| + h_y^2 |f_yy|): 110 (9/150)^2 / 4 =
    # 0.1 grey levels, and more where a lens shrinks; rounding twice by 1. At the rim half a pixel
    # is repeated: 110 * 9 / 150 / 2 = 3.3.
    core = known & ((source >= 0) & (source <= [WIDTH - 1, HEIGHT - 1])).all(axis=-1)
    error = np.abs(picture.astype(float) - truth)
    assert error[core].max() < 1.5 and error[known].max() < 5
    assert core.sum() > 0.6 * core.size
    # Without undoing the lens the pictures differ by far more.
    assert np.abs(photograph(lens).astype(float) - truth)[core].mean() > 2


def test_known_pixels_are_those_that_the_photograph_shows(lens):
    picture, known = undistort_picture(photograph(lens), K, lens)
    source = source_pixels(lens).reshape(HEIGHT, WIDTH, 2)
    expected = ((source >= -0.5) & (source <= [WIDTH - 0.5, HEIGHT - 0.5])).all(axis=-1)
    np.testing.assert_array_equal(known, expected)
    assert (picture[~known] == 255).all()


def test_some_lenses_leave_unknown_pixels():
    shown = {
        name: undistort_picture(photograph(lens), K, lens)[1].mean()
        for name, lens in LENSES.items()
    }
    assert shown["pincushion"] < 1 and shown["barrel"] == 1


def test_pictures_larger_than_a_band_and_of_one_channel():
    """What is worked on in bands of rows has no seams, and channels do not mix."""
    generator = np.random.default_rng(0)
    picture = generator.integers(0, 256, (600, 40, 3), dtype=np.uint8)
    k = np.array([[400.0, 0, 19], [0, 400, 300], [0, 0, 1]])
    lens = LENSES["tangential"]
    colour, known = undistort_picture(picture, k, lens)
    # A picture a band higher at its top, with its principal point as much lower.
    taller = np.concatenate([picture[:100], picture])
    lower = k + [[0, 0, 0], [0, 0, 100], [0, 0, 0]]
    shifted, shifted_known = undistort_picture(taller, lower, lens)
    np.testing.assert_array_equal(shifted[110:], colour[10:])
    np.testing.assert_array_equal(shifted_known[110:], known[10:])
    for channel in range(3):
        one, _ = undistort_picture(picture[..., channel, None], k, lens)
        np.testing.assert_array_equal(one[..., 0], colour[..., channel])


def test_no_distortion_changes_nothing():
    picture = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    for lens in (Distortion("brown", ()), Distortion("brown", (0.0, 0.0, 0.0, 0.0))):
        result, known = undistort_picture(picture, K, lens)
        assert known.all()
        np.testing.assert_array_equal(result, picture)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 1)])
def test_pictures_of_a_line_or_a_pixel(size):
    picture = np.full((*size, 3), 90, dtype=np.uint8)
    result, known = undistort_picture(picture, np.eye(3), Distortion("brown", (0.0,)))
    assert known.all() and (result == 90).all()


# --- folding back -------------------------------------------------------------------------------


def test_a_brown_lens_that_folds_back_shows_nothing_twice():
    """r (1 - 0.5 r^2) grows up to r = sqrt(2 / 3) and falls to 0 at sqrt(2)."""
    k = np.array([[50.0, 0, 80], [0, 50, 60], [0, 0, 1]])
    lens = Distortion("brown", (-0.5,))
    picture = np.random.default_rng(0).integers(0, 200, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    result, known = undistort_picture(picture, k, lens)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    radius = np.hypot(x - 80, y - 60) / 50
    # The fold is looked for at radii 1e-4 of the largest, 2, apart.
    clear = np.abs(radius - np.sqrt(2 / 3)) > 3e-4
    np.testing.assert_array_equal(known[clear], (radius < np.sqrt(2 / 3))[clear])
    assert (result[~known] == 255).all()
    # Although the formula would find values for pixels beyond, at the corners even far inside.
    beyond = distort(np.array([[np.sqrt(2), 0.0], [0, 1.0]]), lens)
    np.testing.assert_allclose(beyond, [[0.0, 0.0], [0.0, 0.5]], atol=1e-12)


def test_a_fisheye_that_folds_back():
    """theta - theta^3 / 3 turns where theta = 1, at r = tan 1."""
    k = np.array([[30.0, 0, 80], [0, 30, 60], [0, 0, 1]])
    lens = Distortion("fisheye", (-1 / 3,))
    _, known = undistort_picture(np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8), k, lens)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    radius = np.hypot(x - 80, y - 60) / 30
    clear = np.abs(radius - np.tan(1)) > 1e-3
    np.testing.assert_array_equal(known[clear], (radius < np.tan(1))[clear])


def test_a_denominator_that_vanishes_ends_the_picture():
    """1 / (1 - r^2) has a pole at r = 1, and comes back from the other side beyond."""
    k = np.array([[40.0, 0, 80], [0, 40, 60], [0, 0, 1]])
    lens = Distortion("brown", (0.0, 0.0, 0.0, 0.0, 0.0, -1.0))
    picture = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
    _, known = undistort_picture(picture, k, lens)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    assert known[60, 80] and not known[np.hypot(x - 80, y - 60) >= 40].any()


finite = st.floats(-1e15, 1e15, allow_nan=False)


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(["brown", "fisheye"]),
    coefficients=st.lists(st.one_of(finite, st.floats(-1, 1)), max_size=8).map(tuple),
)
def test_any_coefficients_give_a_picture(kind, coefficients):
    """Also nonsense: every pixel is a mean of the photograph's, or white and unknown."""
    picture = np.full((12, 16, 3), 77, dtype=np.uint8)
    k = np.array([[10.0, 0, 8], [0, 10, 6], [0, 0, 1]])
    result, known = undistort_picture(picture, k, Distortion(kind, coefficients))
    assert (result[known] == 77).all() and (result[~known] == 255).all()
    if not any(coefficients[2:4]):
        assert known[6, 8]  # the principal point stays


# --- the lens models ----------------------------------------------------------------------------

points = st.tuples(st.floats(-0.8, 0.8), st.floats(-0.8, 0.8))


@settings(deadline=None)
@given(
    point=points,
    name=st.sampled_from([name for name in LENSES if name not in ("tangential", "rational")]),
    angle=st.floats(0, 2 * np.pi),
)
def test_radial_lenses_turn_with_the_picture(point, name, angle):
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    at = np.array([point])
    turned = distort(at @ turn.T, LENSES[name])
    np.testing.assert_allclose(turned, distort(at, LENSES[name]) @ turn.T, atol=1e-12)


@settings(deadline=None)
@given(point=points, p1=st.floats(-0.1, 0.1), p2=st.floats(-0.1, 0.1))
def test_tangential_terms_change_places_with_the_axes(point, p1, p2):
    at = np.array([point])
    swapped = distort(at[:, ::-1], Distortion("brown", (0.0, 0.0, p2, p1)))[:, ::-1]
    np.testing.assert_allclose(
        swapped, distort(at, Distortion("brown", (0.0, 0.0, p1, p2))), atol=1e-15
    )


@settings(deadline=None)
@given(point=points)
def test_an_equidistant_lens_shows_angles(point):
    bent = distort(np.array([point]), Distortion("fisheye", ()))[0]
    radius = float(np.hypot(*point))
    assert np.hypot(*bent) == pytest.approx(np.arctan(radius), abs=1e-15)
    np.testing.assert_allclose(bent * radius, np.hypot(*bent) * np.array(point), atol=1e-15)


@pytest.mark.parametrize("count", range(9))
def test_coefficients_left_out_are_zero(count):
    at = np.random.default_rng(0).uniform(-0.5, 0.5, (20, 2))
    given_ones = tuple(0.01 * (index + 1) for index in range(count))
    brown = (
        Distortion("brown", given_ones),
        Distortion("brown", (*given_ones, *[0.0] * (8 - count))),
    )
    np.testing.assert_array_equal(distort(at, brown[0]), distort(at, brown[1]))
    few = given_ones[:4]
    fisheye = Distortion("fisheye", few), Distortion("fisheye", (*few, *[0.0] * (4 - len(few))))
    np.testing.assert_array_equal(distort(at, fisheye[0]), distort(at, fisheye[1]))


def test_every_brown_coefficient_by_hand():
    """At (0.6, 0.8), where r = 1: sums of coefficients."""
    at = np.array([[0.6, 0.8]])
    k1, k2, p1, p2, k3, k4, k5, k6 = 0.1, 0.02, 0.03, -0.05, 0.004, 0.2, 0.06, 0.007
    scale = (1 + k1 + k2 + k3) / (1 + k4 + k5 + k6)
    x = 0.6 * scale + 2 * p1 * 0.48 + p2 * (1 + 2 * 0.36)
    y = 0.8 * scale + p1 * (1 + 2 * 0.64) + 2 * p2 * 0.48
    bent = distort(at, Distortion("brown", (k1, k2, p1, p2, k3, k4, k5, k6)))
    np.testing.assert_allclose(bent, [[x, y]], rtol=1e-14)


def test_powers_of_the_radius_in_order():
    """At r = 0.1 each coefficient counts a hundredth of the one before."""
    at = np.array([[0.1, 0.0]])
    brown = Distortion("brown", (0.1, 0.2, 0.0, 0.0, 0.3))
    expected = 0.1 * (1 + 0.001 + 0.2e-4 + 0.3e-6)
    np.testing.assert_allclose(distort(at, brown), [[expected, 0]], rtol=1e-14)
    t = np.arctan(0.1)
    fisheye = Distortion("fisheye", (0.1, 0.2, 0.3, 0.4))
    expected = t + 0.1 * t**3 + 0.2 * t**5 + 0.3 * t**7 + 0.4 * t**9
    np.testing.assert_allclose(distort(at, fisheye), [[expected, 0]], rtol=1e-14)
