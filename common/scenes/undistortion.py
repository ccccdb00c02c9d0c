"""The picture a pinhole would have made, from that of a lens that bends straight lines."""

import numpy as np
from jaxtyping import Bool, Float, UInt8
from numpy.polynomial.polynomial import polyval
from scipy.ndimage import map_coordinates

from common.scenes.capture import Distortion

_BAND = 256  # rows of a picture at a time, so that float64 coordinates stay few
_RADII = 10_000  # looked at to find where a lens folds back: a fraction of a pixel apart


def distort(points: Float[np.ndarray, "N 2"], distortion: Distortion) -> Float[np.ndarray, "N 2"]:
    """Where a lens puts what a pinhole puts at these points of the plane z = 1.

    "brown": (x, y) (1 + k1 r^2 + k2 r^4 + k3 r^6) / (1 + k4 r^2 + k5 r^4 + k6 r^6) and the shift
    (2 p1 x y + p2 (r^2 + 2 x^2), p1 (r^2 + 2 y^2) + 2 p2 x y) of Brown, Decentering Distortion of
    Lenses, 1966. "fisheye": (x, y) / r theta (1 + k1 theta^2 + ... + k4 theta^8), theta = atan r,
    of Kannala and Brandt, PAMI 28(8), 2006, equation 6. Symbols as in the documentation of OpenCV's
    calib3d. Not finite where the denominator vanishes.
    """
    x, y = points.T
    square = x * x + y * y
    with np.errstate(all="ignore"):
        bent = points * _stretch(square, distortion)[:, None]
        if distortion.kind == "fisheye":
            return bent
        p1, p2 = _padded(distortion)[2:4]
        shift_x = 2 * p1 * x * y + p2 * (square + 2 * x * x)
        shift_y = 2 * p2 * x * y + p1 * (square + 2 * y * y)
        return bent + np.stack([shift_x, shift_y], axis=1)


def undistort_picture(
    picture: UInt8[np.ndarray, "H W C"],
    intrinsics: Float[np.ndarray, "3 3"],
    distortion: Distortion,
) -> tuple[UInt8[np.ndarray, "H W C"], Bool[np.ndarray, "H W"]]:
    """The picture that a pinhole with the same intrinsics makes, and which of its pixels are known.

    Intrinsics are in pixels of this picture. Its values are interpolated linearly. Pixels that the
    photograph does not show, or that lie where the lens model folds back into the picture, are
    white.
    """
    height, width, channels = picture.shape
    corners = np.array([[x, y] for x in (0, width - 1) for y in (0, height - 1)], dtype=np.float64)
    radii = np.hypot(*_plane(corners, intrinsics).T)
    limit = _fold(distortion, float(radii.max()))
    result, known = np.empty_like(picture), np.empty((height, width), dtype=bool)
    for top in range(0, height, _BAND):
        rows = slice(top, min(top + _BAND, height))
        y, x = np.mgrid[rows, :width].reshape(2, -1).astype(np.float64)
        points = _plane(np.stack([x, y], axis=1), intrinsics)
        with np.errstate(all="ignore"):  # coefficients may send a point to infinity
            source = distort(points, distortion) @ intrinsics[:2, :2].T + intrinsics[:2, 2]
            inside = ((source >= -0.5) & (source <= [width - 0.5, height - 0.5])).all(axis=1)
        inside &= np.hypot(*points.T) <= limit
        source[~inside] = 0
        for channel in range(channels):
            # Beyond the outermost centres lies half a pixel more of the same.
            sampled = map_coordinates(
                picture[..., channel], source.T[::-1], order=1, mode="nearest"
            )
            result[rows, :, channel] = np.where(inside, sampled, 255).reshape(-1, width)
        known[rows] = inside.reshape(-1, width)
    return result, known


def _fold(distortion: Distortion, largest: float) -> float:
    """The radius on the plane up to which greater ones are put further out; inf beyond ``largest``.

    Beyond the pictures that it was fitted to, a polynomial may turn back, and show them again.
    """
    radii = np.linspace(0, largest, _RADII)
    with np.errstate(all="ignore"):
        falls = ~(np.diff(radii * _stretch(radii * radii, distortion)) > 0)  # also NaN
    return float(radii[falls.argmax()]) if falls.any() else np.inf


def _stretch(square: Float[np.ndarray, "N"], distortion: Distortion) -> Float[np.ndarray, "N"]:
    """The factor of radii whose squares these are."""
    if distortion.kind == "fisheye":
        radius = np.sqrt(square).clip(min=1e-12)  # the ratio's limit at 0 is 1
        angle = np.arctan(radius)
        return angle / radius * polyval(angle * angle, (1, *_padded(distortion)[:4]))
    k1, k2, _, _, k3, k4, k5, k6 = _padded(distortion)
    return polyval(square, (1, k1, k2, k3)) / polyval(square, (1, k4, k5, k6))


def _padded(distortion: Distortion) -> tuple[float, ...]:
    return (*distortion.coefficients, *[0.0] * (8 - len(distortion.coefficients)))


def _plane(
    pixels: Float[np.ndarray, "N 2"], intrinsics: Float[np.ndarray, "3 3"]
) -> Float[np.ndarray, "N 2"]:
    """Pixels moved to the plane z = 1."""
    return (pixels - intrinsics[:2, 2]) @ np.linalg.inv(intrinsics[:2, :2]).T
