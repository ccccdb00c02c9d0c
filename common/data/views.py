"""What a method learns one object from: pictures, masks, cameras and, where known, depth."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from common.cameras import Cameras
from common.data.images import nearest_rows, resize_image, resize_mask


@dataclass(frozen=True)
class SparseDepth:
    """Surface points triangulated by structure from motion, and which views saw each of them."""

    points: Float[Tensor, "P 3"]  # object frame
    visibility: Bool[Tensor, "V P"]


@dataclass(frozen=True)
class Views:
    """V views of one object, all of one size.

    Depths are camera z in object units at pixel centres, infinite where there is none.
    ``world_from_object`` is the similarity back to the file's own frame and units.
    """

    images: UInt8[Tensor, "V H W 3"]
    masks: Bool[Tensor, "V H W"]  # True on the object
    cameras: Cameras
    depth: Float[Tensor, "V H W"] | None
    hull_depth: Float[Tensor, "V H W"] | None  # first point of each ray inside the visual hull
    sparse: SparseDepth | None
    world_from_object: Float[Tensor, "4 4"]
    coverage: UInt8[Tensor, "V H W"] | None = None  # of 255, how much of each pixel is object

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, views) -> "Views":
        """The views of a slice, list or tensor of indices."""
        sparse = self.sparse
        if sparse is not None:
            sparse = SparseDepth(sparse.points, sparse.visibility[views])
        return replace(
            self,
            images=self.images[views],
            masks=self.masks[views],
            cameras=self.cameras[views],
            depth=None if self.depth is None else self.depth[views],
            hull_depth=None if self.hull_depth is None else self.hull_depth[views],
            sparse=sparse,
            coverage=None if self.coverage is None else self.coverage[views],
        )

    def resized(self, shorter_side: int) -> "Views":
        """The same views resampled, pictures and cameras together, keeping the aspect ratio.

        Pictures are anti-aliased, a mask pixel is object where most of its area was, and depth
        takes its nearest sample (an average across an outline is the depth of nothing).
        """
        height, width = self.masks.shape[1:]
        scale = shorter_side / min(height, width)
        size = max(round(height * scale), 1), max(round(width * scale), 1)
        if size == (height, width):
            return self
        rows, columns = nearest_rows(height, size[0]), nearest_rows(width, size[1])
        images = [torch.from_numpy(resize_image(image.numpy(), *size)) for image in self.images]
        masks = [torch.from_numpy(resize_mask(mask.numpy(), *size)) for mask in self.masks]
        coverage = self.coverage
        if coverage is not None:
            grey = coverage[..., None].expand(*coverage.shape, 3)
            sampled = [torch.from_numpy(resize_image(one.numpy(), *size)) for one in grey]
            coverage = torch.stack(sampled)[..., 0]
        return replace(
            self,
            images=torch.stack(images),
            masks=torch.stack(masks),
            cameras=self.cameras.resized(*size),
            depth=None if self.depth is None else self.depth[:, rows][:, :, columns],
            hull_depth=None if self.hull_depth is None else self.hull_depth[:, rows][:, :, columns],
            coverage=coverage,
        )
