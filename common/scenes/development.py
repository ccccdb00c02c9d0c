"""From files to pictures: a capture's photographs read, undistorted and resized one at a time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, UInt8

from common.data.images import read_image_with_alpha, resize_image
from common.errors import UserError
from common.scenes.capture import Capture, Photograph
from common.scenes.masking.masks import OPAQUE, MaskOf, coverage_from_file
from common.scenes.undistortion import undistort_picture


@dataclass(frozen=True)
class Pictures:
    """V pictures of one size, free of distortion, and where they show the object."""

    names: tuple[str, ...]
    images: UInt8[np.ndarray, "V H W 3"]
    masks: Bool[np.ndarray, "V H W"]
    intrinsics: Float[np.ndarray, "V 3 3"]  # pixels
    world_from_camera: Float[np.ndarray, "V 4 4"]
    coverage: UInt8[np.ndarray, "V H W"] | None = None  # of 255: how much of a pixel is object

    def __len__(self) -> int:
        return len(self.names)

    @property
    def projections(self) -> Float[np.ndarray, "V 3 4"]:
        """P = K [R | t], from the world to pixels."""
        return self.intrinsics @ np.linalg.inv(self.world_from_camera)[:, :3]


def given_mask(
    photograph: Photograph, image: np.ndarray, alpha: np.ndarray | None
) -> UInt8[np.ndarray, "H W"]:
    """The photograph's own mask file, or else its opacity; UserError where it has neither."""
    if photograph.mask is not None:
        return coverage_from_file(photograph.mask)
    if alpha is None:
        raise UserError(
            f"{photograph.image}: no alpha channel and no mask; the object's masks are needed: put "
            "one picture per view into a folder `mask` (object white), or let "
            "scripts/prepare_scene.py make them"
        )
    return alpha


def develop(
    capture: Capture,
    mask_of: MaskOf = given_mask,
    shorter_side: int | None = None,
) -> Pictures:
    """All of a capture's pictures and masks, undistorted and, if asked, shrunk.

    ``mask_of`` tells the object from a photograph, its picture and its opacity. Raises UserError
    where a picture cannot be read, has another shape than its camera, or another size than the
    others.
    """
    developed = list(_each(capture.photographs, mask_of, shorter_side))
    first = developed[0].image
    for one in developed:
        if one.image.shape != first.shape:
            raise UserError(
                f"{one.photograph.image}: {one.image.shape[1]} x {one.image.shape[0]} pixels where "
                f"the first image has {first.shape[1]} x {first.shape[0]}; resize it or remove it"
            )
    coverage = np.stack([one.coverage for one in developed])
    return Pictures(
        names=tuple(one.photograph.image.name for one in developed),
        images=np.stack([one.image for one in developed]),
        masks=coverage > OPAQUE,
        intrinsics=np.stack([one.photograph.intrinsics for one in developed]),
        world_from_camera=np.stack([one.photograph.world_from_camera for one in developed]),
        coverage=coverage,
    )


@dataclass(frozen=True)
class _Developed:
    photograph: Photograph
    image: UInt8[np.ndarray, "H W 3"]
    coverage: UInt8[np.ndarray, "H W"]


def _each(
    photographs: Sequence[Photograph], mask_of: MaskOf, shorter_side: int | None
) -> Iterator[_Developed]:
    """One after the other, so that only results are held in memory."""
    for photograph in photographs:
        image, alpha = read_image_with_alpha(photograph.image)
        coverage = mask_of(photograph, image, alpha)
        if coverage.dtype == bool:
            coverage = coverage.astype(np.uint8) * 255
        height, width = image.shape[:2]
        if coverage.shape != (height, width):
            raise UserError(
                f"{photograph.mask or photograph.image}: a mask of {coverage.shape[1]} x "
                f"{coverage.shape[0]} pixels where its image has {width} x {height}; resize it"
            )
        photograph = at_size(photograph, width, height)
        if shorter_side is not None and shorter_side < min(width, height):
            scale = shorter_side / min(width, height)
            width, height = round(width * scale), round(height * scale)
            photograph = at_size(photograph, width, height)
            image = resize_image(image, height, width)
            coverage = resize_image(np.dstack([coverage] * 3), height, width)[..., 0]
        yield _Developed(photograph, *_straightened(photograph, image, coverage))


def _straightened(
    photograph: Photograph, image: np.ndarray, coverage: np.ndarray
) -> tuple[UInt8[np.ndarray, "H W 3"], UInt8[np.ndarray, "H W"]]:
    """Picture and mask without the lens' distortion; what it does not show is background."""
    if photograph.distortion is None:
        return image, coverage
    both = np.dstack([image, coverage])
    straight, known = undistort_picture(both, photograph.intrinsics, photograph.distortion)
    return straight[..., :3], straight[..., 3] * known


def at_size(photograph: Photograph, width: int, height: int) -> Photograph:
    """The camera of the same picture at another size: u' = (u + 0.5) s - 0.5.

    Raises UserError where the two have different shapes.
    """
    old_width, old_height = photograph.size
    if (old_width, old_height) == (width, height):
        return photograph
    # Rounding may cost half a pixel to a side.
    slack = 0.51 * (1 / old_height + 1 / height + 1 / old_width + 1 / width)
    if abs(np.log((old_width / old_height) / (width / height))) > max(slack, 0.02):
        raise UserError(
            f"{photograph.image}: {width} x {height} pixels, but its camera is for {old_width} x "
            f"{old_height}, another shape; use the images these cameras were made for"
        )
    x, y = width / old_width, height / old_height
    resize = np.array([[x, 0, 0.5 * x - 0.5], [0, y, 0.5 * y - 0.5], [0, 0, 1]])
    return replace(photograph, intrinsics=resize @ photograph.intrinsics, size=(width, height))
