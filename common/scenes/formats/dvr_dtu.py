"""DVR's folder of one object (its DTU scans): image/, mask/, cameras.npz, pcl.npz.

``camera_mat_i`` @ ``world_mat_i`` takes the world to image coordinates that are -1 and 1 at the
first and last pixel's centre; ``scale_mat_i`` takes the cube [-0.5, 0.5]^3 around the object to the
world (Niemeyer et al., CVPR 2020).
"""

from pathlib import Path

import numpy as np
from jaxtyping import Float

from common.data.camera_file import read_matrices, shared_frame
from common.data.images import SUFFIXES, image_size
from common.data.npz import open_npz
from common.data.pairing import check_counts, view_files
from common.errors import UserError
from common.scenes.capture import Capture, Photograph, SparsePoints
from common.scenes.formats.matrices import photograph_of, sane

_CAMERAS = "cameras.npz"
_SPARSE = "pcl.npz"
_AROUND_CUBE = np.diag([0.75**0.5] * 3 + [1.0])  # the unit sphere around [-0.5, 0.5]^3


def holds_dvr_dtu(path: Path) -> bool:
    """Whether a camera file with DVR's ``camera_mat`` is here."""
    file = path / _CAMERAS
    if not file.is_file():
        return False
    with open_npz(file) as archive:
        return "camera_mat_0" in archive


def read_dvr_dtu(path: Path) -> Capture:
    """The folder's photographs by name, with their masks, and the sparse points where it has them.

    Raises UserError where files are missing, damaged or do not pair.
    """
    file = path / _CAMERAS
    images = view_files(path / "image", SUFFIXES)
    masks: list[Path | None] = [None] * len(images)
    if (path / "mask").is_dir():
        masks = [*view_files(path / "mask", SUFFIXES)]
        check_counts({path / "image": len(images), path / "mask": len(masks)})
    matrices = read_matrices(file, ("camera_mat", "world_mat"), ("scale_mat",), count=len(images))
    projections = (matrices["camera_mat"] @ matrices["world_mat"])[:, :3]
    photographs = tuple(
        _photograph(f"{file}: view {view}", projection, image, mask)
        for view, (projection, image, mask) in enumerate(
            zip(projections, images, masks, strict=True)
        )
    )
    return Capture(
        source=file,
        photographs=photographs,
        points=_read_sparse(path / _SPARSE, len(images)),
        world_from_sphere=shared_frame(file, matrices["scale_mat"]) @ _AROUND_CUBE,
    )


def _photograph(where: str, projection: np.ndarray, image: Path, mask: Path | None) -> Photograph:
    """DVR's pixels run from -1, the first one's centre, to 1, the last one's."""
    width, height = image_size(image)
    x, y = (width - 1) / 2, (height - 1) / 2
    in_pixels = np.array([[x, 0, x], [0, y, y], [0, 0, 1]]) @ projection
    return photograph_of(where, in_pixels, image, mask)


def _read_sparse(file: Path, views: int) -> SparsePoints | None:
    """Structure from motion's points of the object: those inside its visual hull."""
    if not file.exists():
        return None
    with open_npz(file) as archive:
        points = _checked_points(file, archive["points"])
        inside = np.ones(len(points), dtype=bool)
        if "is_in_visual_hull" in archive:
            inside = archive["is_in_visual_hull"].astype(bool)
        seen = [archive[f"visibility_{view:04d}"] for view in range(views)]
    visibility = np.zeros((views, len(points)), dtype=bool)
    try:
        for row, chosen in zip(visibility, seen, strict=True):
            row[chosen] = True  # a mask over the points, or their indices
        return SparsePoints(points[inside], visibility[:, inside])
    except IndexError as error:
        raise UserError(
            f"{file}: visibility does not fit the points ({error}); make it again"
        ) from error


def _checked_points(file: Path, points: np.ndarray) -> Float[np.ndarray, "P 3"]:
    if points.ndim != 2 or points.shape[1] != 3 or len(points) == 0 or points.dtype.kind != "f":
        raise UserError(
            f"{file}: points is {points.dtype} of shape {points.shape}; expected floats (P, 3)"
        )
    if not sane(points):
        raise UserError(f"{file}: points has NaN, infinite or huge entries; remove them")
    return points.astype(np.float64)
